"""Whether something is wrong with what a picture shows: the manifest's ``[anomaly]``, put before the predictions.

==================  ====================================================  ==============================================
what a model says   the score                                             usual ``threshold``
==================  ====================================================  ==============================================
anomaly             its own                                               its own
classification      1 less that of the ``normal`` classes, or that of     0.5
                    the others where none of those is among the best
segmentation        the share of the frame that is neither background     0.0001: one pixel in ten thousand
                    nor ``normal``
==================  ====================================================  ==============================================

Classes decide where a model says both classes and areas.  Scores are compared as they are published, rounded to 4
digits.  ``painting.py`` has the places.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from agent.inference.runtime import kinds
from agent.inference.runtime.base import Labels, Prediction
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.labels import BACKGROUND
from agent.inference.runtime.options import Options

__all__ = ["KEYS", "MOST_CLASSES", "Judge"]

KEYS = ("threshold", "pixel_threshold", "normal", "classes", "colors")
MOST_CLASSES = 255
_MIDDLE, _LEAST_AREA = 0.5, 0.0001
_DIGITS = 4
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_CLASSIFICATION, _SEGMENTATION, _BOTH = "image-classification", "segmentation", "inspection"


class Judge:
    """The table ``[anomaly]``, and what it makes of a model's predictions.

    ``threshold`` and ``pixel_threshold`` are from 0 to 1, ``classes`` the names of the classes in order (the background
    first, for areas), ``colors`` theirs, ``normal`` the names of those that are none.  ``names`` are further ones.
    Raises ``ModelError`` for keys and values that are none, and for normal classes that the model does not have.
    """

    def __init__(self, given: Mapping[str, Any], labels: Labels, task: str = "", names: Sequence[str] = ()) -> None:
        read = Options(given, "anomaly")
        threshold = read.number("threshold", _MIDDLE, 0.0, 1.0)
        self.pixel_threshold = read.number("pixel_threshold", _MIDDLE, 0.0, 1.0)
        self.normal = frozenset(read.words("normal", ()))
        self.classes = read.words("classes", ())
        self.colors = tuple(color.upper() for color in read.words("colors", ()))
        read.done()
        self.given = bool(given)
        self.task = task
        self._threshold = threshold if "threshold" in read else None
        self._background = _background(self.classes, labels)
        _check(self, {*labels.names.values(), *self.classes, *names})

    def __call__(self, predictions: Sequence[Prediction]) -> List[Prediction]:
        """The predictions with the verdict as the first; the same where they say nothing that could be judged."""
        by_kind: Dict[str, List[Prediction]] = {}
        for one in predictions:
            by_kind.setdefault(kinds.kind_of(one), []).append(one)
        if kinds.ANOMALY in by_kind:
            return [self._judged(one) if kinds.kind_of(one) == kinds.ANOMALY else one for one in predictions]
        found: Optional[Tuple[float, float]] = None
        if kinds.CLASSIFICATION in by_kind or self.task == _CLASSIFICATION:
            found = self._of_classes(by_kind.get(kinds.CLASSIFICATION, ())), _MIDDLE
        elif kinds.SEGMENTATION in by_kind or self.task == _SEGMENTATION:
            found = self._of_areas(by_kind.get(kinds.SEGMENTATION, ())), _LEAST_AREA
        if found is None:
            return list(predictions)
        score, usual = found
        return [self._told(round(score, 6), usual), *predictions]

    @property
    def has_places(self) -> bool:
        """Whether the model says of every place what it is, if only that it is nothing."""
        return self.task in (_SEGMENTATION, _BOTH)

    @property
    def begins_with_background(self) -> bool:
        """Whether the first class stands for what is no part of anything."""
        return bool(self._background)

    def is_background(self, label: str) -> bool:
        """Whether what belongs to a class is no anomaly: it is normal, or none of the others."""
        return label in self.normal or label == self._background or label.lower() in BACKGROUND

    def _judged(self, prediction: Prediction) -> Prediction:
        if self._threshold is None:
            return prediction
        told = self._told(prediction["score"], self._threshold)
        return {**prediction, **told}

    def _told(self, score: float, usual: float) -> Prediction:
        threshold = usual if self._threshold is None else self._threshold
        anomalous = round(score, _DIGITS) >= round(threshold, _DIGITS)
        return {"anomalous": anomalous, "score": score, "threshold": threshold}

    def _of_classes(self, predictions: Sequence[Prediction]) -> float:
        normal = [one["score"] for one in predictions if one["label"] in self.normal]
        others = [one["score"] for one in predictions if one["label"] not in self.normal]
        return float(min(max(1 - sum(normal) if normal else sum(others), 0.0), 1.0))

    def _of_areas(self, predictions: Sequence[Prediction]) -> float:
        return float(min(sum(one["area"] for one in predictions if not self.is_background(one["label"])), 1.0))


def _background(classes: Sequence[str], labels: Labels) -> str:
    """The name of the first class where it is the background: told so, called so, or not called anything."""
    first = labels.names.get(0, "")
    if classes or first.lower() in BACKGROUND:
        return classes[0] if classes else first
    return "" if labels.names else labels.name(0)


def _check(verdict: Judge, known: Set[str]) -> None:
    if len(verdict.classes) > MOST_CLASSES:
        raise ModelError("options-wrong", f"anomaly.classes are {len(verdict.classes)}", f"{MOST_CLASSES} are the most")
    if len(verdict.colors) > MOST_CLASSES:
        raise ModelError("options-wrong", f"anomaly.colors are {len(verdict.colors)}", "one for each class is enough")
    if wrong := next((color for color in verdict.colors if not _COLOR.fullmatch(color)), ""):
        raise ModelError("options-wrong", f"anomaly.colors has {wrong[:20]!r}", "write them as #23A436")
    strange = sorted(verdict.normal - known)
    if known and strange:
        listed = ", ".join(sorted(known)[:10])
        raise ModelError(
            "options-wrong", f"anomaly.normal names {strange[0]!r}, which is no class", f"classes: {listed}"
        )
    if verdict.given and verdict.task in (_CLASSIFICATION, _BOTH) and not verdict.normal:
        listed = ", ".join(sorted(known)[:10]) or "the names of its labels"
        raise ModelError(
            "options-wrong", "anomaly.normal does not say which classes are normal", f"name some of: {listed}"
        )
