"""A frame looked at in parts: tiles of a large one, regions of interest.

::

    frame → windows: each region's bounding box, its tiles → prepared, run, predicted one by one → merged

A tile shows the network what would be too small in the whole; ``with_whole`` looks at the whole as well, for what is
larger than a tile.  Neighbours overlap, and every pixel of a region is in some tile of it.  What the network says of a
window comes out in fractions of the frame, as its geometry leads there; ``merging.py`` makes one answer of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime.decode import Fit
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.picture import Picture

__all__ = ["MOST_REGIONS", "MOST_WINDOWS", "Region", "Tiles", "Window", "Windows", "grid", "region"]

MOST_WINDOWS = 64
"""So many times at most is a network run for one frame."""
MOST_REGIONS = 16
_MOST_POINTS = 64
_MOST_SIDES = 32
_MOST_OVERLAP = 0.8
_USUAL_OVERLAP = 0.2
_LEAST_SIZE, _LARGEST_SIZE = 16, 8192
_GROWTH = 1.1
_LEAST_POINTS = 3
_EDGE = 1e-6

Box = Tuple[float, float, float, float]
"""Left, top, width and height in fractions."""
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Tiles:
    """How a picture is cut: into ``columns`` × ``rows``, or into tiles of ``size`` pixels."""

    columns: int = 1
    rows: int = 1
    size: Optional[Tuple[int, int]] = None
    """(width, height); larger where that would make too many."""
    overlap: float = _USUAL_OVERLAP
    """Of neighbours, as a share of a tile; tiles of a given size overlap at least so much."""
    with_whole: bool = False

    @classmethod
    def read(cls, options: Options) -> Tiles:
        """The manifest's ``input.tile``; raises ``ModelError``."""
        size = options.items("size", _pixels, f"pixels from {_LEAST_SIZE} on, or [width, height]", 2)
        columns = options.integer("columns", 1, 1, _MOST_SIDES)
        rows = options.integer("rows", 1, 1, _MOST_SIDES)
        overlap = options.number("overlap", _USUAL_OVERLAP, 0.0, _MOST_OVERLAP)
        with_whole = bool(options.flag("with_whole"))
        if size and ("columns" in options or "rows" in options):
            raise ModelError("options-wrong", "input.tile says both a size and a number of tiles", "give one of them")
        return cls(columns, rows, (size[0], size[-1]) if size else None, overlap, with_whole)


@dataclass(frozen=True)
class Region:
    """A part of the frame that matters: a polygon in fractions of it."""

    points: Tuple[Tuple[float, float], ...]

    @property
    def box(self) -> Box:
        """What encloses it."""
        left, top, right, bottom = (end(point[axis] for point in self.points) for end in (min, max) for axis in (0, 1))
        return left, top, right - left, bottom - top

    def contains(self, x: float, y: float) -> bool:
        """Whether a spot lies inside or on the edge."""
        return float(cv2.pointPolygonTest(np.array(self.points, np.float32), (float(x), float(y)), False)) >= 0

    def within(self, picture: Picture) -> Region:
        """The same in fractions of the frame, where it was in those of a part of it."""
        return Region(tuple((picture.x + x * picture.width, picture.y + y * picture.height) for x, y in self.points))

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """A mask over the frame, without what lies outside."""
        height, width = mask.shape
        corners = np.array([(x * width - 0.5, y * height - 0.5) for x, y in self.points])
        inside = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [np.rint(corners).astype(np.int32)], 1)
        return np.asarray(np.logical_and(mask, inside))


class Window(NamedTuple):
    """A part of the frame that the network looks at by itself."""

    picture: Picture
    region: Optional[Region]
    inner: Tuple[bool, bool, bool, bool]
    """Whether the frame goes on beyond the left, top, right and bottom edge."""


