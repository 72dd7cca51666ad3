"""YOLO heads whose boxes are decoded inside the network: rows of (centre, size, scores).

=========  ============  ====================================================================
``yolov5``  [1, N, 5+C]  objectness beside the classes; also version 7
``yolov8``  [1, 4+C, N]  classes alone, transposed; also versions 9, 11 and 12
=========  ============  ====================================================================

Either may come transposed.  Which axis is which follows from the number of labels, and without labels by
length: there are more boxes than features.  ONNX exports give pixels of the input, TFLite exports
fractions: ``normalized`` says which, and left open it is seen from the largest coordinate.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, sigmoid
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_rows, refuse, strongest

__all__ = ["YoloV5", "YoloV8", "cells", "products", "single"]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64))

# Centres lie on a grid over the whole picture: the largest is near 1 in fractions, far above 2 in pixels.
_LARGEST_FRACTION = 2.0


def cells(size: Tuple[int, int], strides: Sequence[int]) -> int:
    """How many grid cells an input (height, width) has over all strides."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def single(network: Network) -> Optional[Tuple[int, int]]:
    """The axes (A, B) of a network with one output [1, A, B], -1 where dynamic; None for any other network."""
    if len(network.outputs) != 1 or not are_rows(network.outputs[0].shape):
        return None
    _, first, second = network.outputs[0].shape
    return first, second


class _Yolo(Decoder):
    """Options ``normalized``, ``activation`` (sigmoid where the export left it out)."""

    iou = 0.45
    threshold = 0.25
    leading: int
    """Features before the classes."""
    per_cell: int
    """Boxes per cell of the grids."""
    feature_axis: int
    """Where the features lie by default: 0 for [1, F, N], 1 for [1, N, F]."""

    @classmethod
    def recognises(cls, network: Network, options: Options) -> bool:
        """As many boxes as the input's size makes, as many classes as there are labels, or else the default layout."""
        del options
        axes = single(network)
        if axes is None:
            return False
        axis = _feature_axis(axes, cls.leading, network.label_count)
        classes, boxes, size = axes[axis] - cls.leading, axes[1 - axis], network.size
        if network.label_count:
            if classes != network.label_count:
                return False
        elif classes < 1 or axis != cls.feature_axis:
            return False
        return size is None or boxes < 0 or boxes in [cls.per_cell * cells(size, strides) for strides in _STRIDES]

    def __init__(self, network: Network, options: Options) -> None:
        axes = single(network)
        if axes is None or 0 < axes[_feature_axis(axes, self.leading, network.label_count)] <= self.leading:
            refuse(self, network)
        self._label_count = network.label_count
        self._normalized = options.flag("normalized")
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows whose best class reaches the threshold, in fractions."""
        rows = self._rows(outputs[0])
        kept, scores, columns = self._scores(rows, threshold)
        boxes = finite(rows[kept, :4])
        if not self._is_normalized(rows):
            boxes = boxes / np.array([geometry.network_width, geometry.network_height] * 2, dtype=np.float32)
        return Candidates(from_centres(*boxes.T), scores, columns)

    def _rows(self, output: np.ndarray) -> np.ndarray:
        """The one output as a view [N, F]."""
        first, second = output.shape[1:]
        axis = _feature_axis((first, second), self.leading, self._label_count)
        if output.shape[axis + 1] <= self.leading:
            refuse(self, list(output.shape))
        rows = np.asarray(output[0], dtype=np.float32)
        return rows.T if axis == 0 else rows

    def _scores(self, rows: np.ndarray, threshold: float) -> Tuple[np.ndarray, ...]:
        return strongest(rows[:, self.leading :], threshold, self._activation)

    def _is_normalized(self, rows: np.ndarray) -> bool:
        if self._normalized is None:
            return bool(rows[:, :2].max(initial=0.0) <= _LARGEST_FRACTION)
        return self._normalized


class YoloV8(_Yolo):
    """Boxes and class scores."""

    name = "yolov8"
    expects = "one output [1,4+C,N] of boxes (centre, size) and C class scores"
    leading = 4
    per_cell = 1
    feature_axis = 0


class YoloV5(_Yolo):
    """Boxes, objectness and class scores; a box's score is the product."""

    name = "yolov5"
    expects = "one output [1,N,5+C] of boxes (centre, size), objectness and C class scores"
    leading = 5
    per_cell = 3
    feature_axis = 1

    def _scores(self, rows: np.ndarray, threshold: float) -> Tuple[np.ndarray, ...]:
        return products(rows, threshold, self._activation)


def products(rows: np.ndarray, threshold: float, activation: str = "none") -> Tuple[np.ndarray, ...]:
    """(rows, scores, columns) where objectness (column 4) × best class (from column 5 on) reaches the threshold."""
    objects, objectness, _ = strongest(rows[:, 4:5], threshold, activation)
    # No class is above 1, so an object below the threshold cannot reach it; the others' classes are all wanted.
    scores = finite(rows[objects, 5:])
    columns = scores.argmax(axis=1)
    best = scores[np.arange(len(objects)), columns].astype(np.float64)
    product = objectness * (sigmoid(best) if activation == "sigmoid" else best)
    reached = np.flatnonzero(product >= threshold)
    return objects[reached], product[reached], columns[reached]


def _feature_axis(axes: Tuple[int, int], leading: int, labels: int) -> int:
    """The axis that has room for just the labels; where that decides nothing, the known or the shorter one."""
    fitting = [axis for axis in (0, 1) if labels and axes[axis] == leading + labels]
    if len(fitting) == 1:
        return fitting[0]
    return int(axes[0] < 0 or axes[0] > axes[1] > 0)
