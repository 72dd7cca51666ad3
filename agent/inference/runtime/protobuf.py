"""Protobuf's binary form, walked field by field without a schema; what is not asked for is passed over unread."""

from __future__ import annotations

import mmap
from typing import Iterator, Tuple, Union

__all__ = ["Data", "fields", "last", "text"]

Data = Union[bytes, mmap.mmap]
Place = Tuple[int, int]
"""Where something with a length lies: its start and end; of a plain integer its value, and -1."""


def fields(data: Data, at: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """A message's fields: (number, start, end) of those with a length, (number, value, -1) of plain integers.

    Raises ``ValueError`` or ``IndexError`` for what is no message.
    """
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value, -1
        elif kind == 2:  # noqa: PLR2004 - length-delimited
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field runs past the end")
            yield key >> 3, at, at + length
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field begins with {key}")


def last(data: Data, start: int, end: int, number: int) -> Place:
    """Where the last field of that number lies; (0, 0) where there is none."""
    place = (0, 0)
    for field, first, behind in fields(data, start, end):
        if field == number:
            place = (first, behind)
    return place


def text(data: Data, place: Place) -> str:
    """The text that lies there."""
    return bytes(data[place[0] : place[1]]).decode("utf-8")


def _varint(data: Data, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, at
    raise ValueError("a number has no end")
