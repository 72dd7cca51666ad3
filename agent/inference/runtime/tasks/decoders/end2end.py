"""Detectors that suppress inside the network and answer one row per object.

==================  ===============================  =====================================================
``columns``         a row of [1, N, 6]               where from
==================  ===============================  =====================================================
``box-first``       left, top, right, bottom,        YOLOv10, YOLO26 and other exports with suppression
                    score, class                     inside; pixels or fractions
``class-first``     class, score,                    SageMaker's object detection and MXNet's
                    left, top, right, bottom         ``MultiBoxDetection``; fractions
==================  ===============================  =====================================================

Rows without an object have a class or score of -1, or are all zero.  Which order it is, is seen from the numbers
of each run: classes are whole, scores lie in [0, 1], and boxes end after they begin.
"""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_rows, in_fractions, refuse

__all__ = ["End2End"]

_COLUMNS: Dict[str, Tuple[int, ...]] = {"box-first": (5, 4, 0, 1, 2, 3), "class-first": (0, 1, 2, 3, 4, 5)}
"""Where class, score and the four sides are."""
_WIDTH = 6
_MOST_ROWS = 1000  # what is kept after suppression; a head before it has thousands


class End2End(Decoder):
    """Options ``columns`` (auto, box-first, class-first) and ``normalized``: whether corners are fractions."""

    name = "end2end"
    expects = "one output [1,N,6] of boxes (corners), scores and classes after suppression"
    nms = "none"

    @classmethod
    def recognises(cls, network: Network, options: Options) -> bool:
        """Six columns and few rows: heads before suppression, which may have six columns too, are asked first."""
        del options
        return _rows(network) is not None and (_rows(network) or 0) <= _MOST_ROWS

    def __init__(self, network: Network, options: Options) -> None:
        if _rows(network) is None:
            refuse(self, network)
        self._columns = options.choice("columns", "auto", ("auto", *_COLUMNS))
        self._normalized = options.flag("normalized")

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows with an object that reach the threshold."""
        rows = finite(np.asarray(outputs[0], dtype=np.float32)[0])
        if rows.shape[1:] != (_WIDTH,):
            refuse(self, list(outputs[0].shape))
        rows = _sorted(rows, self._columns)
        rows = rows[(rows[:, 0] >= 0) & (rows[:, 1] >= 0)]
        corners = in_fractions(rows[:, 2:], self._normalized, geometry)
        reached = rows[:, 1] >= threshold
        return Candidates(corners[reached], rows[reached, 1], rows[reached, 0].round().astype(np.int64))


def _sorted(rows: np.ndarray, columns: str) -> np.ndarray:
    """The rows as class, score, left, top, right, bottom; the order that makes sense of more rows is the one."""
    orders = [rows[:, places] for name, places in _COLUMNS.items() if columns in ("auto", name)]
    return max(orders, key=_sensible)


def _sensible(rows: np.ndarray) -> int:
    ids, scores, left, top, right, bottom = rows.T
    classes = (ids >= 0) & (ids == ids.round())
    return int((classes & (scores > 0) & (scores <= 1) & (left < right) & (top < bottom)).sum())


def _rows(network: Network) -> Optional[int]:
    """How many rows the network answers, -1 where that varies; None for any other network."""
    if len(network.outputs) != 1 or not are_rows(network.outputs[0].shape):
        return None
    _, rows, width = network.outputs[0].shape
    return rows if width == _WIDTH else None
