"""Bytes that are packed as a whole: compressed by gzip or zlib, or text of two bytes a character."""

from __future__ import annotations

import re
import zlib

from agent.errors import FrameError

__all__ = ["compressed", "decompressed", "narrow"]

_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x9c", b"\x78\xda")
_EITHER = 32 + zlib.MAX_WBITS
"""zlib's word for "gzip or zlib, as the first bytes say"."""

_UTF_16 = (
    (re.compile(rb"\xff\xfe|(?:[\t\r\n\x20-\x7e]\0){2}"), "utf-16-le"),
    (re.compile(rb"\xfe\xff|(?:\0[\t\r\n\x20-\x7e]){2}"), "utf-16-be"),
)


def compressed(data: bytes) -> bool:
    """Whether the bytes begin as gzip or zlib do."""
    return data.startswith((_GZIP, *_ZLIB))


def decompressed(data: bytes, most: int) -> bytes:
    """What gzip or zlib made smaller; bytes behind its end are left out.

    Raises:
        FrameError: ``not-an-image`` where it cannot be read, ``too-many-bytes`` where there are more than ``most``.
    """
    unpacker = zlib.decompressobj(_EITHER)
    try:
        opened = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        hint = "the bytes were damaged or cut short on their way"
        raise FrameError(f"this begins like gzip or zlib and cannot be read: {error}", hint=hint) from None
    if len(opened) > most:
        hint = "send a smaller picture, uncompressed: JPEG is compressed already"
        raise FrameError(f"compressed, there are more than {most} bytes", hint=hint, code="too-many-bytes")
    return opened


def narrow(data: bytes) -> bytes | None:
    """The same text in UTF-8, of UTF-16 with a byte order mark or that begins with two plain characters, or None."""
    encoding = next((name for pattern, name in _UTF_16 if pattern.match(data)), None)
    if encoding is None:
        return None
    whole = data + bytes(len(data) % 2)  # the last byte of a text may have been taken for padding
    try:
        return whole.decode(encoding).encode()
    except UnicodeError:
        return None
