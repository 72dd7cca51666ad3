"""The socket that components connect to, and what is bounded there.

=====================================  =============================================================================
what                                   past its bound
=====================================  =============================================================================
connections                            a further one is closed
time until CONNECT                     the connection is closed
a message, and what is incomplete      the connection is closed
streams of a connection                a further request is answered with a ServiceError
requests that are under way            nothing more is read from the connection until one is answered
what a client has not read             the connection is closed: a slow client costs itself, and nobody's memory
=====================================  =============================================================================

The socket may be connected to by everyone on this machine: who somebody is, is proved by the token that a component
finds as ``SVCUID`` in its environment, and what it may do is its ``accessControl``.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast

import msgspec

from agent.config.ipc import IpcOptions
from agent.errors import ConfigError, VergeError
from agent.greengrass.ipc.connection import Connect, ServerConnection, StreamClosed, StreamRequest, Violation
from agent.greengrass.ipc.errors import InvalidArgumentsError, IpcError, ServiceError
from agent.greengrass.ipc.operations import Operation, Principal, Reply
from agent.greengrass.ipc.shapes import NAMESPACE, SHAPES

__all__ = ["Server", "ServerStatus"]

log = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0
_CLOSE_S: Final = 5.0
_PART_S: Final = 1.0
_UNDER_WAY: Final = 64
_FIRST_EVENTS: Final = 256
_EVERYONE: Final = 0o666

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class ServerStatus:
    """What a server has counted."""

    accepted: int = 0
    refused: int = 0
    requests: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    """Why the server ended connections → how often."""


class Server:
    """Serves ``operations`` while the block lasts; ``who`` tells whose a token is, None where nobody's.

    ``path`` is where the socket is.
    """

    def __init__(
        self,
        path: Path,
        who: Callable[[str], Principal | None],
        operations: Iterable[Operation[Any]],
        options: IpcOptions | None = None,
    ) -> None:
        self.path = path
        self.options = options or IpcOptions()
        self.status = ServerStatus()
        self.held = 0
        """Bytes of messages that are not complete, of all connections."""
        self._who = who
        self._served = {one.name: _Served(one) for one in operations}
        self._clients: set[_Client] = set()
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen.  Raises ``ConfigError`` where the socket cannot be made."""
        listening = await asyncio.to_thread(_listening, self.path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Client(self), sock=listening)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.close("")
        await asyncio.to_thread(self.path.unlink, missing_ok=True)

    @property
    def connected(self) -> list[Principal]:
        """Who is connected."""
        return [client.caller for client in self._clients if client.caller is not None]

    def disconnect(self, name: str) -> None:
        """End the connections of a component: its token is of no more use."""
        for client in tuple(self._clients):
            if client.caller is not None and client.caller.name == name:
                client.close("its component is gone")

    # -- what clients ask of it ----------------------------------------------------------------------------------------

    def joined(self, client: _Client) -> bool:
        """Take a client; False where there are too many."""
        if len(self._clients) >= self.options.max_clients:
            self.status.closed["there are too many connections"] += 1
            return False
        self._clients.add(client)
        client.number = next(self._numbers)
        return True

    def left(self, client: _Client) -> None:
        """Forget a client."""
        self._clients.discard(client)

    def identify(self, token: str) -> Principal | None:
        """Whose a token is."""
        caller = self._who(token)
        if caller is None:
            self.status.refused += 1
        else:
            self.status.accepted += 1
        return caller

    def served(self, operation: str) -> _Served:
        """The operation of that name as it stands on the wire.  Raises ``ServiceError``."""
        name = operation.removeprefix(NAMESPACE)
        served = self._served.get(name)
        if served is None:
            known = name in SHAPES
            raise ServiceError(f"{name} is not served here" if known else f"there is no operation {operation}")
        return served


