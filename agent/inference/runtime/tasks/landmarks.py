"""Families of networks that place the points of one hand, face, body, eye or thing in a crop of it.

====================  ==============  ========  ============  =======================================================
family                numbers         of each   presence      where from
====================  ==============  ========  ============  =======================================================
``hand-landmarks``    63 = 21 × 3     x y z     probability   MediaPipe hands; ``handedness`` is the label
``face-landmarks``    1404 = 468 × 3  x y z     logit         MediaPipe face mesh; with attention the two irises
                                                              follow, 10 = 5 × 2 each
                      1434 = 478 × 3  x y z     logit         MediaPipe face landmarker
``pose-landmarks``    195 = 39 × 5    x y z v p probability   MediaPipe pose; the last 6 of 39 are for its tracker
``iris-landmarks``    213 = 71 × 3,   x y z     none          MediaPipe iris: an eye's contour and brow, then the iris
                      15 = 5 × 3
``movenet``           51 = 17 × 3     y x s     none          MoveNet, one person; fractions
``face-points``       136 or 196      x y       none          68 or 98 points of a face; fractions, or pixels
                      212             x y       none          InsightFace's 106 points, from -1 to 1
====================  ==============  ========  ============  =======================================================

Places are pixels of the network's picture where nothing else is said; z has the scale of x.  ``v`` and ``p`` are logits
of being visible and in the picture; ``s`` is a score.  Further outputs (places in metres, a body's mask and heat maps)
are not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod
from typing import AbstractSet, Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import TensorInfo

__all__ = ["FAMILIES", "Family", "Found", "find", "numbers"]

_FINGERS = ("index_finger", "middle_finger", "ring_finger", "pinky")
_HAND = (
    "wrist",
    *(f"thumb_{joint}" for joint in ("cmc", "mcp", "ip", "tip")),
    *(f"{finger}_{joint}" for finger in _FINGERS for joint in ("mcp", "pip", "dip", "tip")),
)
_LIMBS = (
    *("shoulder", "elbow", "wrist", "pinky", "index", "thumb"),
    *("hip", "knee", "ankle", "heel", "foot_index"),
)
_POSE = (
    "nose",
    *(f"{side}_eye{part}" for side in ("left", "right") for part in ("_inner", "", "_outer")),
    *("left_ear", "right_ear", "mouth_left", "mouth_right"),
    *(f"{side}_{joint}" for joint in _LIMBS for side in ("left", "right")),
)
_BODY = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
_IRIS = ("iris_center", "iris_left", "iris_top", "iris_right", "iris_bottom")

_PIXELS, _FRACTIONS, _EITHER, _SIGNED = "pixels", "fractions", "either", "signed"
_UNIT: Mapping[str, Any] = {"resize": "stretch", "color": "RGB", "mean": [0.0], "std": [255.0]}
"""What MediaPipe's crops are fed as: colours from 0 to 1."""
_RAW: Mapping[str, Any] = {"color": "RGB", "mean": [0.0], "std": [1.0]}
_PADDED: Mapping[str, Any] = {**_RAW, "resize": "letterbox", "pad": [0]}
_LARGEST_FRACTION = 2.0


@dataclass(frozen=True)
class Family:
    """How the outputs of one family are told from others', and read."""

    name: str
    what: str
    """In words: what speaks for it."""
    points: Sequence[Tuple[int, int]]
    """How many numbers each output with points holds, and how many a point has."""
    others: AbstractSet[int] = frozenset()
    """The sizes of further outputs."""
    presence: str = ""
    """The activation of the first output of size 1; empty where none says whether there is anything."""
    count: int = 0
    """The points that mean something; 0 for all."""
    columns: str = "xyz"
    unit: str = _PIXELS
    depth: float = 1.0
    """z is divided by this, and by the network's width."""
    names: Sequence[str] = ()
    first_name: int = 0
    """The point that the names begin with."""
    feed: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""
    """What the family's own files call it."""
    labels: Sequence[str] = ()
    """Of the second output of size 1: the first label's probability."""


