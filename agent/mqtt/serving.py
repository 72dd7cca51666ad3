"""A connected paho client served by the event loop: when to read, to write and to look at the clock.

While it is served, everything that touches the client goes through here, on the loop's thread: ``do`` calls, then
``attend`` sees to what follows from the call.  paho writes at once as long as it is not inside one of its own
callbacks; what the socket does not take, and what was said inside a callback, goes out when it is writable.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import ParamSpec

from paho.mqtt.client import Client

__all__ = ["Serving"]

P = ParamSpec("P")

_READS_A_TURN = 32
"""Then others have their turn, also while TLS has more in hand."""
_LONGEST_TICK_S = 5.0
_SHORTEST_TICK_S = 0.25
_STANDSTILL_S = 0.5
_MOMENT_S = 0.1


class Serving:
    """One connection of ``client``; ``over`` is done when it has ended, or with the exception that ended it.

    ``delivered`` is called after each read, ``attend`` after everything, both outside of paho's callbacks.
    """

    def __init__(self, client: Client, *, delivered: Callable[[], None], attend: Callable[[], None]) -> None:
        self._client = client
        self._deliver = delivered
        self._attend = attend
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        connection = client.socket()
        assert connection is not None  # noqa: S101 the client is connected
        self._pending: Callable[[], int] = getattr(connection, "pending", lambda: 0)
        self._descriptor = connection.fileno()
        self._open = True
        self._writing = False
        client.on_socket_close = lambda *_: self._closing()
        self._loop.add_reader(self._descriptor, self._readable)
        self._arm()
        self.do(lambda: None)

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call something that may touch the client."""
        try:
            call(*args, **kwargs)
            if self._open:
                self._attend()
            if self._open and self._client.want_write() is not self._writing:
                self._watch_writable()
        except Exception as error:
            if self.over.done():
                raise
            self.over.set_exception(error)

    def fail(self, error: Exception) -> None:
        """End the connection for this reason."""
        if not self.over.done():
            self.over.set_exception(error)

    def close(self) -> None:
        """Leave the client alone: the loop will not touch it any more."""
        self._closing()
        self._client.on_socket_close = None

    def _closing(self) -> None:
        # Called by paho right before it closes the socket, whose number may be another's a moment later.
        if not self._open:
            return
        self._open = False
        self._tick.cancel()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        if not self.over.done():
            self.over.set_result(None)

    def _readable(self) -> None:
        if self._open:
            self.do(self._read)

    def _read(self) -> None:
        for _ in range(_READS_A_TURN):
            self._client.loop_read()
            self._deliver()
            if not self._open or not self._pending():
                return
        self._loop.call_soon(self._readable)  # what is decrypted already, no selector sees

    def _watch_writable(self) -> None:
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(self._descriptor, self.do, self._client.loop_write)
        else:
            self._loop.remove_writer(self._descriptor)

    # -- the clock: keepalive ---------------------------------------------------------------------------

    def _arm(self) -> None:
        tick_s = min(max(self._client.keepalive / 4, _SHORTEST_TICK_S), _LONGEST_TICK_S)
        self._tick = self._loop.call_later(tick_s, self._look, self._loop.time() + tick_s + _STANDSTILL_S)

    def _look(self, late: float) -> None:
        if self._loop.time() > late:
            # The loop stood still, and the broker's answers wait to be read: first they get a moment for that.
            self._tick = self._loop.call_later(_MOMENT_S, self._look, math.inf)
            return
        self.do(self._client.loop_misc)
        if self._open:
            self._arm()
