"""Heads with one row for each cell of three grids: YOLOX, and YOLOv6, whose rows look alike.

A row of YOLOX is a box, an objectness and class scores.  Exports leave the box undecoded or decode it: undecoded, the
centre is (its cell + offset) × stride and the size exp(size) × stride, in pixels of the input; the rows follow the
strides, and within one grid the cells line by line.  ``decoded`` says which, and left open the numbers do: where the
rows count cells, decoded centres lie near their own cells, and offsets near 0.

YOLOv6 is decoded always, has no objectness and puts 1 in its place.  It is fed as other YOLO are; YOLOX is given BGR
as it comes, in the picture's top left.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Claim, Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, refuse
from agent.inference.runtime.tasks.decoders.rows import LETTERBOX, cells, row_axes, row_place
from agent.inference.runtime.tasks.decoders.yolo import products

__all__ = ["YoloV6", "YoloX", "grid"]

_STRIDES = (8, 16, 32)
_LEADING = 5
_OBJECTNESS = 4
_OPEN = {"width": 640, "height": 640}

# e²⁰ pixels cover any picture; beyond it exp() would overflow.
_MAX_LOG = 20.0


class YoloX(Decoder):
    """Options ``decoded`` and ``activation`` (sigmoid where the export left it out)."""

    name = "yolox"
    expects = "one output [1,N,5+C] of boxes, objectness and C class scores for the cells of strides 8, 16, 32"
    feed: Mapping[str, Any] = {
        "resize": "letterbox",
        "place": "top-left",
        "pad": [114],
        "color": "BGR",
        "mean": [0.0],
        "std": [1.0],
    }
    iou = 0.45

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """One row per cell of the input, or as many as there happen to be where its size is open."""
        axes, size = row_axes(network), network.size
        if axes is None or "task" in network.facts:
            return None
        count, classes = axes[0], axes[1] - _LEADING
        if classes < 1 or (count > 0 and (size is None or count != cells(size, _STRIDES))):
            return None
        if network.label_count not in (0, classes):
            return None
        why = (
            f"its output has one row for each of {count} cells" if count > 0 else f"its rows have 5 + {classes} numbers"
        )
        claim = cls.fits(why)
        return claim if size else Claim(claim.strength, why, claim.options, {**cls.feed, **_OPEN})

    def __init__(self, network: Network, options: Options) -> None:
        axes, place = row_axes(network), row_place(network)
        if axes is None or place is None or 0 < axes[1] <= _LEADING:
            refuse(self, network)
        if network.size and axes[0] >= 0 and axes[0] != cells(network.size, _STRIDES):
            refuse(self, f"{network} for {cells(network.size, _STRIDES)} cells")
        self._place = place
        self._decoded = options.flag("decoded")
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Rows that have no objectness."""
        rows, lattice = self._rows(outputs, geometry)
        if (rows[:, _OBJECTNESS] == 1).all() and _is_decoded(rows, lattice):
            return "its rows have 1 in the place of an objectness"
        return super().doubt(outputs, geometry, labels)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows that reach the threshold, decoded."""
        rows, lattice = self._rows(outputs, geometry)
        size = np.array([geometry.network_width, geometry.network_height])
        kept, scores, columns = products(rows, threshold, self._activation)
        given = finite(rows[kept, :4]).astype(np.float64)
        if self._decoded is False or (self._decoded is None and not _is_decoded(rows, lattice)):
            given = _decode(given, lattice[kept])
        centres, sides = (given[:, :2] / size).T, (given[:, 2:] / size).T
        return Candidates(from_centres(*centres, *sides), scores, columns)

    def _rows(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> Tuple[np.ndarray, np.ndarray]:
        """The rows and their cells."""
        rows = np.asarray(outputs[self._place], dtype=np.float32)[0]
        lattice = grid(geometry.network_width, geometry.network_height)
        if len(lattice) != len(rows):
            refuse(self, f"{len(rows)} rows for {len(lattice)} cells")
        return rows, lattice


class YoloV6(YoloX):
    """Option ``activation``."""

    name = "yolov6"
    expects = "one output [1,N,5+C] of decoded boxes, 1 and C class scores for the cells of strides 8, 16, 32"
    feed = LETTERBOX
    threshold = 0.25

    def __init__(self, network: Network, options: Options) -> None:
        super().__init__(network, options)
        self._decoded = True

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """An objectness."""
        if (np.asarray(outputs[self._place])[..., _OBJECTNESS] != 1).any():
            return "its rows have an objectness, and not 1 in its place"
        return Decoder.doubt(self, outputs, geometry, labels)


@lru_cache(maxsize=4)
def grid(width: int, height: int) -> np.ndarray:
    """(column, row, stride) of each cell of an input of this size: [N, 3]; shared, not to be written to."""
    parts = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[0 : height // stride, 0 : width // stride]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _is_decoded(rows: np.ndarray, lattice: np.ndarray) -> bool:
    """Whether the centres are nearer to the middles of their cells, in pixels, than to an offset of a half."""
    middles = (lattice[:, :2] + 0.5) * lattice[:, 2:]
    apart, offset = np.abs(rows[:, :2] - middles), np.abs(rows[:, :2] - 0.5)
    return bool(apart.mean(dtype=np.float64) < offset.mean(dtype=np.float64))


def _decode(given: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Centres and sizes in pixels."""
    stride = lattice[:, 2:]
    return np.concatenate(
        [(given[:, :2] + lattice[:, :2]) * stride, np.exp(np.minimum(given[:, 2:], _MAX_LOG)) * stride], axis=1
    )
