"""Heads of generalized focal loss, before suppression: NanoDet and PicoDet.

For each cell of some grids there are class scores, and for each side of the box how likely it is to lie 0, 1, 2 … cells
away: the distance is what is to be expected of that distribution (Li and others, "Generalized Focal Loss", 2020).  The
distances are from the middle of the cell; in NanoDet-Plus, which has four grids in one output, from its top left.

===========  ==============================================================  ==============================
``picodet``  an output of scores [1, n, C] and one of 4 × bins [1, n, 4B]    Paddle: stretched, RGB,
             for each grid of n cells                                        ImageNet's mean and deviation
``nanodet``  the same, or one output [1, N, C+4B] for all                    stretched, BGR, ImageNet's
===========  ==============================================================  ==============================
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, softmax
from agent.inference.runtime.tasks.decoders.base import CORNERS, Decoder, Network, are_rows, refuse, strongest

__all__ = ["NanoDet", "PicoDet"]

_STRIDES = ((8, 16, 32, 64), (8, 16, 32))
_BINS = 8
"""How many distances there are where one output holds all; what both families have."""
_USUAL = (80, 20, 1)
"""How many classes a network of one output has that nobody gives labels for: COCO's, VOC's, one."""
_DISTANCES = ("dis", "reg", "bbox", "box", "loc")
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class _Outputs:
    """Where scores and distances of each grid are, the finest first; the same outputs where they hold both."""

    scores: Tuple[int, ...]
    distances: Tuple[int, ...]
    classes: int
    bins: int
    cells: Tuple[int, ...]

    @property
    def is_one(self) -> bool:
        """Whether one output holds everything."""
        return self.scores == self.distances


class _Gfl(Decoder):
    """Option ``activation`` (sigmoid where the export left it out)."""

    @classmethod
    @abstractmethod
    def found(cls, network: Network) -> Optional[_Outputs]:
        """The outputs, if they are this family's."""

    def __init__(self, network: Network, options: Options) -> None:
        places = self.found(network)
        if places is None:
            refuse(self, network)
        self._places = places
        self._activation = options.choice("activation", "none", ("none", "sigmoid"))

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Scores below 0."""
        lowest = min(float(np.min(self._scores(outputs, grid))) for grid in range(len(self._places.scores)))
        if self._activation == "none" and lowest < 0:
            return f"a score is {lowest:.4g}, and none is below 0"
        return super().doubt(outputs, geometry, labels)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """Scores first; distances are read for the survivors alone."""
        strides = _STRIDES[0][: len(self._places.cells)]
        lattice = _lattice(geometry.network_width, geometry.network_height, self._offset(), strides)
        scores = np.concatenate([self._scores(outputs, grid) for grid in range(len(self._places.scores))])
        if len(lattice) != len(scores):
            refuse(self, f"{len(scores)} rows for {len(lattice)} cells")
        kept, reached, columns = strongest(scores, threshold, self._activation)
        distances = np.concatenate([self._distances(outputs, grid) for grid in range(len(self._places.distances))])
        chances = softmax(finite(distances[kept]).reshape(-1, self._places.bins))
        x, y, stride = lattice[kept].T
        sides = (chances @ np.arange(self._places.bins)).reshape(-1, CORNERS) * stride[:, None]
        size = np.array([geometry.network_width, geometry.network_height] * 2)
        corners = np.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], axis=1) / size
        return Candidates(corners, reached, columns)

    def _offset(self) -> float:
        return 0.5

    def _scores(self, outputs: Sequence[np.ndarray], grid: int) -> np.ndarray:
        rows: np.ndarray = np.asarray(outputs[self._places.scores[grid]], dtype=np.float32)[0]
        return rows[:, : self._places.classes]

    def _distances(self, outputs: Sequence[np.ndarray], grid: int) -> np.ndarray:
        rows: np.ndarray = np.asarray(outputs[self._places.distances[grid]], dtype=np.float32)[0]
        return rows[:, -CORNERS * self._places.bins :]


class PicoDet(_Gfl):
    """Scores and distances of each grid, apart."""

    name = "picodet"
    expects = "for each grid of strides 8, 16, 32 (and 64) scores [1,n,C] and distributions of distances [1,n,4B]"
    feed: Mapping[str, Any] = {"color": "RGB", "mean": list(_MEAN), "std": list(_STD)}
    threshold = 0.4

    @classmethod
    def found(cls, network: Network) -> Optional[_Outputs]:
        """Two outputs for each grid."""
        return _apart(network)

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """As many grids as there are strides, each with as many cells as the picture makes."""
        places = cls.found(network)
        if places is None or _is_nanodet(network):
            return None
        return cls.fits(f"its outputs are scores and distances of {len(places.scores)} grids", NAMED)


class NanoDet(_Gfl):
    """The same in BGR, or everything in one output."""

    name = "nanodet"
    expects = (
        "one output [1,N,C+4B] of scores and distributions of distances for the cells of strides 8, 16, 32 (and 64), "
        "or [1,n,C] and [1,n,4B] for each"
    )
    feed: Mapping[str, Any] = {"color": "BGR", "mean": list(_MEAN[::-1]), "std": list(_STD[::-1])}
    threshold = 0.35
    iou = 0.6

    @classmethod
    def found(cls, network: Network) -> Optional[_Outputs]:
        """One output, or two for each grid."""
        return _together(network) or _apart(network)

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """As many rows as the picture has cells, as many columns as there are labels and distances."""
        places = cls.found(network)
        if places is None or "task" in network.facts:
            return None
        if not places.is_one:
            return cls.fits("its outputs are called after strides", NAMED) if _is_nanodet(network) else None
        if network.label_count != places.classes and (network.label_count or places.classes not in _USUAL):
            return None
        strength = NAMED if network.label_count else FITS
        return cls.fits(f"its rows have {places.classes} scores and {CORNERS * places.bins} distances", strength)

    def _offset(self) -> float:
        return 0.0 if self._places.is_one and len(self._places.cells) == len(_STRIDES[0]) else 0.5


def _is_nanodet(network: Network) -> bool:
    """Whether the outputs are called as NanoDet's are: after their strides."""
    return any("stride" in info.name.lower() for info in network.outputs)


