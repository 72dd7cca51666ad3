"""From a picture's bytes to its pixels, at the smallest scale that still covers what a network reads.

JPEG can be decoded at 1/2, 1/4 and 1/8 by leaving out coefficients, which is up to twice as fast as
decoding everything, and shrinks better; the header says which scale is enough.  The size reported is
always that of the full picture, after its EXIF orientation.

OpenCV decodes what OpenCV writes (JPEG, PNG, WebP, BMP).  An ``.npy`` is read here instead of by
``np.load``: no copy, nothing unpickled, and a header that promises more than was sent allocates nothing.
Colour arrays in ``.npy`` are RGB(A), as nearly everything in Python that makes one; all else is BGR inside.
What programs hand over as pixels (``rgb``) says its size beside them.
"""

from __future__ import annotations

import ast
import re
import struct
from dataclasses import dataclass
from typing import Optional, Tuple, Union

import cv2
import numpy as np

from agent.inference.runtime.complaints import Complaints
from agent.inference.runtime.errors import ModelError

__all__ = ["Decoded", "Fit", "configure", "decode"]

Buffer = Union[bytes, bytearray, memoryview]

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EXIF = 0xE1
_JPEG, _JPEG_END, _PNG = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
_PADDING = 4096
"""How far before the end of the data a JPEG's own end is looked for first; nearly always it is there."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MAX_MARKERS = 4096
_NPY_HEADER_LIMIT = 4096
_NPY_BYTES = ("|u1", "<u1", ">u1", "=u1", "u1")
_NPY_CHANNELS = ((), (1,), (3,), (4,))
_NPY_BROKEN = (IndexError, KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError, struct.error)
_ENCODINGS = ("jpeg", "png", "webp", "bmp", "npy")
_complaints = Complaints()


@dataclass(frozen=True)
class Decoded:
    """A picture's pixels, possibly reduced, and the size of the frame they show."""

    pixels: np.ndarray
    """Height × width × 3, uint8, BGR, contiguous."""
    width: int
    height: int
    """The frame's size in pixels at full scale, after EXIF orientation."""
    damaged: bool = False
    """The decoder complained: some of the pixels are made up."""


class Fit(Tuple[int, int]):
    """A (width, height) that a picture is fitted into: covering it on one axis is enough."""

    __slots__ = ()


def configure(threads: int) -> None:
    """Let OpenCV use ``threads`` threads, and leave reports of broken pictures to the errors raised here."""
    cv2.setNumThreads(threads)
    # OpenCV moved the function between versions 4 and 5.
    quiet = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    quiet(0)


def decode(
    data: Buffer, encoding: str, cover: Optional[Tuple[int, int]], size: Optional[Tuple[int, int]] = None
) -> Decoded:
    """The picture in ``data``: jpeg, png, webp, bmp or npy; or rgb, whose (width, height) is ``size``.

    ``cover`` is the (width, height) that the pixels must have at least; None decodes at full scale.
    Raises ``ModelError`` (``undecodable``) for anything that is not a whole picture.
    """
    if encoding == "npy":
        return _npy(data)
    if encoding == "rgb" and size is not None:
        return _rgb(data, *size)
    if encoding not in _ENCODINGS:
        raise _undecodable(f"no decoder for {encoding!r}", f"send one of {', '.join(_ENCODINGS)}")
    if not _is_whole(data):
        raise _undecodable(f"the {encoding} picture of {len(data)} bytes is cut off")
    full = _jpeg_size(data) if encoding == "jpeg" and cover else None
    factor, flag = _reduction(full, cover) if full and cover else (1, cv2.IMREAD_COLOR)
    try:
        with _complaints:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise _undecodable(f"not a {encoding} picture: {error.err or error}") from error
    finally:
        damaged = _complaints.of_damage()
    if pixels is None:
        raise _undecodable(f"the {encoding} picture of {len(data)} bytes is broken or cut off")
    height, width = pixels.shape[:2]
    if full and factor > 1:
        turned = (height, width) != (_ceil(full[1], factor), _ceil(full[0], factor))
        width, height = (full[1], full[0]) if turned else (full[0], full[1])
    return Decoded(pixels, width, height, damaged)


def _reduction(size: Tuple[int, int, bool], cover: Tuple[int, int]) -> Tuple[int, int]:
    """The largest reduction of a JPEG that covers, and OpenCV's flag for it."""
    enough = any if isinstance(cover, Fit) else all
    width, height, turns = size
    ways = ((width, height), (height, width)) if turns else ((width, height),)
    for factor, flag in _REDUCED:
        # A square hides whether EXIF turned it, and with it the frame's width and height.
        if turns and width != height and _ceil(width, factor) == _ceil(height, factor):
            continue
        if all(enough(_ceil(have, factor) >= need for have, need in zip(way, cover)) for way in ways):
            return factor, flag
    return 1, cv2.IMREAD_COLOR


