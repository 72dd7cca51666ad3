"""Pictures as clients give them: RGB888, row by row without padding, as bytes or in a segment that they share.

Nothing that a client says of sizes is believed before it is held against the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agent.errors import FrameError
from agent.frames.frame import Picture

__all__ = ["LARGEST_BYTES", "mask_place", "picture"]

_LEAST_SIDE, _LARGEST_SIDE = 64, 4096
_CHANNELS = 3
LARGEST_BYTES: Final = _LARGEST_SIDE * _LARGEST_SIDE * _CHANNELS

ReadSegment = Callable[[str, int, int], bytes]
"""Name, offset and size → the bytes."""


def picture(bitmap: Any, read: ReadSegment) -> Picture:
    """The picture of a request; raises ``FrameError`` (``bitmap-wrong``), and what ``read`` raises."""
    width, height = bitmap.width, bitmap.height
    if not (_LEAST_SIDE <= width <= _LARGEST_SIDE and _LEAST_SIDE <= height <= _LARGEST_SIDE):
        hint = f"each side has {_LEAST_SIDE} to {_LARGEST_SIDE} pixels: shrink the picture before"
        raise _wrong(f"the bitmap has {width} × {height} pixels", hint)
    expected = width * height * _CHANNELS
    data: bytes
    match bitmap.WhichOneof("data"):
        case "byte_data":
            data = bitmap.byte_data
        case "shared_memory_handle":
            handle = bitmap.shared_memory_handle
            _check(handle.size or expected, expected, width, height)
            data = read(handle.name, handle.offset, expected)
        case _:
            raise _wrong("the bitmap has no data", "give byte_data, or a shared_memory_handle")
    _check(len(data), expected, width, height)
    return Picture(data, "rgb", width, height)


def mask_place(params: Any, expected: int) -> Any:
    """The segment in which a client wants a mask of so many bytes, None where it wants it in the answer.

    Raises ``FrameError`` (``bitmap-wrong``) for a place that is too small.
    """
    for field in ("shared_memory_handle", "shared_memory_handle_of_2022"):
        if params.HasField(field):
            handle = getattr(params, field)
            if handle.size and handle.size < expected:
                raise _wrong(f"the mask has {expected} bytes, and there is room for {handle.size}", "share more memory")
            return handle
    return None


def _check(given: int, expected: int, width: int, height: int) -> None:
    if given != expected:
        hint = "three bytes for each pixel, red first, rows without padding"
        raise _wrong(f"a bitmap of {width} × {height} has {expected} bytes, and comes with {given}", hint)


def _wrong(message: str, hint: str) -> FrameError:
    return FrameError(message, code="bitmap-wrong", hint=hint)
