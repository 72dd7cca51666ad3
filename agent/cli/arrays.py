"""The arrays of answers, for programs that read NumPy's files: what ``verge infer --out`` writes.

The outputs of a network as they are have their own names; all else stands below the word of its kind, as
``detection/boxes``, a row for each prediction:

======================  ============================================================================================
``labels``              text, as ``names`` and ``texts``; empty where nothing is said
``label_ids``           whole numbers, as ``track_ids``; -1 where nothing is said
``scores``              numbers, as ``areas``, ``angles``, ``thresholds``, ``minima``, ``maxima`` and ``similarities``;
                        NaN where nothing is said
``boxes``               x, y, width, height
``corners``             4 × (x, y)
``points``              a row for each key point: x, y, z, score
``masks``               height × width, bool
``maps``                height × width, uint8; ``minima`` and ``maxima`` say what 0 and 255 are
``anomalous``           bool
``vectors``             as many numbers as the vector has
``character_scores``    one for each character
======================  ============================================================================================

Places are fractions of the frame.  Rows of different sizes are arrays of their own with a number,
``detection/masks/0``, and the parts of a detection stand below its number, ``detection/parts/0/text/texts``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from agent.inference import masks, planes
from agent.inference.predictions import (
    KINDS,
    Box,
    Detection,
    Embedding,
    Image,
    Keypoint,
    Mask,
    Prediction,
    Tensor,
    bytes_of,
)
from agent.inference.tensors import DTYPES, RawTensor

__all__ = ["arrays"]

_NAN: Final = float("nan")


def arrays(predictions: Sequence[Prediction], place: str = "") -> Iterator[RawTensor]:
    """The arrays of an answer, each named below ``place``; what cannot be read is left out."""
    yield from _outputs([one for one in predictions if isinstance(one, Tensor)], place)
    for kind, of in KINDS.items():
        if of is not Tensor:
            yield from _columns([one for one in predictions if isinstance(one, of)], f"{place}{kind}/")
    for number, one in enumerate(one for one in predictions if isinstance(one, Detection)):
        yield from arrays(one.parts, f"{place}detection/parts/{number}/")


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one prediction has of a column."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def _outputs(tensors: Sequence[Tensor], place: str) -> Iterator[RawTensor]:
    named = {tensor.name.replace("/", "_"): tensor for tensor in tensors}
    for name, tensor in named.items():
        if cell := _raw(tensor, tensor.shape):
            yield RawTensor(f"{place}{name}", cell.dtype, cell.shape, cell.data)


def _columns(ones: Sequence[Prediction], place: str) -> Iterator[RawTensor]:
    for name, (key, read, missing) in _COLUMNS.items():
        values = [getattr(one, key, None) for one in ones]
        cells = [None if value in (None, "", ()) else read(value) for value in values]
        if any(cells):
            yield from _column(f"{place}{name}", cells, missing)
    vectors = [_vector(one) for one in ones]
    if any(vectors):
        yield from _column(f"{place}vectors", vectors, None)


def _column(name: str, cells: Sequence[_Cell | None], missing: _Cell | None) -> Iterator[RawTensor]:
    rows = [cell or missing for cell in cells]
    if rows[0] and rows[0].dtype == _TEXT:
        rows = _padded(rows)
    first = rows[0]
    if first and all(row and (row.dtype, row.shape) == (first.dtype, first.shape) for row in rows):
        yield RawTensor(name, first.dtype, (len(rows), *first.shape), b"".join(row.data for row in rows if row))
        return
    for number, cell in enumerate(cells):
        if cell:
            yield RawTensor(f"{name}/{number}", cell.dtype, cell.shape, cell.data)


# -- the cells of each column ------------------------------------------------------------------------------------------

_TEXT: Final = "<U"
"""Of NumPy's texts, which have four bytes for a character and all the same length."""


def _text(value: str) -> _Cell:
    return _Cell(_TEXT, (), value.encode("utf-32-le", "surrogatepass"))


def _padded(cells: Sequence[_Cell | None]) -> list[_Cell | None]:
    longest = max(len(cell.data) for cell in cells if cell)
    return [cell and _Cell(f"{_TEXT}{longest // 4}", (), cell.data.ljust(longest, b"\0")) for cell in cells]


def _whole(value: int) -> _Cell:
    return _Cell("int64", (), struct.pack("<q", value))


def _number(value: float) -> _Cell:
    return _numbers((value,), ())


def _numbers(values: Sequence[float], shape: tuple[int, ...] | None = None) -> _Cell:
    return _Cell("float64", (len(values),) if shape is None else shape, struct.pack(f"<{len(values)}d", *values))


def _flag(value: bool) -> _Cell:
    return _Cell("bool", (), struct.pack("?", value))


def _box(value: Box) -> _Cell:
    return _numbers((value.x, value.y, value.width, value.height))


def _corners(value: Sequence[Sequence[float]]) -> _Cell:
    return _numbers(tuple(chain.from_iterable(value)), (len(value), 2))


def _points(value: Sequence[Keypoint]) -> _Cell:
    numbers = [(one.x, one.y, one.z, one.score) for one in value]
    known = [_NAN if number is None else number for number in chain.from_iterable(numbers)]
    return _numbers(known, (len(value), 4))


def _mask(value: Mask | Image) -> _Cell | None:
    try:
        image = masks.png(value) if isinstance(value, Mask) else value
    except ValueError:
        return None
    pixels = planes.bits(image)
    return None if pixels is None else _Cell("bool", (image.height, image.width), pixels)


def _map(value: Image) -> _Cell | None:
    pixels = planes.levels(value)
    return None if pixels is None else _Cell("uint8", (value.height, value.width), pixels)


def _vector(prediction: Prediction) -> _Cell | None:
    return _raw(prediction, (prediction.size,)) if isinstance(prediction, Embedding) else None


def _raw(prediction: Tensor | Embedding, shape: tuple[int, ...]) -> _Cell | None:
    """The numbers as they are, where they fit the shape."""
    data, dtype = bytes_of(prediction), prediction.dtype
    fits = data is not None and dtype in DTYPES and len(data) == math.prod(shape) * int(DTYPES[dtype][2:])
    return _Cell(dtype, shape, data) if data is not None and fits else None


_COLUMNS: Final[Mapping[str, tuple[str, Callable[[Any], _Cell | None], _Cell | None]]] = {
    "labels": ("label", _text, _text("")),
    "label_ids": ("label_id", _whole, _whole(-1)),
    "scores": ("score", _number, _number(_NAN)),
    "boxes": ("box", _box, _numbers([_NAN] * 4)),
    "corners": ("corners", _corners, _numbers([_NAN] * 8, (4, 2))),
    "angles": ("angle", _number, _number(_NAN)),
    "points": ("keypoints", _points, None),
    "masks": ("mask", _mask, None),
    "areas": ("area", _number, _number(_NAN)),
    "track_ids": ("track_id", _whole, _whole(-1)),
    "anomalous": ("anomalous", _flag, None),
    "thresholds": ("threshold", _number, _number(_NAN)),
    "maps": ("map", _map, None),
    "minima": ("minimum", _number, None),
    "maxima": ("maximum", _number, None),
    "texts": ("text", _text, _text("")),
    "character_scores": ("character_scores", _numbers, None),
    "names": ("name", _text, _text("")),
    "similarities": ("similarity", _number, _number(_NAN)),
}
"""Name → the prediction's own word, what reads it, and what stands for a prediction without it."""
