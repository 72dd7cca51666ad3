"""What crosses the door to inference: requests, answers, and what a model and its workers are."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol

import msgspec

from agent.errors import VergeError
from agent.frames.frame import Picture
from agent.inference.predictions import Group, Prediction, decode

__all__ = [
    "Answer",
    "AnswerMessage",
    "Description",
    "Feeder",
    "Finish",
    "InferenceRequest",
    "PoolState",
    "PoolStatus",
    "Snapshot",
]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model as its worker tells it."""

    backend: str
    """Name and version: ``litert 2.3.0``."""
    accelerator: str
    task: str
    digest: str
    """Of the model file: ``sha256:…``."""
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    labels: int
    load_ms: float
    name: str = ""
    version: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a model says of one picture."""

    predictions: tuple[Prediction, ...]
    """Best first."""
    timing_ms: dict[str, float]
    """Of the worker's steps: ``decode``, ``preprocess``, ``infer``, ``postprocess``."""
    width: int
    height: int
    snapshot: bytes = b""
    """The annotated picture as JPEG, when it was asked for."""

    @property
    def worker_ms(self) -> float:
        """How long the worker was busy with the picture."""
        return sum(self.timing_ms.values())


class AnswerMessage(msgspec.Struct, frozen=True):
    """An answer as the worker sends it (``runtime/answers.py``), but for the message's body."""

    id: int
    groups: tuple[Group, ...]
    timing_ms: dict[str, float]
    width: int
    height: int
    segments: tuple[int, ...] = ()
    """The lengths of the body's parts."""
    annotated: bool = False
    """Whether the last part is the annotated picture."""

    def answer(self, body: bytes) -> Answer:
        """The answer, with what the body holds; raises ``ModelRefusedError`` for what a task must not give."""
        ends = list(accumulate(self.segments, initial=0))
        segments = [body[begin:end] for begin, end in pairwise(ends)]
        snapshot = segments.pop() if self.annotated else b""
        return Answer(
            predictions=decode(self.groups, segments),
            timing_ms=self.timing_ms,
            width=self.width,
            height=self.height,
            snapshot=snapshot,
        )


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for the annotated picture beside the answer."""

    quality: int = 80
    max_side: int | None = None


class PoolState(enum.Enum):
    """How a model's workers are."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    """No worker is up; the next one starts after a delay."""
    BROKEN = "broken"
    """The model cannot be loaded, or its workers died too quickly too often."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A model's workers at a glance."""

    state: PoolState
    reason: str = ""
    workers: int = 0
    """How many can answer now."""
    restarts: int = 0
    description: Description | None = None


Finish = Callable[[Answer | VergeError], None]


@dataclass(slots=True, eq=False)
class InferenceRequest:
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

    def take(self) -> InferenceRequest | None:
        """The next picture, or None when there is none now."""
