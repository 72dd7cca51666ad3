"""YOLO heads whose boxes are decoded inside the network: rows of (centre, size, scores).

=========  ================  ================================================================
``yolov8``  [1, 4+C+E, N]    class scores alone, transposed; also versions 9, 11 and 12
``yolov5``  [1, N, 5+C+E]    objectness beside the classes; also versions 3 and 7
=========  ================  ================================================================

Either may come transposed.  E numbers may follow (``rows.py``).  ONNX exports give pixels of the input, TFLite
exports fractions: ``normalized`` says which, and left open it is seen from the largest coordinate.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import SAID, Claim, Geometry
from agent.inference.runtime.boxes import from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, sigmoid
from agent.inference.runtime.tasks.decoders.base import Network, refuse, strongest
from agent.inference.runtime.tasks.decoders.rows import RowHead, Rows, feature_axis, grids, row_axes

__all__ = ["YoloV5", "YoloV8", "products"]

# Centres lie on a grid over the whole picture: the largest is near 1 in fractions, far above 2 in pixels.
_LARGEST_FRACTION = 2.0
_NOTHING = np.empty((0, 0), dtype=np.float32)


class _Yolo(RowHead):
    """Options ``normalized``, ``activation`` (sigmoid where the export left it out)."""

    threshold = 0.25
    leading: int
    """Features before the classes."""
    per_cell: int
    """Boxes per cell of the grids."""
    transposed: bool
    """Whether the features come before the boxes by default."""

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """As many boxes as the input's size makes, as many classes as there are labels, or else the default layout."""
        axes, trailing = row_axes(network), cls.trailing(network)
        if axes is None or trailing is None or not cls.strength(network):
            return None
        others = cls.leading + trailing
        axis = feature_axis(axes, others, network.label_count)
        classes, boxes = axes[axis] - others, axes[1 - axis]
        if axes[axis] < 0:
            is_said = cls.strength(network) == SAID and boxes < 0
            return cls.claimed(network, "the shape of its output is open") if is_said else None
        why = f"its output has {others} + {classes} features"
        if classes < 1 or not _is_grid(network, boxes, cls.per_cell):
            is_said = cls.strength(network) == SAID and classes >= 1
            return cls.claimed(network, why, f"no head has {boxes} rows for its picture") if is_said else None
        if network.label_count and classes != network.label_count:
            return cls.claimed(network, why, f"there are {network.label_count} labels") if boxes > 0 else None
        if not network.label_count and axis != 1 - cls.transposed:
            return None
        return cls.claimed(network, why)

    def __init__(self, network: Network, options: Options) -> None:
        super().__init__(network, options)
        axes = row_axes(network)
        if axes is None or 0 < axes[feature_axis(axes, self._others, self._label_count)] <= self._others:
            refuse(self, network)
        self._is_open = network.size is None or min(axes) < 0
        self._normalized = options.flag("normalized")
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Scores below 0, and rows that are not as many as the picture makes where its size was open until the run."""
        size = geometry.network_height, geometry.network_width
        rows = self._turned(np.asarray(outputs[self._place], dtype=np.float32))
        if self._is_open and len(rows) not in grids(size, self.per_cell):
            return f"no head has {len(rows)} rows for a picture of {size[1]} × {size[0]}"
        lowest = rows[:, 4 : rows.shape[1] - self._trailing].min(initial=0.0)
        if lowest < 0 and self._activation == "none":
            return f"a score is {lowest:.4g}, and none is below 0"
        return super().doubt(outputs, geometry, labels)

    @property
    def _others(self) -> int:
        return self.leading + self._trailing

    def rows(self, output: np.ndarray, geometry: Geometry, threshold: float) -> Rows:
        """The rows whose best class reaches the threshold."""
        rows = self._turned(output)
        end = rows.shape[1] - self._trailing
        kept, scores, columns = self._scores(rows[:, :end], threshold)
        unit = (1, 1) if self._is_normalized(rows) else (geometry.network_width, geometry.network_height)
        boxes = finite(rows[kept, :4]) / np.array([*unit, *unit], dtype=np.float32)
        rest = finite(rows[kept, end:]) if self._trailing else _NOTHING
        return Rows(from_centres(*boxes.T), scores, columns, rest, unit)

    def _turned(self, output: np.ndarray) -> np.ndarray:
        """The one output as a view [N, F]."""
        first, second = output.shape[1:]
        axis = feature_axis((first, second), self._others, self._label_count)
        if output.shape[axis + 1] <= self._others:
            refuse(self, list(output.shape))
        rows: np.ndarray = output[0]
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
    iou = 0.7
    leading = 4
    per_cell = 1
    transposed = True


class YoloV5(_Yolo):
    """Boxes, objectness and class scores; a box's score is the product."""

    name = "yolov5"
    expects = "one output [1,N,5+C] of boxes (centre, size), objectness and C class scores"
    iou = 0.45
    leading = 5
    per_cell = 3
    transposed = False

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


def _is_grid(network: Network, boxes: int, per_cell: int) -> bool:
    """Whether there are as many boxes as the input's size makes, as far as either is known."""
    return network.size is None or boxes < 0 or boxes in grids(network.size, per_cell)
