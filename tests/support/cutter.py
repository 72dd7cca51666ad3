"""A link to a port of this machine that is cut, stalls and is restored, while whoever uses it knows nothing of it.

Everything happens on one event loop, so that what is cut there is cut before anything else happens there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self


class Lane:
    """One direction of the link."""

    def __init__(self) -> None:
        self._stalled = False
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._awaited: tuple[int, Callable[[], None]] | None = None

    def after(self, count: int, act: Callable[[], None]) -> None:
        """Have ``act`` called once, when so many more bytes have come and before the last of them go on."""
        self._awaited = count, act

    def stall(self) -> None:
        """Keep what comes until ``flow``, and break nothing."""
        self._stalled = True

    def flow(self) -> None:
        """Carry what was kept, and what comes; nothing is awaited any more."""
        self._stalled, self._awaited = False, None
        for writer, data in self._held:
            writer.write(data)
        self._held.clear()

    def lose(self) -> None:
        """Nobody is there any more for what was kept."""
        self._held.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes."""
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                self._count(len(data))
                if self._stalled:
                    self._held.append((writer, data))
                else:
                    writer.write(data)
                    await writer.drain()
        writer.close()

    def _count(self, count: int) -> None:
        if self._awaited is None:
            return
        left, act = self._awaited
        self._awaited = (left - count, act) if left > count else None
        if self._awaited is None:
            act()


class Cutter:
    """The link; what comes in at ``port`` goes ``up`` to the port that it is for, and what comes back goes ``down``."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self.whole = True
        self.up, self.down = Lane(), Lane()
        self._to_port = to_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break every connection without a goodbye, and each new one at once."""
        self.whole = False
        self.up.lose()
        self.down.lose()
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Carry nothing either way, and break nothing."""
        self.up.stall()
        self.down.stall()

    def restore(self) -> None:
        """Carry what waits, and let new connections through."""
        self.whole = True
        self.up.flow()
        self.down.flow()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(near)
        far = near
        try:
            with suppress(ConnectionError):
                if self.whole:
                    far_reader, far = await asyncio.open_connection("127.0.0.1", self._to_port)
                    self._writers.add(far)
                if self.whole:  # it may be cut meanwhile
                    await asyncio.gather(self.up.carry(near_reader, far), self.down.carry(far_reader, near))
        finally:
            for writer in {near, far}:
                writer.transport.abort()
                self._writers.discard(writer)
            self._tasks.discard(task)
