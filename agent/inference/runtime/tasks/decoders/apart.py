"""Objects after suppression, in outputs of their own: boxes, classes, scores, and perhaps a count, masks, key points.

=========================================  ===================================================================
where from                                 outputs
=========================================  ===================================================================
torchvision                                boxes [N, 4], labels [N], scores [N], masks [N, 1, H, W],
                                           keypoints [N, K, 3]; class 0 is the background
TensorRT's EfficientNMS, YOLO with         num_dets [1, 1], det_boxes [1, N, 4], det_scores [1, N],
suppression inside                         det_classes [1, N]
RT-DETR and D-FINE as their authors        labels [1, N], boxes [1, N, 4], scores [1, N]
export them
SuperGradients                             num_predictions, pred_boxes, pred_scores, pred_classes
MMDetection                                dets [1, N, 5], of which the fifth is the score, labels [1, N]
=========================================  ===================================================================

Which output is which is told by names, shapes and whether numbers are whole, and failing that by the numbers of a run.
Boxes are corners (left, top, right, bottom), in pixels of the network's picture or in fractions.  Masks are planes over
the whole picture, or over each box where they are smaller; they are where a plane is above one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import NAMED, Claim, Geometry, TensorInfo
from agent.inference.runtime.boxes import Candidates, Masks
from agent.inference.runtime.labels import BACKGROUND
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import (
    CORNERS,
    Decoder,
    Network,
    are_swapped,
    find,
    in_fractions,
    refuse,
)
from agent.inference.runtime.tasks.decoders.overlay import over_boxes, over_picture, overlaid
from agent.inference.runtime.tasks.decoders.points import COCO
from agent.inference.runtime.tasks.decoders.rows import COLORS, LETTERBOX

__all__ = ["Apart"]

_BOXES, _SCORES, _LABELS = ("box", "dets"), ("score", "conf", "prob"), ("label", "class", "categor")
_COUNT, _MASKS, _POINTS = ("num", "count"), ("mask",), ("keypoint", "kpt")
_TENSORFLOW = ("detection_", "tflite", "statefulpartitionedcall")
"""Fragments of names, lower case; what TensorFlow names so has its boxes the other way (``ssd_post.py``)."""
_TORCHVISION = {**COLORS, "resize": "shortest", "width": 800, "height": 800, "max_side": 1333}
_PAIR, _POINT, _PLANES = 2, 3, 4
_MOST_ROWS = 1000  # what is kept after suppression; a head before it has thousands
_USUAL_SIDE = 640
_WHOLE, _HALF = (0.0, 0.0, 1.0, 1.0), 0.5


@dataclass(frozen=True)
class _Places:
    """Where each part is among the outputs."""

    boxes: int
    pair: Tuple[int, ...]
    """Scores and labels in this order if the names or types say so; scores alone for one class, or labels alone."""
    sure: bool
    count: Optional[int]
    masks: Optional[int]
    points: Optional[int]
    named: bool
    """Whether the names say what boxes and scores are."""


class Apart(Decoder):
    """Options ``normalized`` (fractions) and ``background`` (class 0 is none, and the labels do not name it)."""

    name = "boxes-labels-scores"
    expects = (
        "boxes [1,N,4], labels [1,N] and scores [1,N] after suppression, perhaps with a count, masks or key points"
    )
    threshold = 0.5
    nms = "none"
    sparse = True

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Boxes and vectors of their length, each told by name, type or shape."""
        places = _places(network)
        if places is None or any(word in info.name.lower() for info in network.outputs for word in _TENSORFLOW):
            return None
        what = "boxes, labels and scores" if len(places.pair) > 1 else "boxes and scores"
        if places.named:
            claim = cls.fits(f"its outputs are called {what}", NAMED)
        elif _is_planar(network):
            claim = cls.fits(f"its outputs are {what}")
        else:
            return None
        return Claim(claim.strength, claim.why, claim.options, _fed(network, places))

    def __init__(self, network: Network, options: Options) -> None:
        places = _places(network)
        if places is None:
            refuse(self, network)
        self._places = places
        self._normalized = options.flag("normalized")
        background = options.flag("background")
        first = network.labels.names.get(0, "").lower()
        if background is None:
            background = bool(_is_unbatched(network, places) and network.label_count and first not in BACKGROUND)
        self._first = -int(background)
        if places.points is not None and network.outputs[places.points].shape[-2] in (-1, len(COCO)):
            self.keypoint_names = COCO

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The objects that count and reach the threshold."""
        places = self._places
        rows = np.asarray(outputs[places.boxes], dtype=np.float32)
        rows = rows.reshape(-1, rows.shape[-1])
        used = len(rows)
        if places.count is not None:
            used = min(used, int(np.max(outputs[places.count], initial=0)))
        scores, ids = self._pair(outputs, rows[:used])
        corners = in_fractions(finite(rows[:used, :CORNERS]), self._normalized, geometry)
        reached = np.flatnonzero((scores >= threshold) & (ids + self._first >= 0) & (corners != 0).any(axis=1))
        found = Candidates(corners[reached], scores[reached], ids[reached].round().astype(np.int64) + self._first)
        return self._with_more(found, reached, outputs, geometry)

    def _pair(self, outputs: Sequence[np.ndarray], rows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Scores and labels."""
        given = [finite(np.asarray(outputs[n], dtype=np.float32).reshape(-1))[: len(rows)] for n in self._places.pair]
        if rows.shape[1] > CORNERS:
            return finite(rows[:, CORNERS]), given[0]
        if len(given) == 1:
            return given[0], np.zeros(len(given[0]), np.float32)
        scores, ids = given
        return (ids, scores) if not self._places.sure and are_swapped(ids, scores) else (scores, ids)

    def _with_more(
        self, found: Candidates, reached: np.ndarray, outputs: Sequence[np.ndarray], geometry: Geometry
    ) -> Candidates:
        """Masks and key points, where there are any."""
        masks, points = self._places.masks, self._places.points
        keypoints = None
        if points is not None:
            rows = np.asarray(outputs[points], dtype=np.float32)
            size = (geometry.network_width, geometry.network_height)
            rows = rows.reshape(-1, rows.shape[-2], rows.shape[-1])[reached]
            seen = np.full_like(rows[..., :1], np.nan)
            keypoints = np.concatenate([rows[..., :2] / np.array(size, np.float32), seen], axis=-1)
        return Candidates(
            found.boxes,
            found.scores,
            found.label_ids,
            keypoints,
            masks=None if masks is None else _masks(_planes(outputs[masks])[reached], found.boxes, geometry),
        )


