"""Detectors that suppress inside the network and answer one row per object.

===================  ==========================  ==========================================================
``columns``          a row                       where from
===================  ==========================  ==========================================================
``box-first``        left, top, right, bottom,   YOLOv10, YOLO26 and other exports with suppression inside,
                     score, class, E more        SuperGradients; pixels or fractions
``box-class-score``  left, top, right, bottom,   YOLOv7 and YOLOv9 with suppression inside; pixels
                     class, score
``class-first``      class, score,               SageMaker's object detection and MXNet's
                     left, top, right, bottom    ``MultiBoxDetection``, Caffe's and OpenVINO's
                                                 ``DetectionOutput``; fractions; Paddle's; pixels
===================  ==========================  ==========================================================

Rows are [1, N, 6], [N, 6] or [1, 1, N, 6]; a seventh column before the others counts the pictures.  Rows without an
object have a number of picture, class or score of -1, or are all zero; a second output may say how many count.  Which
order it is, is seen from the numbers of each run: classes are whole, scores lie in [0, 1], and boxes end after they
begin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, SAID, Claim, Geometry, TensorInfo
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Network, is_in_fractions, refuse
from agent.inference.runtime.tasks.decoders.rows import COLORS, RowHead, Rows

__all__ = ["End2End"]

_COLUMNS: Dict[str, Tuple[int, ...]] = {
    "box-first": (5, 4, 0, 1, 2, 3),
    "class-first": (0, 1, 2, 3, 4, 5),
    "box-class-score": (4, 5, 0, 1, 2, 3),
}
"""Where class, score and the four sides are."""
_WIDTH = 6
_FLAT, _DEEP = 2, 4
_MOST_ROWS = 1000  # what is kept after suppression; a head before it has thousands
_YOLO = "images"
"""What YOLO call their input, all of them."""
_CAFFE = "detection_out"
"""What Caffe's SSD call their output, whose shape OpenCV does not say; and what most of them read."""
_CAFFE_FEED = {"color": "BGR", "mean": [104.0, 117.0, 123.0], "std": [1.0]}
_CAFFE_SHAPE = (1, 1, -1, 7)
_QUERIES = "RTDETRDecoder"
"""Ultralytics' RT-DETR: centres and sizes, of a stretched picture."""


