"""One picture on its way through a pool, and where pools get them from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.errors import VergeError
from agent.frames.frame import Picture
from agent.inference.values import Answer, Description, Snapshot

__all__ = ["Feeder", "Finish", "Job"]

Finish = Callable[[Answer | VergeError], None]


@dataclass(slots=True, eq=False)
class Job:
    """A picture, what to do with its answer, and how often a worker was lost over it."""

    picture: Picture
    finish: Finish
    label: str = ""
    """Names the picture in the quarantine folder: stream, camera and sequence."""
    snapshot: Snapshot | None = None
    model: Description | None = None
    """Which model it was handed to: what a swap leaves in no doubt."""
    kills: int = 0
    began: float = 0.0
    """Monotonic clock: when the worker turned to it."""
    expires: float = 0.0
    """Monotonic clock: until when a picture that killed a worker may be tried again."""


class Feeder(Protocol):
    """Whoever has pictures for a pool: a stream, or the queue of single requests."""

    def take(self) -> Job | None:
        """The next picture, or None when there is none now."""
