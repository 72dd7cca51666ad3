"""SCRFD, InsightFace's detector of faces: distances from the corners of cells, one or two anchors for each.

For each stride: scores [N,1] (probabilities), distances [N,4] to the left, top, right and bottom side, and perhaps
five points [N,10] relative to the same place; all in cells.  Models of 3 strides have two anchors a cell, of 5 one.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from agent.inference.runtime.tasks.decoders.faces import PerStride

__all__ = ["Scrfd"]

_FEED: Mapping[str, Any] = {
    "resize": "letterbox", "place": "top-left", "pad": [0], "color": "RGB", "mean": [127.5], "std": [128.0],
    "size": 640,
}  # fmt: skip


class Scrfd(PerStride):
    """It has no options of its own."""

    name = "scrfd"
    expects = "scores [1,N,1], distances [1,N,4] and perhaps points [1,N,10] for each of 3 or 5 strides"
    threshold = 0.5
    iou = 0.4
    scores = 1
    words = ("score", "bbox", "kps")
    sets = ((8, 16, 32), (8, 16, 32, 64, 128))
    feed = _FEED

    def score(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """What the network says."""
        return outputs[0]

    def box(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The cell's corner less the first two distances, and with the last two added."""
        return np.concatenate([cells - rows[:, :2], cells + rows[:, 2:]], axis=1)
