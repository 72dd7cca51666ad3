"""What a model says of a picture: one type for each kind of prediction, the same for every room of the core.

================  ===================================================================================
kind              type
================  ===================================================================================
classification    ``Classification``: what the picture shows
detection         ``Detection``: an object in its box; perhaps with a mask, key points and a track
segmentation      ``Segmentation``: the part of the frame that belongs to a class
anomaly           ``Anomaly``: whether the picture is unlike those that the model was trained with
text              ``Text``: what is written, perhaps in a box
embedding         ``Embedding``: the picture as a vector
tensor            ``Tensor``: an output of the network as it is
================  ===================================================================================

``decode`` is the one place where a worker's answer becomes these types; ``read`` makes them of a payload in the native
format.  Numbers are numbers, places are fractions of the frame with the origin at its top left, and what is not known
is left out.  msgspec's structs carry them because every frame passes here; the order of the fields is that of the JSON.
A new kind is a type here, a row in ``KINDS``, and what the worker side says of it in ``runtime/contracts.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from agent.errors import ModelRefusedError
from agent.inference.runtime import kinds

__all__ = [
    "KINDS",
    "Anomaly",
    "Box",
    "Classification",
    "Detection",
    "Embedding",
    "Group",
    "Image",
    "Keypoint",
    "Labelled",
    "Prediction",
    "Segmentation",
    "Tensor",
    "Text",
    "decode",
    "headline",
    "numbers_of",
    "read",
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


class Image(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture of one channel that covers the whole frame, whatever its own size in pixels.

    A mask has one bit for a pixel (1: belongs to it), a map eight (255: surely).
    """

    width: int
    height: int
    encoding: Literal["png"]
    data: bytes


