"""Places of writing: DBNet, as PaddleOCR exports it, answers how likely each pixel is inside a line of text.

What is likely enough is outlined, each outline put into the smallest rotated box around it, and the box, which was
trained to be smaller than the writing, grown again: by its area × ``unclip`` / its circumference at each side (Liao et
al., "Real-time scene text detection with differentiable binarization", and PaddleOCR's post-processing).
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime.base import NAMED, Claim, Geometry, Network
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, sigmoid, within_one
from agent.inference.runtime.tasks.decoders.base import Decoder, refuse

__all__ = ["DBNet"]

_IMAGENET = {"color": "BGR", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
"""PaddleOCR's own, the colours of RGB for BGR."""
_HALF = {"color": "BGR", "mean": [127.5], "std": [127.5]}
"""What those who turned the newer networks to ONNX feed them; the plane is nearly the same."""
_OPEN: Mapping[str, Any] = {
    "resize": "shortest", "width": 736, "height": 736, "downscale": False, "multiple": 32,
}  # fmt: skip
_FIXED: Mapping[str, Any] = {"resize": "letterbox", "place": "top-left", "pad": [0], "upscale": False, **_IMAGENET}
_OLD = "save_infer_model"
_PICTURES = 4
_COLOURS = 3
_MOST_OUTLINES = 1000
_LEAST_SIDE = 3
_LEAST_GROWN = 5
_NAMES = ("sigmoid", "maps", "fetch_name", "save_infer_model")
_CLOSE = 2
"""Side of the square by which likely pixels spread, so that letters of a line touch."""


class DBNet(Decoder):
    """Options ``binary`` (how likely a pixel must be), ``unclip``, ``activation`` (sigmoid where it was left out)."""

    name = "dbnet"
    expects = "one output [1,1,H,W], as large as the input: how likely each pixel is writing"
    label_names = ("text",)
    threshold = 0.5
    nms = "none"
    sparse = True

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """One plane for a picture of any size."""
        if len(network.inputs) != 1 or len(network.outputs) != 1 or not _is_plane(network.outputs[0].shape):
            return None
        name = network.outputs[0].name
        if not any(word in name.lower() for word in _NAMES) or network.inputs[0].shape[1] != _COLOURS:
            return None
        if network.size is not None:
            return Claim(NAMED, f"{name} is one plane", {"decoder": cls.name}, _FIXED)
        feed = {**_OPEN, **(_IMAGENET if _OLD in name else _HALF)}
        return Claim(NAMED, f"{name} is one plane for a picture of any size", {"decoder": cls.name}, feed)

    def __init__(self, network: Network, options: Options) -> None:
        if len(network.outputs) != 1 or not _is_plane(network.outputs[0].shape):
            refuse(self, network)
        self._binary = options.number("binary", 0.3, 0.0, 1.0)
        self._unclip = options.number("unclip", 1.6, 0.0, 10.0)
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """A rotated box for each outline that is writing on average."""
        del geometry
        plane = self._plane(outputs)
        likely = cv2.dilate((plane > self._binary).astype(np.uint8), np.ones((_CLOSE, _CLOSE), np.uint8))
        outlines, _ = cv2.findContours(likely, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        places: List[np.ndarray] = []
        scores: List[float] = []
        for outline in outlines[:_MOST_OUTLINES]:
            corners = _around(outline)
            if corners is None:
                continue
            score = _mean(plane, corners)
            grown = _grown(corners, self._unclip) if score >= threshold else None
            if grown is not None:
                places.append(grown)
                scores.append(score)
        found = np.array(places, np.float64).reshape(-1, 4, 2) / (plane.shape[1], plane.shape[0])
        boxes = np.concatenate([found.min(axis=1), found.max(axis=1)], axis=1)
        return Candidates(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64), corners=found)

    def _plane(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        plane = finite(np.asarray(outputs[0], np.float32).reshape(outputs[0].shape[-2:]))
        if self._activation == "sigmoid":
            return sigmoid(plane)
        within_one(plane)
        return plane


def _is_plane(shape: Sequence[int]) -> bool:
    return len(shape) == _PICTURES and shape[1] == 1 and shape[0] in (1, -1)


def _around(outline: np.ndarray) -> Optional[np.ndarray]:
    """The smallest rotated box [4, 2] around an outline, clockwise from its top left; None for a speck."""
    rectangle = cv2.minAreaRect(outline)
    return None if min(rectangle[1]) < _LEAST_SIDE else _ordered(cv2.boxPoints(rectangle))


def _grown(corners: np.ndarray, unclip: float) -> Optional[np.ndarray]:
    """The box with each side moved outwards."""
    right, down = corners[1] - corners[0], corners[3] - corners[0]
    width, height = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    distance = width * height * unclip / (2 * (width + height))
    if min(width, height) + 2 * distance < _LEAST_GROWN:
        return None
    out = right / width * distance, down / height * distance
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return np.asarray(corners + signs @ np.array(out))


def _ordered(corners: np.ndarray) -> np.ndarray:
    """Corners clockwise from the top left: of the two on the left the upper one."""
    by_column = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_column[:2], by_column[2:]))
    return np.array([left[0], right[0], right[1], left[1]], np.float64)


def _mean(plane: np.ndarray, corners: np.ndarray) -> float:
    """How likely the pixels inside a box are on average."""
    (left, top), (right, bottom) = _bounds(corners, plane.shape)
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillPoly(mask, [(corners - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(plane[top : bottom + 1, left : right + 1], mask)[0])


def _bounds(corners: np.ndarray, shape: Tuple[int, ...]) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    height, width = shape
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int)
    clip = np.clip([left, right], 0, width - 1), np.clip([top, bottom], 0, height - 1)
    return (int(clip[0][0]), int(clip[1][0])), (int(clip[0][1]), int(clip[1][1]))
