"""The result value, field for field what the native format writes.

Numbers are numbers, boxes are fractions of the frame with the origin at the top left, times are UTC with
a ``Z`` and milliseconds, and what is not known is left out.  msgspec's structs carry it because every frame
passes here: they are built, thinned and encoded in microseconds, and the order of the fields is the order
of the JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct

from agent.errors import ModelRefusedError, VergeError
from agent.frames.frame import Frame

__all__ = [
    "Box",
    "Failure",
    "FrameFacts",
    "ModelFacts",
    "Prediction",
    "Reason",
    "Result",
    "Tensor",
    "Timing",
    "predictions",
    "utc",
]

# JSON has no NaN and no infinity: bounds refuse both.  A box may reach past its frame, not a million frames far.
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Fraction = Annotated[float, Meta(ge=-1e6, le=1e6)]


class Box(Struct, frozen=True, forbid_unknown_fields=True):
    """A rectangle in fractions of the frame; ``x`` and ``y`` are its top left corner."""

    x: Fraction
    y: Fraction
    width: Fraction
    height: Fraction


class Prediction(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A class the model sees, how sure it is (0 to 1), and where, if the task tells."""

    label: str
    label_id: int
    score: Finite
    box: Box | None = None


class Tensor(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A raw output of the network, what the ``tensors`` task gives in place of classes.

    ``data`` is a number, nested lists of numbers, or with an ``encoding`` the text of little-endian bytes in C order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Any
    encoding: Literal["base64"] | None = None


class FrameFacts(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Which frame it was, as a reader needs it; sizes are in pixels, and left out of what is no picture."""

    topic: str
    sequence: int
    width: int = 0
    height: int = 0
    captured_at: str | None = None
    received_at: str
    camera: str
    metadata: dict[str, Any] = {}
    """Small facts the sender put beside the picture."""

    @classmethod
    def of(cls, frame: Frame, *, width: int | None = None, height: int | None = None) -> Self:
        """The facts of a frame; its size as the decoder found it where given, else as the header told."""
        picture = frame.picture
        return cls(
            topic=frame.topic,
            sequence=frame.sequence,
            width=picture.width if width is None else width,
            height=picture.height if height is None else height,
            captured_at=None if picture.captured_at is None else utc(picture.captured_at),
            received_at=utc(frame.received_at),
            camera=frame.camera,
            metadata=dict(picture.metadata),
        )


class ModelFacts(Struct, frozen=True, omit_defaults=True):
    """Which model answered: enough to find the very file, and the deployment that brought it."""

    component: str
    version: str
    digest: str
    backend: str
    deployment: str | None = None


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
    predictions: tuple[Prediction | Tensor, ...]
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


def predictions(told: Sequence[Mapping[str, Any]]) -> tuple[Prediction | Tensor, ...]:
    """The predictions of a worker's answer; raises ``ModelRefusedError`` for what a task must not give.

    >>> predictions([{"label": "Cat", "label_id": 8, "score": 0.5}])
    (Prediction(label='Cat', label_id=8, score=0.5, box=None),)
    """
    kind = tuple[Tensor, ...] if told and "dtype" in told[0] else tuple[Prediction, ...]
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise ModelRefusedError(
            f"the model's task gave a prediction that is none: {error}",
            hint="a class has label, label_id, score, perhaps box; a tensor name, shape, dtype, data, perhaps encoding",
            code="prediction-wrong",
        ) from error


def utc(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds.

    >>> utc(0.0625)
    '1970-01-01T00:00:00.062Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
