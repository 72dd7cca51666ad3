"""YOLO heads as they leave the network, before boxes are decoded: three grids, or four, of three anchors in each cell.

A level is [1, 3, H, W, 5+C], [1, 3(5+C), H, W], or the same with the channels last.  With t the numbers of a row, s
their sigmoid, c its cell and p, q its anchor's size:

===========  =====================================  ==================================
``version``  centre                                 size
===========  =====================================  ==================================
``5``        (2 s(t) - ½ + c) × stride              (2 s(t))² × (p, q); also version 7
``3``        (s(t) + c) × stride                    exp(t) × (p, q); also version 4
===========  =====================================  ==================================

Levels with the channels last are TensorFlow's, where version 3 is usual.  Anchors are those of the version, unless
``anchors`` gives others: for each level, the finest first, width and height of each in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Claim, Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, logit, sigmoid
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, refuse
from agent.inference.runtime.tasks.decoders.rows import LETTERBOX

__all__ = ["YoloRaw"]

_STRIDES = (8, 16, 32, 64)
_ANCHORS = 3
_LEADING = 5
_FLAT, _SPLIT = 4, 5
"""Axes of a level, and of one whose anchors have their own."""
_MAX_LOG = 20.0  # e²⁰ pixels cover any picture; beyond it exp() would overflow

_THREE = ((10, 13, 16, 30, 33, 23), (30, 61, 62, 45, 59, 119), (116, 90, 156, 198, 373, 326))
_FOUR = (
    (19, 27, 44, 40, 38, 94),
    (96, 68, 86, 152, 180, 137),
    (140, 301, 303, 264, 238, 542),
    (436, 615, 739, 380, 925, 792),
)
"""Of versions 3 and 5, trained on COCO."""


@dataclass(frozen=True)
class _Level:
    """One output."""

    place: int
    height: int
    width: int
    last: bool
    """Whether the channels come last."""


class YoloRaw(Decoder):
    """Options ``version`` (auto, 3, 5), ``anchors`` and ``activation`` (auto, none, sigmoid)."""

    name = "yolo-raw"
    expects = "three or four outputs [1,3,H,W,5+C] or [1,3(5+C),H,W] of undecoded boxes, objectness and C class scores"
    feed = LETTERBOX
    threshold = 0.25
    iou = 0.45

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """A level for each stride of the picture, with room for the labels."""
        levels, classes = _levels(network)
        if not levels or network.label_count not in (0, classes):
            return None
        return cls.fits(f"its {len(levels)} outputs are grids of three boxes of 5 + {classes} numbers")

    def __init__(self, network: Network, options: Options) -> None:
        self._levels, self._classes = _levels(network)
        if not self._levels:
            refuse(self, network)
        usual = "3" if self._levels[0].last else "5"
        version = options.choice("version", "auto", ("auto", "3", "5"))
        self._is_old = (usual if version == "auto" else version) == "3"
        default = _THREE if len(self._levels) == len(_THREE) else _FOUR
        anchors = options.items("anchors", _anchors, "a list of six numbers for each level", len(_STRIDES)) or default
        if len(anchors) != len(self._levels):
            refuse(self, f"{len(self._levels)} levels, and options.anchors has {len(anchors)}")
        self._anchors = [np.array(level, dtype=np.float32).reshape(_ANCHORS, 2) for level in anchors]
        self._activation = options.choice("activation", "auto", ("auto", "none", "sigmoid"))

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The boxes of all levels that reach the threshold."""
        rows = [self._rows(np.asarray(outputs[level.place], dtype=np.float32), level) for level in self._levels]
        raw = self._activation == "sigmoid" or (self._activation == "auto" and not _are_probabilities(rows))
        if self._is_old and not raw:
            refuse(self, "scores that are probabilities already, which leave no sizes to exp()")
        parts = [self._decoded(level, number, raw, threshold) for number, level in enumerate(rows)]
        boxes, scores, columns = (np.concatenate([part[n] for part in parts]) for n in range(3))
        size = np.array([geometry.network_width, geometry.network_height] * 2)
        return Candidates(boxes / size, scores, columns)

    def _rows(self, output: np.ndarray, level: _Level) -> np.ndarray:
        """A level as [anchor, row, column, 5+C]."""
        features, rows = _LEADING + self._classes, output.reshape(output.shape[1:])
        if level.last:
            return rows.reshape(level.height, level.width, _ANCHORS, features).transpose(2, 0, 1, 3)
        if rows.ndim == _SPLIT - 1:
            return rows
        return rows.reshape(_ANCHORS, features, level.height, level.width).transpose(0, 2, 3, 1)

    def _decoded(self, rows: np.ndarray, number: int, raw: bool, threshold: float) -> Tuple[np.ndarray, ...]:
        """(boxes in pixels, scores, columns) of a level; objectness first, while the numbers are raw."""
        objectness = finite(rows[..., _LEADING - 1])
        chosen = np.nonzero(objectness >= (logit(threshold) if raw else threshold))
        kept = finite(rows[chosen])
        columns = kept[:, _LEADING:].argmax(axis=1)
        pair = np.stack([kept[:, _LEADING - 1], kept[np.arange(len(kept)), _LEADING + columns]])
        objects, classes = sigmoid(pair) if raw else pair
        scores = objects * classes
        reached = scores >= threshold
        anchors, cells = self._anchors[number][chosen[0]], np.stack([chosen[2], chosen[1]], axis=1)
        boxes = self._boxes(kept[reached, :4], cells[reached], anchors[reached], _STRIDES[number], raw)
        return boxes, scores[reached], columns[reached]

    def _boxes(self, given: np.ndarray, cells: np.ndarray, anchors: np.ndarray, stride: int, raw: bool) -> np.ndarray:
        """Corners in pixels."""
        spread = (sigmoid(given) if raw else given).astype(np.float64)
        if self._is_old:
            centres = (spread[:, :2] + cells) * stride
            sizes = np.exp(np.minimum(given[:, 2:].astype(np.float64), _MAX_LOG)) * anchors
        else:
            centres = (2 * spread[:, :2] - 0.5 + cells) * stride
            sizes = (2 * spread[:, 2:]) ** 2 * anchors
        return from_centres(*centres.T, *sizes.T)


