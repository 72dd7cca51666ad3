"""What a golden frame asks of a model's answer: read from JSON or TOML, and held against what came.

It is one of four, known by its key; beside it stands what an answer may be off by (``Tolerances``).

- ``label``: the best class is this one, with at least ``score - tolerance``;
- ``boxes``: each has one of its own, of the same label, that covers it (``iou``) with at least ``score - tolerance``;
- ``tensors``: each output has this shape and these numbers, to ``atol + rtol × |number|``;
- ``predictions``: each, of whatever kind and as the native format writes it, has one of its own (``pairs``).

More than what is asked for is no difference, but no boxes and no predictions mean that nothing at all is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from agent.config.strict import check_keys, convert
from agent.errors import ConfigError
from agent.inference.predictions import (
    KINDS,
    Box,
    Classification,
    Detection,
    Prediction,
    Segmentation,
    Tensor,
    numbers_of,
    read,
    type_of,
)
from agent.results.comparison.answers import Predictions, missing, shown, wanted
from agent.results.comparison.pairs import Terms, least
from agent.results.comparison.tolerances import ABSOLUTE, MIN_IOU, RELATIVE, SCORE, Share, Slack, Strict, Tolerances

__all__ = ["Boxes", "Expected", "Label", "Recorded", "Tensors", "Verdict", "compare", "parse"]

MOST: Final = 100
"""Predictions of a frame."""


class Label(Strict, frozen=True):
    """The class that comes first."""

    label: str
    score: float | None = None
    tolerance: Slack = SCORE


class ExpectedBox(Strict, frozen=True):
    """An object and where it is."""

    label: str
    box: Box
    score: float | None = None


class Boxes(Strict, frozen=True):
    """The objects that are found."""

    boxes: Annotated[tuple[ExpectedBox, ...], Meta(max_length=MOST)]
    iou: Share = MIN_IOU
    tolerance: Slack = SCORE

    @property
    def recorded(self) -> Recorded:
        """The same as predictions; no score asks for any."""
        made = tuple(Detection(one.label, -1, one.score or 0.0, one.box) for one in self.boxes)
        return Recorded(made, Tolerances(iou=self.iou, tolerance=self.tolerance))


class ExpectedTensor(Strict, frozen=True):
    """Numbers as the task ``tensors`` gives them: nested lists, or base64 of little-endian bytes."""

    data: list[Any] | str | float
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    encoding: Literal["", "base64"] = ""
    every: Annotated[int, Meta(ge=1)] = 1
    """Which numbers of the output these are, of one that is too large for all: each of so many, from the first on."""


class Tensors(Strict, frozen=True):
    """The network's outputs by name."""

    tensors: Annotated[dict[str, ExpectedTensor], Meta(min_length=1, max_length=MOST)]
    atol: Slack = ABSOLUTE
    rtol: Slack = RELATIVE


class _Written(Tolerances, frozen=True, kw_only=True):
    """Predictions as they are written, of which msgspec cannot tell the kinds."""

    predictions: Annotated[list[dict[str, Any]], Meta(max_length=MOST)]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Predictions of any kinds."""

    predictions: tuple[Prediction, ...]
    tolerances: Tolerances


Expected: TypeAlias = Label | Boxes | Tensors | Recorded
_KEYS: Final[Mapping[str, type[Label | Boxes | Tensors | _Written]]] = {
    "label": Label,
    "boxes": Boxes,
    "tensors": Tensors,
    "predictions": _Written,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is what was expected; if not, what was and what came."""

    agrees: bool
    difference: str = ""


def parse(value: Mapping[str, Any], name: str) -> Expected:
    """Read what is expected; ``name`` is the place, for the error.  Raises ``ConfigError``."""
    kinds = [kind for key, kind in _KEYS.items() if key in value]
    if len(kinds) != 1:
        raise _wrong(f"{name}: one of {', '.join(_KEYS)} is expected, not {len(kinds)} of them")
    made = convert(kinds[0], value, name)
    if not isinstance(made, _Written):
        return made
    predictions = tuple(_prediction(entry, f"{name}: predictions[{at}]") for at, entry in enumerate(made.predictions))
    bounds = {key: getattr(made, key) for key in Tolerances.__struct_fields__}
    return Recorded(predictions, Tolerances(**bounds))


