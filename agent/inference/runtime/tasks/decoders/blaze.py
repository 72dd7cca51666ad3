"""MediaPipe's detectors of faces, palms and people: SSD with key points and anchors of one size.

An anchor is a cell's centre alone.  A row holds, in pixels of the input and relative to it, the box's centre, its
size, and then its points; how many points there are says what is found.  Scores are logits.

=========  =====  ===========================================================================
found      width  points
=========  =====  ===========================================================================
faces         16  6: eyes, nose, mouth, ears (BlazeFace short, front, back and full range)
palms         18  7: wrist and the roots of the fingers
people        12  4: two centres, and two points that tell size and direction
=========  =====  ===========================================================================

A layer's boxes and scores may be outputs of their own; the finest layer, which has the most, is then the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry, TensorInfo
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_rows, refuse, strongest

__all__ = ["Blaze"]

Layout = Tuple[Tuple[int, int], ...]
"""The stride of each grid, and how many anchors a cell has."""

_LAYOUTS: Sequence[Layout] = (
    ((8, 2), (16, 6)),
    ((16, 2), (32, 6)),
    ((8, 2), (16, 2), (32, 6)),
    ((4, 1),),
)


@dataclass(frozen=True)
class _Kind:
    """What is found, where on it the points lie, and the pixels that the network reads."""

    label: str
    points: Sequence[str]
    mean: float
    std: float


_KINDS: Mapping[int, _Kind] = {
    16: _Kind("face", ("right_eye", "left_eye", "nose_tip", "mouth_center", "right_ear", "left_ear"), 127.5, 127.5),
    18: _Kind(
        "palm",
        (
            "wrist",
            "index_finger_mcp",
            "middle_finger_mcp",
            "ring_finger_mcp",
            "pinky_mcp",
            "thumb_cmc",
            "thumb_mcp",
        ),
        0.0,
        255.0,
    ),
    12: _Kind("person", ("hip_center", "full_body", "shoulder_center", "upper_body"), 127.5, 127.5),
}
"""By the width of a row."""


@dataclass(frozen=True)
class _Outputs:
    """Where boxes and scores are, the finest layer first."""

    boxes: Sequence[int]
    scores: Sequence[int]
    width: int
    rows: int
    """Of all layers; below 0 where that varies."""


class Blaze(Decoder):
    """Option ``activation`` (none where the export has the sigmoid inside)."""

    name = "ssd-keypoints"
    expects = "boxes with key points [1,N,16] (faces), [1,N,18] (palms) or [1,N,12] (people) and scores [1,N,1]"
    threshold = 0.5
    iou = 0.3
    nms = "weighted"

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Rows of a known width, as many as the input has anchors."""
        found = _outputs(network.outputs)
        if found is None:
            return None
        kind = _KINDS[found.width]
        named = any("regressor" in network.outputs[place].name for place in found.boxes)
        why = f"its boxes have {len(kind.points)} key points, as MediaPipe's of a {kind.label} have"
        wrong = ""
        if network.size and found.rows > 0 and _layout(*network.size, found.rows) is None:
            height, width = network.size
            wrong = f"its {found.rows} boxes are not one for each anchor of an input of {width} × {height}"
        return Claim(NAMED if named else FITS, why, {"decoder": cls.name}, _feed(kind), wrong)

    def __init__(self, network: Network, options: Options) -> None:
        found = _outputs(network.outputs)
        if found is None:
            refuse(self, network)
        self._found = found
        self.keypoint_names = _KINDS[found.width].points
        self.label_names = (_KINDS[found.width].label,)
        self._activation = options.choice("activation", "sigmoid", ("sigmoid", "none"))

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The boxes that reach the threshold, each with its points."""
        height, width = geometry.network_height, geometry.network_width
        scores = _joined(outputs, self._found.scores)
        layout = _layout(height, width, len(scores))
        if layout is None:
            refuse(self, f"{len(scores)} rows for an input of {width} × {height}")
        rows, reached, columns = strongest(scores, threshold, self._activation)
        raw = finite(_joined(outputs, self._found.boxes)[rows]).astype(np.float64)
        whole = (raw[:, 2:4] > 0).all(axis=1)
        rows, reached, columns, raw = rows[whole], reached[whole], columns[whole], raw[whole]
        pairs = raw.reshape(len(raw), self._found.width // 2, 2) / (width, height)
        places = pairs + _centres(layout, height, width)[rows][:, None]
        boxes = from_centres(places[:, 0, 0], places[:, 0, 1], pairs[:, 1, 0], pairs[:, 1, 1])
        points = np.concatenate([places[:, 2:], np.full((*places[:, 2:].shape[:2], 1), np.nan)], axis=2)
        return Candidates(boxes, reached, columns, keypoints=points)


def _feed(kind: _Kind) -> Mapping[str, Any]:
    return {"resize": "letterbox", "pad": [0], "color": "RGB", "mean": [kind.mean], "std": [kind.std]}


def _outputs(outputs: Sequence[TensorInfo]) -> Optional[_Outputs]:
    """Boxes and scores layer by layer; None where there is anything else, or they do not belong together."""
    if not all(are_rows(info.shape) for info in outputs):
        return None
    widths = {info.shape[2] for info in outputs} - {1}
    if len(widths) != 1 or not widths <= set(_KINDS):
        return None
    boxes = _finest_first(outputs, widths)
    scores = _finest_first(outputs, {1})
    counts = [outputs[place].shape[1] for place in boxes]
    if counts != [outputs[place].shape[1] for place in scores]:
        return None
    return _Outputs(boxes, scores, widths.pop(), sum(counts) if min(counts) > 0 else -1)


def _finest_first(outputs: Sequence[TensorInfo], widths: Any) -> List[int]:
    places = [place for place, info in enumerate(outputs) if info.shape[2] in widths]
    return sorted(places, key=lambda place: -outputs[place].shape[1])


def _joined(outputs: Sequence[np.ndarray], places: Sequence[int]) -> np.ndarray:
    """The rows of all layers."""
    layers = [np.asarray(outputs[place], dtype=np.float32)[0] for place in places]
    return layers[0] if len(layers) == 1 else np.concatenate(layers)


def _layout(height: int, width: int, rows: int) -> Optional[Layout]:
    """The grids that have so many anchors."""
    fitting = (
        layout
        for layout in _LAYOUTS
        if rows == sum(each * (height // stride) * (width // stride) for stride, each in layout)
    )
    return next(fitting, None)


@lru_cache(maxsize=4)
def _centres(layout: Layout, height: int, width: int) -> np.ndarray:
    """(x, y) of each anchor in fractions: [N, 2]; shared, not to be written to."""
    parts = []
    for stride, each in layout:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[0:rows, 0:columns] + 0.5
        parts.append(np.repeat(np.stack([x.ravel() / columns, y.ravel() / rows], axis=1), each, axis=0))
    return np.concatenate(parts)
