"""The protocol over HTTP/1.1: heads by h11, bodies straight from the socket into their memory.

h11, for it is the protocol alone, in Python as any machine has it, and well kept; the sockets are asyncio's.  A body
of a known length, a picture as numbers say, does not pass through it, which would copy each byte twice more: it is
received into the one buffer that the worker's memory is filled from.  A web framework does both copies and more.

Everything is bounded: connections (one beyond is closed at once), heads, bodies, what all bodies hold together (one
beyond is answered 503), and how long a client may take for a head, for a body, and to read its answer.

A browser says ``Origin`` of every request with which a page of somebody's could ask a model on this machine, or, where
the page's own name was led here, that name as ``Host``: where neither token nor certificate is asked for, such a
request is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

import h11

from agent.config.secrets import loopback
from agent.edgeapi.openinference import replies
from agent.edgeapi.openinference.body import HEADER_LENGTH, header_length
from agent.edgeapi.openinference.paths import Asked, Path, read
from agent.edgeapi.openinference.replies import Reply
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.sockets import TcpPlace, UnixPlace
from agent.errors import ConfigError, VergeError

__all__ = ["HttpBounds", "HttpServer"]

log = logging.getLogger(__name__)

_MAX_HEAD: Final = 16 * 1024
_SCRATCH: Final = 64 * 1024
_KEPT: Final = 1 << 20
"""Bytes of memory that a connection keeps for its next body."""
_HEAD_S: Final = 10.0
_IDLE_S: Final = 75.0
_DRAIN_S: Final = 2.0
"""How long a client whose request was refused may go on sending it: hung up on, it would not read why."""
_LEAVE_S: Final = 2.0
_FULL: Final = "others' requests fill the memory; ask later"
_PORT: Final = re.compile(r":[0-9]*\Z")


@dataclass(frozen=True, slots=True)
class HttpBounds:
    """What clients may take up."""

    connections: int = 64
    message_bytes: int = 128 << 20
    """Of one body."""
    all_bytes: int = 256 << 20
    """Of all bodies at once."""
    json_bytes: int = 16 << 20
    """Of one body's JSON."""
    timeout_s: float = 60.0
    """For a body to come, and for an answer to be read."""


class _RefusedError(Exception):
    """A request that is answered with an error, its body unread."""

    def __init__(self, status: HTTPStatus, message: str = "", headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message or status.phrase)
        self.status = status
        self.headers = list(headers)


