"""How alike two maps are: by the mean of how far their values are from each other."""

from __future__ import annotations

from typing import Final

from agent.inference.planes import levels, png
from agent.inference.predictions import Image, Map

__all__ = ["image_likeness", "map_likeness", "shrunk"]

_WHITE: Final = 255
_MOST: Final = 256
"""Samples along a side: a mean needs no more."""


def map_likeness(one: Map, other: Map) -> float:
    """1 for the same values, less by the mean of their differences in the range that both span together."""
    if one.unit != other.unit:
        return 0.0
    return _likeness((one.map, one.minimum, one.maximum), (other.map, other.minimum, other.maximum))


def image_likeness(one: Image, other: Image) -> float:
    """As ``map_likeness``, of maps from 0 to 1."""
    return _likeness((one, 0.0, 1.0), (other, 0.0, 1.0))


def shrunk(image: Image, side: int) -> Image:
    """The map at ``side`` pixels along a side at most, enough to recognise it by; as it is where it cannot be read."""
    size = min(image.width, side), min(image.height, side)
    samples = None if size == (image.width, image.height) else _samples(image, *size)
    return image if samples is None else png(*size, samples)


def _likeness(one: tuple[Image, float, float], other: tuple[Image, float, float]) -> float:
    if one == other:
        return 1.0
    (image, *_), (picture, *_) = one, other
    size = min(image.width, picture.width, _MOST), min(image.height, picture.height, _MOST)
    ours, theirs = _samples(image, *size), _samples(picture, *size)
    low, high = min(one[1:] + other[1:]), max(one[1:] + other[1:])
    if not ours or not theirs:
        return 0.0
    if high == low:
        return 1.0
    mine, yours = (_values(low, high, *bounds) for bounds in (one[1:], other[1:]))
    apart = sum([abs(mine[level] - yours[value]) for level, value in zip(ours, theirs, strict=True)])
    return max(0.0, 1.0 - apart / len(ours))


def _values(low: float, high: float, minimum: float, maximum: float) -> list[float]:
    """What each level of a map stands for, as a share of the range from ``low`` to ``high``."""
    begin, step = (minimum - low) / (high - low), (maximum - minimum) / (high - low) / _WHITE
    return [begin + level * step for level in range(_WHITE + 1)]


def _samples(image: Image, width: int, height: int) -> bytes | None:
    """The pixels of a grid, row by row; None for what cannot be read."""
    pixels = levels(image)
    if pixels is None:
        return None
    columns = [number * image.width // width for number in range(width)]
    rows = [number * image.height // height * image.width for number in range(height)]
    return bytes([pixels[row + column] for row in rows for column in columns])
