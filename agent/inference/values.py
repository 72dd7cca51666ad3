"""What crosses the door to inference: requests, answers, and what a model and its workers are."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from agent.errors import VergeError
from agent.frames.frame import Picture
from agent.inference.predictions import Group, Prediction, decode
from agent.inference.tensors import RawTensor, TensorInput

__all__ = [
    "Answer",
    "AnswerMessage",
    "Feeder",
    "InferenceRequest",
    "InputFact",
    "ModelMetadata",
    "OutputsMessage",
    "PaintedClass",
    "Painting",
    "PoolState",
    "PoolStatus",
    "Quantization",
    "Snapshot",
    "TensorAnswer",
    "TensorMetadata",
]

Reply = TypeVar("Reply", "Answer", "TensorAnswer")


class Quantization(msgspec.Struct, frozen=True):
    """How a tensor's numbers stand for real ones: real = scale × (stored - zero_point)."""

    scale: float
    zero_point: int


class TensorMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input or output of a network, as its file describes it."""

    name: str
    shape: tuple[int, ...]
    """Unknown or dynamic dimensions are -1."""
    dtype: str
    """NumPy's name."""
    quantization: Quantization | None = None


class Recognition(msgspec.Struct, frozen=True):
    """What a network was taken for, and why."""

    evidence: str = ""
    """``told`` by the manifest, ``said`` by the file's metadata, ``named`` by its tensors, or ``fits`` their shapes."""
    why: str = ""
    options: dict[str, Any] = {}
    """What a manifest would have said to the task."""
    input: dict[str, Any] = {}
    """How the family is fed, where manifest and file leave it open."""
    notes: tuple[str, ...] = ()


class InputFact(msgspec.Struct, frozen=True):
    """One thing that settles how a picture becomes the network's input."""

    key: str
    """As in the manifest's ``[input]``."""
    value: Any
    source: str
    """``manifest``, ``file``, ``family``, ``shape`` (the tensor's), or ``usual`` where nobody says it."""


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model as its worker describes it."""

    backend: str
    """Name and version: ``litert 2.3.0``."""
    accelerator: str
    task: str
    digest: str
    """Of the model file: ``sha256:…``."""
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    labels: int
    load_ms: float
    warm_up_ms: float = 0.0
    """How long the first answer took, of a made-up picture."""
    longest_ms: float = 0.0
    """How long an answer may take by that, with all that the models behind this one look at."""
    stages: tuple[ModelMetadata, ...] = ()
    """The models that look at what this one detects."""
    decoder: str = ""
    """Which of the task's heads reads the outputs, where it has several."""
    recognition: Recognition = Recognition()
    input: tuple[InputFact, ...] = ()
    """How a picture becomes the network's input."""
    name: str = ""
    version: str = ""


class PaintedClass(msgspec.Struct, frozen=True):
    """A class in a painting: its colour as ``#RRGGBB``, and the share of the frame that has it, 0 to 1."""

    name: str
    color: str
    area: float


class Painting(msgspec.Struct, frozen=True):
    """Where anomalies are: RGB of the frame's size, row by row; the background is the first of the classes."""

    classes: tuple[PaintedClass, ...]
    data: bytes


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
    damaged: bool = False
    """The decoder complained of the picture: some of what the model saw was made up."""
    painting: Painting | None = None
    """When it was asked for, and the model says of any place what it is."""

    @property
    def aspect(self) -> float:
        """The frame's width in its heights."""
        return self.width / self.height if self.width and self.height else 1.0

    @property
    def worker_ms(self) -> float:
        """How long the worker was busy with the picture."""
        return sum(self.timing_ms.values())


class PaintingMessage(msgspec.Struct, frozen=True):
    """A painting as the worker describes it; ``length`` is how many bytes of it lie in the frame buffer."""

    classes: tuple[PaintedClass, ...]
    length: int


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
    damaged: bool = False
    painting: PaintingMessage | None = None

    def answer(self, body: bytes, painted: bytes = b"") -> Answer:
        """The answer, with what the body holds and what was ``painted``.

        Raises ``ModelRefusedError`` for what a task must not give.
        """
        ends = list(accumulate(self.segments, initial=0))
        segments = [body[begin:end] for begin, end in pairwise(ends)]
        snapshot = segments.pop() if self.annotated else b""
        return Answer(
            predictions=decode(self.groups, segments),
            timing_ms=self.timing_ms,
            width=self.width,
            height=self.height,
            snapshot=snapshot,
            damaged=self.damaged,
            painting=None if self.painting is None else Painting(self.painting.classes, painted),
        )


class TensorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a network gives for raw tensors: neither dequantised nor interpreted."""

    outputs: tuple[RawTensor, ...]
    timing_ms: dict[str, float]
    """Of the worker's one step: ``infer``."""


class OutputsMessage(msgspec.Struct, frozen=True):
    """A network's outputs as the worker sends them (``runtime/arrays.py``), but for the message's body."""

    id: int
    outputs: tuple[TensorMetadata, ...]
    timing_ms: dict[str, float]
    segments: tuple[int, ...]
    """The lengths of the body's parts, one for each output."""

    def answer(self, body: bytes) -> TensorAnswer:
        """The answer, with what the body holds."""
        ends = pairwise(accumulate(self.segments, initial=0))
        tensors = [
            RawTensor(output.name, output.dtype, output.shape, memoryview(body)[begin:end])
            for output, (begin, end) in zip(self.outputs, ends, strict=True)
        ]
        return TensorAnswer(outputs=tuple(tensors), timing_ms=self.timing_ms)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for the annotated picture beside the answer."""

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
    metadata: ModelMetadata | None = None


@dataclass(slots=True, eq=False)
class InferenceRequest(Generic[Reply]):
    """What a model is to answer, what to do with the answer, and how often a worker was lost over it.

    ``Reply`` is ``Answer`` for a picture and ``TensorAnswer`` for tensors.
    """

    input: Picture | TensorInput
    finish: Callable[[Reply | VergeError], None]
    label: str = ""
    """Names the input in the quarantine folder: stream, camera and sequence."""
    snapshot: Snapshot | None = None
    paint: bool = False
    """Whether a verdict is wanted, and a picture of where anomalies are."""
    model: ModelMetadata | None = None
    """Which model it was handed to: what a swap leaves in no doubt."""
    camera: str = ""
    """Whose input it is, where several senders share a model: the stream and its camera."""
    kills: int = 0
    began: float = 0.0
    """Monotonic clock: when the worker turned to it."""
    suspected: float = 0.0
    """Monotonic clock: when a worker was lost over it."""
    expires: float = 0.0
    """Monotonic clock: until when an input that killed a worker may be tried again."""

    @property
    def subject(self) -> str:
        """What errors call the input."""
        return "picture" if isinstance(self.input, Picture) else "tensors"


class Feeder(Protocol):
    """Whoever has requests for a pool: a stream, or the queue of single requests."""

    def take(self) -> InferenceRequest[Any] | None:
        """The next request, or None when there is none now."""