class Windows:
    """What of each frame is looked at."""

    def __init__(self, tiles: Optional[Tiles], regions: Sequence[Region]) -> None:
        """Raises ``ModelError`` for more windows of a frame than ``MOST_WINDOWS``."""
        self._tiles, self._regions = tiles, tuple(regions)
        self._most = MOST_WINDOWS // max(1, len(self._regions))
        each = tiles.columns * tiles.rows + tiles.with_whole if tiles else 1
        if each > self._most:
            count = each * max(1, len(self._regions))
            hint = f"a frame is looked at {MOST_WINDOWS} times at most: take fewer tiles or regions"
            raise ModelError("options-wrong", f"input.tile and input.regions make {count} parts of each frame", hint)

    @property
    def is_whole(self) -> bool:
        """Whether a frame is looked at once, and as it is."""
        return self._tiles is None and not self._regions

    @property
    def by_size(self) -> bool:
        """Whether the number of windows follows from the frame's size."""
        return self._tiles is not None and self._tiles.size is not None

    def of(self, picture: Picture) -> List[Window]:
        """The windows of a picture: of each region, line by line."""
        return [
            _window(picture, box, region) for region in self._regions or (None,) for box in self._boxes(picture, region)
        ]

    def cover(self, cover: Optional[Tuple[int, int]]) -> Optional[Tuple[int, int]]:
        """The size that the whole frame's pixels should have, so that each window's have ``cover``."""
        if cover is None or self.by_size:
            return None
        tiles = self._tiles or Tiles()
        tile = grid(tiles, (1, 1), MOST_WINDOWS)[0]
        boxes = [region.box for region in self._regions] or [_WHOLE]
        sides = [
            -int(-cover[axis] // (tile[2 + axis] * min(max(box[2 + axis], 1e-3) for box in boxes))) for axis in (0, 1)
        ]
        return Fit(sides) if isinstance(cover, Fit) else (sides[0], sides[1])

    def _boxes(self, picture: Picture, region: Optional[Region]) -> Iterator[Box]:
        """Of one region, in fractions of the picture."""
        left, top, width, height = region.box if region else _WHOLE
        part = picture.part
        size = (width * part.width, height * part.height)
        tiles = self._tiles or Tiles()
        boxes = grid(tiles, size, self._most - tiles.with_whole)
        for x, y, w, h in [*boxes, *([_WHOLE] if tiles.with_whole and len(boxes) > 1 else [])]:
            yield left + x * width, top + y * height, w * width, h * height


def grid(tiles: Tiles, size: Tuple[float, float], most: int) -> List[Box]:
    """The tiles of a picture of that size in fractions of it, line by line, at most ``most``."""
    axes = [_equal(count, tiles.overlap) for count in (tiles.columns, tiles.rows)]
    if tiles.size:
        sides = [side / whole for side, whole in zip(tiles.size, size)]
        axes = [_sized(side, tiles.overlap) for side in sides]
        while len(axes[0][0]) * len(axes[1][0]) > most:
            sides = [side * _GROWTH for side in sides]
            axes = [_sized(side, tiles.overlap) for side in sides]
    (columns, width), (rows, height) = axes
    return [(x, y, width, height) for y in rows for x in columns]


def region(value: Any) -> Optional[Region]:
    """A region as the manifest has it: {x, y, width, height}, or a list of three or more [x, y]; None for neither."""
    if isinstance(value, Mapping):
        if set(value) != {"x", "y", "width", "height"} or not all(map(_is_fraction, value.values())):
            return None
        x, y = float(value["x"]), float(value["y"])
        right, bottom = x + value["width"], y + value["height"]
        value = [(x, y), (right, y), (right, bottom), (x, bottom)]
    if not isinstance(value, (list, tuple)) or not _LEAST_POINTS <= len(value) <= _MOST_POINTS:
        return None
    pairs = all(isinstance(point, (list, tuple)) and len(point) == 2 for point in value)  # noqa: PLR2004 - x and y
    if not pairs or not all(_is_fraction(number) for point in value for number in point):
        return None
    found = Region(tuple((float(x), float(y)) for x, y in value))
    return found if min(found.box[2:]) > 0 else None


def _pixels(value: Any) -> Optional[int]:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and _LEAST_SIZE <= value <= _LARGEST_SIZE else None


def _is_fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _equal(count: int, overlap: float) -> Tuple[List[float], float]:
    """Where ``count`` tiles of one length start on an axis of 1, and that length."""
    return _starts(count, 1 / (count - (count - 1) * overlap))


def _sized(side: float, overlap: float) -> Tuple[List[float], float]:
    """Where as many tiles of that length start as are needed, evenly spread."""
    if side >= 1:
        return [0.0], 1.0
    return _starts(-int(-(1 - side * overlap) // (side * (1 - overlap))), side)


def _starts(count: int, side: float) -> Tuple[List[float], float]:
    return [(1 - side) * place / max(1, count - 1) for place in range(count)], side


def _window(picture: Picture, box: Box, region: Optional[Region]) -> Window:
    box = x, y, width, height = _whole_pixels(box, picture)
    inner = (x > _EDGE, y > _EDGE, x + width < 1 - _EDGE, y + height < 1 - _EDGE)
    return Window(picture.crop(*box), region and region.within(picture), inner)


def _whole_pixels(box: Box, picture: Picture) -> Box:
    """The box with every pixel that it touches."""
    rows, columns = picture.pixels.shape[:2]
    left, right = (math.floor(box[0] * columns), math.ceil((box[0] + box[2]) * columns))
    top, bottom = (math.floor(box[1] * rows), math.ceil((box[1] + box[3]) * rows))
    return left / columns, top / rows, (right - left) / columns, (bottom - top) / rows
