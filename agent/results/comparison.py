"""Whether answers say the same: two answers to one frame, or an answer and what was expected of it.

Two answers agree (``agree``, ``difference``) when they do in each kind of prediction that either has:

================  ==================================================================================
classification    both name the same label first
detection         every box has one of the other's to itself, of the same label, that covers it
segmentation      the same of masks
anomaly           both call the picture anomalous, or neither does
text              the same texts in the same order
embedding         the vectors point the same way
tensor            names and shapes are the same and every number is close
================  ==================================================================================

What is expected (``parse``, ``compare``, ``record``) is one of three, known by its key; what an answer may differ by
stands beside it.  More than what is expected is no difference: a lower class, another box, another output.

- ``label``: the best class is this one, with at least ``score - tolerance``;
- ``boxes``: each expected box has one to itself, of the same label, that covers it (to ``iou``) with at least
  ``score - tolerance``; no boxes means that nothing at all is found;
- ``tensors``: each output has this shape and these numbers, to ``atol + rtol × |number|``.

A box covers another by their intersection over union, of at least one half where nothing else is said.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from agent.config.strict import convert
from agent.errors import ConfigError
from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Prediction,
    Segmentation,
    Tensor,
    Text,
    headline,
    numbers_of,
)

__all__ = [
    "Boxes",
    "Expected",
    "Label",
    "Predictions",
    "Tensors",
    "Verdict",
    "agree",
    "compare",
    "difference",
    "iou",
    "parse",
    "record",
    "unfinite",
    "unmatched",
]

MIN_IOU: Final = 0.5
MAX_OBJECTS: Final = 200
"""Of more, the surest are compared: pairing costs the square of their number."""
RELATIVE: Final = 1e-2
ABSOLUTE: Final = 1e-3
"""How close two numbers of a tensor are: a converted or requantised model answers a little differently."""
MIN_COSINE: Final = 0.99
_MAX_EXPECTED = 100
_SHOWN = 3

Predictions: TypeAlias = Sequence[Prediction]
T = TypeVar("T")


# -- one measure of overlap, one matcher -------------------------------------------------------------------------------


def iou(one: Box, other: Box) -> float:
    """Intersection over union, from 0 to 1; a box covers itself wholly, even one without an area.

    >>> iou(Box(0, 0, 1, 1), Box(0.5, 0, 1, 1))
    0.3333333333333333
    """
    if one == other:
        return 1.0
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0.0) * max(height, 0.0)
    union = one.width * one.height + other.width * other.height - common
    return common / union if union > 0 else 0.0


def unmatched(ones: Sequence[T], others: Sequence[Any], fits: Callable[[T, Any], bool]) -> T | None:
    """The first of ``ones`` that gets none of ``others`` to itself, however they are paired; None when all do."""
    fitting = [[number for number, other in enumerate(others) if fits(one, other)] for one in ones]
    partner: dict[int, int] = {}

    def paired(number: int, tried: set[int]) -> bool:
        # An augmenting path: partners move to their next choice to make room.
        for candidate in fitting[number]:
            if candidate not in tried:
                tried.add(candidate)
                if candidate not in partner or paired(partner[candidate], tried):
                    partner[candidate] = number
                    return True
        return False

    return next((one for number, one in enumerate(ones) if not paired(number, set())), None)


def _mask_iou(one: Image, other: Image) -> float:
    """As ``iou``, of masks; those of other sizes, or that cannot be read, cover only themselves."""
    if one == other:
        return 1.0
    if (one.width, one.height) != (other.width, other.height):
        return 0.0
    ours, theirs = _bits(one), _bits(other)
    if ours is None or theirs is None:
        return 0.0
    union = (ours | theirs).bit_count()
    return (ours & theirs).bit_count() / union if union else 1.0


def _bits(mask: Image) -> int | None:
    """The bits of a mask as the worker writes them: PNG in one chunk, one bit for a pixel, rows unfiltered."""
    row = 1 + -(-mask.width // 8)
    try:
        (length,) = struct.unpack_from(">I", mask.data, 33)
        rows = zlib.decompressobj().decompress(mask.data[41 : 41 + length], row * mask.height)
    except (struct.error, zlib.error):
        return None
    return None if any(rows[::row]) else int.from_bytes(rows)


# -- two answers to one frame ------------------------------------------------------------------------------------------


def agree(one: Predictions, other: Predictions) -> bool:
    """Whether two answers to one frame say the same."""
    return not difference(one, other)


def difference(expected: Predictions, actual: Predictions) -> str:
    """What ``actual`` says otherwise than ``expected``, as the rest of a sentence; empty when they agree.

    >>> difference([Classification("cat", 1, 0.9)], [Classification("dog", 2, 0.6)])
    'says dog (0.60), not cat (0.90)'
    """
    for kind, differ in _DIFFERENCES.items():
        ones, others = (tuple(one for one in answer if isinstance(one, kind)) for answer in (expected, actual))
        if (ones or others) and (words := differ(ones, others)):
            return words
    return ""


def _labels_differ(expected: Sequence[Classification], actual: Sequence[Classification]) -> str:
    wanted, got = (max(answer, key=lambda one: one.score, default=None) for answer in (expected, actual))
    same = wanted is not None and got is not None and wanted.label == got.label
    return "" if same else f"says {_scored(got)}, not {_scored(wanted)}"


def _boxes_differ(expected: Sequence[Detection], actual: Sequence[Detection]) -> str:
    return _objects_differ(expected, actual, lambda one, other: iou(one.box, other.box))


def _masks_differ(expected: Sequence[Segmentation], actual: Sequence[Segmentation]) -> str:
    return _objects_differ(expected, actual, lambda one, other: _mask_iou(one.mask, other.mask))


def _objects_differ(expected: Sequence[Any], actual: Sequence[Any], overlap: Callable[[Any, Any], float]) -> str:
    """What differs between objects with labels, paired one to one by their overlap."""

    def fits(one: Any, other: Any) -> bool:
        return bool(one.label == other.label and overlap(one, other) >= MIN_IOU)

    if len(expected) != len(actual):
        return f"finds {_objects(len(actual))}, not {len(expected)}"
    ones, others = (sorted(answer, key=lambda one: -one.score)[:MAX_OBJECTS] for answer in (expected, actual))
    if unmatched(ones, others, fits) is None:
        return ""
    missing = next((one for one in expected if not any(fits(one, other) for other in actual)), None)
    if missing is not None:
        has_label = any(other.label == missing.label for other in actual)
        return f"finds {missing.label} elsewhere" if has_label else f"finds no {_scored(missing)}"
    extra = next((other for other in actual if not any(fits(one, other) for one in expected)), None)
    return f"finds {_scored(extra)} too" if extra is not None else "finds an object twice"


def _objects(count: int) -> str:
    return {0: "nothing", 1: "1 object"}.get(count, f"{count} objects")


def _anomalies_differ(expected: Sequence[Anomaly], actual: Sequence[Anomaly]) -> str:
    wanted, got = ([one.anomalous for one in answer] for answer in (expected, actual))
    return (
        "" if wanted == got else f"says {_scored(next(iter(actual), None))}, not {_scored(next(iter(expected), None))}"
    )


def _texts_differ(expected: Sequence[Text], actual: Sequence[Text]) -> str:
    wanted, got = ([one.text for one in answer] for answer in (expected, actual))
    return (
        "" if wanted == got else f"reads {', '.join(map(repr, got)) or 'nothing'}, not {', '.join(map(repr, wanted))}"
    )


def _vectors_differ(expected: Sequence[Embedding], actual: Sequence[Embedding]) -> str:
    if len(expected) != len(actual):
        return f"gives {len(actual)} vectors, not {len(expected)}"
    cosines = [_cosine(one, other) for one, other in zip(expected, actual, strict=True)]
    far = [cosine for cosine in cosines if not cosine >= MIN_COSINE]
    return f"gives a vector whose cosine to the expected one is {far[0]:.3f}" if far else ""


def _cosine(one: Embedding, other: Embedding) -> float:
    """Of the angle between two vectors; 1 between equal ones, not a number where there is no angle."""
    if one == other:
        return 1.0
    ours, theirs = numbers_of(one) or (), numbers_of(other) or ()
    lengths = math.hypot(*ours) * math.hypot(*theirs)
    if not lengths or len(ours) != len(theirs):
        return math.nan
    return math.fsum(a * b for a, b in zip(ours, theirs, strict=True)) / lengths


def _tensors_differ(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> str:
    ones, others = ({one.name: one for one in answer} for answer in (expected, actual))
    if len(ones) != len(expected) or len(others) != len(actual) or ones.keys() != others.keys():
        return f"gives {_outputs(others)}, not {_outputs(ones)}" if expected != actual else ""
    return next((words for name, one in ones.items() if (words := _numbers_differ(name, one, others[name]))), "")


def _numbers_differ(name: str, one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"gives {name!r} of shape {list(other.shape)}, not {list(one.shape)}"
    ours, theirs = numbers_of(one), numbers_of(other)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return "" if one == other else f"gives another {name!r}"
    far = [pair for pair in zip(ours, theirs, strict=True) if not _near(*pair)]
    if not far:
        return ""
    # A NaN is as far as can be.
    wanted, got = max(far, key=lambda pair: math.inf if math.isnan(sum(pair)) else abs(pair[0] - pair[1]))
    return f"gives {name!r} with {got:.4g} where {wanted:.4g} is expected"


def _near(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _outputs(tensors: Mapping[str, Tensor]) -> str:
    return f"the outputs {', '.join(tensors)}" if tensors else "no outputs"


def _scored(prediction: Prediction | None) -> str:
    if prediction is None:
        return "nothing"
    name, score = headline(prediction)
    return name if score is None else f"{name} ({score:.2f})"


_DIFFERENCES: Final[Mapping[type[Prediction], Callable[[Any, Any], str]]] = {
    Tensor: _tensors_differ,
    Detection: _boxes_differ,
    Segmentation: _masks_differ,
    Classification: _labels_differ,
    Anomaly: _anomalies_differ,
    Text: _texts_differ,
    Embedding: _vectors_differ,
}


# -- what is expected --------------------------------------------------------------------------------------------------

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Tolerance: TypeAlias = Annotated[float, Meta(ge=0)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read strictly, as everything that a person writes."""


