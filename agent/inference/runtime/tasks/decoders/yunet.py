"""YuNet, OpenCV's detector of faces: a cell's class and objectness, its box and five points.

For each stride: class [N,1] and objectness [N,1], of whose product the root is the score; boxes [N,4] as offset of the
centre from the cell's corner and logarithm of the size; points [N,10] from the same place; all in cells.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from agent.inference.runtime.boxes import from_centres
from agent.inference.runtime.tasks.decoders.faces import PerStride

__all__ = ["YuNet"]

_MAX_LOG = 20.0  # e²⁰ cells cover any picture

_FEED: Mapping[str, Any] = {
    "resize": "letterbox", "place": "top-left", "pad": [0], "color": "BGR", "mean": [0.0], "std": [1.0],
    "size": 640,
}  # fmt: skip


class YuNet(PerStride):
    """It has no options of its own."""

    name = "yunet"
    expects = "class and objectness [1,N,1], boxes [1,N,4] and perhaps points [1,N,10] for each of 3 strides"
    threshold = 0.6
    iou = 0.3
    scores = 2
    words = ("cls", "obj", "bbox", "kps")
    sets = ((8, 16, 32),)
    feed = _FEED

    def score(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The geometric mean of the two, each cut to 0 … 1."""
        return np.asarray(np.sqrt(np.clip(outputs[0], 0, 1) * np.clip(outputs[1], 0, 1)))

    def box(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The cell's corner and the offset are the centre."""
        sizes = np.exp(np.minimum(rows[:, 2:], _MAX_LOG))
        return from_centres(cells[:, 0] + rows[:, 0], cells[:, 1] + rows[:, 1], sizes[:, 0], sizes[:, 1])
