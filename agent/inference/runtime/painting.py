"""Where the anomalies of a picture are: a picture of the frame's size in which every pixel has its class's colour.

The classes are the background, which is always the first, and those that are there: of a segmentation by its labels,
of an anomaly's map the one class ``anomaly``, which the pixels belong to that reach the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import kinds, palette
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.verdict import MOST_CLASSES, Judge

__all__ = ["Painted", "Painter"]

_NAME, _BACKGROUND = "anomaly", "background"
_LEVELS = 255


@dataclass(frozen=True)
class Painted:
    """The classes that are there, the background first, and how many bytes their picture has."""

    classes: Sequence[Tuple[str, str, float]]
    """Name, colour as ``#RRGGBB``, share of the frame: 0 to 1."""
    nbytes: int

    def as_dict(self) -> Dict[str, Any]:
        """As JSON."""
        keys = ("name", "color", "area")
        return {"classes": [dict(zip(keys, one)) for one in self.classes], "length": self.nbytes}


class Painter:
    """Paints what a model says, with the classes and colours of its ``[anomaly]``."""

    def __init__(self, verdict: Judge) -> None:
        self._verdict = verdict
        self._of_maps = verdict.classes[1] if len(verdict.classes) > 1 else _NAME
        self._least = max(np.ceil(verdict.pixel_threshold * _LEVELS), 1.0)
        self._colors = _table([self._color(place) for place in range(MOST_CLASSES + 1)])

    def __call__(
        self, predictions: Sequence[Prediction], size: Tuple[int, int], canvas: memoryview
    ) -> Optional[Painted]:
        """Paint on ``canvas``: RGB, row by row; None where the model says of no place what it is.

        ``size`` is (width, height) of the frame.  Raises ``ModelError`` where the canvas is too small for it.
        """
        found = self._plane(predictions, size)
        if found is None:
            return None
        plane, names = found
        width, height = size
        nbytes = width * height * 3
        if nbytes > len(canvas):
            raise ModelError("outputs-too-large", f"a picture of {width} × {height} is more than there is room for")
        pixels = np.frombuffer(canvas, np.uint8, nbytes).reshape(height, width, 3)
        cv2.applyColorMap(plane, self._colors, pixels)
        return Painted(self._shares(plane, names), nbytes)

    def _plane(
        self, predictions: Sequence[Prediction], size: Tuple[int, int]
    ) -> Optional[Tuple[np.ndarray, Mapping[int, str]]]:
        """The place in the palette of each of the frame's pixels, and the names of those places."""
        areas = [one for one in predictions if kinds.kind_of(one) == kinds.SEGMENTATION]
        if areas or self._verdict.has_places:
            return self._of_areas(areas, size)
        levels = next((one["map"] for one in predictions if kinds.kind_of(one) == kinds.ANOMALY and "map" in one), None)
        if levels is None:
            return None
        wide = cv2.resize(levels, size, interpolation=cv2.INTER_LINEAR)
        return cv2.threshold(wide, self._least - 1, 1, cv2.THRESH_BINARY)[1], {1: self._of_maps}

    def _of_areas(self, areas: Sequence[Prediction], size: Tuple[int, int]) -> Tuple[np.ndarray, Mapping[int, str]]:
        shapes = {one["mask"].shape for one in areas}
        shape = shapes.pop() if len(shapes) == 1 else (size[1], size[0])
        plane, names = np.zeros(shape, np.uint8), {}
        # The largest first: what lies on it stays to be seen.
        for one in sorted(areas, key=lambda one: -float(one["area"])):
            place = self._place(one)
            if place:
                names[place] = one["label"]
                plane[_fitted(one["mask"], shape)] = place
        return cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST), names

    def _place(self, prediction: Prediction) -> int:
        """Its class's place in the palette; 0 is the background's."""
        if self._verdict.is_background(prediction["label"]):
            return 0
        number = prediction["label_id"] + (not self._verdict.begins_with_background)
        return int(min(max(number, 1), MOST_CLASSES))

    def _shares(self, plane: np.ndarray, names: Mapping[int, str]) -> List[Tuple[str, str, float]]:
        places = sorted(names)
        counts = _counts(plane, places)
        there = [(names[place], self._color(place), count) for place, count in zip(places, counts) if count]
        rest = plane.size - sum(counts)
        return [
            (name, color, count / plane.size) for name, color, count in [(_BACKGROUND, self._color(0), rest), *there]
        ]

    def _color(self, place: int) -> str:
        colors = self._verdict.colors
        return colors[place] if place < len(colors) else palette.color(place)


def _table(colors: Sequence[str]) -> np.ndarray:
    """Colours by their place, red first, as OpenCV wants them."""
    return np.frombuffer(bytes.fromhex("".join(color[1:] for color in colors)), np.uint8).reshape(-1, 1, 3)


def _counts(plane: np.ndarray, places: Sequence[int]) -> List[int]:
    """How many pixels have each of the places, which are all but 0."""
    if len(places) == 1:
        return [cv2.countNonZero(plane)]
    return [cv2.countNonZero(np.asarray(plane == place, np.uint8)) for place in places]


def _fitted(mask: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    if mask.shape == shape:
        return mask
    resized = cv2.resize(mask.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.bool_)
