"""As much HTTP/1.1 as a measurement needs: requests made beforehand, a kept connection for each frame in flight."""

from __future__ import annotations

import socket


class Connection:
    """A kept connection to a server on a loopback port; reading raises ``TimeoutError`` after ``timeout`` seconds."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb", buffering=1 << 17)

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self.socket.close()

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self.socket.sendall(request)

    def receive(self) -> bytes:
        """The body of the next response; raises ``ConnectionError`` for any but 200."""
        status, length = self._reader.readline(), 0
        while header := self._reader.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = self._reader.read(length)
        if b" 200 " not in status:
            raise ConnectionError(f"the server answered {status!r} {body[:500]!r}")
        return body


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request with a JSON body."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
