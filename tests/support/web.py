"""A web server that answers as told: ranges, cuts, refusals, changes under way."""

from __future__ import annotations

import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.support.certs import Certificates


@dataclass
class Act:
    """How one request is answered, where that is not as usual."""

    status: int | None = None
    cut_after: int | None = None
    declared_length: int | None = None
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    hold: threading.Event | None = None
    """Wait for it after ``cut_after`` bytes, before going on."""


@dataclass
class Page:
    """What stands under a path."""

    data: bytes = b""
    etag: str | None = '"1"'
    modified: str | None = None
    ranges: bool = True
    heed_if_range: bool = True
    acts: deque[Act] = field(default_factory=deque)
    always: Act | None = None


class Web:
    """``with`` serves; ``url(path)`` is where, ``requests`` is what was asked."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.web = self
        self._scheme = "http"
        if certificates:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.server_cert, certificates.server_key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str, *, user: str = "", host: str = "localhost") -> str:
        return f"{self._scheme}://{user}{host}:{self.port}{path}"

    def put(self, path: str, data: bytes, **facts: object) -> Page:
        page = self.pages[path] = Page(data, **facts)  # type: ignore[arg-type]
        return page

    def ranges(self) -> list[str | None]:
        """The ranges asked for, in order."""
        return [headers.get("range") for _, headers in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    web: Web


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _note(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.web.requests.append((self.path, headers))

    def do_CONNECT(self) -> None:
        self._note()
        self.send_error(407)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self._note()
        page = self.server.web.pages.get(path)
        if page is None:
            self.send_error(404)
            return
        act = page.acts.popleft() if page.acts else page.always or Act()
        act.before()
        self._answer(page, act)

    def _answer(self, page: Page, act: Act) -> None:
        status, start = self._start(page, act)
        body = page.data[start:] if status in {200, 206} else b""
        self.send_response(status)
        if act.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(act.declared_length or len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(page.data) - 1}/{len(page.data)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(page.data)}")
        if page.etag:
            self.send_header("ETag", page.etag)
        if page.modified:
            self.send_header("Last-Modified", page.modified)
        for name, value in act.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._body(body, act)

    def _start(self, page: Page, act: Act) -> tuple[int, int]:
        asked = self.headers.get("range")
        condition = self.headers.get("if-range")
        if act.status:
            return act.status, 0
        if not asked or not page.ranges:
            return 200, 0
        if condition and page.heed_if_range and condition not in {page.etag, page.modified}:
            return 200, 0
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        return (206, start) if start < len(page.data) else (416, 0)

    def _body(self, body: bytes, act: Act) -> None:
        end = len(body) if act.cut_after is None else act.cut_after
        self._send(body[:end], act)
        if act.hold:
            act.hold.wait(40)
            self._send(body[end:], act)
        elif act.cut_after is not None:
            self.close_connection = True
            return
        if act.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, part: bytes, act: Act) -> None:
        try:
            for at in range(0, len(part), 65536):
                piece = part[at : at + 65536]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if act.chunked else piece)
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # the client went away: that is what it may do