FAMILIES: Sequence[Family] = (
    Family(
        "hand-landmarks",
        "21 points with depth and whether there is a hand",
        [(63, 3)],
        frozenset({1, 63}),
        "none",
        depth=0.4,
        names=_HAND,
        labels=("Left", "Right"),
        feed=_UNIT,
    ),
    Family(
        "face-landmarks",
        "468 points, those of both irises and whether there is a face",
        [(1404, 3), (10, 2), (10, 2)],
        frozenset({1, 142, 160}),
        "sigmoid",
        feed=_UNIT,
    ),
    Family(
        "face-landmarks", "468 points and whether there is a face", [(1404, 3)], frozenset({1}), "sigmoid", feed=_UNIT
    ),
    Family(
        "face-landmarks", "478 points and whether there is a face", [(1434, 3)], frozenset({1}), "sigmoid", feed=_UNIT
    ),
    Family(
        "pose-landmarks",
        "39 points with their visibility and whether there is a person",
        [(195, 5)],
        frozenset({1, 117, 65536, 159744}),
        "none",
        count=33,
        columns="xyzv",
        names=_POSE,
        feed=_UNIT,
    ),
    Family(
        "iris-landmarks",
        "71 points of an eye and 5 of its iris",
        [(213, 3), (15, 3)],
        names=_IRIS,
        first_name=71,
        feed=_UNIT,
    ),
    Family("movenet", "17 points with scores", [(51, 3)], columns="yxs", unit=_FRACTIONS, names=_BODY, feed=_PADDED),
    Family("face-points", "the coordinates of 68 points", [(136, 2)], columns="xy", unit=_EITHER),
    Family("face-points", "the coordinates of 98 points", [(196, 2)], columns="xy", unit=_EITHER),
    Family(
        "face-points", "the coordinates of 106 points", [(212, 2)], columns="xy", unit=_SIGNED, feed=_RAW, output="fc1"
    ),
)
"""In the order in which they are tried."""


@dataclass(frozen=True)
class Found:
    """A family's outputs in a network."""

    family: Family
    points: Sequence[int]
    """The outputs that hold points."""
    flags: Sequence[int]
    """The outputs with one number."""

    def read(self, outputs: Sequence[np.ndarray], width: int, height: int) -> Mapping[str, np.ndarray]:
        """The points' columns: x, y and s (scores) in fractions of the network's picture, z in that of its width."""
        family = self.family
        parts = [
            np.asarray(outputs[place], dtype=np.float64).reshape(-1, each)
            for place, (_, each) in zip(self.points, family.points)
        ]
        columns = {name: _column(parts, index) for index, name in enumerate(family.columns)}
        read = {name: values[: family.count or None] for name, values in columns.items()}
        if family.unit == _PIXELS or (family.unit == _EITHER and read["x"].max() > _LARGEST_FRACTION):
            read["x"], read["y"] = read["x"] / width, read["y"] / height
        elif family.unit == _SIGNED:
            read["x"], read["y"] = (read["x"] + 1) / 2, (read["y"] + 1) / 2
        if "z" in read:
            read["z"] = read["z"] / (width * family.depth)
        return read


def find(network: Sequence[TensorInfo]) -> Optional[Found]:
    """The family that a network's outputs are of; None for any other's."""
    sizes = [numbers(info.shape) for info in network]
    order = _in_order(network)
    for family in FAMILIES:
        points: List[int] = []
        for wanted, _ in family.points:
            points += [place for place in order if sizes[place] == wanted and place not in points][:1]
        if len(points) != len(family.points):
            continue
        rest = [place for place in order if place not in points]
        flags = [place for place in rest if sizes[place] == 1]
        if all(sizes[place] in family.others for place in rest) and bool(flags) == bool(family.presence):
            return Found(family, points, flags)
    return None


def _column(parts: Sequence[np.ndarray], index: int) -> np.ndarray:
    """One column of all parts; NaN where a part's points have it not."""
    return np.concatenate([part[:, index] if index < part.shape[1] else np.full(len(part), np.nan) for part in parts])


def numbers(shape: Sequence[int]) -> int:
    """How many numbers an output has for one picture; -1 where that varies."""
    sides = shape[1:] if len(shape) > 1 and shape[0] == -1 else shape
    return prod(sides) if all(side > 0 for side in sides) else -1


def _in_order(network: Sequence[TensorInfo]) -> List[int]:
    """The outputs as the converter numbered them; otherwise as the file has them.

    Several have the same shape, and some runtimes list ``Identity``, ``Identity_1`` … in another order.
    """
    numbered = [re.fullmatch(r"Identity(?:_(\d+))?(?::0)?", info.name) for info in network]
    if not all(numbered):
        return list(range(len(network)))
    return sorted(range(len(network)), key=lambda place: int((numbered[place] or [0, 0])[1] or 0))