class HttpServer:
    """Serves at a place from entering to leaving; ``token`` is what clients have to bring, where there is one."""

    def __init__(
        self, place: TcpPlace | UnixPlace, service: OpenInference, *, token: str = "", bounds: HttpBounds | None = None
    ) -> None:
        self.bounds = bounds or HttpBounds()
        self.scratch = memoryview(bytearray(_SCRATCH))
        """What heads are received into, by one connection after the other."""
        self.held = 0
        """Bytes of bodies."""
        self.refused = 0
        """Connections that were one too many."""
        self._place = place
        self._service = service
        self._token = f"Bearer {token}".encode() if token else b""
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        """Listen; raises ``ConfigError`` and ``UnreachableError`` where that is not possible."""
        loop, place = asyncio.get_running_loop(), self._place
        place.claim()
        try:
            if isinstance(place, UnixPlace):
                self._server = await loop.create_unix_server(lambda: _Connection(self), str(place.path))
            else:
                self._server = await loop.create_server(
                    lambda: _Connection(self), place.host, place.port, ssl=place.context(),
                    ssl_handshake_timeout=_HEAD_S if place.tls else None,
                )  # fmt: skip
            place.open_up()
        except OSError as error:
            raise ConfigError(f"nothing can listen at {place.address}: {error}", code="socket-wrong") from error
        log.info("the Open Inference Protocol over HTTP is at %s", place.address)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for connection in [*self._connections]:
            connection.leave()
        working = [connection.answering for connection in self._connections if connection.answering is not None]
        if working:
            await asyncio.wait(working, timeout=_LEAVE_S)
        for connection in [*self._connections]:
            connection.abort()
        if isinstance(self._place, UnixPlace):
            self._place.path.unlink(missing_ok=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    # -- for its connections -------------------------------------------------------------------------------------

    def take(self, connection: _Connection) -> bool:
        """Whether there is room for one more connection."""
        if len(self._connections) >= self.bounds.connections:
            self.refused += 1
            if self.refused & (self.refused - 1) == 0:  # 1, 2, 4, 8 …
                log.warning(
                    "%d connections over HTTP were refused: there are %d", self.refused, self.bounds.connections
                )
            return False
        self._connections.add(connection)
        return True

    def drop(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def admit(self, request: h11.Request) -> Path:
        """What a request is for, by its head alone; raises ``_RefusedError`` for one that may not or means nothing."""
        headers = dict(request.headers)
        if self._token:
            if not hmac.compare_digest(headers.get(b"authorization", b""), self._token):
                raise _RefusedError(HTTPStatus.UNAUTHORIZED, "no token, or another", [("WWW-Authenticate", "Bearer")])
        elif b"origin" in headers or not self._means_us(headers.get(b"host")):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "web pages, and whoever asks by another name, need a token")
        path = read(request.target.decode("latin-1"))
        if path is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
        if request.method.decode() not in path.methods:
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, headers=[("Allow", ", ".join(path.methods))])
        return path

    def _means_us(self, host: bytes | None) -> bool:
        """Whether a client asks by an address, or by this machine's own name: a page's name may be led to any."""
        if host is None or isinstance(self._place, UnixPlace) or self._place.tls is not None:
            return True  # no browser's
        name = _PORT.sub("", host.decode("latin-1"))
        return name == self._place.host or loopback(name) or _is_address(name)

    async def answer(self, path: Path, headers: dict[bytes, bytes], content: bytes | memoryview) -> Reply:
        """The answer to a request, errors among them."""
        try:
            if path.asked is Asked.INFER:
                length = headers.get(HEADER_LENGTH.lower().encode())
                json_length = header_length(None if length is None else length.decode("latin-1"))
                async with self._unpacked(headers.get(b"content-encoding"), content) as body:
                    return await replies.infer(
                        self._service, path.name, path.version, body, json_length, self.bounds.json_bytes
                    )
            return self._facts(path)
        except VergeError as error:
            return replies.refused(error)
        except _RefusedError as error:
            return Reply.of({"error": str(error)}, error.status)
        except Exception:  # a fault of ours costs this request, and is told
            log.exception("a request failed")
            return Reply.of({"error": "a fault of the agent's; its log says more"}, 500)

    def _facts(self, path: Path) -> Reply:
        match path.asked:
            case Asked.LIVE:
                return Reply.of({"live": True})
            case Asked.READY:
                ready = self._service.ready()
                # The protocol calls it live here too; KServe's client looks for ready.
                return Reply.of({"live": True, "ready": ready}, 200 if ready else 503)
            case Asked.MODEL_READY:
                ready = self._service.model_ready(path.name, path.version)
                return Reply.of({"name": path.name, "ready": ready}, 200 if ready else 503)
            case Asked.MODEL:
                return Reply.of(self._service.model(path.name, path.version).metadata())
            case _:
                return Reply.of(self._service.metadata())

    @asynccontextmanager
    async def _unpacked(self, encoding: bytes | None, content: bytes | memoryview) -> AsyncIterator[bytes | memoryview]:
        """The body as it was before it was compressed, which is held while it is used."""
        if encoding is None:
            yield content
            return
        if encoding.lower() not in {b"gzip", b"deflate"}:
            raise _RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is compressed otherwise than gzip, deflate"
            )
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        most = min(self.bounds.message_bytes, self.bounds.all_bytes - self.held)
        if most <= 0:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _FULL)
        self.held += most  # until it is known how much it is
        try:
            unpacked = await asyncio.to_thread(unpacking.decompress, content, most)
            if not unpacking.eof and len(unpacked) < most:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, "the body cannot be unpacked: it is cut off")
            if not unpacking.eof and most < self.bounds.message_bytes:
                raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _FULL)
            if not unpacking.eof:
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            self.held, most = self.held - most + len(unpacked), len(unpacked)
            yield unpacked
        except zlib.error as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the body cannot be unpacked: {error}") from error
        finally:
            self.held -= most


