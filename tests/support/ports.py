"""Loopback ports that nobody else can take.

A socket that is bound and does not listen holds its port: the kernel neither gives it to who asks for any port nor uses
it as the source of a connection, and who connects to it is refused. As both set ``SO_REUSEADDR``, a server that names
the port can listen there, end and listen again.
"""

from __future__ import annotations

import socket
from typing import Self


class HeldPort:
    """A port that is this test's until ``release``."""

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.number: int = self._holder.getsockname()[1]

    def release(self) -> None:
        self._holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()
