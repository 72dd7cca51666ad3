"""What the first bytes of an encoded picture say: its encoding, its size and how it is turned.

Theory of operation: each encoding announces itself by its first bytes (``MAGIC``) and has one reader
that finds the size where the format's specification puts it.  Nothing is decoded and nothing is copied
beyond a few bytes, so a picture that would decompress to gigabytes costs as much as a small one.  EXIF
orientation is followed, since the size that matters is that of the upright picture.  Every walk over
markers or chunks ends after ``MAX_STEPS``: a hostile header cannot hold the event loop.
"""

# ruff: noqa: PLR2004 - the numbers are the formats' own; each stands where the format puts it
from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import TypeAlias

from agent.errors import FrameError
from agent.frames import foreign

__all__ = [
    "ACCEPTED", "MAX_STEPS", "Buffer", "Header", "encoding_of", "end_of_npy", "read_header", "unknown",
]  # fmt: skip

Buffer: TypeAlias = bytes | memoryview

ACCEPTED = "send JPEG, PNG, WebP, BMP or .npy"
MAX_STEPS = 4096
MAX_NPY_HEADER = 4096
MAX_SIDE = 2**31 - 1

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_LS = 0xF7
_NO_SEGMENT = frozenset({0xD8, 0xD9, 0xDA, _JPEG_LS})
_ORIENTATION_TAG = 0x0112
_MAX_EXIF_ENTRIES = 256
_CHANNELS = frozenset({1, 3, 4})
_UINT8 = frozenset({"|u1", "<u1", ">u1", "u1"})
_NPY_FIELDS = (
    re.compile(rb"""['"]descr['"]\s*:\s*['"]([^'"]{1,16})['"]"""),
    re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)"""),
    re.compile(rb"""['"]shape['"]\s*:\s*\((\s*(?:\d{1,10}\s*,\s*){1,8}(?:\d{1,10}\s*)?)\)"""),
)


@dataclass(frozen=True, slots=True)
class Header:
    """An encoding with the picture's size; ``orientation`` is EXIF's 1 to 8 and already part of the size."""

    encoding: str
    width: int
    height: int
    orientation: int = 1


def encoding_of(data: Buffer) -> str | None:
    """The encoding that the first bytes announce, or None."""
    head = bytes(data[:16])
    for encoding, magic in MAGIC.items():
        if head.startswith(magic) and (encoding not in _DOUBTFUL or _DOUBTFUL[encoding](head)):
            return encoding
    return None


def read_header(data: Buffer) -> Header:
    """Encoding and upright size of a picture, from its first bytes.

    Raises:
        FrameError: ``truncated`` where the bytes end inside the header, ``unsupported-format`` for a
            known format that is not taken, ``not-an-image`` for everything else.
    """
    encoding = encoding_of(data)
    if encoding is None:
        raise unknown(data)
    try:
        width, height, orientation = _READERS[encoding](data)
    except (struct.error, IndexError):
        raise _truncated(encoding, len(data)) from None
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise _nonsense(encoding, f"its size is {width} × {height}")
    if orientation > 4:  # EXIF 5 to 8 lie on their side
        width, height = height, width
    return Header(encoding, width, height, orientation)


