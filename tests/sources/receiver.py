"""A stream's door for tests: keeps what a source gives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agent.errors import FrameError
from agent.mqtt.transport import Message
from agent.sources.base import Source
from tests.support.until import until


@dataclass(frozen=True)
class Given:
    message: Message
    captured_at: float | None
    refused: FrameError | None
    at: float


class Receiver:
    """Keeps frames; ``eager`` asks for the next one as soon as it has one, as an idle model does."""

    def __init__(self, source: Source, *, eager: bool = False) -> None:
        self.source = source
        self.given: list[Given] = []
        self._eager = eager

    def __call__(
        self, message: Message, /, *, captured_at: float | None = None, refused: FrameError | None = None
    ) -> None:
        self.given.append(Given(message, captured_at, refused, asyncio.get_running_loop().time()))
        if self._eager:
            self.source.want()

    @property
    def payloads(self) -> list[bytes]:
        return [given.message.payload for given in self.given]

    @property
    def names(self) -> list[str]:
        return [given.message.topic for given in self.given]

    def open(self) -> None:
        self.source.open(self)
        if self._eager:
            self.source.want()

    async def has(self, count: int) -> None:
        await until(lambda: len(self.given) >= count)