class Keypoint(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A point of an object, in fractions of the frame: a joint, a corner."""

    x: Fraction
    y: Fraction
    score: Finite | None = None
    name: str = ""


class Classification(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A class that the model sees, and how sure it is (0 to 1)."""

    label: str
    label_id: int
    score: Finite


class Detection(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An object, how sure the model is (0 to 1), and where it is."""

    label: str
    label_id: int
    score: Finite
    box: Box
    mask: Image | None = None
    keypoints: tuple[Keypoint, ...] = ()
    track_id: int | None = None
    """The same for the same object from frame to frame."""


class Segmentation(Struct, frozen=True, tag=kinds.SEGMENTATION, tag_field="kind", forbid_unknown_fields=True):
    """The part of the frame that belongs to a class, and how sure the model is of it (0 to 1)."""

    label: str
    label_id: int
    score: Finite
    mask: Image


class Anomaly(Struct, frozen=True, omit_defaults=True, tag=kinds.ANOMALY, tag_field="kind", forbid_unknown_fields=True):
    """Whether the picture is unlike what the model knows, how unlike (0 to 1), and perhaps where."""

    anomalous: bool
    score: Finite
    map: Image | None = None


class Text(Struct, frozen=True, omit_defaults=True, tag=kinds.TEXT, tag_field="kind", forbid_unknown_fields=True):
    """What is written in the picture or said of it."""

    text: str
    score: Finite | None = None
    box: Box | None = None


class Embedding(Struct, frozen=True, tag=kinds.EMBEDDING, tag_field="kind", forbid_unknown_fields=True):
    """A vector of ``size`` numbers; ``data`` are its little-endian bytes."""

    dtype: str
    size: int
    data: bytes


class Tensor(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An output of the network, what the ``tensors`` task gives in place of classes.

    ``data`` is a number, nested lists of numbers, or with an ``encoding`` little-endian bytes in C order (or their
    base64 text, as they are in JSON).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Any
    encoding: Literal["base64"] | None = None


Labelled: TypeAlias = Classification | Detection | Segmentation
"""The kinds with a label and a score."""
Prediction: TypeAlias = Labelled | Anomaly | Text | Embedding | Tensor

KINDS: Final[Mapping[str, type[Prediction]]] = {
    kinds.CLASSIFICATION: Classification,
    kinds.DETECTION: Detection,
    kinds.SEGMENTATION: Segmentation,
    kinds.ANOMALY: Anomaly,
    kinds.TEXT: Text,
    kinds.EMBEDDING: Embedding,
    kinds.TENSOR: Tensor,
}


def headline(prediction: Prediction) -> tuple[str, float | None]:
    """A prediction in a word or two, and its score where it has one.

    >>> headline(Classification("Cat", 8, 0.5))
    ('Cat', 0.5)
    """
    match prediction:
        case Classification() | Detection() | Segmentation():
            return prediction.label, prediction.score
        case Anomaly():
            return "anomaly" if prediction.anomalous else "normal", prediction.score
        case Text():
            return prediction.text, prediction.score
        case Embedding():
            return f"embedding [{prediction.size}]", None
        case Tensor():
            return f"{prediction.name} {list(prediction.shape)}", None


# -- from a worker's answer, and from the native format ----------------------------------------------------------------


class Group(Struct, frozen=True):
    """Predictions of one kind that follow each other, as the worker sends them."""

    kind: str
    items: msgspec.Raw


_TUPLES: Final[Mapping[str, Any]] = {kind: GenericAlias(tuple, (of, ...)) for kind, of in KINDS.items()}
_DECODERS: Final = {kind: msgspec.json.Decoder(of).decode for kind, of in _TUPLES.items()}


def decode(groups: Iterable[Group], segments: Sequence[bytes] = ()) -> tuple[Prediction, ...]:
    """The predictions of a worker's answer; ``segments`` are its large parts.

    Raises ``ModelRefusedError`` for what a task must not give.
    """
    try:
        return tuple(chain.from_iterable([_items(group, segments) for group in groups]))
    except (msgspec.ValidationError, KeyError, struct.error) as error:
        raise ModelRefusedError(
            f"the model's task gave a prediction that is none: {error}",
            hint="a prediction has the keys of its kind and no others: label, label_id, score, perhaps box …",
            code="prediction-wrong",
        ) from error


def read(payload: Sequence[Mapping[str, Any]]) -> tuple[Prediction, ...]:
    """The predictions of a result in the native format, whose keys of later versions are passed over.

    Raises ``msgspec.ValidationError`` for what is none.
    """
    made = []
    for entry in payload:
        of = KINDS.get(kinds.kind_of(entry), Classification)
        made.append(msgspec.convert({key: entry[key] for key in of.__struct_fields__ if key in entry}, of))
    return tuple(made)


def _items(group: Group, segments: Sequence[bytes]) -> tuple[Prediction, ...]:
    if not segments:
        items: tuple[Prediction, ...] = _DECODERS[group.kind](group.items)
        return items

    def placed(value: dict[str, Any]) -> Any:
        return segments[value["segment"]] if value.keys() == {"segment"} else value

    builtins = json.loads(bytes(group.items), object_hook=placed)
    items = msgspec.convert(builtins, _TUPLES[group.kind])
    return tuple([_unfolded(one) if isinstance(one, Tensor) else one for one in items])


def _unfolded(tensor: Tensor) -> Tensor:
    """The tensor with nested lists in place of bytes, unless it is to be written as base64."""
    if tensor.encoding is not None or not isinstance(tensor.data, bytes):
        return tensor
    return replace(tensor, data=_nested(_unpacked(tensor.data, tensor.dtype), tensor.shape))


def _nested(numbers: Iterator[float], shape: Sequence[int]) -> Any:
    if len(shape) <= 1:
        return list(islice(numbers, shape[0])) if shape else next(numbers)
    return [_nested(numbers, shape[1:]) for _ in range(shape[0])]


# -- numbers -----------------------------------------------------------------------------------------------------------

_FORMATS: Final = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip


def numbers_of(prediction: Tensor | Embedding) -> Sequence[float] | None:
    """The numbers of a tensor or vector in C order; None where they cannot be read."""
    data = prediction.data
    if isinstance(prediction, Tensor) and prediction.encoding is None and not isinstance(data, bytes):
        return _flattened(data)
    try:
        return list(
            _unpacked(base64.b64decode(data, validate=True) if isinstance(data, str) else data, prediction.dtype)
        )
    except (binascii.Error, KeyError, TypeError, ValueError, struct.error):
        return None


def _unpacked(data: bytes, dtype: str) -> Iterator[float]:
    return (number for (number,) in struct.iter_unpack(f"<{_FORMATS[dtype]}", data))


def _flattened(data: Any) -> list[float] | None:
    """Nested lists of numbers as one list, in order; nothing here recurses."""
    flat: list[float] = []
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            waiting.extend(reversed(item))
        elif isinstance(item, int | float):
            flat.append(item)
        else:
            return None
    return flat
