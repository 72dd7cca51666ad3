"""Which key points are joined by a line, told by their names: those of COCO's bodies and of MediaPipe's hands."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, List, Mapping, Sequence, Tuple

__all__ = ["limbs"]

_SIDES = ("left", "right")
_COCO = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in _SIDES
    ),
)
_CHAINS = (
    *(("nose", f"{side}_eye", f"{side}_ear") for side in _SIDES),
    *((f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist") for side in _SIDES),
    *((f"{side}_shoulder", f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in _SIDES),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip"),
    *(
        tuple(f"{finger}_{joint}" for joint in ("mcp", "pip", "dip", "tip"))
        for finger in ("index_finger", "middle_finger", "ring_finger", "pinky")
    ),
    ("wrist", "index_finger_mcp", "middle_finger_mcp", "ring_finger_mcp", "pinky_mcp", "wrist"),
)
"""Each as far as its points are there: a face without the tip of a nose that COCO names has no lines."""


def limbs(points: Sequence[Mapping[str, Any]]) -> List[Tuple[int, int]]:
    """The pairs of points that a line joins, by their places in the list; 17 points without names are COCO's.

    >>> limbs([{"name": "left_hip"}, {"name": "nose"}, {"name": "right_hip"}])
    [(0, 2)]
    """
    names = [point.get("name") for point in points]
    if not any(names) and len(names) == len(_COCO):
        names = list(_COCO)
    places = {name: place for place, name in enumerate(names) if name}
    there = [list(takewhile(places.__contains__, names)) for names in _CHAINS]
    return [(places[one], places[other]) for names in there for one, other in zip(names, names[1:])]
