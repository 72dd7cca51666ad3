"""How every component of the device is, and the retained topics of those that nobody else publishes.

=============  =============================================================================================
a component    is as
=============  =============================================================================================
of scripts     its supervisor says, also one of a set that is not active yet
inference      the workers of its model: RUNNING, ERRORED between two tries, BROKEN
model          the worst of its workers; FINISHED when no stream uses it
a runtime      FINISHED: it is installed and proved, or the set would not be active
a server       INSTALLED until the agent serves it
a service      RUNNING: what the agent does of one of AWS's own components
of the agent   RUNNING; the nucleus, which is the agent, is always there
=============  =============================================================================================

What is active and yet not live is BROKEN: it could not be brought back when the agent started.  The note says what a
person should know though nothing is broken: why a deployment did not change it, what its camera lacks, which
environment was chosen.

The supervisor publishes scripts, the status board models; ``ComponentStatusPublisher`` streams, runtimes and servers,
and the models that no stream uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent.greengrass.components.states import ComponentStatus, Problem, State, StatusCode
from agent.greengrass.deployments.activation import Activator
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.outcome import DeploymentEnded
from agent.greengrass.deployments.repository import BUILTINS, NUCLEUS
from agent.greengrass.deployments.service import DeploymentService
from agent.greengrass.deployments.state import Active, ActiveSet, DeployedState
from agent.greengrass.deployments.target import DeploymentTarget
from agent.greengrass.recipes.versions import Version
from agent.inference.values import PoolState, PoolStatus
from agent.results.result import utc
from agent.status.board import POOL_STATES, StatusBoard
from agent.streams.stream import Stream

__all__ = ["ComponentStatusPublisher", "DeviceView", "Pools", "component_payload", "component_statuses", "observe"]

Pools = Callable[[str], PoolStatus]
"""How a model's workers are, by the model's key in the target."""

_WORST_FIRST: Final = (
    PoolState.BROKEN,
    PoolState.BACKOFF,
    PoolState.STARTING,
    PoolState.RUNNING,
    PoolState.STOPPED,
)
_NOT_LIVE: Final = Problem(
    StatusCode.STARTUP_ERROR, "The agent could not bring it back when it started; the agent's log tells why."
)
_UNUSED: Final = "no inference component uses it"
_PUBLISHED: Final = frozenset(
    (ComponentKind.INFERENCE, ComponentKind.RUNTIME, ComponentKind.SERVER, ComponentKind.SERVICE)
)
_OURS: Final = frozenset((ComponentKind.BUILTIN, ComponentKind.SERVICE))
"""What runs as long as the agent does."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """What the statuses are read from: the device at one moment."""

    deployed: DeployedState
    target: DeploymentTarget
    scripts: Mapping[str, ComponentStatus]
    pools: Pools
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """What was chosen for each runtime component."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """What is the matter with the source of a stream."""
    last_failures: Mapping[str, str] = field(default_factory=dict)
    """Why the last deployment did not change a component."""


def observe(service: DeploymentService, activator: Activator, pools: Pools) -> DeviceView:
    """The device now."""
    state, streams = service.state, activator.streams
    return DeviceView(
        state.current,
        activator.target,
        activator.supervisor.states(),
        pools,
        runtimes={name: environment.description for name, environment in state.environments.items()},
        sources={name: _trouble(streams[name]) for name in activator.target.streams if name in streams},
        last_failures=state.last_failures,
    )


def _trouble(stream: Stream) -> str:
    """What a stream's source waits for or cannot do; empty while pictures come."""
    source = stream.source_status
    return f"its {source.kind} {source.name} is {source.state}: {source.reason}" if source.reason else ""


def component_statuses(view: DeviceView) -> dict[str, ComponentStatus]:
    """Every component by name: of the active set, of what is live of it, and of the scripts that are supervised."""
    statuses = {NUCLEUS: _running(NUCLEUS, BUILTINS[NUCLEUS].version)}
    for name, active in view.deployed.active.components.items():
        statuses[name] = (
            _running(name, active.recipe.version) if active.kind in _OURS else _noted(_status(name, active, view), view)
        )
    return dict(view.scripts) | statuses


