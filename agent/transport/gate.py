"""The bound between the thread that receives and the loop that handles."""

from __future__ import annotations

import threading

__all__ = ["Gate"]


class Gate:
    """Counts what is handed over and not handled yet; ``enter`` blocks while it is too much.

    The thread that blocks stops reading its socket, TCP fills up and the broker waits: the memory stays
    bounded and nothing is lost.  One message is always let through, however large.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0
        self._open = False
        self._changed = threading.Condition()

    def enter(self, size: int) -> None:
        """Count a message in, waiting for room."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._has_room(size))
            self._messages += 1
            self._bytes += size

    def leave(self, size: int) -> None:
        """Count a message out: it was handled."""
        with self._changed:
            self._messages -= 1
            self._bytes -= size
            self._changed.notify()

    def open(self) -> None:
        """Never block again: nobody handles messages any more."""
        with self._changed:
            self._open = True
            self._changed.notify()

    def _has_room(self, size: int) -> bool:
        return not self._messages or (self._messages < self._max_messages and self._bytes + size <= self._max_bytes)
