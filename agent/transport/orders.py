"""What the event loop wants of the link's thread: calls in order, and a socket that wakes the thread."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import ParamSpec

__all__ = ["Orders"]

P = ParamSpec("P")


class Orders:
    """A queue from one thread to another that a selector can wait on through ``reader``.

    What is in it is bounded by whoever gives orders: each publish is counted until it is delivered.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._signalled = True  # until the reader listens
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None

    @property
    def reader(self) -> socket.socket:
        """What becomes readable when there are orders."""
        if self._reader is None:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
            self._writer.send(b"\0")
        return self._reader

    def give(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have ``call`` run in the other thread."""
        self._calls.append(lambda: call(*args, **kwargs))
        if not self._signalled and self._writer is not None:
            self._signalled = True
            self._writer.send(b"\0")

    def run(self, *, readable: bool) -> None:
        """Run everything that was given so far; ``readable``: whether ``reader`` is."""
        if readable:
            # Cleared before the queue is emptied: an order given in between signals once more.
            self.reader.recv(64)
            self._signalled = False
        while self._calls:
            self._calls.popleft()()

    def close(self) -> None:
        """Release the two sockets; the other thread ended."""
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()
        self._reader = self._writer = None
