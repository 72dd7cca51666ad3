"""The way back as a plan: a set that was active before, made live over the one that is.

It goes the way of every deployment (fetch, activate, verify, commit), so it is as safe: what the old set lacks on the
disk is fetched again, its models answer their golden frames, and a failure leaves the active set live.
"""

from __future__ import annotations

from dataclasses import replace

from agent.greengrass.deployments.plan import Action, Plan, Planned, removed
from agent.greengrass.deployments.request import Deployment
from agent.greengrass.deployments.state import State

__all__ = ["rollback"]


def rollback(now: State, before: State, kept: Plan, deployment: Deployment) -> Plan:
    """The plan from ``now`` to ``before``; ``kept`` is the latter as a plan that keeps everything."""
    components = tuple(_planned(each, now, before) for each in kept.components)
    return Plan(deployment, components, removed(now.active, before.active.components))


def _planned(each: Planned, now: State, before: State) -> Planned:
    """What becomes of a component: everything but what stays exactly as it is is put there anew."""
    old, configs = now.active.components.get(each.name), (now.configs, before.configs)
    if old is None:
        return replace(each, action=Action.INSTALL, old=None)
    one, other = (found[each.name].to_plain() if each.name in found else {} for found in configs)
    same = old == before.active.components[each.name] and one == other
    return replace(each, action=each.action if same else Action.UPDATE, old=old.recipe.version)
