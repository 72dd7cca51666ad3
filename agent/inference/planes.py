"""Masks and maps as PNG, read and written in the core (pure).

They are of one channel, in one chunk and with unfiltered rows, as the worker writes them (``runtime/planes.py``).
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from agent.inference.predictions import Image

__all__ = ["bits", "levels", "png", "written"]

_DATA: Final = 41
"""Bytes: the signature, the header's chunk, and the name of the chunk that holds the rows."""
_MOST_BYTES: Final = 1 << 26
"""Unpacked: a few bytes may stand for very many."""
_FAST: Final = 1
_UNPACKED: Final = [bytes(byte >> bit & 1 for bit in range(7, -1, -1)) for byte in range(256)]


def bits(image: Image) -> bytes | None:
    """A mask's pixels row by row, a byte for each, 0 or 1; None for what cannot be read."""
    rows = _rows(image, -(-image.width // 8))
    if rows is None:
        return None
    return b"".join(b"".join([_UNPACKED[byte] for byte in row])[: image.width] for row in rows)


def levels(image: Image) -> bytes | None:
    """A map's pixels row by row, a byte for each; None for what cannot be read."""
    rows = _rows(image, image.width)
    return None if rows is None else b"".join(rows)


def png(width: int, height: int, pixels: bytes) -> Image:
    """The map with these pixels, row by row; ``levels`` reads it."""
    rows = b"".join(b"\0" + pixels[row * width : (row + 1) * width] for row in range(height))
    return written(width, height, 8, rows)


def written(width: int, height: int, depth: int, rows: bytes) -> Image:
    """The picture of these rows, each with a 0 for its filter in front, ``depth`` bits for a pixel."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, _FAST)), (b"IEND", b""))
    return Image(width, height, b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))


def _rows(image: Image, size: int) -> list[bytes] | None:
    """The rows of ``size`` bytes without their filters, which have to be 0."""
    needed = (1 + size) * image.height
    if min(image.width, image.height) < 1 or needed > _MOST_BYTES:
        return None
    try:
        (length,) = struct.unpack_from(">I", image.data, _DATA - 8)
        plain = zlib.decompressobj().decompress(image.data[_DATA : _DATA + length], needed)
    except (struct.error, zlib.error):
        return None
    if len(plain) != needed or any(plain[:: 1 + size]):
        return None
    return [plain[begin + 1 : begin + 1 + size] for begin in range(0, needed, 1 + size)]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
