"""One prediction against another of its kind: what keeps them from being the same.

================  =======================================================================================
kind              the same are
================  =======================================================================================
classification    labels
detection         labels, boxes (turned ones by their corners), masks and key points
segmentation      labels and masks
keypoints         labels and key points
anomaly           verdicts, scores and maps
text              texts, and boxes where both have one
embedding         names, and the ways that the vectors point
map               units and values
tensor            names, shapes and numbers
================  =======================================================================================

Scores, and what only the second one has, count by ``Terms``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from agent.inference.predictions import (
    Anomaly,
    Classification,
    Detection,
    Embedding,
    Keypoints,
    Map,
    Prediction,
    Segmentation,
    Tensor,
    Text,
    label_of,
    score_of,
)
from agent.results.comparison.boxes import iou, polygon_iou
from agent.results.comparison.maps import image_likeness, map_likeness
from agent.results.comparison.masks import mask_iou
from agent.results.comparison.points import oks
from agent.results.comparison.tensors import numbers_differ
from agent.results.comparison.texts import text_likeness
from agent.results.comparison.tolerances import Tolerances
from agent.results.comparison.vectors import cosine

__all__ = ["Gap", "Terms", "gap", "least"]

_ROUNDING: Final = 5e-7
"""Of scores, which have six digits."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts between two predictions."""

    tolerances: Tolerances = field(default_factory=Tolerances)
    exact: bool = True
    """Whether what only the second one has counts too, and scores do not.

    Of two models' answers neither is the measure, and each has scores of its own; what is recorded is what is asked
    for, scores and all, and more is no difference.
    """
    aspect: float = 1.0
    """The frame's width in its heights."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Why two predictions are not the same."""

    steps: int
    """How many measures they pass before: what passes the most is the nearest."""
    words: str = ""
    """What the second one has otherwise, where a look at both does not tell: ``another mask (…)``."""


def gap(one: Prediction, other: Prediction, terms: Terms) -> Gap | None:
    """What keeps ``other`` from being the same as ``one``; None when nothing does."""
    if type(one) is not type(other):
        return Gap(0)
    for steps, words in enumerate(_MEASURES[type(one)](one, other, terms)):
        if words is not None:
            return Gap(steps, words)
    return None


def least(score: float, tolerance: float) -> float:
    """The lowest score that reaches ``score``, to the six digits that answers have: 0.81 - 0.1 is 0.71, not more."""
    return round(score - tolerance, 6)


# -- each kind, measure by measure: None, or the words of a gap, empty where a look at both tells it -------------------

Found: TypeAlias = Iterator[str | None]


def _class(one: Classification, other: Classification, terms: Terms) -> Found:
    yield _named(one, other)
    yield _scored(one, other, terms)


def _object(one: Detection, other: Detection, terms: Terms) -> Found:
    yield _named(one, other)
    yield None if _place(one, other) >= terms.tolerances.iou else ""
    yield _scored(one, other, terms)
    yield _both("mask", "IoU", one.mask, other.mask, mask_iou, terms.tolerances.iou, terms)
    boxes = one.box, other.box

    def posed(ours: Any, theirs: Any) -> float:
        return oks(ours, theirs, boxes, terms.aspect)

    yield _both("pose", "OKS", one.keypoints, other.keypoints, posed, terms.tolerances.oks, terms)


def _segment(one: Segmentation, other: Segmentation, terms: Terms) -> Found:
    yield _named(one, other)
    yield _scored(one, other, terms)
    yield _both("mask", "IoU", one.mask, other.mask, mask_iou, terms.tolerances.iou, terms)


def _pose(one: Keypoints, other: Keypoints, terms: Terms) -> Found:
    yield _named(one, other)
    yield _scored(one, other, terms)
    likeness = oks(one.keypoints, other.keypoints, None, terms.aspect)
    yield _like("pose", "OKS", likeness, terms.tolerances.oks)


def _anomaly(one: Anomaly, other: Anomaly, terms: Terms) -> Found:
    yield None if one.anomalous == other.anomalous else ""
    yield None if terms.exact or abs(one.score - other.score) <= terms.tolerances.tolerance + _ROUNDING else ""
    yield _both("map", "likeness", one.map, other.map, image_likeness, terms.tolerances.map, terms)


def _text(one: Text, other: Text, terms: Terms) -> Found:
    likeness = text_likeness(one.text, other.text)
    yield None if likeness >= terms.tolerances.text else ""
    yield None if _place(one, other) >= terms.tolerances.iou else "another place"
    yield _scored(one, other, terms)


def _embedding(one: Embedding, other: Embedding, terms: Terms) -> Found:
    yield None if one.name == other.name or not (one.name or terms.exact) else ""
    yield _scored(one, other, terms)
    yield _like("vector", "cosine", cosine(one, other), terms.tolerances.cosine)


def _map(one: Map, other: Map, terms: Terms) -> Found:
    yield None if one.unit == other.unit else ""
    yield _like("map", "likeness", map_likeness(one, other), terms.tolerances.map)


def _tensor(one: Tensor, other: Tensor, terms: Terms) -> Found:
    yield None if one.name == other.name else ""
    limits = terms.tolerances
    yield numbers_differ(one, other, rtol=limits.rtol, atol=limits.atol) or None


_MEASURES: Final[Mapping[type[Prediction], Callable[[Any, Any, Terms], Found]]] = {
    Classification: _class,
    Detection: _object,
    Segmentation: _segment,
    Keypoints: _pose,
    Anomaly: _anomaly,
    Text: _text,
    Embedding: _embedding,
    Map: _map,
    Tensor: _tensor,
}


# -- measures that kinds share -----------------------------------------------------------------------------------------


def _named(one: Prediction, other: Prediction) -> str | None:
    return None if label_of(one) == label_of(other) else ""


def _scored(one: Prediction, other: Prediction, terms: Terms) -> str | None:
    wanted = None if terms.exact else score_of(one)
    reached = wanted is None or (score_of(other) or 0.0) >= least(wanted, terms.tolerances.tolerance)
    return None if reached else ""


def _place(one: Detection | Text, other: Detection | Text) -> float:
    """How much both cover of each other; wholly where one is nowhere in particular."""
    if one.corners and other.corners:
        return polygon_iou(one.corners, other.corners)
    return iou(one.box, other.box) if one.box and other.box else 1.0


def _both(
    what: str, name: str, ours: Any, theirs: Any, measure: Callable[[Any, Any], float], bound: float, terms: Terms
) -> str | None:
    """The likeness of what either prediction may have or not: nothing at all, where only one has it."""
    if not ours and not (theirs and terms.exact):
        return None
    if ours and theirs:
        return _like(what, name, measure(ours, theirs), bound)
    if not bound:
        return None
    return f"no {what}" if ours else f"a {what} too"


def _like(what: str, name: str, likeness: float, bound: float) -> str | None:
    if likeness >= bound:
        return None
    return f"another {what} ({name} {likeness:.3f}, at least {bound:g} is wanted)"
