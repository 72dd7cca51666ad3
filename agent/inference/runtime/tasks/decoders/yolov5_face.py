"""YOLOv5-face: rows of YOLOv5 with five points between objectness and the one class."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from agent.inference.runtime.base import Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.tasks.decoders.base import Network
from agent.inference.runtime.tasks.decoders.faces import FACE, POINTS, points
from agent.inference.runtime.tasks.decoders.rows import Rows, row_axes
from agent.inference.runtime.tasks.decoders.yolo import YoloV5

__all__ = ["YoloV5Face"]

_WIDTH = 5 + POINTS + 1
_ORDER = [*range(5), _WIDTH - 1, *range(5, 5 + POINTS)]
"""The columns as other heads have them: box, objectness, class, and then the rest."""
_FAR = 0.25


class YoloV5Face(YoloV5):
    """Options ``normalized``, ``activation`` (sigmoid where the export left it out)."""

    name = "yolov5-face"
    expects = "one output [1,N,16] of boxes (centre, size), objectness, five points and a class score"
    label_names = ("face",)
    keypoint_names = FACE

    @classmethod
    def trailing(cls, network: Network) -> Optional[int]:
        """The points, in rows of just this width."""
        return POINTS if _WIDTH in (row_axes(network) or ()) and network.label_count <= 1 else None

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Where there are no labels, or one."""
        claim = super().claim(network)
        return None if claim is None or claim.against else claim

    def finished(self, rows: Rows, outputs: Sequence[np.ndarray], geometry: Geometry) -> Candidates:
        """The points beside their boxes."""
        del outputs, geometry
        return Candidates(rows.boxes, rows.scores, rows.label_ids, points(rows.rest, np.array(rows.unit)))

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Points far from their boxes: eleven class scores have that width, too."""
        found = self.candidates(outputs, geometry, 0.0)
        if found.keypoints is not None and len(found.scores):
            middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            if np.abs(found.keypoints[..., :2].mean(axis=1) - middles).mean() > _FAR:
                return "its points do not lie where its boxes are"
        return super().doubt(outputs, geometry, labels)

    def _turned(self, output: np.ndarray) -> np.ndarray:
        return super()._turned(output)[:, _ORDER]
