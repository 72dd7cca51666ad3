"""Where pictures lie in other bytes: behind a length and JSON, between a form's boundaries, in CBOR or MessagePack.

Whatever a sender wraps a picture in, the picture's own first bytes are rare enough to be found, and its own structure
says where it ends: so no container needs to be known.  Only what has a header that can be read, and an end, is one.
Base64 in a text that is none as a whole (XML, YAML, a line of CSV) is found by what base64 makes of those first bytes.
"""

# ruff: noqa: PLR2004 - the numbers are the formats' own
from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from struct import unpack_from

from agent.errors import FrameError
from agent.frames import headers, spelling

__all__ = ["Part", "end_of", "parts"]

_TRIES = 16
"""Beginnings looked into: what bounds the search where many bytes look like one."""
_SIGHTINGS = 8192
"""Signs looked at."""

_SIGNS: Mapping[bytes, re.Pattern[bytes] | None] = {
    b"\xff\xd8\xff": None,
    b"\x89PNG\r\n\x1a\n": None,
    b"RIFF": re.compile(rb"RIFF....WEBP", re.DOTALL),
    b"\x93NUMPY": None,
    b"BM": re.compile(rb"BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    b"/9j/": None,
    b"_9j_": None,
    b"iVBORw0KGgo": None,
    b"UklG": re.compile(rb"UklGR[\w+/-]{6}XRUJQ"),
    b"Qk": re.compile(rb"Qk[0-3][\w+/-]{5}AAAA"),
    b"k05VTVBZ": None,
}
"""How pictures begin, in bytes and as base64, and what more there is where the sign is short.

Each is searched by itself, which is several times as fast as one pattern of all of them.
"""
_RUN = re.compile(rb"[A-Za-z0-9+/_-]+(?:\\?[\r\n]+[ \t]*[A-Za-z0-9+/_-]+)*={0,2}")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class Part:
    """A whole picture among other bytes, and where it begins."""

    at: int
    data: bytes


def parts(data: bytes) -> list[Part]:
    """The whole pictures in ``data``, one after the other."""
    return list(_parts(data))


def end_of(encoding: str, data: headers.Buffer) -> int | None:
    """Where the picture at the beginning of ``data`` ends; None where it does not within ``data``."""
    try:
        end = _ENDS[encoding](data)
    except (struct.error, IndexError, FrameError):
        return None
    return end if end is not None and end <= len(data) else None


def _parts(data: bytes) -> Iterator[Part]:
    view, behind, tries = memoryview(data), 0, 0
    for at in _sightings(data):
        if at < behind:  # within the last picture
            continue
        encoding = headers.encoding_of(view[at : at + 32])
        taken = _picture(view[at:], encoding) if encoding else _spelled(data, at)
        if taken is not None:
            yield Part(at, taken[0])
            behind = at + taken[1]
        elif (tries := tries + 1) == _TRIES:
            return


def _sightings(data: bytes) -> Iterator[int]:
    """Where pictures may begin, in order."""
    ahead = [(at, sign) for sign in _SIGNS if (at := data.find(sign)) >= 0]
    heapify(ahead)
    for _ in range(_SIGHTINGS):
        if not ahead:
            return
        at, sign = ahead[0]
        further = data.find(sign, at + 1)
        if further >= 0:
            heapreplace(ahead, (further, sign))
        else:
            heappop(ahead)
        more = _SIGNS[sign]
        if more is None or more.match(data, at):
            yield at


def _picture(view: memoryview, encoding: str) -> tuple[bytes, int] | None:
    end = end_of(encoding, view)
    try:
        headers.read_header(view[:end])
    except FrameError:
        return None
    return None if end is None else (bytes(view[:end]), end)


def _spelled(data: bytes, at: int) -> tuple[bytes, int] | None:
    run = _RUN.match(data, at)
    assert run is not None  # noqa: S101 it begins with base64
    try:
        picture = spelling.read(run[0].replace(b"\\", b""))
        encoding = headers.read_header(picture).encoding
    except FrameError:
        return None
    return (picture, len(run[0])) if end_of(encoding, picture) is not None else None


def _jpeg(data: headers.Buffer) -> int | None:
    """Behind the marker that ends the picture; segments are passed over, and with them a preview inside."""
    at = 2
    for _ in range(headers.MAX_STEPS):
        marker = _MARKER.search(data, at)
        if marker is None:
            break
        at, kind = marker.end(), data[marker.end() - 1]
        if kind == 0xD9:
            return at
        if kind not in {0x01, 0xD8}:
            at += data[at] << 8 | data[at + 1]
    return None


def _png(data: headers.Buffer) -> int | None:
    at = 8
    for _ in range(headers.MAX_STEPS):
        length, kind = unpack_from(">I4s", data, at)
        at += 12 + int(length)
        if kind == b"IEND":
            return at
    return None


def _webp(data: headers.Buffer) -> int:
    (length,) = unpack_from("<I", data, 4)
    return int(length) + 8


def _bmp(data: headers.Buffer) -> int:
    (length,) = unpack_from("<I", data, 2)
    return int(length)


_ENDS: Mapping[str, Callable[[headers.Buffer], int | None]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "bmp": _bmp,
    "npy": headers.end_of_npy,
}
