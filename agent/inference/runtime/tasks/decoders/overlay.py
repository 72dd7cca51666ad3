"""How numbers on a grid over part of a frame become a mask over all of it.

The grid's numbers stand for the middles of its cells and are interpolated between them; those at its edges hold beyond
them.  The mask is where they are above a level, and within the object's box.  Only what lies under the box is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, List, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import boxes
from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Masks

__all__ = ["Axis", "over_box", "over_boxes", "over_picture", "overlaid"]

Source = Callable[[slice, slice], np.ndarray]
"""The numbers of some rows and columns of the grid."""

_LARGEST_SIDE = 2048
_USUAL_SIDE = 640
_HALF = 0.5


@dataclass(frozen=True)
class Axis:
    """How the points of a mask lie to those of the grid along one axis."""

    length: int
    """Points of the mask, which covers the frame."""
    count: int
    """Points of the grid."""
    start: float
    extent: float
    """Where the grid begins in the frame and how far it reaches, in fractions."""

    @property
    def step(self) -> float:
        """How far apart the mask's points are among the grid's."""
        return self.count / (self.extent * self.length)

    def at(self, point: int) -> float:
        """Where a point of the mask is among the grid's, both in the middle of what they stand for."""
        return ((point + 0.5) / self.length - self.start) / self.extent * self.count - 0.5

    def inside(self, low: float, high: float) -> Tuple[int, int]:
        """The first and one behind the last point of the mask between two fractions of the frame."""
        return math.ceil(low * self.length - 0.5), math.ceil(high * self.length - 0.5)

    def around(self, first: int, end: int) -> Tuple[int, int]:
        """Which of the grid's points those of the mask lie between."""
        start = min(max(math.floor(self.at(first)), 0), self.count - 1)
        return start, max(start + 1, min(math.ceil(self.at(end - 1)) + 1, self.count))


Axes = Tuple[Axis, Axis]
"""Down and across."""


def over_picture(shape: Sequence[int], geometry: Geometry, scale: float) -> Axes:
    """A grid of (rows, columns) over the network's picture; ``scale`` is how many points each becomes."""
    rows, columns = shape
    return (
        Axis(_length(rows * scale / geometry.extent_y), rows, geometry.offset_y, geometry.extent_y),
        Axis(_length(columns * scale / geometry.extent_x), columns, geometry.offset_x, geometry.extent_x),
    )


def over_box(shape: Sequence[int], box: Sequence[float], geometry: Geometry) -> Axes:
    """A grid over a box of the frame; the mask is as fine as the network's picture, up to a usual size."""
    left, top, right, bottom = box
    width, height = geometry.network_width / geometry.extent_x, geometry.network_height / geometry.extent_y
    scale = min(1.0, _USUAL_SIDE / max(width, height))
    rows, columns = shape
    return (
        Axis(_length(height * scale), rows, top, bottom - top),
        Axis(_length(width * scale), columns, left, right - left),
    )


def over_boxes(planes: np.ndarray, found: np.ndarray) -> Masks:
    """The masks of objects whose planes [N, H, W] lie over their boxes [N, 4], in fractions of the network's picture.

    A plane holds how likely each point is; the mask is where it is above one half.
    """

    def mask(plane: np.ndarray, box: np.ndarray, geometry: Geometry) -> np.ndarray:
        offset, extent = (geometry.offset_x, geometry.offset_y), (geometry.extent_x, geometry.extent_y)
        whole = box * np.array(extent * 2) + np.array(offset * 2)  # and what of it is outside the frame
        axes = over_box(plane.shape, whole.tolist(), geometry)
        return overlaid(lambda y, x: plane[y, x], axes, boxes.to_frame(box[None], geometry)[0].tolist(), _HALF)

    def masks(chosen: np.ndarray, geometry: Geometry) -> List[np.ndarray]:
        return [mask(planes[each], found[each], geometry) for each in chosen.tolist()]

    return masks


def overlaid(source: Source, axes: Axes, box: Sequence[float], level: float = 0.0) -> np.ndarray:
    """Where the grid is above ``level`` within a box of the frame (left, top, right, bottom in fractions)."""
    down, across = axes
    left, top, right, bottom = box
    mask = np.zeros((down.length, across.length), np.bool_)
    (column, column_end), (row, row_end) = across.inside(left, right), down.inside(top, bottom)
    if column >= column_end or row >= row_end:
        return mask
    (x, x_end), (y, y_end) = across.around(column, column_end), down.around(row, row_end)
    numbers = np.ascontiguousarray(source(slice(y, y_end), slice(x, x_end)), dtype=np.float32)
    way = np.array([[across.step, 0, across.at(column) - x], [0, down.step, down.at(row) - y]])
    drawn = cv2.warpAffine(
        numbers,
        way,
        (column_end - column, row_end - row),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask[row:row_end, column:column_end] = drawn > level
    return mask


def _length(points: float) -> int:
    return max(1, min(round(points), _LARGEST_SIDE))
