"""Listen to the results of one or more brokers and hand them on, one after the other, until enough were shown.

Messages wait in one bounded queue between the links and whoever shows them; a reader that is slower than the
results loses some and is told how many.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from agent.cli.subscriptions import Subscriptions
from agent.config.transports import TransportOptions
from agent.mqtt.transport import LinkState, Message
from agent.mqtt.visit import Visit

__all__ = ["Heard", "Notice", "Watch", "watching"]

_WAITING = 10_000
_LOOK_S = 1.0
_SILENCE_S = 10.0
_HEARD = math.inf
"""Something came: silence is no trouble any more."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message: a result, or what an agent says of itself."""

    topic: str
    payload: bytes
    is_result: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the link that the reader should know."""

    text: str


class Watch:
    """What is heard, in order; ``lost`` counts what a slow reader did not get."""

    def __init__(self, visits: Mapping[str, Visit]) -> None:
        self.lost = 0
        self._visits = visits
        self._waiting: asyncio.Queue[Heard | Notice] = asyncio.Queue(_WAITING)
        self._refused: set[str] = set()
        self._silent_s = 0.0

    def subscribe(self, name: str, subscriptions: Subscriptions) -> None:
        """Listen to these filters of the broker called ``name``, and to its link."""
        visit = self._visits[name]
        for topic_filter in subscriptions.results:
            visit.subscribe(topic_filter, partial(self._hear, is_result=True))
        for topic_filter in subscriptions.status:
            visit.subscribe(topic_filter, partial(self._hear, is_result=False))
        visit.watch(partial(self._link, visit.options.address))

    async def next(self) -> Heard | Notice:
        """The next thing heard, however long it takes; a long silence at the start is told once."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    heard = await self._waiting.get()
            except TimeoutError:
                self._look_for_refusals()
                self._silent_s += _LOOK_S
                if self._silent_s == _SILENCE_S:
                    return Notice(f"nothing came for {_SILENCE_S:g} s: is an agent running, and on this broker?")
            else:
                self._silent_s = _HEARD
                return heard

    def _hear(self, message: Message, *, is_result: bool) -> None:
        self._put(Heard(message.topic, message.payload, is_result))

    def _link(self, address: str, state: LinkState) -> None:
        self._put(Notice(f"connected to {address} again" if state.connected else state.reason))

    def _look_for_refusals(self) -> None:
        for visit in self._visits.values():
            for topic_filter, reason in visit.refused.items():
                if topic_filter not in self._refused:
                    self._refused.add(topic_filter)
                    self._put(Notice(f"{visit.options.address} refuses {topic_filter}: {reason}"))

    def _put(self, heard: Heard | Notice) -> None:
        try:
            self._waiting.put_nowait(heard)
        except asyncio.QueueFull:
            self.lost += 1


@asynccontextmanager
async def watching(brokers: Mapping[str, tuple[TransportOptions, Subscriptions]]) -> AsyncIterator[Watch]:
    """Connect to every broker and listen; raises ``BrokerUnreachableError`` when one is not there."""
    visits = {name: Visit(name, options, "watch") for name, (options, _) in brokers.items()}
    async with AsyncExitStack() as stack:
        for visit in visits.values():
            await stack.enter_async_context(visit)
        await asyncio.gather(*(visit.reach() for visit in visits.values()))
        watch = Watch(visits)
        for name, (_, subscriptions) in brokers.items():
            watch.subscribe(name, subscriptions)
        yield watch