class _Served:
    """An operation with what is made for it once."""

    def __init__(self, operation: Operation[Any]) -> None:
        shape = SHAPES[operation.name]
        self.name = operation.name
        self.handle = operation.handle
        self.decode = msgspec.json.Decoder(operation.request).decode
        self.response = f"{NAMESPACE}{operation.name}Response"
        self.event = f"{NAMESPACE}{shape.event}"
        self.streams = bool(shape.event)
        self.errors = frozenset((*shape.errors, ServiceError.shape))


class _Client(asyncio.Protocol):
    """One connection's shell."""

    def __init__(self, server: Server) -> None:
        self.caller: Principal | None = None
        self.number = 0
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._connection = ServerConnection(server.options.max_message_bytes)
        self._calls: dict[int, _Call] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._held = 0
        self._paused = False

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._server.joined(self):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=self._server.options.max_client_bytes)
        self._deadline = self._loop.call_later(_CONNECT_S, self.close, "it did not say who it is")

    def data_received(self, data: bytes) -> None:
        for event in self._connection.receive(data):
            match event:
                case StreamRequest():
                    self._on_request(event)
                case StreamClosed(stream):
                    self._finish(stream)
                case Connect(token):
                    self._on_connect(token)
                case Violation(reason):
                    self._part(reason)
        self.flush()
        self._account()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whichever way it ended
        self._server.left(self)
        self._server.held -= self._held
        self._held = 0
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
        for task in tuple(self._under_way):
            task.cancel()
        for stream in tuple(self._calls):
            self._finish(stream)

    # -- what came -----------------------------------------------------------------------------------------------------

    def _on_connect(self, token: str) -> None:
        self.caller = self._server.identify(token)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self.caller is None:
            self._connection.refuse()
            self._part("nobody has its token")
            return
        self._connection.accept()

    def _on_request(self, request: StreamRequest) -> None:
        assert self.caller is not None  # noqa: S101 streams begin once somebody is accepted
        self._server.status.requests += 1
        try:
            self._check_streams()
            served = self._server.served(request.operation)
        except ServiceError as error:
            self._fail(request.stream, error, ())
            return
        call = _Call(self, request.stream, served, self.caller)
        self._calls[request.stream] = call
        try:
            reply = served.handle(served.decode(request.payload or b"{}"), call)
        except msgspec.DecodeError as error:
            self._failed(call, InvalidArgumentsError(f"the request of {served.name} cannot be read: {error}"))
        except Exception as error:  # noqa: BLE001 a fault over one request costs that request
            self._failed(call, error)
        else:
            if isinstance(reply, Mapping):
                self._respond(call, reply)
            else:
                self._begin(call, reply)

    def _check_streams(self) -> None:
        if len(self._calls) >= self._server.options.max_streams:
            raise ServiceError(f"there are {len(self._calls)} streams on this connection already")

    def _begin(self, call: _Call, reply: Awaitable[Reply]) -> None:
        task = self._loop.create_task(self._answer(call, reply), name=f"agent.ipc.{call.operation}")
        self._under_way.add(task)
        task.add_done_callback(self._answered)
        if len(self._under_way) >= _UNDER_WAY and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    async def _answer(self, call: _Call, reply: Awaitable[Reply]) -> None:
        try:
            response = await reply
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 as above
            self._failed(call, error)
        else:
            self._respond(call, response)
        self.flush()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._paused and len(self._under_way) < _UNDER_WAY and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # -- what goes -----------------------------------------------------------------------------------------------------

    def _respond(self, call: _Call, reply: Reply) -> None:
        served = call.served
        self._connection.respond(call.stream, served.response, _encode(reply), more=served.streams)
        if served.streams:
            call.responded()
        else:
            self._finish(call.stream)

    def _failed(self, call: _Call, error: Exception) -> None:
        if not isinstance(error, IpcError):
            if not isinstance(error, VergeError):
                log.error("%s of %s failed unexpectedly", call.operation, call.caller.name, exc_info=error)
            error = ServiceError(
                str(error) if isinstance(error, VergeError) else "the agent could not do it: see its log"
            )
        self._fail(call.stream, error, call.served.errors)
        self._finish(call.stream)

    def _fail(self, stream: int, error: IpcError, modelled: Iterable[str]) -> None:
        shape = error.shape if error.shape in modelled else ServiceError.shape
        self._connection.fail(stream, f"{NAMESPACE}{shape}", _encode(error.to_plain(shape)))

    def event(self, call: _Call, payload: bytes) -> None:
        """Send an event now."""
        self._connection.event(call.stream, call.served.event, payload)
        self.flush()

    def end(self, stream: int) -> None:
        """End a stream from this side."""
        self._connection.end(stream)
        self._finish(stream)
        self.flush()

    def flush(self) -> None:
        """Hand on what is to be sent, and let go of who does not read it."""
        output = self._connection.take()
        if not output or self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > self._server.options.max_client_bytes:
            self.close("it does not read what it is sent", abort=True)
            return
        self._transport.write(output)

    def _finish(self, stream: int) -> None:
        if call := self._calls.pop(stream, None):
            call.closed()

    def _account(self) -> None:
        """Count what is kept of an incomplete message; too much in all costs this connection."""
        held, server = self._connection.buffered, self._server
        server.held += held - self._held
        self._held = held
        if held and server.held > server.options.max_bytes:
            self.close("all connections together hold too much", abort=True)

    def _part(self, reason: str) -> None:
        """Send the last word, and give the client the time to read it and hang up: a close may overtake it."""
        self.flush()
        self._server.status.closed[reason] += 1
        log.warning("the connection of %s is closed: %s", self._name, reason)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(_PART_S, self.close, "")

    @property
    def _name(self) -> str:
        return self.caller.name if self.caller is not None else "somebody unknown"

    def close(self, reason: str, *, abort: bool = False) -> None:
        """End the connection, once what was sent before has gone out, or at once."""
        if self._transport is None or self._transport.is_closing():
            return
        if reason:
            self._server.status.closed[reason] += 1
            log.warning("the connection of %s is closed: %s", self._name, reason)
        if abort:
            self._transport.abort()
            return
        self._transport.close()
        self._loop.call_later(_CLOSE_S, self._transport.abort)