def compare(expected: Expected, predictions: Predictions, *, aspect: float = 1.0) -> Verdict:
    """Whether the predictions are what was expected; ``aspect`` is the frame's width in its heights."""
    match expected:
        case Label():
            words = _label_missing(expected, predictions)
        case Tensors():
            words = _tensor_missing(expected, predictions)
        case Boxes():
            words = _prediction_missing(expected.recorded, predictions, aspect)
        case Recorded():
            words = _prediction_missing(expected, predictions, aspect)
    return Verdict(agrees=not words, difference=words)


def _prediction(entry: Mapping[str, Any], place: str) -> Prediction:
    try:
        _check(entry, place)
        return read([entry])[0]
    except (msgspec.ValidationError, RecursionError, TypeError) as error:
        raise _wrong(f"{place}: {error}") from error


def _check(entry: Mapping[str, Any], place: str) -> None:
    """A result of a later version may have more keys; what a person writes may not."""
    of = type_of(entry)
    if of is None:
        raise _wrong(f"{place}: the kind is one of {', '.join(KINDS)}, not {entry['kind']!r}")
    check_keys(entry, {"kind", *of.__struct_fields__}, place)
    for at, part in enumerate(entry.get("parts") or ()):
        _check(part, f"{place}.parts[{at}]")


def _wrong(message: str) -> ConfigError:
    hint = "have it written by `verge component pack --record-golden`"
    return ConfigError(message, code="golden-wrong", hint=hint)


def _label_missing(expected: Label, predictions: Predictions) -> str:
    first = predictions[0] if predictions else None
    if isinstance(first, Classification | Detection | Segmentation) and first.label == expected.label:  # noqa: SIM102
        if expected.score is None or (first.score or 0.0) >= least(expected.score, expected.tolerance):
            return ""
    asked = wanted(Classification(expected.label, -1, expected.score or 0.0), expected.tolerance)
    return f"expected {asked}, got {shown(predictions[:1])}"


def _prediction_missing(expected: Recorded, predictions: Predictions, aspect: float) -> str:
    if not expected.predictions:
        return f"expected nothing, got {shown(predictions)}" if predictions else ""
    return missing(expected.predictions, predictions, Terms(expected.tolerances, exact=False, aspect=aspect))


def _tensor_missing(expected: Tensors, predictions: Predictions) -> str:
    outputs = {one.name: one for one in predictions if isinstance(one, Tensor)}
    for name, asked in expected.tensors.items():
        if name not in outputs:
            return f"expected an output {name}, got {', '.join(outputs) or 'nothing'}"
        if words := _tensor_differs(name, asked, outputs[name], expected):
            return words
    return ""


def _tensor_differs(name: str, asked: ExpectedTensor, actual: Tensor, expected: Tensors) -> str:
    if asked.shape is not None and asked.shape != actual.shape:
        return f"expected {name} of shape {list(asked.shape)}, got {list(actual.shape)}"
    ours = numbers_of(Tensor(name, asked.shape or (), asked.dtype, asked.data, asked.encoding or None))
    theirs = numbers_of(actual)
    if ours is None or theirs is None:
        return f"the numbers of {name} cannot be read: {'expected' if ours is None else 'answered'} as no tensor"
    for number, (one, other) in enumerate(itertools.zip_longest(ours, theirs[:: asked.every])):
        if one is None or other is None:
            return f"expected {'fewer' if one is None else 'more'} numbers in {name} than came: {number}"
        slack = expected.atol + expected.rtol * abs(one)
        if not abs(one - other) <= slack:
            return f"expected {name}[{number * asked.every}] = {one:.6g} ± {slack:.2g}, got {other:.6g}"
    return ""
