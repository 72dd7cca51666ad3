"""What stands between the agent and S3 when things go wrong: an S3 that refuses on cue, and a link that breaks."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.support.http import HttpServer, Request, Response

XML = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"


@dataclass
class Object:
    """An object; ``headers`` come with its HEAD and GET."""

    data: bytes
    etag: str = '"1"'
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """An answer without the object; a HEAD's has no body."""

    status: int
    code: str = ""
    message: str = ""
    more: str = ""
    headers: dict[str, str] = field(default_factory=dict)


Act = Callable[[Request], Refusal | None]


class FakeS3(HttpServer):
    """``with`` serves ``objects`` by path (``/bucket/key``); ``acts`` may answer instead, or wait."""

    def __init__(self) -> None:
        super().__init__(self._answered)
        self.objects: dict[str, Object] = {}
        self.acts: deque[Act] = deque()
        self.always: Act = lambda _: None
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.port}"

    def ranges(self) -> list[str]:
        """The ranges that were asked for."""
        return [request.headers["range"] for request in self.requests if "range" in request.headers]

    def _answered(self, request: Request) -> Response:
        with self.lock:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            act = self.acts.popleft() if self.acts else self.always
        try:
            refusal = act(request)
            return _refused(refusal) if refusal else self._given(request)
        finally:
            with self.lock:
                self.busy -= 1

    def _given(self, request: Request) -> Response:
        found = self.objects.get(request.path)
        if found is None:
            return _refused(Refusal(404, "NoSuchKey", "The specified key does not exist."))
        if request.headers.get("if-match", found.etag) != found.etag:
            return _refused(Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold"))
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        body = found.data[int(span[1]) : int(span[2]) + 1] if span else found.data
        headers = {"ETag": found.etag, **found.headers}
        if span:
            headers["Content-Range"] = f"bytes {span[1]}-{span[2]}/{len(found.data)}"
        return Response(206 if span else 200, body, headers)


def _refused(refusal: Refusal) -> Response:
    body = XML.format(code=refusal.code, message=refusal.message, more=refusal.more).encode()
    return Response(refusal.status, body, {"Content-Type": "application/xml", **refusal.headers})


class Link:
    """A link to a port of this machine that breaks each time so many bytes have come down: every connection at once."""

    def __init__(self, port: int, breaks: tuple[int, ...] = ()) -> None:
        self._to = port
        self._breaks = deque(breaks)
        self._since = 0
        self.broken = 0
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for each in self._threads:
            each.join(30)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            with self._lock:
                self._live |= {near, far}
            pair = threading.Thread(target=self._carry, args=(near, far), daemon=True)
            self._threads.append(pair)
            pair.start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        up = threading.Thread(target=self._pump, args=(near, far, False), daemon=True)
        up.start()
        self._pump(far, near, True)
        up.join()
        for each in (near, far):
            with self._lock:
                self._live.discard(each)
            each.close()

    def _pump(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if down and not self._passes(len(data)):
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _passes(self, count: int) -> bool:
        with self._lock:
            self._since += count
            if not self._breaks or self._since < self._breaks[0]:
                return True
            self._breaks.popleft()
            self._since = 0
            self.broken += 1
        self._cut()
        return False

    def _cut(self) -> None:
        with self._lock:
            live = list(self._live)
        for each in live:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
