"""Box maths: corners, the way from the network's picture to the frame, non-maximum suppression and merging.

Boxes are float arrays [N, 4] of (left, top, right, bottom).  OpenCV does the suppression: it takes 16 µs
for 10 candidates and 0.6 ms for 1000, where vectorised NumPy takes 60 µs and 6 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, List, Optional

import cv2
import numpy as np

from agent.inference.runtime import rotated
from agent.inference.runtime.base import Geometry

__all__ = ["NMS", "Candidates", "Masks", "from_centres", "merged", "points_to_frame", "suppress", "to_frame"]

NMS = ("class", "agnostic", "weighted", "none")
"""Which boxes suppress each other: those of one class, all, all and are merged with what they suppress, none."""


_LEAST_AREA = 1e-12

Masks = Callable[[np.ndarray, Geometry], List[np.ndarray]]
"""The masks of some candidates by their indices: boolean planes that cover the whole frame, at a size of their own.

Few candidates outlive the suppression, and only theirs are made.
"""


@dataclass(frozen=True)
class Candidates:
    """What a detection head found: boxes in fractions of the network's picture, one class each."""

    boxes: np.ndarray
    """[N, 4] left, top, right, bottom."""
    scores: np.ndarray
    """[N] in [0, 1]."""
    label_ids: np.ndarray
    """[N] whole numbers as the labels count them."""
    keypoints: Optional[np.ndarray] = None
    """[N, K, 3] x and y in fractions of the network's picture, and a score, NaN where there is none."""
    corners: Optional[np.ndarray] = None
    """[N, 4, 2] of rotated boxes, clockwise from their own top left; ``boxes`` then enclose them."""
    masks: Optional[Masks] = None

    def take(self, rows: np.ndarray) -> Candidates:
        """Some of the candidates: ``rows`` are indices, or says of each whether it is wanted."""
        indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        masks = self.masks
        return Candidates(
            self.boxes[indices],
            self.scores[indices],
            self.label_ids[indices],
            None if self.keypoints is None else self.keypoints[indices],
            None if self.corners is None else self.corners[indices],
            None if masks is None else lambda chosen, geometry: masks(indices[chosen], geometry),
        )


def from_centres(centre_x: np.ndarray, centre_y: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Corners [N, 4] of the boxes around the centres, in float64: no finite number of a network overflows it."""
    centres = np.stack([centre_x, centre_y], axis=-1).astype(np.float64)
    halves = np.stack([width, height], axis=-1).astype(np.float64) * 0.5
    return np.concatenate([centres - halves, centres + halves], axis=-1)


def points_to_frame(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Points [..., 2] in fractions of the network's picture as fractions of the frame; they may lie outside it."""
    extent = np.array([geometry.extent_x, geometry.extent_y])
    offset = np.array([geometry.offset_x, geometry.offset_y])
    return np.asarray(np.round(offset + points * extent, 6))


def to_frame(boxes: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Boxes in fractions of the network's picture as fractions of the frame, clipped to it, in float64.

    Rounded to six digits (a hundredth of a pixel of an 8K frame), so that what is published is what was compared.
    """
    extent = np.array([geometry.extent_x, geometry.extent_y] * 2)
    offset = np.array([geometry.offset_x, geometry.offset_y] * 2)
    return np.asarray(np.round(np.clip(offset + boxes * extent, 0.0, 1.0), 6))


def suppress(candidates: Candidates, *, iou: float, nms: str, top_k: int, limit: int) -> np.ndarray:
    """Indices of what remains, best first, at most ``limit``.

    Only the ``top_k`` best candidates take part.  A box goes when it overlaps a better one (of its class,
    where ``nms`` is ``class``) by more than ``iou``; what is ``weighted`` has been merged before.
    """
    order = np.argsort(-candidates.scores, kind="stable")[:top_k]
    if nms in ("class", "agnostic") and order.size > 1:
        groups = candidates.label_ids[order] if nms == "class" else np.zeros(order.size)
        if candidates.corners is None:
            order = order[_nms(candidates.boxes[order], groups, iou)]
        else:
            order = order[rotated.remaining(candidates.corners[order], groups, iou)]
    return order[:limit]


def merged(candidates: Candidates, *, iou: float, top_k: int) -> Candidates:
    """Each best box with those that overlap it by more than ``iou`` as one, weighted by their scores, best first.

    Boxes, key points and corners are averaged (BlazeFace, section 3.2); score, class and mask are the best one's.
    Only the ``top_k`` best candidates take part.
    """
    candidates = candidates.take(np.argsort(-candidates.scores, kind="stable")[:top_k])
    boxes, points, corners = candidates.boxes.copy(), _copy(candidates.keypoints), _copy(candidates.corners)
    left, best = np.arange(len(boxes)), []
    while left.size:
        overlap = _overlaps(candidates.boxes[left[0]], candidates.boxes[left]) > iou
        overlap[0] = True
        group = left[overlap]
        weights = candidates.scores[group] if candidates.scores[group].sum() > 0 else None
        for given, averaged in (
            (candidates.boxes, boxes),
            (candidates.keypoints, points),
            (candidates.corners, corners),
        ):
            if given is not None and averaged is not None:
                averaged[group[0]] = np.average(given[group], axis=0, weights=weights)
        best.append(group[0])
        left = left[~overlap]
    return replace(candidates, boxes=boxes, keypoints=points, corners=corners).take(np.array(best, dtype=np.intp))


def _copy(values: Optional[np.ndarray]) -> Optional[np.ndarray]:
    return None if values is None else values.copy()


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The intersection over union of a box with each of some others [N, 4]."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(shared / np.maximum(areas + np.prod(box[2:] - box[:2]) - shared, _LEAST_AREA))


def _nms(boxes: np.ndarray, groups: np.ndarray, iou: float) -> np.ndarray:
    """Indices, in order, of the boxes (best first) that none before them in their group covers."""
    rectangles = boxes - np.float64(boxes.min())  # OpenCV keeps groups apart by steps that are wide enough from 0 on
    rectangles[:, 2:] -= rectangles[:, :2]
    ranks = np.arange(len(boxes), 0, -1, dtype=np.float32)  # for scores: no ties, and none at OpenCV's threshold of 0
    dnn: Any = cv2.dnn  # its stubs name sequences; arrays are taken too, and without a copy
    if hasattr(dnn, "NMSBoxesBatched"):
        kept = dnn.NMSBoxesBatched(rectangles, ranks, groups.astype(np.int32), 0.0, iou)
    else:
        # OpenCV before 4.7: groups that lie beside each other do not meet.
        span = boxes[:, 2].max(initial=0.0) - boxes[:, 0].min(initial=0.0) + 1.0
        rectangles[:, 0] += span * groups
        kept = dnn.NMSBoxes(rectangles, ranks, 0.0, iou)
    return np.asarray(kept, dtype=np.intp).reshape(-1)
