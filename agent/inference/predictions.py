"""What a model says of a picture: one type for each kind of prediction, the same for every room of the core.

================  ===================================================================================
kind              type
================  ===================================================================================
classification    ``Classification``: what the picture shows
detection         ``Detection``: an object in its box; perhaps with a mask, key points and a track
segmentation      ``Segmentation``: the part of the frame that belongs to a class
keypoints         ``Keypoints``: the points of a face, a hand or a body, without a box
anomaly           ``Anomaly``: whether the picture is unlike those that the model was trained with
text              ``Text``: what is written, perhaps in a box
embedding         ``Embedding``: the picture as a vector, perhaps with the name of the nearest one known
map               ``Map``: a number for each place, as depth or heat
tensor            ``Tensor``: an output of the network as it is
================  ===================================================================================

``decode`` is the one place where a worker's answer becomes these types; ``read`` makes them of a payload in the native
format.  A detection may have ``parts``: what another model says of its part of the frame.  Numbers are numbers, places
are fractions of the frame with the origin at its top left, and what is not known is left out.  msgspec's structs carry
them because every frame passes here; the order of the fields is that of the JSON.  A new kind is a type here, a row in
``KINDS``, and what the worker side says of it in ``runtime/contracts.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import attrgetter
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
    "Keypoints",
    "Labelled",
    "Map",
    "Mask",
    "Parts",
    "Prediction",
    "Segmentation",
    "Tensor",
    "Text",
    "bytes_of",
    "decode",
    "headline",
    "label_of",
    "numbers_of",
    "read",
    "score_of",
    "type_of",
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


class Mask(Struct, frozen=True, tag="rle", tag_field="encoding", forbid_unknown_fields=True):
    """Which pixels belong to an object, of a picture that covers the whole frame, whatever its own size in pixels.

    ``data`` is COCO's compressed run-length encoding: column by column, from the top left.
    """

    width: int
    height: int
    data: str


class Image(Struct, frozen=True, omit_defaults=True, tag="png", tag_field="encoding", forbid_unknown_fields=True):
    """A picture of one channel that covers the whole frame, whatever its own size in pixels.

    A mask has one bit for a pixel (1: belongs to it), a map eight.
    """

    width: int
    height: int
    data: bytes = b""
    attachment: int | None = None
    """Which attachment of the result has the data, where it is not here."""


class Keypoint(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A point of an object, in fractions of the frame: a joint, a corner; ``z`` is its depth as the model has it."""

    x: Fraction
    y: Fraction
    z: Fraction | None = None
    score: Finite | None = None
    name: str = ""


Point: TypeAlias = tuple[Fraction, Fraction]
"""x and y in fractions of the frame."""
Corners: TypeAlias = tuple[Point, Point, Point, Point]
"""Of a turned box, clockwise from its own top left."""


class Parts(tuple["Prediction", ...]):
    """What another model says of a detection's part of the frame; places are fractions of the whole frame.

    A type of its own because msgspec reads no union of structs of which some have no tag.
    """

    __slots__ = ()


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
    mask: Mask | Image | None = None
    keypoints: tuple[Keypoint, ...] = ()
    corners: Corners | None = None
    angle: Finite | None = None
    """How far the box is turned: degrees, clockwise, in the frame's pixels."""
    track_id: int | None = None
    """The same for the same object from frame to frame."""
    parts: Parts = Parts()


class Segmentation(
    Struct,
    frozen=True,
    omit_defaults=True,
    kw_only=True,
    tag=kinds.SEGMENTATION,
    tag_field="kind",
    forbid_unknown_fields=True,
):
    """The part of the frame that belongs to a class, and perhaps how sure the model is of it (0 to 1)."""

    label: str
    label_id: int
    score: Finite | None = None
    area: Finite
    """The share of the frame that it covers, 0 to 1."""
    mask: Mask | Image | None = None
    """None where a result is written without."""


