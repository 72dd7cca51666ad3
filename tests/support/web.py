"""A web server with files that answers as told: ranges, cuts, refusals, changes under way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.certs import Certificates, server_tls
from tests.support.http import HttpServer, Request, Response


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


class Web(HttpServer):
    """``with`` serves; ``url(path)`` is where."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        super().__init__(self._answered, tls=server_tls(certificates, client=False) if certificates else None)
        self.pages: dict[str, Page] = {}
        self._scheme = "https" if certificates else "http"

    def url(self, path: str, *, user: str = "", host: str = "localhost") -> str:
        return f"{self._scheme}://{user}{host}:{self.port}{path}"

    def put(self, path: str, data: bytes, **facts: object) -> Page:
        page = self.pages[path] = Page(data, **facts)  # type: ignore[arg-type]
        return page

    def ranges(self) -> list[str | None]:
        """The ranges asked for, in order."""
        return [request.headers.get("range") for request in self.requests]

    def _answered(self, request: Request) -> Response:
        if request.method == "CONNECT":
            return Response(407)
        page = self.pages.get(request.path.partition("?")[0])
        if page is None:
            return Response(404)
        act = page.acts.popleft() if page.acts else page.always or Act()
        act.before()
        status, start = (act.status, 0) if act.status else _start(request, page)
        body = page.data[start:] if status in {200, 206} else b""
        headers = {
            "Content-Range": {
                206: f"bytes {start}-{len(page.data) - 1}/{len(page.data)}",
                416: f"bytes */{len(page.data)}",
            }.get(status),
            "ETag": page.etag,
            "Last-Modified": page.modified,
            **({"Transfer-Encoding": "chunked"} if act.chunked else _length(act.declared_length or len(body))),
            **act.headers,
        }
        told = {name: value for name, value in headers.items() if value is not None}
        return Response(status, _pieces(body, act), told, close=act.cut_after is not None and act.hold is None)


def _length(count: int) -> dict[str, str]:
    return {"Content-Length": str(count)}


def _start(request: Request, page: Page) -> tuple[int, int]:
    """The status, and where the body begins."""
    asked, condition = request.headers.get("range"), request.headers.get("if-range")
    if not asked or not page.ranges:
        return 200, 0
    if condition and page.heed_if_range and condition not in {page.etag, page.modified}:
        return 200, 0
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    return (206, start) if start < len(page.data) else (416, 0)


def _pieces(body: bytes, act: Act) -> Iterator[bytes]:
    end = len(body) if act.cut_after is None else act.cut_after
    yield from _sent(body[:end], act)
    if act.hold:
        act.hold.wait(40)
        yield from _sent(body[end:], act)
    if act.chunked and (act.hold or act.cut_after is None):
        yield b"0\r\n\r\n"


def _sent(part: bytes, act: Act) -> Iterator[bytes]:
    for at in range(0, len(part), 65536):
        piece = part[at : at + 65536]
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if act.chunked else piece
