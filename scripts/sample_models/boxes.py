"""The least decoder that shows what the detector sees; the agent has its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_MAPS = (19, 10, 5, 3, 2, 1)
_SMALLEST, _LARGEST = 0.2, 0.95
_CODER = np.array([10, 10, 5, 5], np.float32)
_OVERLAP = 0.5


@dataclass(frozen=True)
class Found:
    """One detection: class, score, and top, left, bottom, right as fractions of the picture."""

    label_id: int
    score: float
    box: tuple[float, ...]


def decode(encodings: Floats, predictions: Floats, threshold: float) -> list[Found]:
    """What scores at least ``threshold``, best first, one box for each thing; class 0 is the background."""
    scores = 1 / (1 + np.exp(-predictions))
    boxes = _boxes(encodings / _CODER, _anchors())
    found = [
        Found(int(label), float(scores[row, label]), tuple(boxes[row].tolist()))
        for label in range(1, scores.shape[1])
        for row in np.flatnonzero(scores[:, label] >= threshold)
    ]
    kept: list[Found] = []
    for each in sorted(found, key=lambda one: -one.score):
        if all(each.label_id != one.label_id or _overlap(each.box, one.box) < _OVERLAP for one in kept):
            kept.append(each)
    return kept


def _anchors() -> Floats:
    """Centre y, centre x, height, width of every anchor; the lowest map has three of them, the others six."""
    steps = len(_MAPS) - 1
    scales = [_SMALLEST + (_LARGEST - _SMALLEST) * step / steps for step in range(len(_MAPS))] + [1.0]
    rows = []
    for level, cells in enumerate(_MAPS):
        scale, following = scales[level], scales[level + 1]
        shapes = [(scale, ratio) for ratio in (1.0, 2.0, 1 / 2, 3.0, 1 / 3)] + [((scale * following) ** 0.5, 1.0)]
        if level == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 1 / 2)]
        rows += [
            ((y + 1 / 2) / cells, (x + 1 / 2) / cells, size / ratio**0.5, size * ratio**0.5)
            for y in range(cells)
            for x in range(cells)
            for size, ratio in shapes
        ]
    return np.array(rows, np.float32)


def _boxes(offsets: Floats, anchors: Floats) -> Floats:
    centres = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
    halves = np.exp(offsets[:, 2:]) * anchors[:, 2:] / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    height = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    width = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return height * width / (sum(areas) - height * width)
