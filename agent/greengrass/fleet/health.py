"""When a fleet status message is sent, and of what.

``step`` takes an event and gives the messages that are due; ``wake`` is when to step again with ``TICK`` though nothing
happened.  What was reported last is remembered per component, and *changed* is what differs from that.

===========================  ========  ================================================================================
trigger                      type      when
===========================  ========  ================================================================================
``NUCLEUS_LAUNCH``           COMPLETE  once, when everything has settled after the start
``CADENCE``                  COMPLETE  every ``cadence_s``; skipped while deploying or offline
``NETWORK_RECONFIGURE``      COMPLETE  when the connection's settings changed
``RECONNECT``                PARTIAL   online again; skipped when nothing changed and the last message is < 60 s old
``…_DEPLOYMENT``             PARTIAL   a deployment ended; that of a cloud deployment is kept while offline
``COMPONENT_STATUS_CHANGE``  PARTIAL   at once for ERRORED and BROKEN, else when everything has settled; ≥ 3 s apart;
                                       while a deployment runs, of the erroring components alone
===========================  ========  ================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from agent.greengrass.components.states import State
from agent.greengrass.fleet.report import SICK, ComponentHealth, DeploymentStatus, Report, Trigger

__all__ = ["CADENCE_S", "Happened", "Health", "HealthEvent", "step", "wake"]

CADENCE_S: Final = 86_400.0
"""The least time between two ``CADENCE`` messages."""

_APART_S = 3.0
_RECENT_S = 60.0


class Happened(StrEnum):
    """What the messages depend on."""

    ONLINE = "online"
    OFFLINE = "offline"
    RECONFIGURED = "the connection's settings changed"
    CHANGED = "a component changed"
    REMOVED = "a component was removed"
    SETTLED = "every component has settled"
    DEPLOYING = "a deployment began"
    DEPLOYED = "a deployment ended"
    TICK = "time passed"


@dataclass(frozen=True, slots=True)
class HealthEvent:
    """Something happened; ``trigger`` and ``deployment`` go with ``DEPLOYED``, ``component`` with its own changes."""

    happened: Happened
    component: ComponentHealth | None = None
    trigger: Trigger | None = None
    deployment: DeploymentStatus | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What is known and what was reported; times are of a clock that never goes back.

    ``sequence`` is the next message's number, which the caller keeps over restarts.  ``due`` is the time of the first
    ``CADENCE``: ``cadence_s`` after the last one, or a random delay from now.
    """

    sequence: int
    due: float
    cadence_s: float = CADENCE_S
    components: Mapping[str, ComponentHealth] = field(default_factory=dict)
    reported: Mapping[str, ComponentHealth] = field(default_factory=dict)
    removed: Mapping[str, ComponentHealth] = field(default_factory=dict)
    online: bool = False
    settled: bool = False
    deploying: bool = False
    launched: bool = False
    last: float | None = None
    last_change: float | None = None

    @property
    def changed(self) -> tuple[ComponentHealth, ...]:
        """What differs from what was reported, with what is gone."""
        return (
            *(one for name, one in self.components.items() if self.reported.get(name) != one),
            *self.removed.values(),
        )


Step = tuple[Health, tuple[Report, ...]]


def step(health: Health, event: HealthEvent, now: float) -> Step:
    """What is to be sent after an event."""
    health, first = _handle(health, event, now)
    health, cadence = _cadence(health, now)
    health, launch = _launch(health, now)
    health, change = _change(health, now)
    return health, (*first, *cadence, *launch, *change)


def wake(health: Health) -> float:
    """When to step with ``Tick`` at the latest."""
    waits = health.online and health.last_change is not None and _worth_reporting(health)
    return min(health.due, (health.last_change or 0.0) + _APART_S) if waits else health.due


