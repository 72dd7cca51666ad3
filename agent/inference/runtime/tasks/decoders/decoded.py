"""Decoded boxes and class scores of many places, before suppression: YOLO-NAS, YOLOv4, PP-YOLOE, PyTorch's SSD.

Boxes are [1, N, 4] or [1, N, 1, 4], scores [1, N, C] or transposed.  Whether the four are corners or centre and size,
and pixels or fractions, is seen from the numbers of each run, where nothing says it: corners end after they begin in
every row.  Scores that add up to 1 in every row are softmax's, and their first is that of the background.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.labels import shift
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import (
    CORNERS,
    Decoder,
    Network,
    are_boxes,
    are_rows,
    find,
    is_in_fractions,
    refuse,
    strongest,
)
from agent.inference.runtime.tasks.decoders.rows import COLORS, LETTERBOX, grids

__all__ = ["DecodedBoxes"]

_MOST = 0.95
_SUM = 0.02
_SAMPLE = 256


class DecodedBoxes(Decoder):
    """Options ``boxes`` (auto, corners, centres), ``normalized``, ``activation`` and ``background``."""

    name = "boxes-scores"
    expects = "decoded boxes [1,N,4] and class scores [1,N,C] or [1,C,N] before suppression"
    threshold = 0.25

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Boxes and scores alone."""
        places = _places(network)
        if places is None or network.outputs[2:]:
            return None
        boxes, scores, is_transposed = places
        names = [network.outputs[place].name.lower() for place in (boxes, scores)]
        named = "box" in names[0] and "score" in names[1]
        why = f"its outputs are called {names[0]} and {names[1]}" if named else "its outputs are boxes and scores"
        fed: Dict[str, Any] = {}
        if is_transposed:
            fed.update(COLORS)
        elif network.size and network.outputs[boxes].shape[1] in grids(network.size, 1):
            fed.update(LETTERBOX)
        return Claim(NAMED if named else FITS, why, {"decoder": cls.name}, fed)

    def __init__(self, network: Network, options: Options) -> None:
        places = _places(network)
        if places is None:
            refuse(self, network)
        self._places = places
        self._labels = network.labels
        self._kind = options.choice("boxes", "auto", ("auto", "corners", "centres"))
        self._normalized = options.flag("normalized")
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))
        self._background = options.flag("background")

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Boxes that neither end after they begin nor have a size, and scores below 0."""
        boxes, scores = self._read(outputs)
        if self._activation == "none" and scores.min(initial=0.0) < 0:
            return f"a score is {scores.min():.4g}, and none is below 0"
        if self._kind == "auto" and not _are_corners(boxes) and (boxes[:, 2:] >= 0).all(axis=1).mean() < _MOST:
            return "its boxes neither end after they begin nor have a size"
        return super().doubt(outputs, geometry, labels)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows that reach the threshold."""
        boxes, scores = self._read(outputs)
        background = _add_up(scores) if self._background is None else self._background
        skip, first = shift(self._labels, scores.shape[1], background)
        rows, reached, columns = strongest(scores[:, skip:], threshold, self._activation)
        corners = finite(boxes[rows])
        if self._kind == "centres" or (self._kind == "auto" and not _are_corners(boxes)):
            corners = from_centres(*corners.T)
        if not is_in_fractions(boxes, self._normalized):
            corners = corners / np.array([geometry.network_width, geometry.network_height] * 2, dtype=np.float32)
        return Candidates(corners, reached, columns + skip + first)

    def _read(self, outputs: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
        """Boxes [N, 4] and scores [N, C]."""
        place, other, is_transposed = self._places
        boxes: np.ndarray = np.asarray(outputs[place], dtype=np.float32).reshape(-1, CORNERS)
        scores: np.ndarray = np.asarray(outputs[other], dtype=np.float32)[0]
        scores = scores.T if is_transposed else scores
        if len(boxes) != len(scores):
            refuse(self, f"{len(boxes)} boxes and {len(scores)} rows of scores")
        return boxes, scores


def _places(network: Network) -> Optional[Tuple[int, int, bool]]:
    """(boxes, scores, whether these are transposed); None where they cannot be distinguished."""
    boxes = find(
        network.outputs, lambda shape: are_boxes(shape) or are_boxes((*shape[:2], *shape[3:])), ("box", "loc", "reg")
    )
    if boxes is None:
        return None
    rows = network.outputs[boxes].shape[1]
    words = ("score", "class", "conf", "prob", "label")
    upright = find(network.outputs, lambda shape: are_rows(shape) and shape[1] == rows, words, (boxes,))
    if upright is not None:
        return boxes, upright, False
    turned = find(network.outputs, lambda shape: are_rows(shape) and shape[2] == rows, words, (boxes,))
    return None if turned is None else (boxes, turned, True)


def _are_corners(boxes: np.ndarray) -> bool:
    """Whether nearly all rows end after they begin."""
    return bool((boxes[:, 2:] >= boxes[:, :2]).all(axis=1).mean() >= _MOST) if len(boxes) else True


def _add_up(scores: np.ndarray) -> Optional[bool]:
    """Whether the scores of a row are those of classes of which one is true; what is not seen is not said."""
    if scores.shape[1] == 1:
        return None
    return True if np.abs(scores[:_SAMPLE].sum(axis=1) - 1).max(initial=0.0) <= _SUM else None
