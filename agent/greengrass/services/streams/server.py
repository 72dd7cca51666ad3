"""The stream manager's TCP server, on the loopback alone.

A connection shakes hands, and then asks as often as it likes without waiting: ``IN_FLIGHT`` requests, and the bytes of
one largest frame, are worked on at once; the next is read when one of them is answered.  A client that does not read
its answers is read from no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from agent.errors import UnreachableError
from agent.greengrass.services.streams.requests import Requests
from agent.greengrass.services.streams.wire import (
    CONNECT_VERSION,
    MAX_FRAME_BYTES,
    PROTOCOL_VERSIONS,
    RESPONSES,
    Frame,
    Receiver,
    Status,
    StreamOperation,
    StreamsWireError,
    decode,
    encode,
)

__all__ = ["Holder", "PortInUseError", "StreamServer"]

log = logging.getLogger(__name__)

Holder = Callable[[str], str | None]
"""Token → the component that has it."""
HOST: Final = "127.0.0.1"
SERVER_VERSION: Final = "2.1.0"
CONNECTIONS: Final = 64
IN_FLIGHT: Final = 16
_READ_BYTES: Final = 256 * 1024
_HANDSHAKE_S: Final = 10.0


class PortInUseError(UnreachableError):
    """The server's port cannot be had."""

    default_code = "port-in-use"


class StreamServer:
    """Serves ``requests``; a client shows a token that ``holder`` knows, unless ``authenticate`` is off."""

    def __init__(self, requests: Requests, holder: Holder, *, authenticate: bool = True) -> None:
        self._requests = requests
        self._holder = holder
        self._authenticate = authenticate
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen; gives the port.  Raises ``PortInUseError``."""
        try:
            self._server = await asyncio.start_server(self._begin, HOST, port)
        except OSError as error:
            raise PortInUseError(
                f"the stream manager cannot have port {port}: {error}",
                hint="end what has it, or set STREAM_MANAGER_SERVER_PORT",
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End every connection, and listen no more."""
        if self._server:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS:
            log.warning("stream manager: %d clients are connected, one more is turned away", CONNECTIONS)
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Client(self._requests, reader, writer).serve(self._connect)
        except StreamsWireError as error:
            log.warning("stream manager: a client is disconnected: %s", error.message)
        except (OSError, TimeoutError) as error:
            log.debug("stream manager: a connection ended: %s", error)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), _HANDSHAKE_S)
            writer.transport.abort()

    def _connect(self, version: int | None, frame: Frame) -> Mapping[str, Any]:
        if frame.operation != StreamOperation.CONNECT:
            return _refusal(Status.UNEXPECTED_OPERATION, "The first request is to connect")
        payload = decode(frame.payload)
        answer = {"requestId": payload.get("requestId")}
        if version != CONNECT_VERSION:
            return answer | _refusal(Status.UNSUPPORTED_CONNECT_VERSION, f"Connect version {version} is not supported")
        others = payload.get("otherSupportedProtocolVersions")
        spoken = [payload.get("protocolVersion"), *(others if isinstance(others, list) else [])]
        if not isinstance(spoken[0], str):
            return answer | _refusal(Status.INVALID_PROTOCOL_VERSION, "There is no protocolVersion")
        common = next((one for one in PROTOCOL_VERSIONS if one in spoken), None)
        if common is None:
            known = ", ".join(PROTOCOL_VERSIONS)
            return answer | _refusal(Status.UNSUPPORTED_PROTOCOL_VERSION, f"The protocol versions are {known}")
        token = payload.get("authToken")
        component = self._holder(token) if isinstance(token, str) and token else None
        if self._authenticate and component is None:
            return answer | _refusal(
                Status.UNAUTHORIZED, "AWS_CONTAINER_AUTHORIZATION_TOKEN is not the token of a running component"
            )
        return answer | {"status": 0, "protocolVersion": common, "clientIdentifier": component or ""}


class _Client:
    """One connection."""

    def __init__(self, requests: Requests, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._requests = requests
        self._reader, self._writer = reader, writer
        self._receiver = Receiver()
        self._frames: list[Frame] = []
        self._tasks: dict[asyncio.Task[None], int] = {}

    async def serve(self, connect: Callable[[int | None, Frame], Mapping[str, Any]]) -> None:
        """Shake hands, and answer until the client is gone."""
        async with asyncio.timeout(_HANDSHAKE_S):
            first = await self._next()
            if first is None:
                return
            answer = connect(self._receiver.version, first)
            versions = {"supportedProtocolVersions": list(PROTOCOL_VERSIONS), "serverVersion": SERVER_VERSION}
            self._writer.write(bytes([CONNECT_VERSION]))
            self._writer.write(encode(StreamOperation.CONNECT_RESPONSE, {**answer, **versions}))
            await self._writer.drain()
        if answer["status"]:
            log.warning("stream manager: a client is refused: %s", answer["errorMessage"])
            return
        try:
            while (frame := await self._next()) is not None:
                while self._tasks and not self._room_for(frame):
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(0)  # what is done leaves
                task = asyncio.create_task(self._answer(frame))
                self._tasks[task] = len(frame.payload)
                task.add_done_callback(self._done)
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _room_for(self, frame: Frame) -> bool:
        total = sum(self._tasks.values()) + len(frame.payload)
        return len(self._tasks) < IN_FLIGHT and total <= MAX_FRAME_BYTES

    async def _next(self) -> Frame | None:
        while not self._frames:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return None
            self._frames = self._receiver.feed(data)
        return self._frames.pop(0)

    async def _answer(self, frame: Frame) -> None:
        payload = decode(frame.payload)
        response = RESPONSES.get(frame.operation)
        answer: Mapping[str, Any]
        if response is None:
            response = StreamOperation.UNKNOWN_OPERATION
            answer = _refusal(Status.UNKNOWN_OPERATION, f"There is no operation {frame.operation}")
        else:
            answer = await self._requests.do(frame.operation, payload)
        # An identifier that is not the client's own text would reach nobody.
        self._writer.write(encode(response, {"requestId": payload.get("requestId"), **answer}))
        await self._writer.drain()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()):
            if not isinstance(error, OSError):
                log.warning("stream manager: a client is disconnected: %s", error)
            self._writer.close()


def _refusal(status: Status, message: str) -> dict[str, Any]:
    return {"status": int(status), "errorMessage": message}
