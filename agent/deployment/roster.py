"""How every component of the device is, as fleet status messages tell it.

=============  =============================================================================================
a component    is as
=============  =============================================================================================
of scripts     its supervisor says, also one of a set that is not active yet
inference      the workers of its model: RUNNING, ERRORED between two tries, BROKEN
model          the worst of its workers; FINISHED when no stream uses it
of the agent   RUNNING; the nucleus, which is the agent, is always there
=============  =============================================================================================

What is active and yet not live is BROKEN: it could not be brought back when the agent started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from agent.components.report import ComponentHealth, health_of
from agent.components.states import ComponentStatus, Problem, State, StatusCode
from agent.deployment import state as states
from agent.deployment.catalogue import BUILTINS, NUCLEUS
from agent.deployment.plan import Active, Kind
from agent.deployment.target import Target
from agent.inference.values import PoolState, PoolStatus

__all__ = ["Pools", "roster"]

Pools = Callable[[str], PoolStatus]
"""How a model's workers are, by the model's key in the target."""

_WORST_FIRST: Final = (
    PoolState.BROKEN,
    PoolState.BACKOFF,
    PoolState.STARTING,
    PoolState.RUNNING,
    PoolState.STOPPED,
)
_STATES: Final = {
    PoolState.BROKEN: State.BROKEN,
    PoolState.BACKOFF: State.ERRORED,
    PoolState.STARTING: State.STARTING,
    PoolState.RUNNING: State.RUNNING,
    PoolState.STOPPED: State.FINISHED,
}
_NOT_LIVE: Final = Problem(
    StatusCode.STARTUP_ERROR, "The agent could not bring it back when it started; the agent's log tells why."
)


def roster(
    active: states.State, target: Target, scripts: Mapping[str, ComponentStatus], pools: Pools, arns: Mapping[str, str]
) -> dict[str, ComponentHealth]:
    """Every component by name: of the active set, of what is live of it, and of the scripts that are supervised.

    ``arns`` are the groups' configurations, by group.
    """
    found = {NUCLEUS: _running(NUCLEUS)}
    found |= {name: _status(name, each, target, scripts, pools) for name, each in active.active.components.items()}
    found = dict(scripts) | found
    wishes, every = active.groups.wishes, _arns(active.groups.roots, arns)
    return {
        name: health_of(
            status,
            root=name in wishes,
            arns=every if name in BUILTINS else _arns(wishes.get(name, ()), arns),
            system=name in BUILTINS,
        )
        for name, status in sorted(found.items())
    }


def _status(
    name: str, each: Active, target: Target, scripts: Mapping[str, ComponentStatus], pools: Pools
) -> ComponentStatus:
    version = str(each.recipe.version)
    match each.kind:
        case Kind.BUILTIN:
            return _running(name)
        case Kind.GENERIC if name in scripts:
            return scripts[name]
        case Kind.INFERENCE if name in target.streams:
            return _worked(name, version, [pools(target.streams[name].model)])
        case Kind.MODEL:
            return _worked(name, version, [pools(key) for key, one in target.models.items() if one.component == name])
        case _:
            return ComponentStatus(name, version, State.BROKEN, _NOT_LIVE)


def _worked(name: str, version: str, pools: Iterable[PoolStatus]) -> ComponentStatus:
    worst = min(pools, key=lambda each: _WORST_FIRST.index(each.state), default=PoolStatus(PoolState.STOPPED))
    return ComponentStatus(name, version, _STATES[worst.state], Problem(StatusCode.RUN_ERROR, worst.reason))


def _running(name: str) -> ComponentStatus:
    return ComponentStatus(name, str(BUILTINS[name].version), State.RUNNING)


def _arns(groups: Iterable[str], arns: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(arns[group] for group in sorted(groups) if group in arns)
