"""RetinaFace and its kin: boxes and points relative to priors of two sizes at three strides.

Outputs [1,N,4] (boxes), [1,N,2] (background and face) and [1,N,10] (five points), or [1,N,8] for the four corners of
a number plate.  With a prior's centre c and size s, a box's centre is c + 0.1 · s · offset, its size is
s · exp(0.2 · number), and a point c + 0.1 · s · offset (Deng et al., "RetinaFace", and its PyTorch version).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, is_distribution, softmax
from agent.inference.runtime.tasks.decoders.base import CORNERS, Decoder, Network, are_rows, refuse, strongest
from agent.inference.runtime.tasks.decoders.faces import FACE, POINTS, centres, points

__all__ = ["RetinaFace"]

_STRIDES = (8, 16, 32)
_CLASSES, _PLATE = 2, 8
_SIZES = {
    POINTS: (16.0, 32.0, 64.0, 128.0, 256.0, 512.0),
    _PLATE: (24.0, 48.0, 96.0, 192.0, 384.0, 768.0),
}
"""Two for each stride, in pixels."""
_CORNERS = ("bottom_right", "bottom_left", "top_left", "top_right")
"""Of a plate, as the network numbers them."""
_CENTRE, _SIZE = 0.1, 0.2
_MAX_LOG = 20.0
_NAMES = ("landm", "landmark")

_FEED: Mapping[str, Any] = {
    "resize": "longest", "size": 1280, "upscale": False, "multiple": 32, "color": "BGR",
    "mean": [104.0, 117.0, 123.0], "std": [1.0],
}  # fmt: skip


class RetinaFace(Decoder):
    """Option ``sizes``: of the priors in pixels, two for each stride (the slim and RFB nets': 10 20 32 64 128 256)."""

    name = "retinaface"
    expects = "boxes [1,N,4], classes [1,N,2] and points [1,N,10] or corners [1,N,8] of two priors a cell"
    threshold = 0.5
    iou = 0.4
    nms = "agnostic"
    feed = _FEED

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Three outputs with as many rows, by their widths."""
        places = _outputs(network)
        if places is None:
            return None
        named = any(word in info.name.lower() for info in network.outputs for word in _NAMES)
        rows = network.outputs[places[0]].shape[1]
        if network.size and rows > 0 and rows != 2 * sum(len(centres(*network.size, stride)) for stride in _STRIDES):
            return None
        return cls.fits("it has boxes, two classes and points of each prior", NAMED if named else FITS)

    def __init__(self, network: Network, options: Options) -> None:
        places = _outputs(network)
        if places is None:
            refuse(self, network)
        self._boxes, self._scores, self._points = places
        width = network.outputs[self._points].shape[2]
        self._is_plate = width == _PLATE
        self._sizes = options.numbers("sizes", _SIZES[width], 0.0, len(_SIZES[width]))
        self.label_names = ("plate",) if self._is_plate else ("face",)
        self.keypoint_names = _CORNERS if self._is_plate else FACE

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The priors' boxes that reach the threshold; a plate's corners clockwise from its top left."""
        size = np.array([geometry.network_width, geometry.network_height])
        priors = _priors(geometry.network_height, geometry.network_width, self._sizes)
        scores = np.asarray(outputs[self._scores], dtype=np.float32)[0]
        if len(scores) != len(priors):
            refuse(self, f"{len(scores)} rows for {len(priors)} priors")
        if not is_distribution(scores[0]):
            scores = softmax(scores)
        rows, reached, columns = strongest(scores[:, 1:], threshold)
        offsets = finite(np.asarray(outputs[self._boxes], dtype=np.float64)[0][rows])
        places = finite(np.asarray(outputs[self._points], dtype=np.float64)[0][rows])
        middle, extent = priors[rows, :2], priors[rows, 2:]
        centre = middle + _CENTRE * extent * offsets[:, :2]
        sides = extent * np.exp(np.minimum(_SIZE * offsets[:, 2:], _MAX_LOG))
        boxes = from_centres(*centre.T, *sides.T) / np.tile(size, 2)
        placed = middle[:, None] + _CENTRE * extent[:, None] * places.reshape(len(rows), places.shape[1] // 2, 2)
        found = points(placed.reshape(len(rows), places.shape[1]), size)
        return Candidates(boxes, reached, columns, found, _clockwise(found[..., :2]) if self._is_plate else None)


def _outputs(network: Network) -> Optional[Tuple[int, int, int]]:
    """(boxes, classes, points)."""
    shapes = [info.shape for info in network.outputs]
    widths = [shape[2] if are_rows(shape) else 0 for shape in shapes]
    for width in _SIZES:
        if sorted(widths) == sorted((CORNERS, _CLASSES, width)) and len({shape[1] for shape in shapes}) == 1:
            return widths.index(CORNERS), widths.index(_CLASSES), widths.index(width)
    return None


@lru_cache(maxsize=8)
def _priors(height: int, width: int, sizes: Tuple[float, ...]) -> np.ndarray:
    """(centre x, centre y, width, height) of each prior in pixels: [N, 4]; shared, not to be written to."""
    parts = []
    for level, stride in enumerate(_STRIDES):
        cells = np.repeat((centres(height, width, stride) + 0.5) * stride, 2, axis=0)
        extents = np.tile(np.repeat(sizes[2 * level : 2 * level + 2], 2).reshape(2, 2), (len(cells) // 2, 1))
        parts.append(np.concatenate([cells, extents], axis=1))
    return np.concatenate(parts)


def _clockwise(corners: np.ndarray) -> np.ndarray:
    """Corners [N,4,2] in the order of the clock from the one nearest to the top left, whatever order they come in."""
    around = corners - corners.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(around[..., 1], around[..., 0]), axis=1)
    turned = np.take_along_axis(corners, order[..., None], axis=1)
    first = turned.sum(axis=2).argmin(axis=1)
    return np.take_along_axis(turned, ((first[:, None] + np.arange(4)) % 4)[..., None], axis=1)
