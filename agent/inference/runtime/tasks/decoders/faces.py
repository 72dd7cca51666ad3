"""What detectors of faces have in common: five points, and heads that answer stride by stride.

A per-stride head has outputs [1,N,W] or [N,W] for each of its strides, all of one kind before the next or all of one
stride before the next; which is which follows from the widths, and of one width the finest has the most rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import CORNERS, Decoder, Network, refuse, strongest

__all__ = ["FACE", "POINTS", "PerStride", "centres", "points"]

FACE = ("right_eye", "left_eye", "nose_tip", "mouth_right", "mouth_left")
"""In the order of every detector that has five: right and left are the person's."""
POINTS = 2 * len(FACE)
"""Numbers of these points."""

_ROWS, _PLAIN = 3, 2


class PerStride(Decoder):
    """A head whose outputs come stride by stride; a subclass says which, and what a row means."""

    label_names = ("face",)
    nms = "agnostic"
    scores: int
    """How many outputs of one number each stride has."""
    words: Sequence[str]
    """What its outputs are called in the family's own exports."""
    sets: Sequence[Sequence[int]]
    """The strides that there may be."""

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """The widths of this family, and as many rows as the input has cells, once or twice."""
        found = _by_width(network.outputs, cls.scores)
        strides = cls._strides_of(found)
        if found is None or strides is None:
            return None
        counts = [_size(network.outputs[place].shape)[0] for place in found[CORNERS]]
        if network.size and min(counts) > 0 and not _are_cells(counts, network.size, strides):
            return None
        names = [info.name.lower() for info in network.outputs]
        named = all(any(word in name for word in cls.words) for name in names)
        why = (
            f"its outputs are {', '.join(cls.words)}" if named else f"it has boxes and scores at {len(strides)} strides"
        )
        return cls.fits(why, NAMED if named else FITS)

    def __init__(self, network: Network, options: Options) -> None:
        del options
        found = _by_width(network.outputs, self.scores)
        strides = self._strides_of(found)
        if found is None or strides is None:
            refuse(self, network)
        self._found, self._strides = found, strides
        self.keypoint_names = FACE if POINTS in found else ()

    @classmethod
    def _strides_of(cls, found: Optional[Dict[int, List[int]]]) -> Optional[Sequence[int]]:
        return next((each for each in cls.sets if found and len(each) == len(found[CORNERS])), None)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows of all strides that reach the threshold, decoded."""
        size = np.array([geometry.network_width, geometry.network_height])
        parts = [self._at(level, outputs, geometry, threshold) for level in range(len(self._strides))]
        boxes, scores, places = (np.concatenate(each) for each in zip(*parts))
        labels = np.zeros(len(scores), np.int64)
        return Candidates(
            boxes / np.tile(size, 2), scores, labels, points(places, size) if self.keypoint_names else None
        )

    def _at(
        self, level: int, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float
    ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(boxes, scores, points) of one stride, in pixels of the network's picture."""
        stride, count = self._strides[level], len(self._strides)
        scored = [_rows(outputs[place]) for place in self._found[1][level::count]]
        rows, reached, _ = strongest(self.score(scored), threshold)
        boxes = finite(_rows(outputs[self._found[CORNERS][level]])[rows]).astype(np.float64)
        cells = centres(geometry.network_height, geometry.network_width, stride)
        if not len(scored[0]) or len(scored[0]) % len(cells):
            refuse(self, f"{len(scored[0])} rows for {len(cells)} cells of stride {stride}")
        corner = cells[rows // (len(scored[0]) // len(cells))]
        places = np.zeros((len(rows), POINTS))
        if self.keypoint_names:
            offsets = finite(_rows(outputs[self._found[POINTS][level]])[rows]).astype(np.float64)
            places = (np.tile(corner, len(FACE)) + offsets) * stride
        return self.box(boxes, corner) * stride, reached, places

    @abstractmethod
    def score(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The scores [N,1] of one stride, from its outputs of one number."""

    @abstractmethod
    def box(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Corners [N,4] in cells of one stride, from its rows and the columns and lines [N,2] of their cells."""


def centres(height: int, width: int, stride: int) -> np.ndarray:
    """(column, line) of each cell, line by line: [N, 2]."""
    lines, columns = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)]
    return np.stack([columns.ravel(), lines.ravel()], axis=1).astype(np.float64)


def points(numbers: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[N, 2K] x and y in pixels as key points [N, K, 3] in fractions of a picture of ``size`` (width, height)."""
    places = numbers.reshape(len(numbers), numbers.shape[1] // 2, 2) / size
    return np.concatenate([places, np.full((*places.shape[:2], 1), np.nan)], axis=2)


def _by_width(outputs: Sequence[TensorInfo], scores: int) -> Optional[Dict[int, List[int]]]:
    """The outputs of each width: as many of 4 as there are strides, of 1 so many times ``scores``, perhaps of 10."""
    sizes = [_size(info.shape) for info in outputs]
    counts = Counter(width for _, width in sizes)
    strides = counts[CORNERS]
    expected = {CORNERS: strides, 1: strides * scores}
    if not strides or counts not in (expected, {**expected, POINTS: strides}):
        return None
    return {width: _finest_first(sizes, width, strides) for width in counts}


def _finest_first(sizes: Sequence[Tuple[int, int]], width: int, strides: int) -> List[int]:
    """The outputs of a width, kind by kind, and in each kind the one with the most rows first."""
    places = [place for place, (_, each) in enumerate(sizes) if each == width]
    ranked = sorted(places, key=lambda place: -sizes[place][0])
    kinds = len(places) // strides
    return [ranked[level * kinds + kind] for kind in range(kinds) for level in range(strides)]


def _size(shape: Sequence[int]) -> Tuple[int, int]:
    """(rows, width) of an output; no width where it has another form."""
    if len(shape) == _ROWS and shape[0] in (1, -1):
        return shape[1], shape[2]
    return (shape[0], shape[1]) if len(shape) == _PLAIN else (0, 0)


def _rows(output: np.ndarray) -> np.ndarray:
    return np.asarray(output, dtype=np.float32).reshape(-1, output.shape[-1])


def _are_cells(counts: Sequence[int], size: Tuple[int, int], strides: Sequence[int]) -> bool:
    cells = [-(-size[0] // stride) * -(-size[1] // stride) for stride in strides]
    return any(list(counts) == [each * count for count in cells] for each in (1, 2))
