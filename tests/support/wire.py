"""A TCP wire between a client and a broker that a test can cut and mend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_GONE = (ConnectionError, asyncio.IncompleteReadError)


class Wire:
    """Relays to the port of a broker; ``cut`` drops every connection, and new ones until ``mend``.

    ``script`` may answer the first bytes of a connection in the broker's place, and then all that follow.
    """

    def __init__(self, broker_port: int, *, script: Callable[[bytes], bytes | None] = lambda _: None) -> None:
        self.connections = 0
        self._broker_port = broker_port
        self._script = script
        self._mended = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Drop every connection without a goodbye."""
        self._mended = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through."""
        self._mended = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with suppress(*_GONE):
            if self._mended:
                self.connections += 1
                await self._relay(reader, writer)
        writer.close()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65_536)
        if (answer := self._script(first)) is not None:
            while answer is not None and first:
                writer.write(answer)
                first = await reader.read(65_536)
                answer = self._script(first) if first else None
            return
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._writers.add(to_broker)
        to_broker.write(first)
        await asyncio.gather(_copy(reader, to_broker), _copy(from_broker, writer))
        self._writers.discard(to_broker)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_GONE):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