def _masks(planes: np.ndarray, found: np.ndarray, geometry: Geometry) -> Masks:
    """The masks of some objects: planes as large as the picture lie over it, others over their boxes."""
    if planes.shape[1:] != (geometry.network_height, geometry.network_width):
        return over_boxes(planes, found)
    scale = min(1.0, _USUAL_SIDE / max(planes.shape[1:]))

    def masks(chosen: np.ndarray, geometry: Geometry) -> List[np.ndarray]:
        axes = over_picture(planes.shape[1:], geometry, scale)
        return [overlaid(partial(_part, planes[each]), axes, _WHOLE, _HALF) for each in chosen.tolist()]

    return masks


def _planes(output: np.ndarray) -> np.ndarray:
    """[N, 1, H, W] or [1, N, H, W] as [N, H, W]."""
    planes: np.ndarray = np.asarray(output, dtype=np.float32)
    return planes.reshape(-1, *planes.shape[-2:])


def _part(plane: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    return plane[rows, columns]


def _places(network: Network) -> Optional[_Places]:
    """Where boxes, scores and the rest are; None where they cannot be told, or there are too many boxes."""
    outputs = network.outputs
    boxes = find(outputs, _are_corners, _BOXES)
    if boxes is None or outputs[boxes].shape[-2] > _MOST_ROWS:
        return None
    points = find(outputs, _are_points, _POINTS, (boxes,))
    masks = find(outputs, _are_planes, _MASKS, (boxes, *(() if points is None else (points,))))
    vectors = [
        n for n, info in enumerate(outputs) if n not in (boxes, points) and _is_vector(info.shape, outputs[boxes].shape)
    ]
    count = _count(outputs, vectors)
    vectors = [n for n in vectors if n != count]
    scores, labels = (_called(outputs, vectors, words) for words in (_SCORES, _LABELS))
    named = bool(_called(outputs, [boxes], _BOXES)) and bool(scores or labels)
    whole = [n for n in vectors if outputs[n].kind in ("i", "u")]
    labels = labels if len(labels) == 1 else whole
    scores = scores if len(scores) == 1 else [n for n in vectors if n not in labels]
    sure = len(scores) == len(labels) == 1 and scores != labels
    pair = (*scores, *labels) if sure else tuple(vectors)
    if outputs[boxes].shape[-1] > CORNERS and not (named and len(pair) == 1):
        return None
    known = sum(n is not None for n in (boxes, points, masks, count)) + len(pair)
    if len(pair) not in (1, _PAIR) or (not named and known != len(outputs)):
        return None
    return _Places(boxes, pair, sure or len(pair) == 1, count, masks, points, named)


def _called(outputs: Sequence[TensorInfo], places: Sequence[int], words: Sequence[str]) -> List[int]:
    """Those whose names hold one of the words."""
    return [n for n in places if any(word in outputs[n].name.lower() for word in words)]


def _count(outputs: Sequence[TensorInfo], vectors: Sequence[int]) -> Optional[int]:
    """Which output says how many rows count."""
    ones = [
        n
        for n, info in enumerate(outputs)
        if n not in vectors and len(info.shape) <= _PAIR and all(side in (1, -1) for side in info.shape)
    ]
    found = _called(outputs, [*vectors, *ones], _COUNT) or [n for n in ones if -1 not in outputs[n].shape]
    return found[0] if found else None


def _are_corners(shape: Sequence[int]) -> bool:
    """[N, 4] or [1, N, 4], or of five numbers each; as many as objects, and not one row of something else."""
    if shape[-1:] not in ((CORNERS,), (CORNERS + 1,)):
        return False
    return shape[0] != 1 if len(shape) == _PAIR else len(shape) == _POINT and shape[0] in (1, -1)


def _is_vector(shape: Sequence[int], boxes: Sequence[int]) -> bool:
    """One number for each of the boxes, with an axis of pictures if they have one."""
    axes = len(boxes) - 1
    return (
        len(shape) in (axes, axes + 1)
        and shape[axes - 1] in (boxes[-2], -1)
        and all(side == 1 for side in shape[axes:])
    )


def _are_points(shape: Sequence[int]) -> bool:
    """[N, K, 3] or [1, N, K, 3]."""
    return len(shape) in (_POINT, _PLANES) and shape[-1] == _POINT and shape[-2] != 1


def _are_planes(shape: Sequence[int]) -> bool:
    """[N, 1, H, W] or [1, N, H, W]."""
    return len(shape) == _PLANES and shape[-1] != _POINT


def _is_planar(network: Network) -> bool:
    """Whether the picture's colours come first, as in networks from PyTorch."""
    return network.inputs[0].shape[-3:-2] in ((1,), (3,))


def _is_unbatched(network: Network, places: _Places) -> bool:
    """Whether the boxes are of one picture, as torchvision gives them."""
    return len(network.outputs[places.boxes].shape) == _PAIR


def _fed(network: Network, places: _Places) -> Mapping[str, Any]:
    """What the family reads, as far as the names tell which it is."""
    if _is_unbatched(network, places):
        return _TORCHVISION
    if network.inputs[0].name == "images" and not network.inputs[1:]:
        return LETTERBOX if network.size else {**LETTERBOX, "width": 640, "height": 640}
    return COLORS if network.inputs[1:] else {}
