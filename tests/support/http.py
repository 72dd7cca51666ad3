"""An HTTP server for tests: a function answers each request, also with less than it promises, slowly or for ever."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """What came, and who sent it."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""
    common_name: str | None = None
    """Of the client's certificate."""
    alpn: str | None = None


@dataclass
class Response:
    """What is sent back; a body in pieces is of whatever length ``headers`` say."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    """Hang up afterwards."""


Answer = Callable[[Request], Response]


class HttpServer:
    """``with`` serves on a loopback port; ``requests`` is what came.  Each connection has a thread of its own."""

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.answer = answer
        self.tls = tls
        self.requests: list[Request] = []
        self.live: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.drop()

    def drop(self) -> None:
        """Hang up on everybody."""
        for connection in tuple(self.live):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    owner: HttpServer

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection: a handshake must not hold up the others."""
        if self.owner.tls is not None:
            try:
                request = self.owner.tls.wrap_socket(request, server_side=True)
            except OSError:
                return  # a client without a certificate, or one that does not trust us
        self.owner.live.add(request)
        try:
            with request:
                super().finish_request(request, client_address)
        finally:
            self.owner.live.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what an answer stumbles over; that a client goes away is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _serve(self) -> None:
        owner = self.server.owner
        request = self._request()
        owner.requests.append(request)
        response = owner.answer(request)
        whole = isinstance(response.body, bytes)
        self.send_response(response.status)
        if whole and "Content-Length" not in response.headers:
            self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.close:
            self.send_header("Connection", "close")  # and so it is closed
        self.end_headers()
        if self.command != "HEAD":
            for piece in (response.body,) if whole else response.body:
                self.wfile.write(piece)

    do_GET = do_HEAD = do_POST = do_CONNECT = _serve  # noqa: N815

    def _request(self) -> Request:
        headers = {key.lower(): value for key, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        if not isinstance(self.connection, ssl.SSLSocket):
            return Request(self.command, self.path, headers, body)
        certificate: Any = self.connection.getpeercert() or {}
        names = dict(part[0] for part in certificate.get("subject", ()))
        alpn = self.connection.selected_alpn_protocol()
        return Request(self.command, self.path, headers, body, names.get("commonName"), alpn)
