"""UltraFace, the detector of faces of one megabyte: boxes decoded inside, and the classes background and face.

Boxes [1,N,4] are corners in fractions; the rows are those of its priors, three sizes at stride 8 and 64 and two at 16
and 32, which tells it from other boxes and scores.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, is_distribution, softmax
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_boxes, are_rows, find, refuse, strongest

__all__ = ["UltraFace"]

_PRIORS = ((8, 3), (16, 2), (32, 2), (64, 3))
"""Strides, and how many priors a cell has."""
_CLASSES = 2

_FEED: Mapping[str, Any] = {
    "resize": "stretch", "color": "RGB", "mean": [127.0], "std": [128.0], "width": 320, "height": 240,
}  # fmt: skip


class UltraFace(Decoder):
    """It has no options of its own."""

    name = "ultraface"
    expects = "boxes [1,N,4] (corners, fractions) and the scores [1,N,2] of background and face"
    threshold = 0.7
    iou = 0.3
    nms = "agnostic"
    label_names = ("face",)
    feed = _FEED

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Two columns of scores, and a row for each prior."""
        places = _outputs(network)
        if places is None or network.size is None or network.label_count > _CLASSES:
            return None
        height, width = network.size
        rows = sum(-(-height // stride) * -(-width // stride) * each for stride, each in _PRIORS)
        if network.outputs[places[0]].shape[1] != rows:
            return None
        named = {"boxes", "scores"} == {info.name for info in network.outputs}
        return cls.fits(f"its {rows} boxes are one for each prior of UltraFace", NAMED if named else FITS)

    def __init__(self, network: Network, options: Options) -> None:
        del options
        places = _outputs(network)
        if places is None:
            refuse(self, network)
        self._boxes, self._scores = places

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The faces that reach the threshold."""
        del geometry
        scores = np.asarray(outputs[self._scores], dtype=np.float32)[0]
        if not is_distribution(scores[0]):
            scores = softmax(scores)
        rows, reached, columns = strongest(scores[:, 1:], threshold)
        return Candidates(finite(np.asarray(outputs[self._boxes], dtype=np.float32)[0][rows]), reached, columns)


def _outputs(network: Network) -> Optional[Tuple[int, int]]:
    """(boxes, scores)."""
    if len(network.outputs) != 2:  # noqa: PLR2004 - boxes and scores
        return None
    boxes = find(network.outputs, are_boxes, ())
    scores = find(network.outputs, lambda shape: are_rows(shape) and shape[2] == _CLASSES, ())
    if boxes is None or scores is None or network.outputs[boxes].shape[1] != network.outputs[scores].shape[1]:
        return None
    return boxes, scores
