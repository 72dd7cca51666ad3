"""What heads have in common whose one output is a list of rows: box, scores, and perhaps what follows them.

Which axis the rows lie on follows from the number of labels, and without labels by length: there are more boxes than
features.  What follows a row's scores is a matter of its own (``Trailing``): nothing, the coefficients of a mask, key
points or an angle; heads of every kind of row are combined with each.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, SAID, Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_rows, refuse

__all__ = ["COLORS", "LETTERBOX", "RowHead", "Rows", "cells", "feature_axis", "grids", "row_axes", "row_place"]

COLORS: Mapping[str, Any] = {"color": "RGB", "mean": [0.0], "std": [255.0]}
"""From 0 to 1."""
LETTERBOX: Mapping[str, Any] = {"resize": "letterbox", "pad": [114], **COLORS}
"""How most YOLO are fed: the whole frame in the middle of grey."""
_OPEN: Mapping[str, Any] = {"width": 640, "height": 640}
"""What is usual where the network leaves it open."""

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_RAW = 4  # axes of what lies beside the rows: prototypes of masks, or the heads before decoding
_TASKS = ("detect", "segment", "pose", "obb", "classify", "semantic", "depth")
"""Ultralytics' words."""


@dataclass(frozen=True)
class Rows:
    """The rows of one run that reach the threshold."""

    boxes: np.ndarray
    """[n, 4] left, top, right and bottom in fractions of the network's picture."""
    scores: np.ndarray
    label_ids: np.ndarray
    rest: np.ndarray
    """[n, E] what follows the scores, as the network gave it."""
    unit: Tuple[int, int]
    """(x, y) what 1 in the picture is in the numbers of the rows: its size, or 1 where they are fractions."""

    def candidates(self) -> Candidates:
        """The boxes alone."""
        return Candidates(self.boxes, self.scores, self.label_ids)


class RowHead(Decoder):
    """One output of rows, and what follows the scores in each."""

    feed = LETTERBOX
    said = "detect"
    """Ultralytics' word for what these rows are."""

    @classmethod
    def trailing(cls, network: Network) -> Optional[int]:
        """How many numbers follow the scores; None where the network is not of this kind."""
        del network
        return 0

    @classmethod
    def where(cls, network: Network) -> Optional[int]:
        """Which output holds the rows; None where that is not known."""
        return row_place(network)

    @classmethod
    def strength(cls, network: Network) -> int:
        """How well founded a claim on the network is; 0 where its metadata says that it is something else."""
        said = network.facts.get("task")
        if said not in _TASKS:
            return FITS
        return SAID if said == cls.said else 0

    @classmethod
    def claimed(cls, network: Network, why: str, against: str = "") -> Claim:
        """The claim, with what the metadata says for it."""
        strength = cls.strength(network)
        if strength == SAID:
            why = f"its metadata says {cls.said}, and {why}"
        fed = {**cls.feed, **({} if network.size else _OPEN)}
        return Claim(strength, why, {"decoder": cls.name, **cls.known(network)}, fed, against)

    @classmethod
    def known(cls, network: Network) -> Mapping[str, Any]:
        """Options that the metadata answers."""
        del network
        return {}

    def __init__(self, network: Network, options: Options) -> None:
        del options
        place, trailing = self.where(network), self.trailing(network)
        if place is None or trailing is None:
            refuse(self, network)
        self._place, self._trailing, self._label_count = place, trailing, network.label_count

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows that reach the threshold, and what follows in them."""
        rows = self.rows(np.asarray(outputs[self._place], dtype=np.float32), geometry, threshold)
        return self.finished(rows, outputs, geometry)

    @abstractmethod
    def rows(self, output: np.ndarray, geometry: Geometry, threshold: float) -> Rows:
        """The rows of the output [1, A, B] that reach the threshold."""

    def finished(self, rows: Rows, outputs: Sequence[np.ndarray], geometry: Geometry) -> Candidates:
        """What follows the scores, given a meaning."""
        del outputs, geometry
        return rows.candidates()


def row_place(network: Network) -> Optional[int]:
    """Which output holds the rows [1, A, B]: the only one of three axes; what else there is has four or five.

    Of two alike the second is taken: YOLOv9 has an auxiliary head before the one that counts.
    """
    few = [info.shape for info in network.outputs if len(info.shape) < _RAW]
    places = [n for n, info in enumerate(network.outputs) if are_rows(info.shape)]
    return places[-1] if len(places) == len(few) and len({tuple(shape) for shape in few}) == 1 else None


def row_axes(network: Network) -> Optional[Tuple[int, int]]:
    """The axes (A, B) of the rows, -1 where dynamic."""
    place = row_place(network)
    if place is None:
        return None
    _, first, second = network.outputs[place].shape
    return first, second


def cells(size: Tuple[int, int], strides: Sequence[int]) -> int:
    """How many grid cells an input (height, width) has over all strides."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def grids(size: Tuple[int, int], per_cell: int) -> Sequence[int]:
    """How many boxes heads have that see an input (height, width) at the usual strides."""
    return [per_cell * cells(size, strides) for strides in _STRIDES]


def feature_axis(axes: Tuple[int, int], others: int, labels: int) -> int:
    """The axis that has room for just the labels beside ``others``; else the known one, or the shorter."""
    fitting = [axis for axis in (0, 1) if labels and axes[axis] == others + labels]
    if len(fitting) == 1:
        return fitting[0]
    return int(axes[0] < 0 or axes[0] > axes[1] > 0)
