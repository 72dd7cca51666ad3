"""How every component of the device is.

=============  =============================================================================================
a component    is as
=============  =============================================================================================
of scripts     its supervisor says, also one of a set that is not active yet
inference      the workers of its model: RUNNING, ERRORED between two tries, BROKEN
model          the worst of its workers; FINISHED when no stream uses it
a runtime      FINISHED: it is installed and proved, or the set would not be active
a server       INSTALLED until the agent serves it
of the agent   RUNNING; the nucleus, which is the agent, is always there
=============  =============================================================================================

What is active and yet not live is BROKEN: it could not be brought back when the agent started.  The note says what a
person should know though nothing is broken: why a deployment did not change it, what its camera lacks, which
environment was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.greengrass import catalog
from agent.greengrass.components.states import ComponentStatus, Problem, State, StatusCode
from agent.greengrass.deployments import state as states
from agent.greengrass.deployments.catalogue import BUILTINS, NUCLEUS
from agent.greengrass.deployments.plan import Active, Kind
from agent.greengrass.deployments.target import Target
from agent.inference.values import PoolState, PoolStatus

__all__ = ["Pools", "Scene", "standing"]

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


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to look at."""

    active: states.State
    target: Target
    scripts: Mapping[str, ComponentStatus]
    pools: Pools
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """What was chosen for each runtime component."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """What is the matter with the source of a stream."""
    complaints: Mapping[str, str] = field(default_factory=dict)
    """Why the last deployment did not change a component."""


def standing(scene: Scene) -> dict[str, ComponentStatus]:
    """Every component by name: of the active set, of what is live of it, and of the scripts that are supervised."""
    found = {NUCLEUS: _running(NUCLEUS)}
    for name, each in scene.active.active.components.items():
        found[name] = _running(name) if each.kind is Kind.BUILTIN else _noted(_status(name, each, scene), scene)
    return dict(scene.scripts) | found


def _status(name: str, each: Active, scene: Scene) -> ComponentStatus:
    version, target = str(each.recipe.version), scene.target
    match each.kind:
        case Kind.GENERIC if name in scene.scripts:
            return scene.scripts[name]
        case Kind.INFERENCE if name in target.streams:
            status = _worked(name, version, [scene.pools(target.streams[name].model)])
            return replace(status, note=scene.sources.get(name, ""))
        case Kind.MODEL:
            keys = [key for key, one in target.models.items() if one.component == name]
            return _worked(name, version, [scene.pools(key) for key in keys])
        case Kind.RUNTIME if name in scene.runtimes:
            return ComponentStatus(name, version, State.FINISHED, note=scene.runtimes[name])
        case Kind.SERVER:
            return ComponentStatus(name, version, State.INSTALLED, note=catalog.NOT_YET_SERVED)
        case _:
            return ComponentStatus(name, version, State.BROKEN, _NOT_LIVE)


def _noted(status: ComponentStatus, scene: Scene) -> ComponentStatus:
    notes = [scene.complaints.get(status.name, ""), status.note]
    return replace(status, note="; ".join(filter(None, notes)))


def _worked(name: str, version: str, pools: Iterable[PoolStatus]) -> ComponentStatus:
    worst = min(pools, key=lambda each: _WORST_FIRST.index(each.state), default=PoolStatus(PoolState.STOPPED))
    problem = Problem(StatusCode.RUN_ERROR, worst.reason) if worst.reason else None
    return ComponentStatus(name, version, _STATES[worst.state], problem)


def _running(name: str) -> ComponentStatus:
    return ComponentStatus(name, str(BUILTINS[name].version), State.RUNNING)
