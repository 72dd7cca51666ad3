"""CenterFace: a heat map of faces' centres at a quarter of the picture's size, and for each place size, offset, points.

Outputs [1,1,h,w] (probabilities), [1,2,h,w] (logarithms of height and width in cells), [1,2,h,w] (offsets of the
centre, y and x), [1,10,h,w] (five points from the box's top left in shares of its size, y and x), in this order.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import numpy as np

from agent.inference.runtime.base import Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, refuse, strongest
from agent.inference.runtime.tasks.decoders.faces import FACE, POINTS, points

__all__ = ["CenterFace"]

_CHANNELS = [1, 2, 2, POINTS]
_STRIDE = 4
_PLANES = 4
_MAX_LOG = 20.0

_FEED: Mapping[str, Any] = {
    "resize": "longest", "size": 1280, "upscale": False, "multiple": 32, "color": "RGB", "mean": [0.0],
    "std": [1.0],
}  # fmt: skip


class CenterFace(Decoder):
    """It has no options of its own."""

    name = "centerface"
    expects = "a heat map [1,1,h,w], sizes and offsets [1,2,h,w] and points [1,10,h,w] at stride 4"
    threshold = 0.5
    iou = 0.3
    nms = "agnostic"
    label_names = ("face",)
    keypoint_names = FACE
    feed = _FEED

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Four outputs of these channels."""
        return cls.fits("its outputs are a heat map, sizes, offsets and five points") if _fits(network) else None

    def __init__(self, network: Network, options: Options) -> None:
        del options
        if not _fits(network):
            refuse(self, network)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """A box for each place of the heat map that reaches the threshold."""
        heat, sizes, offsets, places = (np.asarray(output, dtype=np.float32)[0] for output in outputs)
        rows, reached, columns = strongest(heat.reshape(-1, 1), threshold)
        lines, across = np.divmod(rows, heat.shape[2])
        size = np.array([geometry.network_width, geometry.network_height])
        logs = finite(sizes[:, lines, across]).T.astype(np.float64)[:, ::-1]
        sides = np.exp(np.minimum(logs, _MAX_LOG)) * _STRIDE
        moved = finite(offsets[:, lines, across]).T.astype(np.float64)[:, ::-1]
        centre = (np.stack([across, lines], axis=1) + moved + 0.5) * _STRIDE
        corner = np.clip(centre - sides / 2, 0, size)  # points and the far sides are told from where it begins inside
        shares = finite(places[:, lines, across]).T.reshape(len(rows), len(FACE), 2)[..., ::-1]
        found = points((corner[:, None] + shares * sides[:, None]).reshape(len(rows), POINTS), size)
        return Candidates(np.concatenate([corner, corner + sides], axis=1) / np.tile(size, 2), reached, columns, found)


def _fits(network: Network) -> bool:
    shapes = [info.shape for info in network.outputs]
    return [shape[1] if len(shape) == _PLANES else 0 for shape in shapes] == _CHANNELS
