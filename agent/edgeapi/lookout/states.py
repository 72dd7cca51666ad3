"""A model's status, and what may happen to it in each: the table is the specification.

::

    STOPPED ─start→ STARTING ─loaded→ RUNNING ─stop→ STOPPING ─stopped→ STOPPED
                        └─failed→ FAILED ─start→ STARTING
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from agent.errors import ModelRefusedError

__all__ = ["TRANSITIONS", "ModelEvent", "ModelState", "ModelStatus", "step"]


class ModelStatus(IntEnum):
    """As the interface numbers it."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    FAILED = 3
    STOPPING = 4


class ModelEvent(Enum):
    """What happens to a model."""

    START = "started"
    LOADED = "loaded"
    FAIL = "given up"
    STOP = "stopped"
    UNLOADED = "unloaded"


TRANSITIONS: Final[Mapping[tuple[ModelStatus, ModelEvent], ModelStatus]] = {
    (ModelStatus.STOPPED, ModelEvent.START): ModelStatus.STARTING,
    (ModelStatus.FAILED, ModelEvent.START): ModelStatus.STARTING,
    (ModelStatus.STARTING, ModelEvent.LOADED): ModelStatus.RUNNING,
    (ModelStatus.STARTING, ModelEvent.FAIL): ModelStatus.FAILED,
    (ModelStatus.RUNNING, ModelEvent.FAIL): ModelStatus.FAILED,
    (ModelStatus.RUNNING, ModelEvent.STOP): ModelStatus.STOPPING,
    (ModelStatus.STOPPING, ModelEvent.UNLOADED): ModelStatus.STOPPED,
}


@dataclass(frozen=True, slots=True)
class ModelState:
    """A status, and a sentence about it where there is something to say."""

    status: ModelStatus = ModelStatus.STOPPED
    message: str = ""


def step(state: ModelState, event: ModelEvent, message: str = "") -> ModelState:
    """The state after an event; raises ``ModelRefusedError`` (``model-state-wrong``) where it cannot happen.

    >>> step(ModelState(), ModelEvent.START).status.name
    'STARTING'
    """
    after = TRANSITIONS.get((state.status, event))
    if after is None:
        wanted = " or ".join(before.name for before, each in TRANSITIONS if each is event)
        raise ModelRefusedError(
            f"the model is {state.status.name}, and can be {event.value} only when it is {wanted}",
            code="model-state-wrong",
            hint=state.message or None,
        )
    return ModelState(after, message)