def _status(name: str, active: Active, view: DeviceView) -> ComponentStatus:
    version, target = str(active.recipe.version), view.target
    match active.kind:
        case ComponentKind.GENERIC if name in view.scripts:
            return view.scripts[name]
        case ComponentKind.INFERENCE if name in target.streams:
            status = _of_workers(name, version, [view.pools(target.streams[name].model)])
            return replace(status, note=view.sources.get(name, ""))
        case ComponentKind.MODEL:
            keys = [key for key, model in target.models.items() if model.component == name]
            status = _of_workers(name, version, [view.pools(key) for key in keys])
            return replace(status, note="" if _used(name, view.deployed.active) else _UNUSED)
        case ComponentKind.RUNTIME if name in view.runtimes:
            return ComponentStatus(name, version, State.FINISHED, note=view.runtimes[name])
        case ComponentKind.SERVER:
            return ComponentStatus(name, version, State.RUNNING)
        case _:
            return ComponentStatus(name, version, State.BROKEN, _NOT_LIVE)


def _used(model: str, active: ActiveSet) -> bool:
    """Whether a stream of the set depends on the model, or programs may ask for it through a server."""
    return any(
        each.kind is ComponentKind.SERVER
        or (each.kind is ComponentKind.INFERENCE and model in each.recipe.dependencies)
        for each in active.components.values()
    )


def _noted(status: ComponentStatus, view: DeviceView) -> ComponentStatus:
    notes = [view.last_failures.get(status.name, ""), status.note]
    return replace(status, note="; ".join(filter(None, notes)))


def _of_workers(name: str, version: str, pools: Iterable[PoolStatus]) -> ComponentStatus:
    worst = min(pools, key=lambda pool: _WORST_FIRST.index(pool.state), default=PoolStatus(PoolState.STOPPED))
    problem = Problem(StatusCode.RUN_ERROR, worst.reason) if worst.reason else None
    return ComponentStatus(name, version, State(POOL_STATES[worst.state]), problem)


def _running(name: str, version: Version) -> ComponentStatus:
    return ComponentStatus(name, str(version), State.RUNNING)


class ComponentStatusPublisher:
    """Publishes the statuses that have changed, and nothing else; a ``DeploymentListener``."""

    def __init__(self, board: StatusBoard, view: Callable[[], DeviceView]) -> None:
        self._board = board
        self._view = view
        self._published: dict[str, ComponentStatus] = {}

    def began(self) -> None:
        """A deployment is under way."""

    def ended(self, end: DeploymentEnded) -> None:
        """A deployment is over: what it tried, and what it removed, is cleared."""
        del end
        self.changed()
        self._board.active(self._names(self._view()), settled=True)

    def changed(self) -> None:
        """Something may have changed: publish what is new; a model's note goes along with its workers' status."""
        view = self._view()
        kinds = {name: active.kind for name, active in view.deployed.active.components.items()}
        statuses = component_statuses(view)
        for name, kind in kinds.items():
            if kind is ComponentKind.MODEL:
                self._board.annotate(name, statuses[name].note)
        unused = {
            name
            for name, kind in kinds.items()
            if kind is ComponentKind.MODEL and not _used(name, view.deployed.active)
        }
        now = {name: statuses[name] for name, kind in kinds.items() if kind in _PUBLISHED or name in unused}
        for name in self._published.keys() - now.keys():
            del self._published[name]
            self._board.forget(name, handed_over=name in kinds)
        for name, status in now.items():
            if self._published.get(name) != status:
                self._published[name] = status
                self._board.component(name, component_payload(status, time.time()))
        self._board.active(self._names(view), settled=False)

    def _names(self, view: DeviceView) -> set[str]:
        return {*view.deployed.active.components, *view.scripts}


def component_payload(status: ComponentStatus, since: float) -> dict[str, Any]:
    """The payload of a component's topic; ``since`` is the Unix time of the last change."""
    reasons = [status.problem.reason if status.problem else "", status.note]
    reason = "; ".join(filter(None, reasons))
    return {"state": status.state.value, "version": status.version, "reason": reason, "since": utc(since)}
