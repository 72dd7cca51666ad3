"""The state of the agent's transports: a retained topic for each, with what waits in its outbox and what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent.mqtt.transport import Transport
from agent.topics import Topics

__all__ = ["TransportStatusPublisher"]

_encode = msgspec.json.Encoder().encode

Retain = Callable[[str, bytes], None]


class TransportStatusPublisher:
    """Publishes transports while it runs: at once when a link goes up or down, their counts every ``interval_s``."""

    def __init__(
        self, topics: Topics, transports: Mapping[str, Transport], retain: Retain, *, interval_s: float
    ) -> None:
        self._topics = topics
        self._transports = transports
        self._retain = retain
        self._interval_s = interval_s
        self._published: dict[str, bytes] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Publish until cancelled."""
        for transport in self._transports.values():
            transport.watch(lambda _state: self._changed.set())
        while True:
            self._changed.clear()
            self._publish()
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _publish(self) -> None:
        for name, transport in self._transports.items():
            payload = _encode(_payload(name, transport))
            if self._published.get(name) != payload:
                self._published[name] = payload
                self._retain(self._topics.transport(name), payload)


def _payload(name: str, transport: Transport) -> dict[str, Any]:
    """The payload of a transport's topic."""
    state = transport.state
    return {"transport": name, "connected": state.connected, "reason": state.reason, **transport.counts}
