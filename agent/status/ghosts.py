"""What is retained of an earlier run and is no more: cleared when the agent connects.

A kill, a removed stream or a lost set leaves topics behind that say RUNNING for ever.  For a few seconds of each
connection the agent reads what is retained of its own components, streams and transports, and clears what it does not
publish now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent.errors import VergeError
from agent.mqtt.transport import LinkState, Message, Transport
from agent.status.board import StatusBoard
from agent.topics import Topics

__all__ = ["Ghosts"]

log = logging.getLogger(__name__)

_READ_S = 5.0


class Ghosts:
    """Clears what ``board`` does not publish, from ``start`` on."""

    def __init__(self, board: StatusBoard, transport: Transport, topics: Topics) -> None:
        self._board = board
        self._transport = transport
        self._filters = (topics.component_filter, topics.stream_filter, topics.transport_filter)
        self._reading: asyncio.TimerHandle | None = None

    def start(self) -> Callable[[], None]:
        """Look now if the link is up, and at each connection; the result ends it."""
        self._transport.watch(self._on_link)
        self._on_link(self._transport.state)
        return self._stop

    def _on_link(self, state: LinkState) -> None:
        if state.connected and self._reading is None:
            for topic_filter in self._filters:
                self._transport.subscribe(topic_filter, self._on_retained, qos=1)
            self._reading = asyncio.get_running_loop().call_later(_READ_S, self._stop)

    def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            for topic_filter in self._filters:
                self._transport.unsubscribe(topic_filter, self._on_retained)

    def _on_retained(self, message: Message) -> None:
        if not message.retain or not message.payload or self._board.publishes(message.topic):
            return
        log.info("%s is of an earlier run, and is cleared", message.topic)
        try:
            self._transport.publish(Message(message.topic, b"", qos=1, retain=True))
        except VergeError as error:
            log.debug("%s is not cleared: %s", message.topic, error)
