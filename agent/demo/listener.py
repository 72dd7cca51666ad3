"""A client of the broker that hears what the agent says and keeps the scores."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

import msgspec

from agent.config.transports import MqttOptions
from agent.demo.scores import Report, Scores, Seen
from agent.mqtt.factory import create
from agent.mqtt.transport import Message
from agent.topics import RESULTS, Topics

__all__ = ["Ear"]

log = logging.getLogger(__name__)

_result = msgspec.json.Decoder(Seen).decode
_report = msgspec.json.Decoder(Report).decode


class Ear:
    """Hears one stream of one thing; ``scores`` are what it heard."""

    def __init__(self, cameras: Iterable[str]) -> None:
        self.scores = Scores(cameras)
        self._heard = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def listening(cls, port: int, thing: str, stream: str, cameras: Iterable[str]) -> AsyncIterator[Self]:
        """An ear on the broker at ``port`` until the context is left."""
        ear = cls(cameras)
        async with create("demo", MqttOptions(port=port)) as bus:
            bus.subscribe(RESULTS.format(thing=thing, stream=stream), ear._on_result, qos=1)
            bus.subscribe(Topics(thing).stream(stream), ear._on_report, qos=1)
            yield ear

    async def until(self, reached: Callable[[Scores], bool], silence_s: float) -> bool:
        """Wait until the scores are as wished; False when nothing was heard for so long."""
        while not reached(self.scores):
            self._heard.clear()
            try:
                async with asyncio.timeout(silence_s):
                    await self._heard.wait()
            except TimeoutError:
                return False
        return True

    def _on_result(self, message: Message) -> None:
        self.scores.saw(_result(message.payload), time.monotonic())
        self._heard.set()

    def _on_report(self, message: Message) -> None:
        self.scores.told(_report(message.payload))
        self._heard.set()
