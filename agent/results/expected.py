"""What a model is expected to say of a picture, and whether an answer is that.

One of three, told apart by their key; what an answer may differ by stands beside it:

- ``label``: the best class is this one, with at least ``score - tolerance``;
- ``boxes``: each expected box has a box of the same label of its own, that covers it (intersection over union of at
  least ``iou``) with at least ``score - tolerance``; no boxes means that nothing at all is found;
- ``tensors``: each output has this shape and these numbers, to ``atol + rtol × |number|``.

More than what is expected is no difference: a lower class, another box, another output.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from agent.config.strict import convert
from agent.errors import ConfigError

__all__ = ["Boxes", "Expected", "Label", "Tensors", "Verdict", "compare", "parse", "record", "unfinite"]

Prediction: TypeAlias = Mapping[str, Any]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Tolerance: TypeAlias = Annotated[float, Meta(ge=0)]

_MAX_BOXES = 100
_MAX_DEPTH = 16
_SHOWN = 3


class _Read(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read strictly, as everything that a person writes."""


class Label(_Read, frozen=True):
    """The class that comes first."""

    label: str
    score: float | None = None
    tolerance: Tolerance = 0.1


class Rectangle(_Read, frozen=True):
    """Fractions of the picture, the origin at its top left."""

    x: float
    y: float
    width: float
    height: float

    def __str__(self) -> str:
        return f"({self.x:.2f}, {self.y:.2f}, {self.width:.2f} × {self.height:.2f})"


class Box(_Read, frozen=True):
    """An object and where it is."""

    label: str
    box: Rectangle
    score: float | None = None


class Boxes(_Read, frozen=True):
    """The objects that are found."""

    boxes: Annotated[tuple[Box, ...], Meta(max_length=_MAX_BOXES)]
    iou: Share = 0.5
    tolerance: Tolerance = 0.1


class Tensor(_Read, frozen=True):
    """Numbers as the task ``tensors`` gives them: nested lists, or base64 of little-endian bytes."""

    data: list[Any] | str | float
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    encoding: Literal["", "base64"] = ""


class Tensors(_Read, frozen=True):
    """The network's outputs by name."""

    tensors: Annotated[dict[str, Tensor], Meta(min_length=1, max_length=_MAX_BOXES)]
    atol: Tolerance = 1e-3
    rtol: Tolerance = 1e-2


Expected: TypeAlias = Label | Boxes | Tensors
_KINDS: Mapping[str, type[Label | Boxes | Tensors]] = {"label": Label, "boxes": Boxes, "tensors": Tensors}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is what was expected; if not, what was and what came."""

    agrees: bool
    difference: str = ""


_AGREES = Verdict(agrees=True)


def parse(value: Mapping[str, Any], name: str) -> Expected:
    """Read what is expected; ``name`` is the place, for the error.  Raises ``ConfigError``."""
    kinds = [kind for key, kind in _KINDS.items() if key in value]
    if len(kinds) != 1:
        told = f"{name}: one of {', '.join(_KINDS)} is expected, not {len(kinds)} of them"
        hint = "have it written by `verge component pack --record-golden`"
        raise ConfigError(told, code="golden-wrong", hint=hint)
    return convert(kinds[0], value, name)


def compare(expected: Expected, predictions: Sequence[Prediction]) -> Verdict:
    """Whether the predictions are what was expected."""
    match expected:
        case Label():
            return _label(expected, predictions)
        case Boxes():
            return _boxes(expected, predictions)
        case Tensors():
            return _tensors(expected, predictions)


def record(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The predictions as what is expected from now on: ``parse`` reads it, and ``compare`` agrees.

    Raises ``ConfigError`` for predictions that can never be compared.
    """
    if where := unfinite(predictions):
        raise ConfigError(f"the answer cannot be recorded: {where}", code="golden-wrong")
    first = predictions[0] if predictions else {"box": None}
    if "box" in first:
        return {"boxes": [_part(each, "label", "score", "box") for each in predictions[:_MAX_BOXES]]}
    if "data" in first:
        return {"tensors": {each["name"]: _part(each, "shape", "dtype", "encoding", "data") for each in predictions}}
    if "label" in first:
        return _part(first, "label", "score")
    raise ConfigError(
        f"answers with {', '.join(first)} cannot be recorded",
        code="golden-wrong",
        hint="golden frames know labels, boxes and tensors; without them a blank frame is answered",
    )


def _part(prediction: Prediction, *keys: str) -> dict[str, Any]:
    return {key: prediction[key] for key in keys if key in prediction}


def unfinite(predictions: Iterable[Prediction]) -> str:
    """Where the first number is that is not finite; empty when all are."""
    for number, prediction in enumerate(predictions):
        for value in _scalars(prediction):
            if isinstance(value, float) and not math.isfinite(value):
                return f"prediction {number} holds {value}"
    return ""


def _scalars(value: Any, depth: int = _MAX_DEPTH) -> Iterator[Any]:
    """Everything in a prediction that is no container; numbers in base64 as numbers."""
    if isinstance(value, Mapping) and value.get("encoding") == "base64":
        yield from _numbers(value) or ()
    elif isinstance(value, (Mapping, list, tuple)) and depth:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _scalars(inner, depth - 1)
    else:
        yield value


# -- classes -----------------------------------------------------------------------------------------------------------


