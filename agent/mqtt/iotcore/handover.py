"""From the client's threads to the event loop, in order, bounded, with one wake-up for what comes meanwhile.

The loop is woken when the first event comes and then takes all there are, some hundred a turn so that others have
theirs.  Only messages of QoS 0 can be too many: the others are bounded by what the broker may send ahead of their
acknowledgement, which follows their handling, and all else by what was asked for.  A message of QoS 0 that finds no
room is dropped and counted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from agent.mqtt.iotcore.events import Arrived, Event

__all__ = ["Handover"]

_PER_TURN = 100


class Handover:
    """Passes events on to ``take``, on the loop's thread; holds at most so many messages and bytes of QoS 0."""

    def __init__(self, take: Callable[[Event], None], *, max_messages: int, max_bytes: int) -> None:
        self.dropped = 0
        """Messages of QoS 0 that found no room."""
        self._take = take
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._messages = 0
        self._woken = False

    def put(self, event: Event) -> None:
        """Pass an event on; from any thread."""
        with self._lock:
            if isinstance(event, Arrived) and not self._room(event):
                self.dropped += 1
                return
            self._events.append(event)
            wake, self._woken = not self._woken, True
        if wake:
            self._hand_over()

    def _hand_over(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear of it
            self._loop.call_soon_threadsafe(self._turn)

    def _room(self, event: Arrived) -> bool:
        size = len(event.message.payload)
        full = self._messages >= self._max_messages or self._bytes + size > self._max_bytes
        if event.acknowledgement is None and full:
            return False
        self._messages += 1
        self._bytes += size
        return True

    def _turn(self) -> None:
        try:
            for _ in range(_PER_TURN):
                event = self._next()
                if event is None:
                    return
                self._take(event)
        except BaseException:
            self._loop.call_soon(self._turn)
            raise
        self._loop.call_soon(self._turn)

    def _next(self) -> Event | None:
        with self._lock:
            if not self._events:
                self._woken = False
                return None
            event = self._events.popleft()
            if isinstance(event, Arrived):
                self._messages -= 1
                self._bytes -= len(event.message.payload)
            return event
