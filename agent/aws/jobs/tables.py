"""The rules of the Jobs conversation as tables: what follows from an answer and from a rejection."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

from agent.aws.jobs.messages import Code

__all__ = ["AFTER_ANSWER", "ON_REJECTED_QUESTION", "ON_REJECTED_UPDATE", "Act", "Phase", "Remedy", "Seen"]


class Phase(enum.Enum):
    """Where the one job is."""

    IDLE = "idle"
    CLAIMING = "claiming"
    RUNNING = "running"
    ENDING = "ending"
    CANCELLING = "cancelling"


class Seen(enum.Enum):
    """What an answer says of our job."""

    QUEUED = "queued"
    IN_PROGRESS = "in progress"
    GONE = "gone"


class Act(enum.Enum):
    """What follows from an answer."""

    KEEP = "keep"
    START = "start"
    CANCEL = "cancel"
    TAKE = "take what the answer holds"


AFTER_ANSWER: Final = MappingProxyType(
    {
        (Phase.IDLE, Seen.QUEUED): (Phase.IDLE, Act.TAKE),
        (Phase.IDLE, Seen.IN_PROGRESS): (Phase.IDLE, Act.TAKE),
        (Phase.IDLE, Seen.GONE): (Phase.IDLE, Act.TAKE),
        (Phase.CLAIMING, Seen.QUEUED): (Phase.CLAIMING, Act.KEEP),
        (Phase.CLAIMING, Seen.IN_PROGRESS): (Phase.RUNNING, Act.START),
        (Phase.CLAIMING, Seen.GONE): (Phase.IDLE, Act.TAKE),
        (Phase.RUNNING, Seen.QUEUED): (Phase.RUNNING, Act.KEEP),
        (Phase.RUNNING, Seen.IN_PROGRESS): (Phase.RUNNING, Act.KEEP),
        (Phase.RUNNING, Seen.GONE): (Phase.CANCELLING, Act.CANCEL),
        (Phase.ENDING, Seen.QUEUED): (Phase.ENDING, Act.KEEP),
        (Phase.ENDING, Seen.IN_PROGRESS): (Phase.ENDING, Act.KEEP),
        (Phase.ENDING, Seen.GONE): (Phase.IDLE, Act.TAKE),
        (Phase.CANCELLING, Seen.QUEUED): (Phase.CANCELLING, Act.KEEP),
        (Phase.CANCELLING, Seen.IN_PROGRESS): (Phase.CANCELLING, Act.KEEP),
        (Phase.CANCELLING, Seen.GONE): (Phase.CANCELLING, Act.KEEP),
    }
)
"""(phase, what the answer says of our job) → (phase, what follows)."""


class Remedy(enum.Enum):
    """What to do about a rejected request."""

    ASK = "ask what is next"
    NONE_PENDING = "nothing is pending"
    BARE = "repeat without details"
    LATER = "repeat later"


ON_REJECTED_UPDATE: Final = MappingProxyType(
    {
        Code.VERSION_MISMATCH: Remedy.ASK,
        Code.INVALID_STATE_TRANSITION: Remedy.ASK,
        Code.RESOURCE_NOT_FOUND: Remedy.ASK,
        Code.TERMINAL_STATE_REACHED: Remedy.ASK,
        Code.INVALID_REQUEST: Remedy.BARE,
        Code.INVALID_JSON: Remedy.BARE,
        Code.INVALID_TOPIC: Remedy.LATER,
        Code.INTERNAL_ERROR: Remedy.LATER,
        Code.REQUEST_THROTTLED: Remedy.LATER,
    }
)

ON_REJECTED_QUESTION: Final = MappingProxyType(
    {Code.RESOURCE_NOT_FOUND: Remedy.NONE_PENDING, Code.TERMINAL_STATE_REACHED: Remedy.NONE_PENDING}
)
"""Any other code: later."""
