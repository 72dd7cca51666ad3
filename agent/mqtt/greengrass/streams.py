"""The client's side of one connection to a Greengrass nucleus, without a socket: bytes in, events out.

::

    the token ──▶ ``take`` gives the CONNECT    Accepted | Refused
    open(operation) ──▶ a stream of its own     Response | Failure; of a streaming operation Event follows, and Ended
    close(stream)
    PING ──▶ its answer, which ``take`` gives
    anything else ──▶ Broken                    close the connection

Streams count from 1 and are never used twice.  A reply that does not end the stream of an operation that has no events
(the lite nucleus sends such) is the last word all the same.  (aws-c-event-stream, ``event_stream_rpc_client.c``.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

import msgspec

from agent.eventstream import rpc
from agent.eventstream.frames import Decoder, EventStreamError, StreamMessage
from agent.eventstream.rpc import Flag, Heading, ProtocolError, RpcType

__all__ = [
    "NAMESPACE",
    "Accepted",
    "Broken",
    "Ended",
    "Event",
    "Failure",
    "NucleusEvent",
    "NucleusStreams",
    "Refused",
    "Response",
]

NAMESPACE: Final = "aws.greengrass#"
_LAST_STREAM: Final = 2**31 - 1 - 65_536
"""Streams are signed 32-bit numbers; some are kept for subscriptions that may still be asked for."""
_APPLICATION: Final = frozenset((RpcType.APPLICATION_MESSAGE, RpcType.APPLICATION_ERROR))


@dataclass(frozen=True, slots=True)
class Accepted:
    """The nucleus knows the token: operations may be asked for."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The nucleus does not know the token; it closes the connection."""


@dataclass(frozen=True, slots=True)
class Response:
    """A request was answered."""

    stream: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """Something came on the stream of an operation that had been answered."""

    stream: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, which ended its stream; ``shape`` is its name, empty where it has none."""

    stream: int
    shape: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The nucleus ended a stream on which events came."""

    stream: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The nucleus broke the protocol, or says that we did; there is nothing more to be had from this connection."""

    reason: str


NucleusEvent: TypeAlias = Accepted | Refused | Response | Event | Failure | Ended | Broken


class _State(Enum):
    CONNECTING = auto()
    OPEN = auto()
    CLOSED = auto()


class _Error(msgspec.Struct):
    message: str | None = None
    _message: str | None = None


_decode_error = msgspec.json.Decoder(_Error).decode


class NucleusStreams:
    """One connection; call ``take`` after every other method: it gives what goes to the nucleus."""

    def __init__(self, token: str, *, last_stream: int = _LAST_STREAM) -> None:
        self._decoder = Decoder()
        self._state = _State.CONNECTING
        self._last = 0
        self._last_stream = last_stream
        self._open: dict[int, bool] = {}
        """Stream → whether events come on it."""
        self._answered: set[int] = set()
        self._output = [rpc.connect(token)]

    @property
    def ready(self) -> bool:
        """Whether an operation may be asked for."""
        return self._state is _State.OPEN

    @property
    def used_up(self) -> bool:
        """Whether this connection has hardly any number left for further streams."""
        return self._last >= self._last_stream

    @property
    def _closed(self) -> bool:
        return self._state is _State.CLOSED

    def take(self) -> bytes:
        """What is to be sent, once."""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)

    # -- out -----------------------------------------------------------------------------------------------------------

    def open(self, operation: str, payload: bytes, *, has_events: bool) -> int:
        """Ask for an operation; the result is its stream.  Raises ``EventStreamError`` for what is too long."""
        stream = self._last + 1
        named = f"{NAMESPACE}{operation}"
        written = rpc.written(
            RpcType.APPLICATION_MESSAGE, Flag.NONE, stream, payload, model=f"{named}Request", operation=named
        )
        self._output.append(written)
        self._last = stream
        self._open[stream] = has_events
        return stream

    def close(self, stream: int) -> None:
        """Have no more interest in a stream; nothing that was on its way there comes any more."""
        if self._forget(stream):
            self._output.append(rpc.written(RpcType.APPLICATION_MESSAGE, Flag.TERMINATE_STREAM, stream))

    def _forget(self, stream: int) -> bool:
        self._answered.discard(stream)
        return self._open.pop(stream, None) is not None

    # -- in ------------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[NucleusEvent]:
        """What the nucleus's bytes come to; after ``Refused`` and ``Broken`` there is nothing more."""
        if self._closed:
            return
        try:
            for message in self._decoder.feed(data):
                yield from self._on_message(message)
                if self._closed:
                    return
        except EventStreamError as error:
            self._state = _State.CLOSED
            yield Broken(error.message)

    def _on_message(self, message: StreamMessage) -> Iterator[NucleusEvent]:
        heading = rpc.heading(message)
        if heading.kind in {RpcType.PROTOCOL_ERROR, RpcType.INTERNAL_ERROR}:
            raise ProtocolError(_said(message.payload) or "it reports an error of its own")
        if self._state is _State.CONNECTING:
            yield self._on_ack(heading)
        elif heading.kind in _APPLICATION:
            if heading.stream in self._open:
                yield from self._on_application(heading, message.payload)
        elif heading.kind == RpcType.PING:
            self._output.append(rpc.answer_to_ping(message))
        elif heading.kind != RpcType.PING_RESPONSE:
            raise ProtocolError(f"a nucleus sends no message of type {heading.kind} now")

    def _on_ack(self, heading: Heading) -> NucleusEvent:
        if heading.kind != RpcType.CONNECT_ACK:
            raise ProtocolError(f"it answers the token with a message of type {heading.kind}")
        accepted = bool(heading.flags & Flag.CONNECTION_ACCEPTED)
        self._state = _State.OPEN if accepted else _State.CLOSED
        return Accepted() if accepted else Refused()

    def _on_application(self, heading: Heading, payload: bytes) -> Iterator[NucleusEvent]:
        stream, model = heading.stream, heading.text("service-model-type") or ""
        ends, answered = bool(heading.flags & Flag.TERMINATE_STREAM), stream in self._answered
        if heading.kind == RpcType.APPLICATION_ERROR or (ends and not model and not answered):
            self._forget(stream)
            yield Failure(stream, model.removeprefix(NAMESPACE), _said(payload))
            return
        has_events = self._open[stream]
        if ends:
            self._forget(stream)
        elif not has_events:
            self.close(stream)
        else:
            self._answered.add(stream)
        if not answered:
            yield Response(stream, payload)
        elif model:
            yield Event(stream, payload)
        if ends and has_events:
            yield Ended(stream)


def _said(payload: bytes) -> str:
    """What the payload of an error says, as far as it does."""
    try:
        error = _decode_error(payload)
    except msgspec.DecodeError:
        return ""
    return error.message or error._message or ""  # noqa: SLF001 a name on the wire
