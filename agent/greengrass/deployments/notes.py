"""What a deployment did not do though its document may have been meant so: sentences for whoever asked.

Nothing of it is a failure, as it is none to Greengrass; but who removes a component and finds it running, or writes a
key that nothing reads, wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.strict import nearest
from agent.greengrass.deployments import nucleus
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.plan import Action, Plan, Planned
from agent.greengrass.deployments.request import ComponentRequest, Deployment, Groups, group_label
from agent.greengrass.deployments.state import ActiveSet

__all__ = ["notes"]


def notes(plan: Plan, was: ActiveSet, before: Groups, after: Groups) -> tuple[str, ...]:
    """The sentences on a plan; ``was`` is the set that it changes, the groups are those before it and after it."""
    deployment = plan.deployment
    return (
        *_kept(plan, was, before, after),
        *_configured(plan, deployment),
        *nucleus.notes(deployment),
        *_untried(plan, deployment),
    )


def _kept(plan: Plan, was: ActiveSet, before: Groups, after: Groups) -> Iterator[str]:
    """What was to be removed, or is no longer listed, and stays or was never there."""
    group = plan.deployment.group
    roots = before.roots.get(group, {})
    planned = {component.name: component for component in plan.components}
    dropped = roots.keys() - after.roots.get(group, {}).keys()
    for name in sorted({*plan.deployment.remove, *dropped} - plan.deployment.components.keys()):
        if name in planned and planned[name].kind is not ComponentKind.BUILTIN:
            yield f"{name} stays: {_because(name, plan, after) or 'it is part of the agent'}"
        elif name not in was.components:
            near = nearest(name, roots)
            yield f"{name} was not there: nothing is removed" + (f"; {near}" if near else "")


def _because(name: str, plan: Plan, groups: Groups) -> str:
    """Who keeps a component: ``group thinggroup/lab requires it and com.b needs it``."""
    requiring = [group_label(group) for group, components in sorted(groups.roots.items()) if name in components]
    needing = [component.name for component in plan.components if name in component.recipe.dependencies]
    whos = [f"{' and '.join(requiring)} {_verb(requiring, 'require')} it"] if requiring else []
    whos += [f"{' and '.join(needing)} {_verb(needing, 'need')} it"] if needing else []
    return ", ".join(whos)


def _verb(subjects: list[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb


def _configured(plan: Plan, deployment: Deployment) -> Iterator[str]:
    """Keys that nothing reads, of what this deployment changes or configures."""
    for component in plan.components:
        request = deployment.components.get(component.name)
        if component.inference and (request is not None or component.action is not Action.KEEP):
            yield from component.inference.notes
        elif request is not None:
            yield from _misspelled(component, request)
        if request is not None and request.run_with is not None and component.kind is not ComponentKind.GENERIC:
            asked = request.run_with
            if asked.posix_user or asked.memory_kb is not None or asked.cpus is not None:
                yield f"{component.name} runs no scripts: runWith has no effect on it"


def _misspelled(component: Planned, request: ComponentRequest) -> Iterator[str]:
    """Keys that are not among the component's defaults, and look like one that is; any other may be meant."""
    known = component.recipe.configuration
    for key in request.merge or ():
        if key.lower() not in {name.lower() for name in known} and (near := nearest(key, known)):
            yield f"{component.name} has no key {key} among its defaults: it is kept; {near}"


def _untried(plan: Plan, deployment: Deployment) -> Iterator[str]:
    """A canary that had nothing to try."""
    streams = [component for component in plan.components if component.inference]
    if deployment.canary is not None and not any(stream.old and stream.action is not Action.KEEP for stream in streams):
        yield "the canary tried nothing: no stream that runs gets another model"
