"""The wire of the stream manager: frames of a length, an operation and a CBOR map.

A frame is four bytes of length (signed, big-endian; of what follows them), one byte of operation and the payload.  Each
side of a connection begins with one byte, the version of the handshake, and the first frame each way is ``CONNECT``
and ``CONNECT_RESPONSE``.  Source: the public clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import cbor2

from agent.errors import InvalidInputError

__all__ = [
    "CONNECT_VERSION",
    "MAX_FRAME_BYTES",
    "PROTOCOL_VERSIONS",
    "RESPONSES",
    "Frame",
    "Receiver",
    "RefusedError",
    "Status",
    "StreamOperation",
    "StreamsWireError",
    "decode",
    "encode",
]

CONNECT_VERSION: Final = 1
PROTOCOL_VERSIONS: Final = ("1.1.0", "1.0.0")
"""The best first."""
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""The clients write up to 1 GiB; a frame is held in memory, so this is less."""
_LENGTH: Final = 4


class StreamOperation(IntEnum):
    """What a frame asks or answers."""

    CONNECT = 1
    CREATE = 2
    DELETE = 3
    APPEND = 4
    READ = 5
    CONNECT_RESPONSE = 6
    CREATE_RESPONSE = 7
    DELETE_RESPONSE = 8
    APPEND_RESPONSE = 9
    READ_RESPONSE = 10
    LIST = 11
    LIST_RESPONSE = 12
    DESCRIBE = 13
    DESCRIBE_RESPONSE = 14
    UPDATE = 15
    UPDATE_RESPONSE = 16
    UNKNOWN_OPERATION = 17


RESPONSES: Final[Mapping[int, StreamOperation]] = {
    StreamOperation.CREATE: StreamOperation.CREATE_RESPONSE,
    StreamOperation.DELETE: StreamOperation.DELETE_RESPONSE,
    StreamOperation.APPEND: StreamOperation.APPEND_RESPONSE,
    StreamOperation.READ: StreamOperation.READ_RESPONSE,
    StreamOperation.LIST: StreamOperation.LIST_RESPONSE,
    StreamOperation.DESCRIBE: StreamOperation.DESCRIBE_RESPONSE,
    StreamOperation.UPDATE: StreamOperation.UPDATE_RESPONSE,
}
"""Request → its response."""


class Status(IntEnum):
    """How a request ended."""

    SUCCESS = 0
    UNKNOWN_FAILURE = 1
    UNAUTHORIZED = 2
    INVALID_REQUEST = 3
    REQUEST_TOO_LARGE = 4
    NOT_FOUND = 5
    TIMEOUT = 6
    RESPONSE_TOO_LARGE = 7
    UNSUPPORTED_CONNECT_VERSION = 8
    UNEXPECTED_OPERATION = 9
    UNSUPPORTED_PROTOCOL_VERSION = 10
    INVALID_PROTOCOL_VERSION = 11
    FAILED_TO_CONNECT = 12
    NOT_ENOUGH_MESSAGES = 13
    STORE_READ_ERROR = 14
    OUT_OF_MEMORY = 15
    UPDATE_FAILED = 16
    UPDATE_NOT_ALLOWED = 17
    UNKNOWN_OPERATION = 18


class StreamsWireError(InvalidInputError):
    """Bytes that are no frame: the connection cannot go on."""

    default_code = "streams-wire"


class RefusedError(InvalidInputError):
    """A request that cannot be done; ``status`` and the message go to the client."""

    default_code = "stream-refused"

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; ``operation`` may be none of ``StreamOperation``."""

    operation: int
    payload: bytes


class Receiver:
    """Bytes as they come in, frames out; holds one frame at most, and what came with it."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_bytes
        self._held = bytearray()
        self.version: int | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.  Raises ``StreamsWireError``."""
        self._held += data
        if self.version is None and self._held:
            self.version = self._held.pop(0)
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if len(self._held) < _LENGTH:
            return None
        length = int.from_bytes(self._held[:_LENGTH], "big", signed=True)
        if not 0 < length <= self._max:
            raise StreamsWireError(f"a frame of {length} bytes: between 1 and {self._max} are taken")
        end = _LENGTH + length
        if len(self._held) < end:
            return None
        frame = Frame(self._held[_LENGTH], bytes(self._held[_LENGTH + 1 : end]))
        del self._held[:end]
        return frame


def encode(operation: StreamOperation, payload: Mapping[str, Any]) -> bytes:
    """A frame; members that are None are left out."""
    body = cbor2.dumps({name: value for name, value in payload.items() if value is not None})
    return (len(body) + 1).to_bytes(_LENGTH, "big", signed=True) + bytes([operation]) + body


def decode(payload: bytes) -> dict[str, Any]:
    """The map of a payload.  Raises ``StreamsWireError``."""
    try:
        plain = cbor2.loads(payload)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise StreamsWireError(f"a payload is not CBOR: {error}") from error
    if not isinstance(plain, dict):
        raise StreamsWireError("a payload is no map")
    return plain