def _label(expected: Label, predictions: Sequence[Prediction]) -> Verdict:
    first = predictions[0] if predictions else {}
    if first.get("label") == expected.label and _reaches(first, expected.score, expected.tolerance):
        return _AGREES
    wanted = _wanted(expected.label, expected.score, expected.tolerance)
    return Verdict(agrees=False, difference=f"expected {wanted}, got {_shown(predictions[:1])}")


def _reaches(prediction: Prediction, score: float | None, tolerance: float) -> bool:
    return score is None or _number(prediction.get("score")) >= _least(score, tolerance)


def _least(score: float, tolerance: float) -> float:
    """To the six digits that answers have: 0.81 - 0.1 is 0.71 and not a little more."""
    return round(score - tolerance, 6)


def _wanted(label: str, score: float | None, tolerance: float) -> str:
    return label if score is None else f"{label} ≥ {_least(score, tolerance):.2f}"


def _shown(predictions: Sequence[Prediction]) -> str:
    told = [f"{each.get('label')} {_number(each.get('score')):.2f}" for each in predictions[:_SHOWN]]
    more = [f"{len(predictions) - _SHOWN} more"] if len(predictions) > _SHOWN else []
    return ", ".join(told + more) or "nothing"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


# -- boxes -------------------------------------------------------------------------------------------------------------


def _boxes(expected: Boxes, predictions: Sequence[Prediction]) -> Verdict:
    if not expected.boxes:
        told = f"expected nothing, got {_shown(predictions)}"
        return Verdict(agrees=not predictions, difference=told if predictions else "")
    fitting = [[n for n, each in enumerate(predictions) if _fits(box, each, expected)] for box in expected.boxes]
    lacking = _unmatched(fitting)
    if lacking is None:
        return _AGREES
    box = expected.boxes[lacking]
    wanted = f"{_wanted(box.label, box.score, expected.tolerance)} at {box.box}"
    return Verdict(agrees=False, difference=f"expected {wanted}, got {_shown(predictions)}")


def _fits(wanted: Box, prediction: Prediction, expected: Boxes) -> bool:
    return (
        prediction.get("label") == wanted.label
        and _reaches(prediction, wanted.score, expected.tolerance)
        and _overlap(wanted.box, prediction.get("box")) >= expected.iou
    )


def _overlap(one: Rectangle, other: Any) -> float:
    """Intersection over union; not a number where there is no box."""
    if not isinstance(other, Mapping):
        return math.nan
    x, y, width, height = (_number(other.get(key)) for key in ("x", "y", "width", "height"))
    if (x, y, width, height) == (one.x, one.y, one.width, one.height):
        return 1.0  # whatever rounding makes of it, and when it has no area
    across = min(one.x + one.width, x + width) - max(one.x, x)
    down = min(one.y + one.height, y + height) - max(one.y, y)
    both = max(across, 0.0) * max(down, 0.0)
    either = one.width * one.height + width * height - both
    return both / either if either > 0 else 0.0


def _unmatched(fitting: Sequence[Sequence[int]]) -> int | None:
    """The first that can have none of its own among what fits it, however the others are served."""
    owner: dict[int, int] = {}

    def served(one: int, tried: set[int]) -> bool:
        for candidate in fitting[one]:
            if candidate not in tried:
                tried.add(candidate)
                if candidate not in owner or served(owner[candidate], tried):
                    owner[candidate] = one
                    return True
        return False

    return next((one for one in range(len(fitting)) if not served(one, set())), None)


# -- tensors -----------------------------------------------------------------------------------------------------------

_FORMATS: Mapping[str, str] = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip


def _tensors(expected: Tensors, predictions: Sequence[Prediction]) -> Verdict:
    came = {str(each.get("name")): each for each in predictions}
    for name, wanted in expected.tensors.items():
        if name not in came:
            names = ", ".join(came) or "nothing"
            return Verdict(agrees=False, difference=f"expected an output {name}, got {names}")
        if told := _tensor(name, wanted, came[name], expected):
            return Verdict(agrees=False, difference=told)
    return _AGREES


def _tensor(name: str, wanted: Tensor, came: Prediction, expected: Tensors) -> str:
    shape = came.get("shape")
    if wanted.shape is not None and list(wanted.shape) != shape:
        return f"expected {name} of shape {list(wanted.shape)}, got {shape}"
    ours, theirs = _numbers(msgspec.structs.asdict(wanted)), _numbers(came)
    if ours is None or theirs is None:
        return f"the numbers of {name} cannot be read: {'expected' if ours is None else 'answered'} as no tensor"
    for index, (one, other) in enumerate(itertools.zip_longest(ours, theirs)):
        if one is None or other is None:
            return f"expected {'fewer' if one is None else 'more'} numbers in {name} than came: {index}"
        slack = expected.atol + expected.rtol * abs(one)
        if not abs(one - other) <= slack:
            return f"expected {name}[{index}] = {one:.6g} ± {slack:.2g}, got {other:.6g}"
    return ""


def _numbers(tensor: Prediction) -> Iterator[float] | None:
    """The numbers of a tensor in C order; None when they cannot be read."""
    data = tensor.get("data")
    if tensor.get("encoding") != "base64":
        flat = list(_scalars(data))
        return iter(flat) if all(isinstance(each, (int, float)) for each in flat) else None
    kind = _FORMATS.get(str(tensor.get("dtype")))
    try:
        raw = base64.b64decode(str(data), validate=True)
        return (number for (number,) in struct.iter_unpack(f"<{kind}", raw)) if kind else None
    except (binascii.Error, ValueError, struct.error):
        return None
