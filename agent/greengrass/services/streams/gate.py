"""So many at once, and of those who wait the most urgent first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

__all__ = ["Gate"]


class Gate:
    """``free`` may be inside at once; who waits goes in by priority (1 before 10), and by turn within one."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._turns = count()

    @asynccontextmanager
    async def turn(self, priority: int) -> AsyncIterator[None]:
        """Be inside."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._turns), future))
        self._let_in()
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # it was let in already
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._free += 1
        self._let_in()

    def _let_in(self) -> None:
        while self._free and self._waiting:
            future = heapq.heappop(self._waiting)[-1]
            if not future.done():
                self._free -= 1
                future.set_result(None)
