"""Which deployment is next: a pure queue of events and effects.

One deployment runs at a time, the others wait in the order in which they came.  A deployment whose id is waiting or
running already is not taken twice.  Of shadows only the newest waits: it takes the older one's place.  A cancelled
deployment leaves the queue; a running one is interrupted as long as it has changed nothing that is live, after that it
is too late.

Until then a running one can be overtaken too:

- a shadow by a newer shadow, as Greengrass does;
- one that waits for something (an artifact out of reach, a canary's frames) by one behind it that covers it: of the
  same group, and asking anew for all that it asks for.  Nothing is lost then: what replaces its group covers
  whatever the group asked for before; what adds to it covers an earlier addition if it names the same components, and
  those that the earlier one configures are configured anew.  A rollback covers nothing, and nothing covers it.

Everything accepted ends once: by ``Ended`` from whoever runs it, by a ``Rejected`` or by a ``Dropped``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, TypeAlias

from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed, given_up
from agent.greengrass.deployments.request import ComponentRequest, Deployment, Origin
from agent.greengrass.errors import DeploymentRejectedError

__all__ = [
    "MAX_WAITING",
    "Activating",
    "Arrived",
    "Begin",
    "Cancelled",
    "DropReason",
    "Dropped",
    "Effect",
    "Ended",
    "Event",
    "Fate",
    "Interrupt",
    "Queue",
    "Rejected",
    "Running",
    "Waits",
    "behind",
    "covers",
    "fate",
    "interrupted",
    "known",
    "step",
]

MAX_WAITING: Final = 64


# -- events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A deployment was asked for."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A deployment is given up; ``id`` is its id."""

    id: str


@dataclass(frozen=True, slots=True)
class Activating:
    """The running deployment is about to change what is live; an ``Interrupt`` among the effects forbids it."""

    id: str


@dataclass(frozen=True, slots=True)
class Waits:
    """The running deployment waits for something that may not come, or goes on."""

    id: str
    waits: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """The running deployment is over; ``outcome`` is None when it was interrupted."""

    id: str
    outcome: Outcome | None


Event: TypeAlias = Arrived | Cancelled | Activating | Waits | Ended


# -- effects --------------------------------------------------------------------------------------------------


class DropReason(Enum):
    """Why a deployment ended before it changed anything."""

    CANCELED = "canceled"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Begin:
    """Run it."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Stop running it; nothing was changed so far."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Rejected:
    """It is over before it began: report this."""

    deployment: Deployment
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Dropped:
    """It is over before it began, and nobody waits for a report."""

    deployment: Deployment
    reason: DropReason
    by: str = ""
    """The id of the deployment that superseded it."""


Effect: TypeAlias = Begin | Interrupt | Rejected | Dropped


@dataclass(frozen=True, slots=True)
class Running:
    """The deployment that runs, and how far it is."""

    deployment: Deployment
    activating: bool = False
    """Whether it changes what is live: it is too late to stop it."""
    waits: bool = False
    cancelled: bool = False
    superseded_by: str = ""
    """The id of the deployment that it was cancelled for."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The state: what waits and what runs."""

    waiting: tuple[Deployment, ...] = ()
    running: Running | None = None


Moved: TypeAlias = tuple[Queue, tuple[Effect, ...]]


def step(queue: Queue, event: Event) -> Moved:
    """The queue after ``event``, and what is to be done because of it, in order."""
    moved, effects = _handle(queue, event)
    passed, interrupts = _overtake(moved)
    begun, more = _next(passed)
    return begun, effects + interrupts + more


class Fate(Enum):
    """Where a deployment is, and so what a cancellation comes to."""

    WAITING = "waiting"
    STOPPABLE = "stoppable"
    """It runs, and has changed nothing so far."""
    TOO_LATE = "too late"
    UNKNOWN = "unknown"


def fate(queue: Queue, identity: str) -> Fate:
    """Where the deployment with that id is."""
    if any(waiting.id == identity for waiting in queue.waiting):
        return Fate.WAITING
    running = queue.running
    if running is None or running.deployment.id != identity:
        return Fate.UNKNOWN
    return Fate.TOO_LATE if running.activating else Fate.STOPPABLE


def behind(queue: Queue) -> dict[str, tuple[str, ...]]:
    """What waits, each with the ids of those before it, the running one first."""
    ids = [deployment.id for deployment in known(queue)]
    first = 1 if queue.running else 0
    return {identity: tuple(ids[:place]) for place, identity in enumerate(ids) if place >= first}


def interrupted(queue: Queue) -> Outcome:
    """How the running one ends that was interrupted."""
    by = queue.running.superseded_by if queue.running else ""
    how = f"superseded by {by}" if by else "cancelled"
    return given_up(f"the deployment was {how} before it changed anything", canceled=not by)


