"""The frames of Amazon's event stream: bytes in, messages out, and back.

::

    total length u32 | headers length u32 | CRC of these 8 bytes | headers | payload | CRC of everything before

All big-endian; the total counts everything, and the CRC is CRC-32 of zlib.  A header is the length of its name, the
name, a type and a value (``HeaderType``).  Lengths and CRC of a prelude are checked before anything is buffered for
it.  (aws-c-event-stream, ``event_stream.c``.)
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

from agent.errors import InvalidInputError

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Decoder",
    "EventStreamError",
    "Header",
    "HeaderType",
    "StreamMessage",
    "encode",
    "frame",
    "int32",
    "text",
]

MAX_MESSAGE_BYTES: Final = 24 * 1024 * 1024
"""The longest message that Amazon's libraries take."""
_MAX_HEADERS_BYTES: Final = 128 * 1024
_LONGEST_VALUE: Final = 32767
_PRELUDE: Final = struct.Struct(">III")
_LENGTHS: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_LEAST: Final = _PRELUDE.size + _CRC.size
_SIZED: Final = struct.Struct(">H")


class EventStreamError(InvalidInputError):
    """Bytes are no event stream, or a message is past the limits."""

    default_code = "event-stream"


class HeaderType(IntEnum):
    """The types of header values."""

    TRUE = 0
    FALSE = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    BYTES = 6
    STRING = 7
    TIMESTAMP = 8
    """Milliseconds since 1970."""
    UUID = 9


_NUMBERS: Final[Mapping[HeaderType, struct.Struct]] = {
    HeaderType.INT8: struct.Struct(">b"),
    HeaderType.INT16: struct.Struct(">h"),
    HeaderType.INT32: struct.Struct(">i"),
    HeaderType.INT64: struct.Struct(">q"),
    HeaderType.TIMESTAMP: struct.Struct(">q"),
}


class Header(NamedTuple):
    """A value with its type."""

    type: HeaderType
    value: Any


def int32(value: int) -> Header:
    """A number as a header."""
    return Header(HeaderType.INT32, value)


def text(value: str) -> Header:
    """A text as a header."""
    return Header(HeaderType.STRING, value)


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message; its headers in their order, by name."""

    headers: Mapping[str, Header] = field(default_factory=dict)
    payload: bytes = b""


def encode(message: StreamMessage) -> bytes:
    """A message as it goes over the wire.  Raises ``EventStreamError`` for one that no peer would take."""
    return frame(b"".join(_header(name, header) for name, header in message.headers.items()), message.payload)


def frame(headers: bytes, payload: bytes) -> bytes:
    """A frame around headers that are encoded already.  Raises as ``encode``."""
    total = _LEAST + len(headers) + len(payload)
    if total > MAX_MESSAGE_BYTES or len(headers) > _MAX_HEADERS_BYTES:
        raise EventStreamError(f"a message of {total} bytes is longer than the {MAX_MESSAGE_BYTES} that a peer takes")
    lengths = _LENGTHS.pack(total, len(headers))
    head = b"".join((lengths, _CRC.pack(crc32(lengths)), headers))
    return b"".join((head, payload, _CRC.pack(crc32(payload, crc32(head)))))


def _header(name: str, header: Header) -> bytes:
    return _named(name, header.type) + _value(header)


@lru_cache(maxsize=256)
def _named(name: str, kind: HeaderType) -> bytes:
    spelled = name.encode()
    if not 0 < len(spelled) <= 255:  # noqa: PLR2004 its length is one byte
        raise EventStreamError(f"{name!r} cannot be the name of a header")
    return bytes((len(spelled),)) + spelled + bytes((kind,))


def _value(header: Header) -> bytes:
    kind, value = header
    if kind in {HeaderType.TRUE, HeaderType.FALSE}:
        return b""
    if number := _NUMBERS.get(kind):
        return number.pack(value)
    if kind is HeaderType.UUID:
        return bytes(value.bytes)
    content = value.encode() if kind is HeaderType.STRING else bytes(value)
    if len(content) > _LONGEST_VALUE:
        raise EventStreamError(f"a header of {len(content)} bytes is longer than {_LONGEST_VALUE}")
    return _SIZED.pack(len(content)) + content


class Decoder:
    """Takes bytes as they come and gives messages; ``max_bytes`` bounds a message, and so what is buffered.

    Once it has raised it is of no further use: where the next message begins is not known any more.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._buffer = bytearray()
        self._needed = _PRELUDE.size
        self._headers = 0
        """Their length in the message that is begun, once its prelude is there."""

    @property
    def buffered(self) -> int:
        """How many bytes of a message that is not complete are kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[StreamMessage]:
        """The messages that are complete with ``data``.  Raises ``EventStreamError``."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._needed:
            if self._needed == _PRELUDE.size:
                self._begin(buffer)
                continue
            content = bytes(buffer[: self._needed])
            del buffer[: self._needed]
            headers, self._needed = self._headers, _PRELUDE.size
            yield _message(content, headers)

    def _begin(self, buffer: bytearray) -> None:
        total, headers, crc = _PRELUDE.unpack_from(buffer)
        if crc32(memoryview(buffer)[: _LENGTHS.size]) != crc:
            raise EventStreamError("the CRC of a prelude does not fit")
        if not _LEAST <= total <= self.max_bytes or headers > min(total - _LEAST, _MAX_HEADERS_BYTES):
            raise EventStreamError(f"a message of {total} bytes with {headers} bytes of headers is not taken")
        self._needed, self._headers = total, headers


def _message(content: bytes, headers: int) -> StreamMessage:
    view = memoryview(content)
    (crc,) = _CRC.unpack_from(content, len(content) - _CRC.size)
    if crc32(view[: -_CRC.size]) != crc:
        raise EventStreamError("the CRC of a message does not fit")
    payload = _PRELUDE.size + headers
    try:
        decoded = dict(_headers(content, _PRELUDE.size, payload))
    except (struct.error, IndexError, ValueError) as error:
        raise EventStreamError(f"the headers of a message cannot be read: {error}") from error
    return StreamMessage(decoded, content[payload : -_CRC.size])


def _headers(content: bytes, at: int, end: int) -> Iterator[tuple[str, Header]]:
    while at < end:
        name_end = at + 1 + content[at]
        name, kind = content[at + 1 : name_end].decode(), HeaderType(content[name_end])
        value, at = _read_value(content, name_end + 1, kind)
        if at > end:
            raise ValueError("one is longer than all of them")
        yield name, Header(kind, value)


def _read_value(content: bytes, at: int, kind: HeaderType) -> tuple[Any, int]:
    """The value at a place, and where it ends."""
    if number := _NUMBERS.get(kind):
        return number.unpack_from(content, at)[0], at + number.size
    if kind in {HeaderType.TRUE, HeaderType.FALSE}:
        return kind is HeaderType.TRUE, at
    if kind is HeaderType.UUID:
        return uuid.UUID(bytes=content[at : at + 16]), at + 16
    (size,) = _SIZED.unpack_from(content, at)
    if size > _LONGEST_VALUE:
        raise ValueError("a value is too long")
    start, end = at + _SIZED.size, at + _SIZED.size + size
    return (content[start:end].decode() if kind is HeaderType.STRING else content[start:end]), end