def _together(network: Network) -> Optional[_Outputs]:
    """One output of scores and distances."""
    if len(network.outputs) != 1 or not are_rows(network.outputs[0].shape):
        return None
    _, rows, width = network.outputs[0].shape
    classes = width - CORNERS * _BINS
    cells = _counted(network, rows)
    return _Outputs((0,), (0,), classes, _BINS, cells) if cells and classes > 0 else None


def _apart(network: Network) -> Optional[_Outputs]:
    """Two outputs for each grid, of which one width is that of the distances."""
    if not all(are_rows(info.shape) for info in network.outputs):
        return None
    grids: Dict[int, List[int]] = {}
    for place, info in enumerate(network.outputs):
        grids.setdefault(info.shape[1], []).append(place)
    cells = tuple(sorted(grids, reverse=True))
    if any(len(grids[count]) != 2 for count in cells) or _counted(network, sum(cells)) != cells:  # noqa: PLR2004 - scores, distances
        return None
    pairs = [_pair(network, grids[count]) for count in cells]
    scores, distances = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    classes, widths = ({network.outputs[place].shape[2] for place in places} for places in (scores, distances))
    if len(classes) != 1 or len(widths) != 1:
        return None
    (count,), (width,) = classes, widths
    return (
        _Outputs(scores, distances, count, width // CORNERS, cells) if width > CORNERS and not width % CORNERS else None
    )


def _pair(network: Network, places: Sequence[int]) -> Tuple[int, int]:
    """(scores, distances) of a grid: as many scores as labels, or by names, or scores first."""
    first, second = places
    widths = [network.outputs[place].shape[2] for place in places]
    named = [any(word in network.outputs[place].name.lower() for word in _DISTANCES) for place in places]
    if network.label_count and widths[0] != widths[1]:
        swapped = widths[1] == network.label_count
    else:
        swapped = named[0] and not named[1]
    return (second, first) if swapped else (first, second)


def _counted(network: Network, rows: int) -> Optional[Tuple[int, ...]]:
    """The cells of each grid, where together they are as many as the rows; None where no strides make so many."""
    if network.size is None:
        return None
    height, width = network.size
    for strides in _STRIDES:
        cells = tuple(-(-height // stride) * -(-width // stride) for stride in strides)
        if sum(cells) == rows:
            return cells
    return None


@lru_cache(maxsize=8)
def _lattice(width: int, height: int, offset: float, strides: Tuple[int, ...]) -> np.ndarray:
    """(x, y, stride) of each cell in pixels: [N, 3]; shared, not to be written to."""
    parts = []
    for stride in strides:
        rows, columns = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)]
        places = [(columns.ravel() + offset) * stride, (rows.ravel() + offset) * stride]
        parts.append(np.stack([*places, np.full(rows.size, stride)], axis=1))
    return np.concatenate(parts)