class _Call:
    """One request on its stream."""

    def __init__(self, client: _Client, stream: int, served: _Served, caller: Principal) -> None:
        self.stream = stream
        self.served = served
        self.caller = caller
        self._client = client
        self._first: list[bytes] | None = []
        """Events that came before the response."""
        self._ended = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def operation(self) -> str:
        return self.served.name

    @property
    def connection(self) -> int:
        return self._client.number

    def send(self, event: Reply) -> None:
        if self._ended:
            return
        payload = _encode(event)
        if self._first is None:
            self._client.event(self, payload)
        elif len(self._first) < _FIRST_EVENTS:
            self._first.append(payload)
        else:
            self._client.close("events came faster than the response", abort=True)

    def responded(self) -> None:
        """The response is on its way: what waited for it follows."""
        first, self._first = self._first or [], None
        for payload in first:
            self._client.event(self, payload)

    def on_close(self, callback: Callable[[], None]) -> None:
        if self._ended:
            callback()
        else:
            self._callbacks.append(callback)

    def closed(self) -> None:
        """The stream has ended."""
        self._ended = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def end(self) -> None:
        self._client.end(self.stream)


def _listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # By the folder's descriptor: a socket's address is short, and a path need not be.
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            near = Path(f"/proc/self/fd/{folder}/{path.name}")
            if near.is_socket():
                near.unlink()  # of an agent that was killed: two agents of one data_dir there cannot be
            made.bind(os.fspath(near))
            # Connecting needs the right to write; who somebody is, its token proves.
            near.chmod(_EVERYONE)
        finally:
            os.close(folder)
    except OSError as error:
        made.close()
        reason = "something else is there" if error.errno == errno.EADDRINUSE else error.strerror or error
        raise ConfigError(
            f"the socket {path} cannot be made: {reason}",
            code="ipc-socket",
            hint="set socket in the table [ipc] to a path in a folder that the agent may write to",
            path="ipc.socket",
        ) from error
    return made