def _jpeg(data: Buffer) -> tuple[int, int, int]:
    at, orientation = 2, 1
    for _ in range(MAX_STEPS):
        if data[at] != 0xFF:  # every marker starts with it
            raise _nonsense("jpeg", f"there is no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte before the marker
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = unpack_from(">HH", data, at + 5)
            return width, height, orientation
        elif marker in _NO_SEGMENT:
            raise _no_frame_header(marker)
        else:
            length = data[at + 2] << 8 | data[at + 3]
            if length < 2:  # the length counts its own two bytes
                raise _nonsense("jpeg", f"the segment at byte {at} has length {length}")
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                orientation = _orientation(data[at + 10 : at + 2 + length])
            at += 2 + length
    raise _nonsense("jpeg", f"it has no frame header within {MAX_STEPS} segments")


def _no_frame_header(marker: int) -> FrameError:
    if marker == _JPEG_LS:  # a relative with a frame header of its own, which no decoder of JPEG reads
        return FrameError("this looks like JPEG-LS", hint=ACCEPTED, code="unsupported-format")
    return _nonsense("jpeg", "it has no frame header before its data")


def _orientation(tiff: Buffer) -> int:
    """EXIF's orientation, 1 (upright) where the block does not say it or cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    if order is None:
        return 1
    try:
        (directory,) = unpack_from(f"{order}I", tiff, 4)
        (entries,) = unpack_from(f"{order}H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * min(entries, _MAX_EXIF_ENTRIES), 12):
            tag, _type, _count, value = unpack_from(f"{order}HHIH", tiff, at)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1  # EXIF knows eight
    except struct.error:  # decoders take a picture with a damaged EXIF block as upright
        return 1
    return 1


def _png(data: Buffer) -> tuple[int, int, int]:
    length, kind, width, height = unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:  # the only length IHDR has
        raise _nonsense("png", "its first chunk is not IHDR")
    return width, height, _orientation(_chunk(data, 33, ">I4s", b"eXIf"))


def _webp(data: Buffer) -> tuple[int, int, int]:
    kind = bytes(data[12:16])
    if kind == b"VP8 ":
        tag, start, width, height = unpack_from("<B2x3sHH", data, 20)
        if tag & 1 or start != b"\x9d\x01\x2a":
            raise _nonsense("webp", "its VP8 data does not start with a key frame")
        return width & 0x3FFF, height & 0x3FFF, 1
    if kind == b"VP8L":
        signature, bits = unpack_from("<BI", data, 20)
        if signature != 0x2F:  # the signature of lossless WebP
            raise _nonsense("webp", "its VP8L data has no signature")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = unpack_from("<HBHB", data, 24)
        exif = _chunk(data, 30, "<4sI", b"EXIF") if data[20] & 0x08 else b""
        return (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1, _orientation(exif)
    if len(data) < 16:  # where the first chunk's name ends
        raise IndexError
    raise _nonsense("webp", "its first chunk is none of VP8, VP8L and VP8X")


def _chunk(data: Buffer, at: int, layout: str, wanted: bytes) -> Buffer:
    """The body of a PNG or RIFF chunk at or after ``at``, empty where there is none within ``MAX_STEPS``."""
    png = layout == ">I4s"
    for _ in range(MAX_STEPS):
        if at + 8 > len(data):
            break
        first, second = unpack_from(layout, data, at)
        length, kind = (first, second) if png else (second, first)
        if kind == wanted:
            return data[at + 8 : at + 8 + length]
        # PNG follows a chunk with its checksum, RIFF pads it to an even length.
        at += 12 + length if png else 8 + length + length % 2
    return b""


def _bmp(data: Buffer) -> tuple[int, int, int]:
    (size,) = unpack_from("<I", data, 14)
    if size == 12:  # BITMAPCOREHEADER
        width, height = unpack_from("<HH", data, 18)
    elif 36 <= size <= 256:  # BITMAPINFOHEADER and its successors
        width, height = unpack_from("<ii", data, 18)
    else:
        raise _nonsense("bmp", f"its header has length {size}")
    return width, abs(height), 1  # a negative height says that the rows go from top to bottom


def _npy(data: Buffer) -> tuple[int, int, int]:
    height, width, _channels, _start = _npy_layout(data)
    missing = end_of_npy(data) - len(data)
    if missing > 0:
        raise IndexError
    if missing < 0:
        raise _nonsense("npy", f"{-missing} bytes follow the array")
    return width, height, 1


def end_of_npy(data: Buffer) -> int:
    """Where an array begins to be followed by something else; raises as ``read_header`` does inside."""
    height, width, channels, start = _npy_layout(data)
    return start + height * width * channels


def _npy_layout(data: Buffer) -> tuple[int, int, int, int]:
    """Height, width, channels, and where the pixels begin."""
    major = data[6]
    if major not in (1, 2, 3):
        raise _nonsense("npy", f"its version is {major}")
    start = 10 if major == 1 else 12
    (length,) = unpack_from("<H" if major == 1 else "<I", data, 8)
    if length > MAX_NPY_HEADER:
        raise _nonsense("npy", f"its header has {length} bytes")
    if start + length > len(data):
        raise IndexError
    return *_npy_shape(bytes(data[start : start + length])), start + length


def _npy_shape(header: bytes) -> tuple[int, int, int]:
    """Height, width and channels of a uint8 array; ``header`` is the text of a Python dictionary."""
    fields = [field.search(header) for field in _NPY_FIELDS]
    dtype, order, sides = (match[1].decode("latin-1") if match else "" for match in fields)
    shape = tuple(int(side) for side in sides.split(",") if side.strip())
    picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS)
    if not picture or not order or dtype not in _UINT8:
        raise FrameError(
            f"an .npy array of dtype {dtype!r} and shape {shape} is no picture",
            hint="send uint8 of height × width, or height × width × 1, 3 (RGB) or 4 (RGBA) channels",
            code="unsupported-format",
        )
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1


def unknown(data: Buffer) -> FrameError:
    """The refusal of bytes that are no picture, with what can be said of them."""
    likeness = foreign.likeness(data)
    if likeness is None:
        told = f"{len(data)} bytes that start with {bytes(data[:8]).hex(' ')} are no picture"
        return FrameError(told, hint=ACCEPTED)
    hint = f"{ACCEPTED}; {likeness.advice}" if likeness.advice else ACCEPTED
    code = "unsupported-format" if likeness.known else "not-an-image"
    return FrameError(f"this {likeness.told}", hint=hint, code=code)


def _truncated(encoding: str, size: int) -> FrameError:
    hint = "the sender cut the message short: look at its buffer size and at the broker's limit"
    return FrameError(f"the {encoding} picture ends after {size} bytes", hint=hint, code="truncated")


def _nonsense(encoding: str, reason: str) -> FrameError:
    hint = "the bytes were damaged on their way or are no picture: " + ACCEPTED
    return FrameError(f"this starts like a {encoding} picture, but {reason}", hint=hint)


MAGIC: Mapping[str, bytes] = {
    "jpeg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "webp": b"RIFF",
    "bmp": b"BM",
    "npy": b"\x93NUMPY",
}

_DOUBTFUL: Mapping[str, Callable[[bytes], bool]] = {
    "webp": lambda head: head[8:12] == b"WEBP",
    # Two letters that words begin with too; a picture has its length behind them, which is no text.
    "bmp": lambda head: len(head) < 6 or not (head.isascii() and head.decode().isprintable()),
}
"""Whose magic others share, and what tells them apart."""

_READERS: Mapping[str, Callable[[Buffer], tuple[int, int, int]]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "bmp": _bmp,
    "npy": _npy,
}