class End2End(RowHead):
    """Options ``columns``, ``boxes`` (corners, centres) and ``normalized``: whether these are fractions."""

    name = "end2end"
    expects = "one output [1,N,6] or [N,7] of boxes, scores and classes after suppression"
    threshold = 0.25
    nms = "none"
    sparse = True
    centred: bool = False
    """Whether boxes are usually centre and size."""

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Six columns or seven, and few rows: heads before suppression, which may have six too, are asked first."""
        place, trailing, strength = cls.where(network), cls.trailing(network) or 0, cls.strength(network)
        if place is None or not strength:
            return None
        shape = _shape(network.outputs[place])
        rows, columns = _table(shape)
        if columns not in _widths(shape, trailing) or rows > _MOST_ROWS or (len(shape) == _FLAT and rows == 1):
            return None
        why = f"its output has {columns} columns"
        if network.outputs[place].name == _CAFFE:
            return Claim(NAMED, f"its output is called {_CAFFE}", {"decoder": cls.name}, _CAFFE_FEED)
        if strength == FITS and network.inputs[0].name != _YOLO and (len(shape), columns) != (_FLAT, _WIDTH + 1):
            return Claim(FITS, why, {"decoder": cls.name, **cls.known(network)})
        claim = cls.claimed(network, why)
        return replace(claim, input=COLORS) if network.facts.get("head") == _QUERIES else claim

    @classmethod
    def known(cls, network: Network) -> Dict[str, object]:
        """Ultralytics' order of columns."""
        if cls.strength(network) != SAID:
            return dict(super().known(network))
        kind = {"boxes": "centres"} if network.facts.get("head") == _QUERIES else {}
        return {**super().known(network), "columns": "box-first", **kind}

    @classmethod
    def where(cls, network: Network) -> Optional[int]:
        """Beside the rows there may be how many of them count; what follows in a row comes only with [1, N, 6+E]."""
        if cls.trailing(network):
            return super().where(network)
        counts = [n for n, info in enumerate(network.outputs) if _is_count(_shape(info))]
        tables = [n for n, info in enumerate(network.outputs) if n not in counts and _table(_shape(info))[1] > 0]
        return tables[0] if len(tables) == 1 and len(tables) + len(counts) == len(network.outputs) else None

    def __init__(self, network: Network, options: Options) -> None:
        super().__init__(network, options)
        shape = _shape(network.outputs[self._place])
        if _table(shape)[1] not in (-1, *_widths(shape, self._trailing)):
            refuse(self, network)
        counts = [n for n, info in enumerate(network.outputs) if n != self._place and _is_count(info.shape)]
        self._count = counts[0] if counts else None
        self._columns = options.choice("columns", "auto", ("auto", *_COLUMNS))
        self._boxes = options.choice("boxes", "centres" if self.centred else "corners", ("corners", "centres"))
        self._normalized = options.flag("normalized")

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Pictures that are not counted, and numbers that are boxes, classes and scores in no order of columns."""
        given = np.asarray(outputs[self._place], dtype=np.float32)
        rows = given.reshape(-1, given.shape[-1])
        if self._is_counted(given.shape) and not np.isin(rows[:, 0], (0, -1)).all():
            return "its first column does not count pictures"
        objects = self._used(given)[:, :_WIDTH]
        objects = objects[(objects != 0).any(axis=1) & (objects != -1).all(axis=1)]
        if len(objects) and self._boxes == "corners" and not _sensible(_sorted(objects, self._columns)):
            return f"none of its {len(objects)} rows has a box, a score and a whole class in any order"
        return super().doubt(outputs, geometry, labels)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The rows that count and reach the threshold."""
        rows = np.asarray(outputs[self._place], dtype=np.float32)
        if self._count is not None:
            rows = rows.reshape(-1, rows.shape[-1])[: int(np.max(outputs[self._count], initial=0))]
        return self.finished(self.rows(rows, geometry, threshold), outputs, geometry)

    def rows(self, output: np.ndarray, geometry: Geometry, threshold: float) -> Rows:
        """The rows with an object that reach the threshold."""
        given = self._used(output)
        rows = _sorted(given[:, :_WIDTH], self._columns)
        used = (rows[:, 0] >= 0) & (rows[:, 1] >= 0)
        is_normalized = is_in_fractions(rows[used, 2:], self._normalized)
        unit = (1, 1) if is_normalized else (geometry.network_width, geometry.network_height)
        reached = used & (rows[:, 1] >= threshold)
        boxes = rows[reached, 2:] / np.array([*unit, *unit], dtype=np.float32)
        boxes = from_centres(*boxes.T) if self._boxes == "centres" else boxes
        return Rows(boxes, rows[reached, 1], rows[reached, 0].round().astype(np.int64), given[reached, _WIDTH:], unit)

    def _used(self, output: np.ndarray) -> np.ndarray:
        """The rows [N, 6+E] of the picture."""
        rows = finite(output.reshape(-1, output.shape[-1]))
        if rows.shape[1] not in _widths(output.shape, self._trailing):
            refuse(self, list(output.shape))
        return rows[rows[:, 0] >= 0][:, 1:] if self._is_counted(output.shape) else rows

    def _is_counted(self, shape: Sequence[int]) -> bool:
        """Whether the first column counts pictures."""
        return not self._trailing and shape[-1] == _WIDTH + 1


def _sorted(rows: np.ndarray, columns: str) -> np.ndarray:
    """The rows as class, score, left, top, right, bottom; the order that makes sense of more rows is the one."""
    orders = [rows[:, places] for name, places in _COLUMNS.items() if columns in ("auto", name)]
    return max(orders, key=_sensible)


def _sensible(rows: np.ndarray) -> int:
    ids, scores, left, top, right, bottom = rows.T
    classes = (ids >= 0) & (ids == ids.round())
    return int((classes & (scores > 0) & (scores <= 1) & (left < right) & (top < bottom)).sum())


def _widths(shape: Sequence[int], trailing: int) -> Tuple[int, ...]:
    """How many columns there may be; pictures are counted where the rows of several are not told apart by an axis."""
    counted = (_WIDTH + 1,) if not trailing and len(shape) in (_FLAT, _DEEP) else ()
    return (_WIDTH + trailing, *counted)


def _shape(info: TensorInfo) -> Tuple[int, ...]:
    """An output's shape, or what its name says of it."""
    return _CAFFE_SHAPE if info.name == _CAFFE and len(info.shape) == 1 else tuple(info.shape)


def _table(shape: Sequence[int]) -> Tuple[int, int]:
    """(rows, columns) of [N, W], [1, N, W] or [1, 1, N, W]; (0, 0) for any other shape."""
    is_one = len(shape) >= _FLAT and len(shape) <= _DEEP and all(side in (1, -1) for side in shape[:-_FLAT])
    return (shape[-2], shape[-1]) if is_one else (0, 0)


def _is_count(shape: Sequence[int]) -> bool:
    """Whether a tensor is one number."""
    return len(shape) < _FLAT and all(side in (1, -1) for side in shape)