class Keypoints(
    Struct, frozen=True, omit_defaults=True, tag=kinds.KEYPOINTS, tag_field="kind", forbid_unknown_fields=True
):
    """The points of an object without a box: a face, a hand, a body."""

    keypoints: tuple[Keypoint, ...]
    label: str = ""
    label_id: int | None = None
    score: Finite | None = None


class Anomaly(Struct, frozen=True, omit_defaults=True, tag=kinds.ANOMALY, tag_field="kind", forbid_unknown_fields=True):
    """Whether the picture is unlike what the model knows, how unlike (0 to 1), and perhaps where."""

    anomalous: bool
    score: Finite
    threshold: Finite | None = None
    """From which score on it is called anomalous."""
    map: Image | None = None


class Text(Struct, frozen=True, omit_defaults=True, tag=kinds.TEXT, tag_field="kind", forbid_unknown_fields=True):
    """What is written in the picture or said of it."""

    text: str
    score: Finite | None = None
    box: Box | None = None
    corners: Corners | None = None
    character_scores: tuple[Finite, ...] = ()


class Embedding(
    Struct, frozen=True, omit_defaults=True, tag=kinds.EMBEDDING, tag_field="kind", forbid_unknown_fields=True
):
    """A vector of ``size`` numbers; ``data`` are its little-endian bytes."""

    dtype: str
    size: int
    data: bytes = b""
    name: str = ""
    """The nearest one known."""
    similarity: Finite | None = None
    """The cosine of the angle to it, -1 to 1."""
    attachment: int | None = None
    """Which attachment of the result has the data, where it is not here."""


class Map(Struct, frozen=True, omit_defaults=True, tag=kinds.MAP, tag_field="kind", forbid_unknown_fields=True):
    """A number for each place of the frame, as depth or heat: what 0 and 255 of the picture stand for."""

    map: Image
    minimum: Finite
    maximum: Finite
    unit: str = ""


