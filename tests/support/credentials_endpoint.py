"""An IoT credentials provider on the loopback: HTTPS that asks for a client's certificate."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.certs import Certificates

EXPIRES = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECRET, TOKEN = "hush-secret", "hush-token"


def body(expires: datetime = EXPIRES) -> bytes:
    """What the provider answers with a 200."""
    told = {"accessKeyId": "ASIAROLE", "secretAccessKey": SECRET, "sessionToken": TOKEN}
    return json.dumps({"credentials": told | {"expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}}).encode()


def said(message: str) -> bytes:
    return json.dumps({"message": message}).encode()


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    subject: Any


@dataclass
class Endpoint:
    """``with`` serves; ``answers`` come first, then ``always``."""

    certificates: Certificates
    answers: deque[tuple[int, bytes]] = field(default_factory=deque)
    always: tuple[int, bytes] = field(default_factory=lambda: (200, body()))
    before: Callable[[], None] = lambda: None
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.server_cert, self.certificates.server_key)
        context.load_verify_locations(self.certificates.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.endpoint, self._server.context = self, context
        self.host = f"localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    endpoint: Endpoint
    context: ssl.SSLContext

    def finish_request(self, request, client_address) -> None:
        try:
            wrapped = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return  # a client without a certificate, or one that does not trust us
        with wrapped:
            self.RequestHandlerClass(wrapped, client_address, self)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        endpoint = self.server.endpoint
        headers = {key.lower(): value for key, value in self.headers.items()}
        endpoint.asked.append(Asked(self.path, headers, self.connection.getpeercert()["subject"]))
        endpoint.before()
        status, answer = endpoint.answers.popleft() if endpoint.answers else endpoint.always
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