def _levels(network: Network) -> Tuple[Sequence[_Level], int]:
    """The levels, the finest first, and how many classes there are; no level where the outputs are none."""
    count = len(network.outputs)
    if network.size is None or count not in (3, 4):
        return (), 0
    height, width = network.size
    found: List[_Level] = []
    features = set()
    for stride in _STRIDES[:count]:
        fitting = [
            (place, last)
            for place, info in enumerate(network.outputs)
            for last in (False, True)
            if _grid(info.shape, last) == (height // stride, width // stride)
        ]
        if len(fitting) != 1:
            return (), 0
        ((place, last),) = fitting
        found.append(_Level(place, height // stride, width // stride, last))
        features.add(_features(network.outputs[place].shape, last))
    classes = features.pop() - _LEADING if len(features) == 1 else 0
    return (found, classes) if classes > 0 else ((), 0)


def _grid(shape: Sequence[int], last: bool) -> Tuple[int, ...]:
    """(rows, columns) of a level; nothing for any other tensor."""
    if not _features(shape, last):
        return ()
    return tuple(shape[1:3] if last else shape[-2:] if len(shape) == _FLAT else shape[2:4])


def _features(shape: Sequence[int], last: bool) -> int:
    """How many numbers a box has; 0 for what is no level."""
    if len(shape) == _SPLIT:
        return shape[-1] if shape[3 if last else 1] == _ANCHORS else 0
    channels = (shape[-1] if last else shape[1]) if len(shape) == _FLAT else 0
    return channels // _ANCHORS if channels > 0 and channels % _ANCHORS == 0 else 0


def _anchors(value: Any) -> Optional[Tuple[float, ...]]:
    """The sizes of a level's three anchors."""
    numbers = value if isinstance(value, (list, tuple)) else ()
    if len(numbers) != 2 * _ANCHORS or not all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and 0 < each < 1e6  # noqa: PLR2004 - pixels
        for each in numbers
    ):
        return None
    return tuple(float(each) for each in numbers)


def _are_probabilities(rows: Sequence[np.ndarray]) -> bool:
    """Whether every objectness is one already."""
    return all(bool((level[..., _LEADING - 1] >= 0).all() and (level[..., _LEADING - 1] <= 1).all()) for level in rows)
