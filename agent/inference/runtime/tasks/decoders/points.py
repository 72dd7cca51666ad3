"""Key points behind the scores of a row: x and y of each, in the units of the box, and perhaps how visible it is."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import LARGEST_SCORE
from agent.inference.runtime.tasks.decoders.base import Network
from agent.inference.runtime.tasks.decoders.end2end import End2End
from agent.inference.runtime.tasks.decoders.rows import RowHead, Rows
from agent.inference.runtime.tasks.decoders.yolo import YoloV5, YoloV8

__all__ = ["COCO", "End2EndPose", "YoloV5Pose", "YoloV8Pose"]

COCO = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""A person's, as the dataset numbers them."""

_PERSON = (len(COCO), 3)
_MOST_POINTS = 1000
_SEEN = 3
"""Numbers of a point with its visibility."""
_FAR = 0.25


class _Posed(RowHead):
    """Options ``keypoints`` (how many, and 2 or 3 numbers of each) and ``keypoint_names``."""

    said = "pose"

    @classmethod
    def trailing(cls, network: Network) -> Optional[int]:
        """As many as the manifest or the metadata say, or as a person has."""
        count, each = _shape(network)
        return count * each

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Where nothing says that there are key points, one class and just those of a person."""
        claim = super().claim(network)
        others = cls.trailing(network) or 0
        if claim is None or claim.strength > FITS or "keypoints" in network.options:
            return claim
        features = {side - others for info in network.outputs for side in info.shape[1:]}
        return claim if network.label_count <= 1 and features & {5, 6} and not claim.against else None

    @classmethod
    def known(cls, network: Network) -> Dict[str, Any]:
        """What the metadata says of the points."""
        facts = network.facts
        found = {key: facts[key] for key in ("keypoints", "keypoint_names") if key in facts}
        return {**super().known(network), **found}

    def __init__(self, network: Network, options: Options) -> None:
        super().__init__(network, options)
        self._is_guess = "keypoints" not in network.options
        count, self._each = (int(each) for each in options.numbers("keypoints", _shape(network), 1, 2))
        self.keypoint_names = options.words("keypoint_names", COCO if count == len(COCO) else ())

    def finished(self, rows: Rows, outputs: Sequence[np.ndarray], geometry: Geometry) -> Candidates:
        """The points beside their boxes."""
        del outputs
        count = self._trailing // self._each
        points = rows.rest.reshape(len(rows.scores), count, self._each)
        places = points[..., :2] / np.array(_unit(points, rows.unit, geometry), dtype=np.float32)
        seen = points[..., 2:] if self._each == _SEEN else np.full_like(points[..., :1], np.nan)
        keypoints = np.concatenate([places, seen], axis=-1)
        return Candidates(rows.boxes, rows.scores, rows.label_ids, keypoints)

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Visibilities that are none, and points far from their boxes where nothing says that they are points."""
        found = self.candidates(outputs, geometry, 0.0)
        if found.keypoints is not None and len(found.keypoints):
            places, seen = found.keypoints[..., :2], found.keypoints[..., 2]
            if np.nanmax(seen, initial=0) > LARGEST_SCORE or np.nanmin(seen, initial=0) < 0:
                return "how visible its points are is not between 0 and 1"
            middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            if self._is_guess and np.abs(places.mean(axis=1) - middles).mean() > _FAR:
                return "its points do not lie where its boxes are"
        return super().doubt(outputs, geometry, labels)


class YoloV8Pose(_Posed, YoloV8):
    """One class score or more, then the points."""

    name = "yolov8-pose"
    expects = "one output [1,4+C+K,N] of boxes (centre, size), C class scores and K numbers of key points"


class YoloV5Pose(_Posed, YoloV5):
    """Objectness, class score, then the points."""

    name = "yolov7-pose"
    expects = "one output [1,N,5+C+K] of boxes (centre, size), objectness, C class scores and K numbers of key points"


class End2EndPose(_Posed, End2End):
    """Score and class, then the points."""

    name = "end2end-pose"
    expects = "one output [1,N,6+K] of boxes (corners), scores, classes and K numbers of key points after suppression"


def _shape(network: Network) -> Tuple[int, int]:
    """How many points there are, and how many numbers each has; what is no such pair is a person's."""
    told = network.options.get("keypoints", network.facts.get("keypoints"))
    if isinstance(told, (list, tuple)) and len(told) == 2 and all(isinstance(each, int) for each in told):  # noqa: PLR2004
        count, each = told
        if 0 < count <= _MOST_POINTS and each in (2, _SEEN):
            return count, each
    return _PERSON


def _unit(points: np.ndarray, unit: Tuple[int, int], geometry: Geometry) -> Tuple[int, int]:
    """The points' unit; some exports give boxes in fractions and points in pixels."""
    if unit == (1, 1) and points.size and np.median(points[..., :2]) > 1:
        return geometry.network_width, geometry.network_height
    return unit
