"""Turned boxes: an angle behind the scores of a row, in radians, clockwise.

The box's centre and size are those before it is turned about its centre.  As an angle and a quarter turn more make the
same box with its sides exchanged, angles are brought into [0, π/2), as the family's own code does.
"""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from agent.inference.runtime.base import FITS, Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.tasks.decoders.base import Network
from agent.inference.runtime.tasks.decoders.end2end import End2End
from agent.inference.runtime.tasks.decoders.rows import RowHead, Rows, row_axes
from agent.inference.runtime.tasks.decoders.yolo import YoloV8

__all__ = ["End2EndObb", "YoloV8Obb", "turned"]

_QUARTER = np.pi / 2
_BEFORE = 5  # a box and the angle


class _Turned(RowHead):
    """One number more."""

    said = "obb"

    @classmethod
    def trailing(cls, network: Network) -> Optional[int]:
        """The angle."""
        del network
        return 1

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Without metadata one feature more than there are labels, before the boxes as no other head has it."""
        claim, axes = super().claim(network), row_axes(network)
        if claim is None or claim.strength > FITS:
            return claim
        return claim if network.label_count and axes and axes[0] == _BEFORE + network.label_count else None

    def finished(self, rows: Rows, outputs: Sequence[np.ndarray], geometry: Geometry) -> Candidates:
        """The corners, and the boxes that enclose them."""
        del outputs
        size = np.array([geometry.network_width, geometry.network_height])
        centres = (rows.boxes[:, :2] + rows.boxes[:, 2:]) / 2 * size
        sides = (rows.boxes[:, 2:] - rows.boxes[:, :2]) * size
        corners = turned(centres, sides, rows.rest[:, 0]) / size
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return Candidates(boxes, rows.scores, rows.label_ids, corners=corners)


class YoloV8Obb(_Turned, YoloV8):
    """Class scores, then the angle."""

    name = "yolov8-obb"
    expects = "one output [1,4+C+1,N] of boxes (centre, size), C class scores and an angle"


class End2EndObb(_Turned, End2End):
    """Score and class, then the angle."""

    name = "end2end-obb"
    expects = "one output [1,N,7] of boxes (centre, size), scores, classes and angles after suppression"
    centred = True


def turned(centres: np.ndarray, sides: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Corners [N, 4, 2] of boxes of (width, height) turned clockwise, from their own top left on, clockwise."""
    angles = np.mod(angles.astype(np.float64), np.pi)
    exchanged = angles >= _QUARTER
    width, height = np.where(exchanged[:, None], sides[:, ::-1], sides).T / 2
    angles = np.where(exchanged, angles - _QUARTER, angles)
    across = np.stack([width * np.cos(angles), width * np.sin(angles)], axis=1)
    down = np.stack([-height * np.sin(angles), height * np.cos(angles)], axis=1)
    steps = [-across - down, across - down, across + down, down - across]
    return np.stack([centres + step for step in steps], axis=1)
