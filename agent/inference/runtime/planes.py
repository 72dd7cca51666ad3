"""Pictures of one channel on their way out: masks as run lengths, maps of any numbers as uint8, both as PNG.

The run lengths are COCO's (``mask_api.c`` of its tools): of the pixels column by column, how many are out, in, out …;
from the fourth on each less the one two before; each number in digits of 5 bits, the lowest first, with a bit that says
whether another one follows, as characters from ``0`` on.
"""

from __future__ import annotations

import struct
import zlib
from typing import List, Optional, Tuple

import cv2
import numpy as np

from agent.inference.runtime.base import Geometry

__all__ = ["covering", "png", "rle", "scaled"]

_DIGIT = 5
_MORE = 1 << _DIGIT
_SIGN = 1 << (_DIGIT - 1)
_FIRST = ord("0")
_LEVELS = 255
_LARGEST_SIDE = 2048
_FAST = 1


def rle(mask: np.ndarray) -> str:
    """A mask of height × width booleans as COCO's compressed run lengths.

    >>> rle(np.array([[0, 1], [0, 1]], np.bool_))
    '22'
    """
    return _digits(_runs(np.asarray(mask, np.bool_)))


def scaled(
    values: np.ndarray, minimum: Optional[float] = None, maximum: Optional[float] = None
) -> Tuple[np.ndarray, float, float]:
    """Numbers as uint8, and what 0 and 255 stand for: the least and the greatest of them where nothing else is given.

    What is outside is cut off; what is no number is 0.
    """
    finite = np.isfinite(values)
    known = values if finite.all() else values[finite]
    low = _short(known.min(initial=np.inf)) if minimum is None else float(minimum)
    high = _short(known.max(initial=-np.inf)) if maximum is None else float(maximum)
    if low > high:
        low = high = 0.0  # no number at all
    step = (high - low) / _LEVELS or 1.0
    levels = np.clip((values - np.float64(low)) / step, 0, _LEVELS)
    return np.asarray(np.rint(np.where(finite, levels, 0)), np.uint8), low, high


def covering(plane: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A plane [H, W] of the network's picture as one of the whole frame, about as fine; 0 where none was seen.

    Padding falls away; what a crop left out is added.  Booleans and int16 are classes, and none lies between two.
    """
    if (geometry.offset_x, geometry.offset_y, geometry.extent_x, geometry.extent_y) == (0, 0, 1, 1):
        return plane
    height, width = plane.shape
    columns = max(1, min(round(width / geometry.extent_x), _LARGEST_SIDE))
    rows = max(1, min(round(height / geometry.extent_y), _LARGEST_SIDE))
    # Where the middle of each point of the frame's plane lies among the network's points.
    steps = width / (geometry.extent_x * columns), height / (geometry.extent_y * rows)
    starts = -geometry.offset_x / geometry.extent_x * width, -geometry.offset_y / geometry.extent_y * height
    back = np.array([[steps[0], 0, starts[0] + steps[0] / 2 - 0.5], [0, steps[1], starts[1] + steps[1] / 2 - 0.5]])
    is_mask = plane.dtype == np.bool_
    interpolation = cv2.INTER_NEAREST if is_mask or plane.dtype == np.int16 else cv2.INTER_LINEAR
    values = plane.astype(np.uint8) if is_mask else plane
    moved = cv2.warpAffine(values, back, (columns, rows), flags=interpolation | cv2.WARP_INVERSE_MAP)
    return np.asarray(moved, plane.dtype)


def _short(number: float) -> float:
    """A number with the digits that float32 has."""
    return float(f"{number:.7g}")


def png(pixels: np.ndarray) -> bytes:
    """A picture of one channel as PNG: of booleans with one bit for a pixel, of uint8 with eight; rows unfiltered."""
    height, width = pixels.shape
    is_mask = pixels.dtype == np.bool_
    rows = np.packbits(pixels, axis=1) if is_mask else np.ascontiguousarray(pixels, np.uint8)
    filters = np.zeros((height, 1), np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 1 if is_mask else 8, 0, 0, 0, 0)
    data = zlib.compress(np.hstack([filters, rows]).tobytes(), _FAST)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _runs(mask: np.ndarray) -> np.ndarray:
    """How many pixels are out, in, out … of the mask, column by column."""
    columns = cv2.transpose(np.ascontiguousarray(mask).view(np.uint8)).reshape(-1)
    edges = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    starts = [0, 0] if columns[0] else [0]
    return np.diff(np.concatenate((starts, edges, [columns.size])))


def _digits(numbers: np.ndarray) -> str:
    rest = numbers.copy()
    rest[3:] -= numbers[1:-2]
    written: List[np.ndarray] = []
    open_ = np.ones(rest.size, np.bool_)
    while open_.any():
        digit = rest & (_MORE - 1)
        rest >>= _DIGIT
        more = open_ & np.where(digit & _SIGN, rest != -1, rest != 0)
        written.append(np.where(open_, digit + more * _MORE + _FIRST, 0))
        open_ = more
    signs = np.stack(written, axis=1).astype(np.uint8).reshape(-1)
    return signs[signs > 0].tobytes().decode("ascii")