def _handle(health: Health, event: HealthEvent, now: float) -> Step:
    match event:
        case HealthEvent(Happened.CHANGED, ComponentHealth() as one):
            return _changed(health, one), ()
        case HealthEvent(Happened.REMOVED, ComponentHealth() as one):
            return _removed(health, one), ()
        case HealthEvent(Happened.DEPLOYED, trigger=Trigger() as trigger, deployment=DeploymentStatus() as deployment):
            return _deployed(replace(health, deploying=False), trigger, deployment, now)
        case HealthEvent(Happened.ONLINE):
            return _reconnect(replace(health, online=True), now)
        case HealthEvent(Happened.RECONFIGURED) if health.online:
            return _report(health, Trigger.NETWORK_RECONFIGURE, _all(health), now)
        case _:
            return _FLAGS[event.happened](health) if event.happened in _FLAGS else health, ()


_FLAGS: Final[Mapping[Happened, Callable[[Health], Health]]] = {
    Happened.OFFLINE: lambda health: replace(health, online=False),
    Happened.SETTLED: lambda health: replace(health, settled=True),
    Happened.DEPLOYING: lambda health: replace(health, deploying=True),
}


def _changed(health: Health, one: ComponentHealth) -> Health:
    removed = {name: other for name, other in health.removed.items() if name != one.name}
    return replace(health, components={**health.components, one.name: one}, removed=removed, settled=False)


def _removed(health: Health, one: ComponentHealth) -> Health:
    components = {name: other for name, other in health.components.items() if name != one.name}
    return replace(health, components=components, removed={**health.removed, one.name: one})


def _reconnect(health: Health, now: float) -> Step:
    recent = health.last is not None and now - health.last < _RECENT_S
    if not health.launched or (recent and not health.changed):
        return health, ()
    return _report(health, Trigger.RECONNECT, health.changed, now)


def _deployed(health: Health, trigger: Trigger, deployment: DeploymentStatus, now: float) -> Step:
    keep = trigger is not Trigger.LOCAL_DEPLOYMENT
    if not (health.online or keep):
        return health, ()
    return _report(health, trigger, health.changed, now, deployment)


def _cadence(health: Health, now: float) -> Step:
    if now < health.due:
        return health, ()
    health = replace(health, due=now + max(health.cadence_s, CADENCE_S))
    if health.deploying or not health.online:
        return health, ()
    return _report(health, Trigger.CADENCE, _all(health), now)


def _launch(health: Health, now: float) -> Step:
    if health.launched or health.deploying or not (health.online and health.settled):
        return health, ()
    return _report(replace(health, launched=True), Trigger.NUCLEUS_LAUNCH, _all(health), now)


def _change(health: Health, now: float) -> Step:
    components = _worth_reporting(health)
    if not (components and health.online):
        return health, ()
    if health.last_change is not None and now - health.last_change < _APART_S:
        return health, ()
    return _report(replace(health, last_change=now), Trigger.COMPONENT_STATUS_CHANGE, components, now)


def _worth_reporting(health: Health) -> tuple[ComponentHealth, ...]:
    """What a ``COMPONENT_STATUS_CHANGE`` would contain now, waiting aside."""
    if health.settled and health.launched and not health.deploying:
        changed = health.changed
        return changed if any(not one.system for one in changed) else ()
    return tuple(one for one in health.changed if one.state in SICK and not one.system)


def _all(health: Health) -> tuple[ComponentHealth, ...]:
    return (*health.components.values(), *health.removed.values())


def _report(
    health: Health,
    trigger: Trigger,
    components: tuple[ComponentHealth, ...],
    now: float,
    deployment: DeploymentStatus | None = None,
) -> Step:
    names = {one.name for one in components}
    unchanged = tuple(name for name, one in health.components.items() if one.root and name not in names)
    report = Report(
        trigger=trigger,
        sequence=health.sequence,
        healthy=all(one.state is not State.BROKEN for one in health.components.values()),
        components=components,
        deployment=deployment,
        unchanged_roots=unchanged if deployment else (),
        keep=deployment is not None and trigger is not Trigger.LOCAL_DEPLOYMENT,
    )
    reported = {name: one for name, one in health.reported.items() if name in health.components}
    reported |= {one.name: one for one in components if one.name in health.components}
    removed = {name: one for name, one in health.removed.items() if name not in names}
    return replace(health, sequence=health.sequence + 1, reported=reported, removed=removed, last=now), (report,)
