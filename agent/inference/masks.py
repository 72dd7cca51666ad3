"""Masks as COCO's compressed run lengths, read in the core: how large, and as PNG (pure).

``runtime/planes.py`` writes them and says what they are.  All costs but those of ``png`` go with the number of runs,
not of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Final

from agent.inference import planes
from agent.inference.predictions import Image, Mask

__all__ = ["area", "png", "runs"]

_DIGIT: Final = 5
_MORE: Final = 1 << _DIGIT
_SIGN: Final = 1 << (_DIGIT - 1)
_FIRST: Final = ord("0")
_WIDEST: Final = 60
"""Bits: a longer number is of no picture, and would cost the square of its digits."""
_MOST_PIXELS: Final = 1 << 28
"""A few characters may stand for very many."""


def runs(mask: Mask) -> list[int]:
    """How many pixels are out, in, out … of the mask, column by column.

    Raises ``ValueError`` for what are no run lengths of a picture of this size.

    >>> runs(Mask(2, 2, "22"))
    [2, 2]
    """
    if min(mask.width, mask.height) < 0 or mask.width * mask.height > _MOST_PIXELS:
        raise ValueError(f"no mask has {mask.width} × {mask.height} pixels")
    found: list[int] = []
    for number in _numbers(mask.data):
        found.append(number + found[-2] if len(found) > 2 else number)  # noqa: PLR2004 - as COCO's tools do
    if any(run < 0 for run in found) or sum(found) != mask.width * mask.height:
        raise ValueError(f"no run lengths of {mask.width} × {mask.height} pixels")
    return found


def area(mask: Mask) -> int:
    """How many pixels belong to a mask; raises ``ValueError`` as ``runs`` does."""
    return sum(runs(mask)[1::2])


def png(mask: Mask) -> Image:
    """A mask as PNG, one bit for a pixel; raises ``ValueError`` as ``runs`` does."""
    width, height = mask.width, mask.height
    columns = b"".join([sign * run for sign, run in zip(cycle((b"0", b"1")), runs(mask), strict=False)])
    row_bytes = -(-width // 8)
    rest = b"0" * (8 * row_bytes - width)
    # A number in base 2 is the fastest way from digits to bits; the first byte of a row says that it is unfiltered.
    rows = int(b"1" + b"".join([b"00000000" + columns[y::height] + rest for y in range(height)]), 2)
    pixels = rows.to_bytes(1 + height * (1 + row_bytes))[1:]
    return planes.written(width, height, 1, pixels)


def _numbers(text: str) -> Iterator[int]:
    number = shift = 0
    for code in text.encode("ascii", "replace"):
        digit = code - _FIRST
        if not 0 <= digit < 2 * _MORE:
            raise ValueError(f"{chr(code)!r} is none of COCO's characters")
        number |= (digit & (_MORE - 1)) << shift
        shift += _DIGIT
        if shift > _WIDEST:
            raise ValueError("a run is longer than any picture")
        if digit & _MORE:
            continue
        yield number - (1 << shift) if digit & _SIGN else number
        number = shift = 0
    if shift:
        raise ValueError("the run lengths end in the middle of a number")
