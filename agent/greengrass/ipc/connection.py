"""The server's side of one connection of Greengrass's IPC, without a socket: bytes in, events out.

::

    CONNECT {authToken} ──▶ Connect             accept() ──▶ CONNECT_ACK, and the streams begin
                                                refuse() ──▶ CONNECT_ACK without its flag, and the connection ends
    request on a new stream ──▶ StreamRequest   respond() | fail(); of a streaming operation event()s follow
    a message with TERMINATE ──▶ StreamClosed
    PING ──▶ its answer, which ``take`` gives
    anything else ──▶ Violation                 ``take`` gives the protocol error; close once it is sent

Streams count from 1, each new one is the last plus one.  What a peer sends on a stream that is open is ignored: no
operation takes more than its request.  (aws-c-event-stream, ``event_stream_rpc_server.c``.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

import msgspec

from agent.eventstream import rpc
from agent.eventstream.frames import MAX_MESSAGE_BYTES, Decoder, EventStreamError, StreamMessage
from agent.eventstream.rpc import VERSION, Flag, Heading, ProtocolError, RpcType

__all__ = ["Connect", "Event", "ServerConnection", "StreamClosed", "StreamRequest", "Violation"]

_STRANGERS_BYTES: Final = 8 * 1024
"""What a connection may send before anyone knows whose it is."""


_APPLICATION: Final = frozenset((RpcType.APPLICATION_MESSAGE, RpcType.APPLICATION_ERROR))


# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """A peer says who it is, by its token."""

    token: str


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """An operation is asked for, on a stream of its own."""

    stream: int
    operation: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The peer has no more interest in a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol; there is nothing more to be had from it."""

    reason: str


Event: TypeAlias = Connect | StreamRequest | StreamClosed | Violation


class _State(Enum):
    NEW = auto()
    CONNECTING = auto()
    OPEN = auto()
    CLOSED = auto()


class _Token(msgspec.Struct):
    authToken: str  # noqa: N815 as it is on the wire


_decode_token = msgspec.json.Decoder(_Token).decode


class ServerConnection:
    """One connection; call ``take`` after every other method: it gives what goes to the peer."""

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._decoder = Decoder(min(_STRANGERS_BYTES, max_message_bytes))
        self._state = _State.NEW
        self._last = 0
        self._open: set[int] = set()
        self._output: list[bytes] = []

    @property
    def buffered(self) -> int:
        """How many bytes are kept of a message that is not complete."""
        return self._decoder.buffered

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    @property
    def _closed(self) -> bool:
        return self._state is _State.CLOSED

    def take(self) -> bytes:
        """What is to be sent, once."""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)

    # -- in ------------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Event]:
        """What the peer's bytes come to; after a ``Violation`` there is nothing more."""
        if self._closed:
            return
        try:
            for message in self._decoder.feed(data):
                if event := self._on_message(message):
                    yield event
                if self._closed:
                    return
        except EventStreamError as error:
            if isinstance(error, ProtocolError):
                self._protocol_error(error.message)
            self._state = _State.CLOSED
            yield Violation(error.message)

    def _on_message(self, message: StreamMessage) -> Event | None:
        heading = rpc.heading(message)
        kind = heading.kind
        if kind in _APPLICATION:
            return self._on_application(heading, message.payload)
        if heading.stream:
            raise ProtocolError(f"a message of type {kind} belongs to stream 0, not to {heading.stream}")
        if kind == RpcType.CONNECT:
            return self._on_connect(heading, message.payload)
        if self._state is not _State.OPEN:
            raise ProtocolError("the connection is not open yet")
        if kind == RpcType.PING:
            self._output.append(rpc.answer_to_ping(message))
        elif kind != RpcType.PING_RESPONSE:
            raise ProtocolError(f"a client sends no message of type {kind}")
        return None

    def _on_connect(self, heading: Heading, payload: bytes) -> Event:
        if self._state is not _State.NEW:
            raise ProtocolError("the connection is open already")
        self._state = _State.CONNECTING
        version = heading.text(":version")
        if version != VERSION:
            self.refuse()
            return Violation(f"the peer speaks version {version} and not {VERSION}")
        try:
            return Connect(_decode_token(payload).authToken)
        except msgspec.DecodeError:
            self.refuse()
            return Violation("the peer's CONNECT holds no authToken")

    def _on_application(self, heading: Heading, payload: bytes) -> Event | None:
        if self._state is not _State.OPEN:
            raise ProtocolError("the connection is not open yet")
        stream = heading.stream
        if stream <= 0:
            raise ProtocolError("an application message needs a stream of its own")
        terminates = bool(heading.flags & Flag.TERMINATE_STREAM)
        if stream <= self._last:
            return self._on_known(stream, terminates=terminates)
        if stream != self._last + 1:
            raise ProtocolError(f"stream {stream} does not follow on stream {self._last}")
        if terminates:
            self._last = stream
            return None
        operation = heading.text("operation")
        if heading.kind != RpcType.APPLICATION_MESSAGE or operation is None:
            raise ProtocolError(f"stream {stream} begins without an operation")
        self._last = stream
        self._open.add(stream)
        return StreamRequest(stream, operation, payload)

    def _on_known(self, stream: int, *, terminates: bool) -> Event | None:
        if stream not in self._open:
            if terminates:
                return None
            raise ProtocolError(f"stream {stream} is closed")
        if not terminates:
            return None
        self._open.discard(stream)
        return StreamClosed(stream)

    def _protocol_error(self, reason: str) -> None:
        content = msgspec.json.encode({"message": reason})
        self._output.append(rpc.written(RpcType.PROTOCOL_ERROR, Flag.NONE, payload=content))

    # -- out -----------------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """The peer is who it says; requests come now."""
        self._decoder.max_bytes = self._max_message_bytes
        self._state = _State.OPEN
        self._control(RpcType.CONNECT_ACK, Flag.CONNECTION_ACCEPTED)

    def refuse(self) -> None:
        """Nobody knows the peer; the connection ends."""
        self._state = _State.CLOSED
        self._control(RpcType.CONNECT_ACK, Flag.NONE)

    def is_open(self, stream: int) -> bool:
        """Whether either side may still send on a stream."""
        return stream in self._open

    def respond(self, stream: int, model: str, payload: bytes, *, more: bool = False) -> None:
        """Answer a request; ``more``: events follow.  Of a stream that has ended nothing is sent."""
        self._send(stream, model, payload, RpcType.APPLICATION_MESSAGE, ends=not more)

    def event(self, stream: int, model: str, payload: bytes) -> None:
        """Send an event on a stream whose response has been sent."""
        self._send(stream, model, payload, RpcType.APPLICATION_MESSAGE, ends=False)

    def fail(self, stream: int, model: str, payload: bytes) -> None:
        """Answer a request with an error, which ends its stream."""
        self._send(stream, model, payload, RpcType.APPLICATION_ERROR, ends=True)

    def end(self, stream: int) -> None:
        """End a stream without a word."""
        if stream in self._open:
            self._open.discard(stream)
            self._output.append(rpc.written(RpcType.APPLICATION_MESSAGE, Flag.TERMINATE_STREAM, stream))

    def _send(self, stream: int, model: str, payload: bytes, kind: RpcType, *, ends: bool) -> None:
        if stream not in self._open:
            return
        if ends:
            self._open.discard(stream)
        flags = Flag.TERMINATE_STREAM if ends else Flag.NONE
        self._output.append(rpc.written(kind, flags, stream, payload, model=model))

    def _control(self, kind: RpcType, flags: Flag) -> None:
        self._output.append(rpc.written(kind, flags))
