"""Which captures leave together, and when: ``step(queue, event)`` gives the queue behind the event, and what to send.

Captures leave in the order in which they were taken, one batch at a time.  A batch stays what it is until it has
arrived: one that failed is sent again as it was, when its pause is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

__all__ = ["Arrived", "CaptureTaken", "Event", "Failed", "Flush", "Queue", "Rules", "Tick", "due", "step"]


@dataclass(frozen=True, slots=True)
class Rules:
    """``batch_size`` captures leave together; none waits for its batch longer than ``period_s``."""

    batch_size: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Queue:
    """Captures by number, the oldest first; ``batch`` is on its way, or waits for another attempt."""

    waiting: tuple[tuple[int, float], ...] = ()
    """Number, and when it was taken."""
    batch: tuple[int, ...] = ()
    again_at: float = math.inf
    """When the batch is sent again; never while it is on its way."""
    flushing: bool = False
    """Whether nothing waits for its period any more."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.batch)


@dataclass(frozen=True, slots=True)
class CaptureTaken:
    """A capture is in the spool."""

    number: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Flush:
    """What waits is to leave now."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The batch is where it was to go, or given up."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The batch did not arrive, and is to be sent again after a pause."""

    pause_s: float


Event: TypeAlias = CaptureTaken | Tick | Flush | Arrived | Failed


def step(queue: Queue, event: Event, now: float, rules: Rules) -> tuple[Queue, tuple[int, ...]]:
    """The queue behind an event, and the batch to be sent now; empty is none."""
    match event:
        case CaptureTaken(number):
            queue = replace(queue, waiting=(*queue.waiting, (number, now)))
        case Flush():
            queue = replace(queue, flushing=True)
        case Arrived():
            queue = replace(queue, batch=(), again_at=math.inf)
        case Failed(pause_s):
            queue = replace(queue, again_at=now + pause_s)
        case Tick():
            pass
    if now < due(queue, rules):
        return queue, ()
    if queue.batch:
        return replace(queue, again_at=math.inf), queue.batch
    batch = tuple(number for number, _ in queue.waiting[: rules.batch_size])
    waiting = queue.waiting[rules.batch_size :]
    return replace(
        queue, waiting=waiting, batch=batch, again_at=math.inf, flushing=queue.flushing and bool(waiting)
    ), batch


def due(queue: Queue, rules: Rules) -> float:
    """When there is something to send; infinity until something happens."""
    if queue.batch:
        return queue.again_at
    if not queue.waiting:
        return math.inf
    if queue.flushing or len(queue.waiting) >= rules.batch_size:
        return -math.inf
    return queue.waiting[0][1] + rules.period_s
