"""Which deployment is next: a pure queue of events and effects.

One deployment runs at a time, the others wait in the order in which they came.  A deployment whose id is waiting or
running already is not taken twice.  Of shadows only the newest waits: it takes the older one's place.  A job whose
document is older than the last deployment of its group is rejected when its turn comes.  A cancelled deployment leaves
the queue; a running one is interrupted as long as nothing was activated, after that it is too late.

Everything accepted ends once: by ``Ended`` from whoever runs it, by a ``Rejected`` or by a ``Dropped``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, TypeAlias

from agent.greengrass.deployments.errors import DeploymentRejectedError
from agent.greengrass.deployments.outcome import COMMITTED, DetailedStatus, Outcome, failed
from agent.greengrass.deployments.request import Deployment, Origin, group_label

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
    "Interrupt",
    "Queue",
    "Rejected",
    "Running",
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
    """The running deployment is about to change something; an ``Interrupt`` among the effects forbids it."""

    id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The running deployment is over; ``outcome`` is None when it was interrupted."""

    id: str
    outcome: Outcome | None


Event: TypeAlias = Arrived | Cancelled | Activating | Ended


# -- effects --------------------------------------------------------------------------------------------------


class DropReason(Enum):
    """Why a deployment was dropped without a report."""

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


Effect: TypeAlias = Begin | Interrupt | Rejected | Dropped


@dataclass(frozen=True, slots=True)
class Running:
    """The deployment that runs, and how far it is."""

    deployment: Deployment
    activating: bool = False
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """The state: what waits, what runs, and the document time of each group's last deployment that took effect."""

    waiting: tuple[Deployment, ...] = ()
    running: Running | None = None
    last_ms: Mapping[str, int] = field(default_factory=dict)


Moved: TypeAlias = tuple[Queue, tuple[Effect, ...]]


def step(queue: Queue, event: Event) -> Moved:
    """The queue after ``event``, and what is to be done because of it, in order."""
    moved, effects = _handle(queue, event)
    begun, more = _next(moved)
    return begun, effects + more


def _handle(queue: Queue, event: Event) -> Moved:
    if isinstance(event, Arrived):
        return _arrived(queue, event.deployment)
    running = queue.running
    if running is None or running.deployment.id != event.id:
        return _left(queue, event.id) if isinstance(event, Cancelled) else (queue, ())
    moved: Moved = queue, ()  # an event that came too late
    match event:
        case Ended(_, outcome):
            moved = _ended(queue, running.deployment, outcome), ()
        case Activating() if not running.cancelled:
            moved = replace(queue, running=replace(running, activating=True)), ()
        case Activating():
            moved = queue, (Interrupt(running.deployment),)
        case Cancelled() if not (running.activating or running.cancelled):
            moved = replace(queue, running=replace(running, cancelled=True)), (Interrupt(running.deployment),)
    return moved


def _left(queue: Queue, cancelled: str) -> Moved:
    """The queue without the cancelled one, if it waits."""
    dropped = tuple(Dropped(waiting, DropReason.CANCELED) for waiting in queue.waiting if waiting.id == cancelled)
    return replace(queue, waiting=tuple(waiting for waiting in queue.waiting if waiting.id != cancelled)), dropped


def _arrived(queue: Queue, deployment: Deployment) -> Moved:
    known = {other.id for other in (*queue.waiting, *([queue.running.deployment] if queue.running else []))}
    if deployment.id in known:
        return queue, ()
    shadow = next((other for other in queue.waiting if other.source is Origin.SHADOW), None)
    if deployment.source is Origin.SHADOW and shadow:
        waiting = tuple(deployment if other is shadow else other for other in queue.waiting)
        return replace(queue, waiting=waiting), (Dropped(shadow, DropReason.SUPERSEDED),)
    if len(queue.waiting) >= MAX_WAITING:
        full = DeploymentRejectedError(
            f"{MAX_WAITING} deployments wait already", hint="wait until some are done", code="THROTTLING_ERROR"
        )
        return queue, (_rejected(deployment, full),)
    return replace(queue, waiting=(*queue.waiting, deployment)), ()


def _ended(queue: Queue, deployment: Deployment, outcome: Outcome | None) -> Queue:
    last = queue.last_ms
    if outcome and outcome.status in COMMITTED:
        last = {**last, deployment.group: max(deployment.timestamp_ms, last.get(deployment.group, 0))}
    return replace(queue, running=None, last_ms=last)


def _next(queue: Queue) -> Moved:
    """Begin the first that waits, if nothing runs; what has become stale is rejected on the way."""
    effects: list[Effect] = []
    waiting = list(queue.waiting)
    running = queue.running
    while waiting and running is None:
        first = waiting.pop(0)
        last = queue.last_ms.get(first.group, 0)
        if first.source is Origin.JOB and first.timestamp_ms < last:
            effects.append(_rejected(first, _stale(first, last)))
        else:
            running = Running(first)
            effects.append(Begin(first))
    return replace(queue, waiting=tuple(waiting), running=running), tuple(effects)


def _stale(deployment: Deployment, last: int) -> DeploymentRejectedError:
    return DeploymentRejectedError(
        f"the document is of {deployment.timestamp_ms}, older than the last one of {group_label(deployment.group)}, "
        f"which is of {last}",
        hint="deploy a new revision",
        code="REJECTED_STALE_DEPLOYMENT",
    )


def _rejected(deployment: Deployment, error: DeploymentRejectedError) -> Rejected:
    return Rejected(deployment, failed(DetailedStatus.REJECTED, error))
