"""How alike two poses are: by COCO's object keypoint similarity.

The formula and its constants are those of the COCO evaluation (cocodataset.org, keypoints): of the points that are
seen, the mean of exp(-d² / 2 s² k²), where d is the distance, s² the area of the object and k twice the point's sigma,
which says how far people differ who mark it.  Points of other objects than COCO's bodies all have the same sigma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from agent.inference.predictions import Box, Keypoint

__all__ = ["oks"]

_SIGMAS: Final[Mapping[str, float]] = {
    "nose": 0.026,
    **{f"{side}_{part}": sigma for side in ("left", "right") for part, sigma in {
        "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087,
        "ankle": 0.089,
    }.items()},
}  # fmt: skip
_SIGMA: Final = 0.05
_FILLED: Final = 0.53
"""How much of its box a body fills, where COCO has its outline."""
_SEEN: Final = 0.5
"""The score from which a point counts as seen."""


def oks(
    ones: Sequence[Keypoint], others: Sequence[Keypoint], boxes: tuple[Box, Box] | None = None, aspect: float = 1.0
) -> float:
    """The similarity of two poses, from 0 to 1, alike from either side; 0 where their points are not the same ones.

    The area is the mean of both objects': of their boxes, or failing those of the rectangles round their points.
    ``aspect`` is the frame's width in its heights: places are fractions of each.
    """
    if [point.name for point in ones] != [point.name for point in others] and not _either_unnamed(ones, others):
        return 0.0
    if len(ones) != len(others):
        return 0.0
    pairs = list(zip(ones, others, strict=True))
    counted = [pair for pair in pairs if any(_is_seen(point) for point in pair)] or pairs
    areas = [box.width * box.height for box in boxes or (_around(ones), _around(others))]
    area = _FILLED * sum(areas) / 2
    return math.fsum(_near(*pair, area, aspect) for pair in counted) / len(counted) if counted else 1.0


def _near(one: Keypoint, other: Keypoint, area: float, aspect: float) -> float:
    across, down = one.x - other.x, one.y - other.y
    # In pixels: (across × width)² + (down × height)², and area × width × height.
    squared = across * across * aspect + down * down / aspect
    if not squared:
        return 1.0
    reach = 2 * area * (2 * _SIGMAS.get(one.name or other.name, _SIGMA)) ** 2
    return math.exp(-squared / reach) if reach > 0 else 0.0


def _is_seen(point: Keypoint) -> bool:
    return point.score is None or point.score >= _SEEN


def _either_unnamed(ones: Sequence[Keypoint], others: Sequence[Keypoint]) -> bool:
    return not any(point.name for point in ones) or not any(point.name for point in others)


def _around(points: Sequence[Keypoint]) -> Box:
    if not points:
        return Box(0, 0, 0, 0)
    left, top = min(point.x for point in points), min(point.y for point in points)
    return Box(left, top, max(point.x for point in points) - left, max(point.y for point in points) - top)
