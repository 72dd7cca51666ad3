"""What the messages of an event stream connection are, for both of its ends: kinds, flags, the headers they share.

Every message has a kind, flags and a stream; stream 0 is that of the connection itself.
(aws-c-event-stream, ``event_stream_rpc.h``.)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import json

from agent.eventstream.frames import EventStreamError, Header, HeaderType, StreamMessage, encode, frame, int32, text

__all__ = ["VERSION", "Flag", "Heading", "ProtocolError", "RpcType", "answer_to_ping", "connect", "heading", "written"]

VERSION: Final = "0.1.0"
_JSON: Final = "application/json"
_TYPE, _FLAGS, _STREAM = ":message-type", ":message-flags", ":stream-id"
_OURS: Final = frozenset((_TYPE, _FLAGS, _STREAM))


class RpcType(IntEnum):
    """What a message is."""

    APPLICATION_MESSAGE = 0
    APPLICATION_ERROR = 1
    PING = 2
    PING_RESPONSE = 3
    CONNECT = 4
    CONNECT_ACK = 5
    PROTOCOL_ERROR = 6
    INTERNAL_ERROR = 7


class Flag(IntEnum):
    """What ``:message-flags`` may hold."""

    NONE = 0
    CONNECTION_ACCEPTED = 1
    TERMINATE_STREAM = 2


class ProtocolError(EventStreamError):
    """A message that has no place where it came."""


class Heading(NamedTuple):
    """What the headers of a message say; their names are the same in upper and lower case."""

    kind: int
    flags: int
    stream: int
    headers: Mapping[str, Header]

    def text(self, name: str) -> str | None:
        """A header that is a text; None where there is none of that name."""
        header = self.headers.get(name)
        return header.value if header is not None and header.type is HeaderType.STRING else None


def heading(message: StreamMessage) -> Heading:
    """What a message is.  Raises ``ProtocolError`` where it does not say so."""
    headers = {name.lower(): header for name, header in message.headers.items()}
    kind, flags, stream = (_number(headers, name) for name in (_TYPE, _FLAGS, _STREAM))
    return Heading(kind, flags, stream, headers)


def written(
    kind: RpcType, flags: Flag, stream: int = 0, payload: bytes = b"", *, model: str = "", operation: str = ""
) -> bytes:
    """A message as it goes over the wire: an application's has a ``model``, a request an ``operation``.

    Raises ``EventStreamError`` for one that no peer would take.
    """
    return frame(_head(model, kind, flags) + _stream(stream) + _operation(operation), payload)


def connect(token: str) -> bytes:
    """A client's first message: who it is."""
    headers = {":version": text(VERSION), _TYPE: int32(RpcType.CONNECT), _FLAGS: int32(Flag.NONE), _STREAM: int32(0)}
    return encode(StreamMessage(headers, json.encode({"authToken": token})))


def answer_to_ping(ping: StreamMessage) -> bytes:
    """The answer, with the ping's payload and its sender's own headers."""
    theirs = {name: header for name, header in ping.headers.items() if name.lower() not in _OURS}
    ours = {_TYPE: int32(RpcType.PING_RESPONSE), _FLAGS: int32(Flag.NONE), _STREAM: int32(0)}
    return encode(StreamMessage(theirs | ours, ping.payload))


def _number(headers: Mapping[str, Header], name: str) -> int:
    header = headers.get(name)
    if header is None or header.type is not HeaderType.INT32:
        raise ProtocolError(f"a message has no {name}")
    return int(header.value)


@lru_cache(maxsize=256)
def _head(model: str, kind: RpcType, flags: Flag) -> bytes:
    """The encoded headers that messages of one model share."""
    named = {":content-type": text(_JSON), "service-model-type": text(model)} if model else {}
    return _encoded({**named, _TYPE: int32(kind), _FLAGS: int32(flags)})


@lru_cache(maxsize=1024)
def _stream(stream: int) -> bytes:
    return _encoded({_STREAM: int32(stream)})


@lru_cache(maxsize=64)
def _operation(operation: str) -> bytes:
    return _encoded({"operation": text(operation)}) if operation else b""


def _encoded(headers: Mapping[str, Header]) -> bytes:
    """The headers alone."""
    return encode(StreamMessage(headers))[12:-4]