class Tensor(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An output of the network, what the ``tensors`` task gives in place of classes.

    ``data`` is a number, nested lists of numbers, or with an ``encoding`` little-endian bytes in C order (or their
    base64 text, as they are in JSON).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Any = None
    encoding: Literal["base64"] | None = None
    attachment: int | None = None
    """Which attachment of the result has the bytes, where they are not here."""


Labelled: TypeAlias = Classification | Detection | Segmentation
"""The kinds that always have a label."""
Prediction: TypeAlias = Labelled | Keypoints | Anomaly | Text | Embedding | Map | Tensor

KINDS: Final[Mapping[str, type[Prediction]]] = {
    kinds.CLASSIFICATION: Classification,
    kinds.DETECTION: Detection,
    kinds.SEGMENTATION: Segmentation,
    kinds.KEYPOINTS: Keypoints,
    kinds.ANOMALY: Anomaly,
    kinds.TEXT: Text,
    kinds.EMBEDDING: Embedding,
    kinds.MAP: Map,
    kinds.TENSOR: Tensor,
}


def headline(prediction: Prediction) -> tuple[str, float | None]:
    """A prediction in a word or two, and its score where it has one.

    >>> headline(Classification("Cat", 8, 0.5))
    ('Cat', 0.5)
    """
    return _words(prediction), score_of(prediction)


def _words(prediction: Prediction) -> str:
    match prediction:
        case Text():
            return prediction.text
        case Keypoints(label=""):
            return f"{len(prediction.keypoints)} key points"
        case Embedding(name=""):
            return f"embedding [{prediction.size}]"
        case Map():
            return f"map {prediction.minimum:.4g} to {prediction.maximum:.4g} {prediction.unit}".rstrip()
        case Tensor():
            return f"{prediction.name} {list(prediction.shape)}"
        case _:
            return label_of(prediction) or ""


def label_of(prediction: Prediction) -> str | None:
    """What a prediction calls its picture or its place in it; None where it names nothing.

    >>> label_of(Anomaly(anomalous=True, score=0.9))
    'anomaly'
    """
    return _LABELS[type(prediction)](prediction)


def score_of(prediction: Prediction) -> float | None:
    """How sure the model is of a prediction, or how near its name is; None where it does not say."""
    return _SCORES[type(prediction)](prediction)


def _nothing(prediction: Prediction) -> None:
    del prediction


# Every prediction passes here: a table is a third of the time of a match.
_label, _score = attrgetter("label"), attrgetter("score")
_LABELS: Final[Mapping[type[Prediction], Callable[[Any], str | None]]] = {
    Classification: _label,
    Detection: _label,
    Segmentation: _label,
    Keypoints: lambda one: one.label or None,
    Anomaly: lambda one: "anomaly" if one.anomalous else "normal",
    Text: _nothing,
    Embedding: lambda one: one.name or None,
    Map: _nothing,
    Tensor: _nothing,
}
_SCORES: Final[Mapping[type[Prediction], Callable[[Any], float | None]]] = {
    **dict.fromkeys((Classification, Detection, Segmentation, Keypoints, Anomaly, Text), _score),
    Embedding: attrgetter("similarity"),
    Map: _nothing,
    Tensor: _nothing,
}


# -- from a worker's answer, and from the native format ----------------------------------------------------------------


class Group(Struct, frozen=True):
    """Predictions of one kind that follow each other, as the worker sends them."""

    kind: str
    items: msgspec.Raw


_TUPLES: Final[Mapping[str, Any]] = {kind: GenericAlias(tuple, (of, ...)) for kind, of in KINDS.items()}


def _parts_of_answer(_: type, groups: Any) -> Parts:
    """The parts of a detection as the worker sends them: in groups, as all predictions."""
    return Parts(chain.from_iterable([_items_of(group["items"], group["kind"]) for group in groups]))


def _parts_of_native(_: type, entries: Any) -> Parts:
    return Parts(read(entries))


_DECODERS: Final = {kind: msgspec.json.Decoder(of, dec_hook=_parts_of_answer).decode for kind, of in _TUPLES.items()}


def decode(groups: Iterable[Group], segments: Sequence[bytes] = ()) -> tuple[Prediction, ...]:
    """The predictions of a worker's answer; ``segments`` are its large parts.

    Raises ``ModelRefusedError`` for what a task must not give.
    """
    try:
        return tuple(chain.from_iterable([_items(group, segments) for group in groups]))
    except (msgspec.ValidationError, KeyError, RecursionError, struct.error) as error:
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
        of = type_of(entry) or Classification
        known = {key: entry[key] for key in of.__struct_fields__ if key in entry}
        made.append(msgspec.convert(known, of, dec_hook=_parts_of_native))
    return tuple(made)


def type_of(entry: Mapping[str, Any]) -> type[Prediction] | None:
    """The type of a prediction in the native format; None for a kind that is not known."""
    return KINDS.get(kinds.kind_of(entry))


def _items(group: Group, segments: Sequence[bytes]) -> tuple[Prediction, ...]:
    if not segments:
        items: tuple[Prediction, ...] = _DECODERS[group.kind](group.items)
        return items

    def placed(value: dict[str, Any]) -> Any:
        return segments[value["segment"]] if value.keys() == {"segment"} else value

    return _items_of(json.loads(bytes(group.items), object_hook=placed), group.kind)


def _items_of(builtins: Any, kind: str) -> tuple[Prediction, ...]:
    items = msgspec.convert(builtins, _TUPLES[kind], dec_hook=_parts_of_answer)
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
    raw = bytes_of(prediction)
    try:
        return None if raw is None else list(_unpacked(raw, prediction.dtype))
    except (KeyError, struct.error):
        return None


def bytes_of(prediction: Tensor | Embedding) -> bytes | None:
    """The numbers of a tensor or vector as little-endian bytes in C order; None where they cannot be read."""
    data = prediction.data
    if isinstance(data, bytes):
        return data
    try:
        if isinstance(data, str):
            return base64.b64decode(data, validate=True)
        numbers = _flattened(data)
        return None if numbers is None else struct.pack(f"<{len(numbers)}{_FORMATS[prediction.dtype]}", *numbers)
    except (binascii.Error, KeyError, ValueError, struct.error):
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