def known(queue: Queue) -> tuple[Deployment, ...]:
    """What runs, and then what waits."""
    running = (queue.running.deployment,) if queue.running else ()
    return (*running, *queue.waiting)


def covers(newer: Deployment, older: Deployment) -> bool:
    """Whether nothing of ``older`` would be left once ``newer`` is done, so that it need not be done at all."""
    if newer.rollback or older.rollback or newer.group != older.group:
        return False
    if not newer.additive:
        return True
    if not older.additive or not set(older.remove) <= {*newer.remove, *newer.components}:
        return False
    return all(
        _asked_anew(request, newer.components.get(name)) or name in newer.remove
        for name, request in older.components.items()
    )


def _asked_anew(older: ComponentRequest, newer: ComponentRequest | None) -> bool:
    """Whether a request leaves nothing of an earlier one for the same component."""
    if newer is None or (older.requirement and not newer.requirement):
        return False
    same_user = older.run_with is None or newer.run_with == older.run_with
    return same_user and set(older.reset) <= set(newer.reset) and _merged_anew(older.merge or {}, newer.merge or {})


def _merged_anew(older: Mapping[str, Any], newer: Mapping[str, Any]) -> bool:
    """Whether each key that one merge writes is written by the other too."""
    if not older.keys() <= newer.keys():
        return False
    both = ((value, newer[key]) for key, value in older.items())
    return all(_merged_anew(one, other) for one, other in both if isinstance(one, dict) and isinstance(other, dict))


def _handle(queue: Queue, event: Event) -> Moved:
    if isinstance(event, Arrived):
        return _arrived(queue, event.deployment)
    running = queue.running
    if running is None or running.deployment.id != event.id:
        return _left(queue, event.id) if isinstance(event, Cancelled) else (queue, ())
    moved: Moved = queue, ()  # an event that came too late
    match event:
        case Ended():
            moved = replace(queue, running=None), ()
        case Activating() if not running.cancelled:
            moved = replace(queue, running=replace(running, activating=True)), ()
        case Activating():
            moved = queue, (Interrupt(running.deployment),)
        case Cancelled() if not (running.activating or running.cancelled):
            moved = replace(queue, running=replace(running, cancelled=True)), (Interrupt(running.deployment),)
        case Waits(_, waits):
            moved = replace(queue, running=replace(running, waits=waits)), ()
    return moved


def _overtake(queue: Queue) -> Moved:
    """Interrupt what runs for one behind it that takes its place."""
    running = queue.running
    if running is None or running.activating or running.cancelled:
        return queue, ()
    old = running.deployment
    new = next((waiting for waiting in queue.waiting if _overtakes(waiting, old, waits=running.waits)), None)
    if new is None:
        return queue, ()
    return replace(queue, running=replace(running, cancelled=True, superseded_by=new.id)), (Interrupt(old),)


def _overtakes(new: Deployment, old: Deployment, *, waits: bool) -> bool:
    if new.source is old.source is Origin.SHADOW:
        return True
    return waits and covers(new, old)


def _left(queue: Queue, cancelled: str) -> Moved:
    """The queue without the cancelled one, if it waits."""
    dropped = tuple(Dropped(waiting, DropReason.CANCELED) for waiting in queue.waiting if waiting.id == cancelled)
    return replace(queue, waiting=tuple(waiting for waiting in queue.waiting if waiting.id != cancelled)), dropped


def _arrived(queue: Queue, deployment: Deployment) -> Moved:
    if any(deployment.id == other.id for other in known(queue)):
        return queue, ()
    shadow = next((other for other in queue.waiting if other.source is Origin.SHADOW), None)
    if deployment.source is Origin.SHADOW and shadow:
        waiting = tuple(deployment if other is shadow else other for other in queue.waiting)
        return replace(queue, waiting=waiting), (Dropped(shadow, DropReason.SUPERSEDED, deployment.id),)
    if len(queue.waiting) >= MAX_WAITING:
        full = DeploymentRejectedError(
            f"{MAX_WAITING} deployments wait already", hint="wait until some are done", code="THROTTLING_ERROR"
        )
        return queue, (_rejected(deployment, full),)
    return replace(queue, waiting=(*queue.waiting, deployment)), ()


def _next(queue: Queue) -> Moved:
    """Begin the first that waits, if nothing runs."""
    if queue.running is not None or not queue.waiting:
        return queue, ()
    first, *waiting = queue.waiting
    return replace(queue, waiting=tuple(waiting), running=Running(first)), (Begin(first),)


def _rejected(deployment: Deployment, error: DeploymentRejectedError) -> Rejected:
    return Rejected(deployment, failed(DetailedStatus.REJECTED, error))
