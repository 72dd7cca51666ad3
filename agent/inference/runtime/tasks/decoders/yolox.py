"""YOLOX heads: offsets within the cells of three grids, decoded here.

A row's centre is (its cell + offset) × stride, its size is exp(size) × stride, in pixels of the input; the
rows follow the strides, and within one grid the cells line by line.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np

from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, refuse
from agent.inference.runtime.tasks.decoders.yolo import cells, products, single

__all__ = ["YoloX", "grid"]

_STRIDES = (8, 16, 32)
_LEADING = 5

# e²⁰ pixels cover any picture; beyond it exp() would overflow.
_MAX_LOG = 20.0


class YoloX(Decoder):
    """Option ``activation`` (sigmoid where the export left it out)."""

    name = "yolox"
    expects = (
        "one output [1,N,5+C] of undecoded boxes, objectness and C class scores for the cells of strides 8, 16, 32"
    )
    iou = 0.45

    @classmethod
    def recognises(cls, network: Network, options: Options) -> bool:
        """One row per cell of the input."""
        del options
        axes, size = single(network), network.size
        if axes is None or size is None:
            return False
        classes = axes[1] - _LEADING
        return axes[0] == cells(size, _STRIDES) and classes >= 1 and network.label_count in (0, classes)

    def __init__(self, network: Network, options: Options) -> None:
        axes = single(network)
        if axes is None or 0 < axes[1] <= _LEADING:
            refuse(self, network)
        if network.size and axes[0] >= 0 and axes[0] != cells(network.size, _STRIDES):
            refuse(self, f"{network} for {cells(network.size, _STRIDES)} cells")
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows that reach the threshold, decoded."""
        rows = np.asarray(outputs[0], dtype=np.float32)[0]
        width, height = geometry.network_width, geometry.network_height
        lattice = grid(width, height)
        if len(lattice) != len(rows):
            refuse(self, f"{len(rows)} rows for {len(lattice)} cells")
        kept, scores, columns = products(rows, threshold, self._activation)
        offsets, (left, top, stride) = finite(rows[kept, :4]).astype(np.float64), lattice[kept].T
        sizes = np.exp(np.minimum(offsets[:, 2:], _MAX_LOG))
        boxes = from_centres(
            (offsets[:, 0] + left) * stride / width,
            (offsets[:, 1] + top) * stride / height,
            sizes[:, 0] * stride / width,
            sizes[:, 1] * stride / height,
        )
        return Candidates(boxes, scores, columns)


@lru_cache(maxsize=4)
def grid(width: int, height: int) -> np.ndarray:
    """(column, row, stride) of each cell of an input of this size: [N, 3]; shared, not to be written to."""
    parts = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[0 : height // stride, 0 : width // stride]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)
