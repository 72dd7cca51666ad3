"""What stands between the agent and S3 when things go wrong: an S3 that refuses on cue, and a link that breaks."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

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


@dataclass(frozen=True)
class Asked:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class FakeS3:
    """``with`` serves ``objects`` by path (``/bucket/key``); ``acts`` may answer instead, or wait."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.asked: list[Asked] = []
        self.acts: deque[Callable[[Asked], Refusal | None]] = deque()
        self.always: Callable[[Asked], Refusal | None] = lambda _: None
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def ranges(self) -> list[str]:
        """The ranges that were asked for."""
        return [each.headers["range"] for each in self.asked if "range" in each.headers]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    fake: FakeS3


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        fake = self.server.fake
        asked = Asked(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
        with fake.lock:
            fake.asked.append(asked)
            fake.busy += 1
            fake.busiest = max(fake.busiest, fake.busy)
            act = fake.acts.popleft() if fake.acts else fake.always
        try:
            refusal = act(asked)
            self._refuse(refusal) if refusal else self._give(asked)
        except OSError:
            self.close_connection = True  # the client went away: that is what it may do
        finally:
            with fake.lock:
                fake.busy -= 1

    def _refuse(self, refusal: Refusal) -> None:
        body = XML.format(code=refusal.code, message=refusal.message, more=refusal.more).encode()
        self.send_response(refusal.status)
        self.send_header("Content-Type", "application/xml")
        for name, value in refusal.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _give(self, asked: Asked) -> None:
        found = self.server.fake.objects.get(asked.path)
        if found is None:
            self._refuse(Refusal(404, "NoSuchKey", "The specified key does not exist."))
            return
        if asked.headers.get("if-match", found.etag) != found.etag:
            self._refuse(Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold"))
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        body = found.data[int(span[1]) : int(span[2]) + 1] if span else found.data
        self.send_response(206 if span else 200)
        self.send_header("ETag", found.etag)
        self.send_header("Content-Length", str(len(body)))
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{span[2]}/{len(found.data)}")
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


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
