"""An IoT credentials provider on the loopback: HTTPS that asks for a client's certificate."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from tests.support.certs import Certificates, server_tls
from tests.support.http import HttpServer, Request, Response

EXPIRES = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECRET, TOKEN = "hush-secret", "hush-token"


def body(expires: datetime = EXPIRES) -> bytes:
    """What the provider answers with a 200."""
    told = {"accessKeyId": "ASIAROLE", "secretAccessKey": SECRET, "sessionToken": TOKEN}
    return json.dumps({"credentials": told | {"expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}}).encode()


def refusal(message: str) -> bytes:
    """What it answers with any other status."""
    return json.dumps({"message": message}).encode()


class Endpoint(HttpServer):
    """``with`` serves; ``answers`` come first, then ``always``."""

    def __init__(self, certificates: Certificates, always: tuple[int, bytes] | None = None, *, port: int = 0) -> None:
        super().__init__(self._answered, tls=server_tls(certificates), port=port)
        self.answers: deque[tuple[int, bytes]] = deque()
        self.always = always or (200, body())
        self.before: Callable[[], object] = lambda: None
        self.host = f"localhost:{self.port}"

    def _answered(self, _: Request) -> Response:
        self.before()
        return Response(*(self.answers.popleft() if self.answers else self.always))
