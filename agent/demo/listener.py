"""A client of the broker that takes the agent's results and reports into the scores."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

import msgspec

from agent.demo.broker import Broker
from agent.demo.inspection import ANOMALIES, BeltFigures
from agent.demo.scores import ResultSeen, Scores, StreamReport
from agent.mqtt.factory import create
from agent.mqtt.transport import Message
from agent.topics import RESULTS, Topics

__all__ = ["ResultListener"]

log = logging.getLogger(__name__)

_result = msgspec.json.Decoder(ResultSeen).decode
_report = msgspec.json.Decoder(StreamReport).decode


class ResultListener:
    """Listens to one stream of one thing; ``scores`` and ``inspection`` are made of its messages."""

    def __init__(self, cameras: Iterable[str]) -> None:
        self.scores = Scores(cameras)
        self.inspection = BeltFigures()
        self._received = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def listening(cls, broker: Broker, thing: str, stream: str, cameras: Iterable[str]) -> AsyncIterator[Self]:
        """A listener on the broker until the context is left."""
        listener = cls(cameras)
        async with create("demo", broker.options) as bus:
            bus.subscribe(RESULTS.format(thing=thing, stream=stream), listener._on_result, qos=1)
            bus.subscribe(Topics(thing).stream(stream), listener._on_report, qos=1)
            bus.subscribe(ANOMALIES.format(thing=thing, stream=stream), listener._on_anomaly, qos=1)
            yield listener

    async def until(self, reached: Callable[[Scores], bool], silence_s: float) -> bool:
        """Wait until ``reached`` holds for the scores; False when no message came for ``silence_s``."""
        while not reached(self.scores):
            self._received.clear()
            try:
                async with asyncio.timeout(silence_s):
                    await self._received.wait()
            except TimeoutError:
                return False
        return True

    def _on_result(self, message: Message) -> None:
        result = _result(message.payload)
        self.scores.on_result(result, time.monotonic())
        self.inspection.on_result(result)
        self._received.set()

    def _on_anomaly(self, message: Message) -> None:
        del message
        self.inspection.on_anomaly()
        self._received.set()

    def _on_report(self, message: Message) -> None:
        self.scores.on_report(_report(message.payload))
        self._received.set()