class Label(_Strict, frozen=True):
    """The class that comes first."""

    label: str
    score: float | None = None
    tolerance: Tolerance = 0.1


class ExpectedBox(_Strict, frozen=True):
    """An object and where it is."""

    label: str
    box: Box
    score: float | None = None


class Boxes(_Strict, frozen=True):
    """The objects that are found."""

    boxes: Annotated[tuple[ExpectedBox, ...], Meta(max_length=_MAX_EXPECTED)]
    iou: Share = MIN_IOU
    tolerance: Tolerance = 0.1


class ExpectedTensor(_Strict, frozen=True):
    """Numbers as the task ``tensors`` gives them: nested lists, or base64 of little-endian bytes."""

    data: list[Any] | str | float
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    encoding: Literal["", "base64"] = ""


class Tensors(_Strict, frozen=True):
    """The network's outputs by name."""

    tensors: Annotated[dict[str, ExpectedTensor], Meta(min_length=1, max_length=_MAX_EXPECTED)]
    atol: Tolerance = ABSOLUTE
    rtol: Tolerance = RELATIVE


Expected: TypeAlias = Label | Boxes | Tensors
_KEYS: Final[Mapping[str, type[Expected]]] = {"label": Label, "boxes": Boxes, "tensors": Tensors}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is what was expected; if not, what was and what came."""

    agrees: bool
    difference: str = ""


def parse(value: Mapping[str, Any], name: str) -> Expected:
    """Read what is expected; ``name`` is the place, for the error.  Raises ``ConfigError``."""
    kinds = [kind for key, kind in _KEYS.items() if key in value]
    if len(kinds) != 1:
        message = f"{name}: one of {', '.join(_KEYS)} is expected, not {len(kinds)} of them"
        hint = "have it written by `verge component pack --record-golden`"
        raise ConfigError(message, code="golden-wrong", hint=hint)
    return convert(kinds[0], value, name)


def compare(expected: Expected, predictions: Predictions) -> Verdict:
    """Whether the predictions are what was expected."""
    match expected:
        case Label():
            words = _label_missing(expected, predictions)
        case Boxes():
            words = _box_missing(expected, predictions)
        case Tensors():
            words = _tensor_missing(expected, predictions)
    return Verdict(agrees=not words, difference=words)


def record(predictions: Predictions) -> dict[str, Any]:
    """The predictions as what is expected from now on: ``parse`` reads it, and ``compare`` agrees.

    Raises ``ConfigError`` for predictions that can never be compared.
    """
    if where := unfinite(predictions):
        raise ConfigError(f"the answer cannot be recorded: {where}", code="golden-wrong")
    if not predictions or isinstance(predictions[0], Detection):
        return {"boxes": [_part(one, "label", "score", "box") for one in predictions[:_MAX_EXPECTED]]}
    if isinstance(predictions[0], Tensor):
        named = {one.name: one for one in predictions if isinstance(one, Tensor)}
        return {"tensors": {name: _part(one, "shape", "dtype", "encoding", "data") for name, one in named.items()}}
    if isinstance(predictions[0], Classification):
        return _part(predictions[0], "label", "score")
    raise ConfigError(
        f"answers of {type(predictions[0]).__name__.lower()} cannot be recorded",
        code="golden-wrong",
        hint="golden frames know labels, boxes and tensors; without them a blank frame is answered",
    )


def unfinite(predictions: Iterable[Prediction]) -> str:
    """Where the first number is that is not finite; empty when all are."""
    for number, prediction in enumerate(predictions):
        for value in _numbers(prediction):
            if not math.isfinite(value):
                return f"prediction {number} holds {value}"
    return ""


def _part(prediction: Prediction, *keys: str) -> dict[str, Any]:
    written: dict[str, Any] = msgspec.to_builtins(prediction)
    return {key: written[key] for key in keys if key in written}


def _numbers(prediction: Prediction) -> Iterator[float]:
    if isinstance(prediction, Tensor | Embedding):
        yield from numbers_of(prediction) or ()
    for field in prediction.__struct_fields__:
        value = getattr(prediction, field)
        if isinstance(value, float):
            yield value
        elif isinstance(value, Box):
            yield from (value.x, value.y, value.width, value.height)


# -- classes -----------------------------------------------------------------------------------------------------------


def _label_missing(expected: Label, predictions: Predictions) -> str:
    first = predictions[0] if predictions else None
    if isinstance(first, Classification | Detection | Segmentation) and first.label == expected.label:  # noqa: SIM102
        if _reaches(first.score, expected.score, expected.tolerance):
            return ""
    return f"expected {_wanted(expected.label, expected.score, expected.tolerance)}, got {_shown(predictions[:1])}"


def _reaches(score: float, wanted: float | None, tolerance: float) -> bool:
    return wanted is None or score >= _least(wanted, tolerance)


def _least(score: float, tolerance: float) -> float:
    """To the six digits that answers have: 0.81 - 0.1 is 0.71 and not a little more."""
    return round(score - tolerance, 6)


def _wanted(label: str, score: float | None, tolerance: float) -> str:
    return label if score is None else f"{label} ≥ {_least(score, tolerance):.2f}"


def _shown(predictions: Predictions) -> str:
    headlines = [headline(one) for one in predictions[:_SHOWN]]
    shown = [name if score is None else f"{name} {score:.2f}" for name, score in headlines]
    more = [f"{len(predictions) - _SHOWN} more"] if len(predictions) > _SHOWN else []
    return ", ".join(shown + more) or "nothing"


# -- boxes -------------------------------------------------------------------------------------------------------------


def _box_missing(expected: Boxes, predictions: Predictions) -> str:
    if not expected.boxes:
        return f"expected nothing, got {_shown(predictions)}" if predictions else ""

    def fits(wanted: ExpectedBox, prediction: Prediction) -> bool:
        return (
            isinstance(prediction, Detection)
            and prediction.label == wanted.label
            and _reaches(prediction.score, wanted.score, expected.tolerance)
            and iou(wanted.box, prediction.box) >= expected.iou
        )

    missing = unmatched(expected.boxes, predictions, fits)
    if missing is None:
        return ""
    box = missing.box
    place = f"({box.x:.2f}, {box.y:.2f}, {box.width:.2f} × {box.height:.2f})"
    wanted = _wanted(missing.label, missing.score, expected.tolerance)
    return f"expected {wanted} at {place}, got {_shown(predictions)}"


# -- tensors -----------------------------------------------------------------------------------------------------------


def _tensor_missing(expected: Tensors, predictions: Predictions) -> str:
    outputs = {one.name: one for one in predictions if isinstance(one, Tensor)}
    for name, wanted in expected.tensors.items():
        if name not in outputs:
            return f"expected an output {name}, got {', '.join(outputs) or 'nothing'}"
        if words := _tensor_differs(name, wanted, outputs[name], expected):
            return words
    return ""


def _tensor_differs(name: str, wanted: ExpectedTensor, actual: Tensor, expected: Tensors) -> str:
    if wanted.shape is not None and wanted.shape != actual.shape:
        return f"expected {name} of shape {list(wanted.shape)}, got {list(actual.shape)}"
    ours = numbers_of(Tensor(name, wanted.shape or (), wanted.dtype, wanted.data, wanted.encoding or None))
    theirs = numbers_of(actual)
    if ours is None or theirs is None:
        return f"the numbers of {name} cannot be read: {'expected' if ours is None else 'answered'} as no tensor"
    for index, (one, other) in enumerate(itertools.zip_longest(ours, theirs)):
        if one is None or other is None:
            return f"expected {'fewer' if one is None else 'more'} numbers in {name} than came: {index}"
        slack = expected.atol + expected.rtol * abs(one)
        if not abs(one - other) <= slack:
            return f"expected {name}[{index}] = {one:.6g} ± {slack:.2g}, got {other:.6g}"
    return ""