class _Connection(asyncio.BufferedProtocol):
    """One client: a request, its answer, and so on."""

    def __init__(self, server: HttpServer) -> None:
        self.answering: asyncio.Task[None] | None = None
        self._server = server
        self._bounds = server.bounds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._body: bytearray | None = None
        self._filled = 0
        self._held = 0
        self._chunks: list[bytes] = []
        self._kept = bytearray()
        """The memory of the last body: the next one is as long, and memory that is new costs more than a copy."""
        self._ahead = b""
        """What came behind the request that is being answered."""
        self._path = Path(Asked.LIVE)
        self._headers: dict[bytes, bytes] = {}
        self._draining = False
        self._slow = False
        """The client does not read its answer."""
        self._leaving = False
        self._begin()

    def _begin(self) -> None:
        """Ready for a request's head."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._body, self._filled, self._chunks = None, 0, []
        self._begun = self._head_alone = False

    # -- asyncio.BufferedProtocol --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 what a socket gives
        self._transport = transport
        if not self._server.take(self):
            transport.abort()
            return
        self._patience(_IDLE_S)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where what comes next goes: the rest of a body, or what is looked at right away."""
        del sizehint
        return self._server.scratch if self._body is None else memoryview(self._body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Something came."""
        if self._draining:
            return
        if self.answering is not None:  # TLS hands on what it has read though reading is paused
            self._ahead += bytes(self._server.scratch[:nbytes])
            if len(self._ahead) > _SCRATCH:
                self.abort()
        elif self._body is not None:
            self._filled += nbytes
            if self._filled == len(self._body):
                self._complete(memoryview(self._body))
        else:
            self._received(bytes(self._server.scratch[:nbytes]))

    def eof_received(self) -> bool:
        """The client sends nothing more; what it has asked for it still gets."""
        self._leaving = True
        return self.answering is not None

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        self._slow = True
        self._patience(self._bounds.timeout_s)

    def resume_writing(self) -> None:
        """It has read."""
        self._slow = False
        if self.answering is None and not self._draining:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self._rest()
        self._release()
        if self.answering is not None:
            self.answering.cancel()
        self._server.drop(self)

    # -- a request -----------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._patience(_HEAD_S)
        try:
            self._http.receive_data(data)
            while self._event(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            self._refuse(_RefusedError(HTTPStatus(status) if status >= 400 else HTTPStatus.BAD_REQUEST, str(error)))  # noqa: PLR2004
        except _RefusedError as error:
            self._refuse(error)

    def _event(self, event: object) -> bool:
        """Go on with a request; whether there may be more of it already."""
        match event:
            case h11.Request():
                return self._head(event)
            case h11.Data():
                self._hold(len(event.data))
                self._chunks.append(bytes(event.data))
                return True
            case h11.EndOfMessage():
                self._ahead = self._http.trailing_data[0]
                self._complete(b"".join(self._chunks))
            case h11.ConnectionClosed():
                self._transport.close()
        return False

    def _head(self, request: h11.Request) -> bool:
        self._headers, self._head_alone = dict(request.headers), request.method == b"HEAD"
        self._path = self._server.admit(request)
        if {b"content-length", b"transfer-encoding"} <= self._headers.keys():  # RFC 9112, 6.3: it may be an attack
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "the body's end is told in two ways")
        length = int(self._headers.get(b"content-length", b"0"))
        if length > self._bounds.message_bytes:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the limit is {self._bounds.message_bytes} bytes")
        self._patience(self._bounds.timeout_s)
        self._hold(length)
        if self._http.they_are_waiting_for_100_continue:
            self._transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        if not length:
            return True
        begun = self._http.trailing_data[0]
        if len(self._kept) != length:
            self._kept = bytearray(length)
        body = self._body = self._kept
        self._filled = min(length, len(begun))
        body[: self._filled], self._ahead = begun[:length], begun[length:]
        if self._filled == length:
            self._complete(memoryview(body))
        return False

    def _hold(self, more: int) -> None:
        if self._held + more > self._bounds.message_bytes:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the limit is {self._bounds.message_bytes} bytes")
        if self._server.held + more > self._bounds.all_bytes:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _FULL)
        self._held += more
        self._server.held += more

    def _release(self) -> None:
        self._server.held -= self._held
        self._held = 0

    def _complete(self, content: bytes | memoryview) -> None:
        """The request is whole: answer it, and read nothing more until then."""
        self._rest()
        self._body, self._chunks = None, []
        self._transport.pause_reading()
        self.answering = self._loop.create_task(self._answer(content), name="agent.edgeapi.http")

    async def _answer(self, content: bytes | memoryview) -> None:
        reply = await self._server.answer(self._path, self._headers, content)
        if len(content) > _KEPT:
            self._kept = bytearray()
        self._release()
        self.answering = None
        if self._transport.is_closing():
            return
        self._send(reply)
        if self._http.our_state is h11.MUST_CLOSE or self._leaving:
            self._close()
        elif not self._slow:
            self._next()

    def _next(self) -> None:
        """On to the next request, which may be there already."""
        if self._transport.is_closing():
            return
        ahead, self._ahead = self._ahead, b""
        self._begin()
        self._patience(_IDLE_S)
        self._transport.resume_reading()
        if ahead:
            self._received(ahead)

    def _send(self, reply: Reply, headers: Sequence[tuple[str, str]] = ()) -> None:
        size = sum(len(part) for part in reply.parts)
        reason = HTTPStatus(reply.status).phrase.encode()
        told = [("Content-Type", reply.content_type), ("Content-Length", str(size)), *headers]
        if reply.json_length is not None:
            told.append((HEADER_LENGTH, str(reply.json_length)))
        if self._leaving or self._draining:
            told.append(("Connection", "close"))
        written: list[bytes | memoryview] = [
            self._http.send(h11.Response(status_code=reply.status, headers=told, reason=reason)) or b""
        ]
        if not self._head_alone:
            for part in filter(len, reply.parts):
                data = h11.Data(data=part)  # type: ignore[arg-type]  # it passes through as it is
                written += self._http.send_with_data_passthrough(data) or ()
        self._http.send(h11.EndOfMessage())
        self._transport.writelines(written)

    # -- the end -------------------------------------------------------------------------------------------------

    def _refuse(self, error: _RefusedError) -> None:
        """Answer a request of which the rest is not looked at, and hang up when the client has read why."""
        self._draining, self._body, self._chunks = True, None, []
        self._release()
        self._send(Reply.of({"error": str(error)}, error.status), error.headers)
        self._close()

    def _close(self) -> None:
        """Nothing more is answered; the client has a moment to read what was."""
        self._draining = True
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._patience(self._bounds.timeout_s if self._slow else _DRAIN_S)

    def leave(self) -> None:
        """Go when the request in work is answered."""
        self._leaving = True
        if self.answering is None:
            self._transport.close()

    def abort(self) -> None:
        """Go now."""
        self._transport.abort()

    def _patience(self, seconds: float) -> None:
        self._rest()
        self._timer = self._loop.call_later(seconds, self.abort)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
