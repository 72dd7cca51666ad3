"""The result value, field for field what the native format writes.

Numbers are numbers, boxes are fractions of the frame with the origin at the top left, times are UTC with
a ``Z`` and milliseconds, and what is not known is left out.  msgspec's structs carry it because every frame
passes here: they are built, thinned and encoded in microseconds, and the order of the fields is the order
of the JSON.

A result's id is a ULID: 48 bits of milliseconds and 80 random bits in Crockford's base 32.  Ids of one generator sort
as text in the order they were made: within a millisecond, and when the clock steps back, the next id is the last one
plus one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

from msgspec import Struct

from agent.errors import VergeError
from agent.frames.frame import Frame
from agent.inference.predictions import Prediction

__all__ = ["ALPHABET", "Failure", "FrameFacts", "ModelFacts", "Reason", "Result", "Timing", "Ulids", "utc"]

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)
_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80


class Ulids:
    """A generator of ids; ``clock`` gives seconds since the epoch, ``entropy(n)`` gives n random bytes.

    >>> ids = Ulids(clock=lambda: 1.0, entropy=bytes)
    >>> ids.new(), ids.new()
    ('00000000Z80000000000000000', '00000000Z80000000000000001')
    """

    def __init__(self, clock: Callable[[], float] = time.time, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._last = -1

    def new(self) -> str:
        """The next id, 26 characters."""
        now_ms = int(self._clock() * 1e3)
        if now_ms > self._last >> _RANDOM_BITS:
            self._last = now_ms << _RANDOM_BITS | int.from_bytes(self._entropy(_RANDOM_BITS // 8), "big")
        else:
            self._last += 1
        value = self._last
        return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


class FrameFacts(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Which frame it was, as a reader needs it; sizes are in pixels, and left out of what is no picture."""

    topic: str
    sequence: int
    width: int = 0
    height: int = 0
    captured_at: str | None = None
    received_at: str
    camera: str
    retained: bool = False
    """The broker kept it from before: it may be old."""
    damaged: bool = False
    """Its decoder complained: the model saw pixels that were made up."""
    metadata: dict[str, Any] = {}
    """Small facts the sender put beside the picture."""

    @classmethod
    def of(cls, frame: Frame, *, width: int | None = None, height: int | None = None, damaged: bool = False) -> Self:
        """The facts of a frame; its size as the decoder found it where given, else as its header says."""
        picture = frame.picture
        return cls(
            topic=frame.topic,
            sequence=frame.sequence,
            width=picture.width if width is None else width,
            height=picture.height if height is None else height,
            captured_at=None if picture.captured_at is None else utc(picture.captured_at),
            received_at=utc(frame.received_at),
            camera=frame.camera,
            retained=frame.retained,
            damaged=damaged,
            metadata=dict(picture.metadata),
        )


class ModelFacts(Struct, frozen=True, omit_defaults=True):
    """Which model answered: enough to find the very file, and the deployment that brought it."""

    component: str
    version: str
    digest: str
    backend: str
    deployment: str | None = None
    decoder: str = ""
    """Which head read the network's outputs, where the task has several."""


class Timing(Struct, frozen=True, kw_only=True):
    """Milliseconds of each step; ``total`` runs from the frame's arrival to its result."""

    queue: float
    decode: float
    preprocess: float
    infer: float
    postprocess: float
    total: float


class Result(Struct, frozen=True, kw_only=True):
    """What a model says of one frame."""

    id: str
    thing: str
    stream: str
    task: str
    frame: FrameFacts
    model: ModelFacts
    predictions: tuple[Prediction, ...]
    timing_ms: Timing


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why there is no result: a stable code, a sentence, and what to do about it."""

    code: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: VergeError) -> Self:
        """The reason an error gives."""
        return cls(error.code, error.message, error.hint)


class Failure(Struct, frozen=True, kw_only=True):
    """What a sender who asked for an answer gets when its frame was dropped or failed."""

    id: str
    stream: str
    frame: FrameFacts
    error: Reason


def utc(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds.

    >>> utc(0.0625)
    '1970-01-01T00:00:00.062Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