def _jpeg_size(data: Buffer) -> Optional[Tuple[int, int, bool]]:
    """(width, height, whether EXIF may turn it) from the header; None where it is not plain."""
    at, exif, end = 2, False, len(data) - 9
    while at <= end and data[at] == 0xFF:  # noqa: PLR2004 - every marker begins so
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - padding
            at += 1
            continue
        if marker in _START_OF_FRAME:
            height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
            return (width, height, exif) if width and height else None
        exif = exif or marker == _EXIF
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def _is_whole(data: Buffer) -> bool:
    """Whether a JPEG ends and each chunk of a PNG lies within the data; anything else is left to OpenCV.

    OpenCV 4 paints what is missing of a JPEG grey, and OpenCV 5 first fills what a broken PNG promises.
    """
    if bytes(data[:2]) == _JPEG:
        return _JPEG_END in bytes(data[-_PADDING:]) or _ends(data)
    if bytes(data[:8]) != _PNG:
        return True
    at, kind = len(_PNG), b""
    while kind != b"IEND" and at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        at += 12 + length
    return kind == b"IEND" and at <= len(data)


def _ends(data: Buffer) -> bool:
    """Whether a JPEG has an end anywhere: a camera may send its whole buffer, whatever the picture takes of it."""
    at = len(_JPEG)
    for _ in range(_MAX_MARKERS):
        marker = _MARKER.search(data, at)
        if marker is None or marker.end() + 2 > len(data):
            return marker is not None and marker[0] == _JPEG_END
        at = marker.end()
        if marker[0] == _JPEG_END:
            return True
        at += data[at] << 8 | data[at + 1]
    return False


def _rgb(data: Buffer, width: int, height: int) -> Decoded:
    """Pixels as they are, row by row without padding."""
    if width < 1 or height < 1 or len(data) != width * height * 3:
        raise _undecodable(f"a picture of {width} × {height} comes with {len(data)} bytes")
    array = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    return Decoded(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), width, height)


def _npy(data: Buffer) -> Decoded:
    view = memoryview(data)
    shape, fortran, start = _npy_header(view)
    if start + int(np.prod(shape, dtype=object)) != len(view):
        raise _undecodable(f"the npy array of shape {shape} comes with {len(view) - start} bytes")
    array = np.frombuffer(view, np.uint8, offset=start).reshape(shape, order="F" if fortran else "C")
    channels = 1 if array.ndim == 2 else array.shape[2]  # noqa: PLR2004 - height × width
    conversion = {1: cv2.COLOR_GRAY2BGR, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGR}[channels]
    pixels = cv2.cvtColor(np.ascontiguousarray(array), conversion)
    return Decoded(pixels, pixels.shape[1], pixels.shape[0])


def _npy_header(view: memoryview) -> Tuple[Tuple[int, ...], bool, int]:
    """(shape, whether columns come first, where the values start) of a uint8 picture."""
    hint = "send uint8 of height × width, or × 1, 3 (RGB) or 4 (RGBA)"
    try:
        long = view[6] > 1
        length = struct.unpack_from("<I" if long else "<H", view, 8)[0]
        start = (12 if long else 10) + length
        if bytes(view[:6]) != b"\x93NUMPY" or length > _NPY_HEADER_LIMIT or start > len(view):
            raise _undecodable("not an npy array", hint)
        header = ast.literal_eval(bytes(view[start - length : start]).decode("latin-1").strip())
        shape, fortran, descr = header["shape"], header["fortran_order"], header["descr"]
    except _NPY_BROKEN as error:
        raise _undecodable(f"not an npy array: {error}", hint) from error
    sizes = isinstance(shape, tuple) and all(type(side) is int and side > 0 for side in shape)
    if descr not in _NPY_BYTES or not sizes or len(shape) not in (2, 3) or shape[2:] not in _NPY_CHANNELS:
        raise _undecodable(f"an npy array of {descr} {shape} is no picture", hint)
    return shape, bool(fortran), start


def _ceil(value: int, factor: int) -> int:
    return -(-value // factor)


def _undecodable(message: str, hint: Optional[str] = None) -> ModelError:
    return ModelError("undecodable", message, hint or "is the picture sent whole?")
