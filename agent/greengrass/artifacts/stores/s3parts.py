"""An object's bytes in order, fetched in parts side by side.

Each part is an answer of its own that a thread reads into memory; the first in the row is handed on as it comes, so
even a link that never carries a whole part gets further.  How many go side by side begins with one and grows with
each part that came whole, up to what the store has left: all parts of all artifacts share one gate, which bounds
the memory they take.  An artifact's first part waits at the gate, the others are only sent when it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from agent.aws.detached import detached
from agent.greengrass.artifacts.errors import ArtifactUnreachableError
from agent.greengrass.artifacts.stores import answers

__all__ = ["PARALLEL", "PART_BYTES", "Parts"]

PART_BYTES = 4 * 1024 * 1024
PARALLEL = 4
_BLOCK = 256 * 1024

Opener = Callable[[int, int], BaseHTTPResponse]
"""Ask for the bytes from a first up to a last that is not among them; blocks."""


class Parts:
    """The bytes from ``start`` to ``size``; ``uri`` is fit to be shown."""

    def __init__(
        self, opener: Opener, uri: str, start: int, size: int, gate: asyncio.Semaphore, part_bytes: int = PART_BYTES
    ) -> None:
        self._opener = opener
        self._uri = uri
        self._next = start
        self._size = size
        self._gate = gate
        self._part_bytes = part_bytes
        self._abreast = 1
        self._row: deque[_Part] = deque()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes first, to the end.  What came before a failure is not lost."""
        while self._next < self._size or self._row:
            await self._fill()
            async for chunk in self._row[0].chunks():
                yield chunk
            await self._drop()
            self._abreast = min(self._abreast + 1, PARALLEL)

    async def close(self) -> None:
        """Break off what is under way."""
        while self._row:
            await self._drop()

    async def _fill(self) -> None:
        while self._next < self._size and len(self._row) < self._abreast:
            if self._row and self._gate.locked():
                return
            await self._gate.acquire()
            end = min(self._next + self._part_bytes, self._size)
            self._row.append(_Part(self._opener, self._uri, self._next, end))
            self._next = end

    async def _drop(self) -> None:
        part = self._row.popleft()
        try:
            await part.close()
        finally:
            self._gate.release()


class _Part:
    """The bytes of one answer, gathered by a thread."""

    def __init__(self, opener: Opener, uri: str, start: int, end: int) -> None:
        self._opener, self._uri, self._start, self._end = opener, uri, start, end
        self._loop = asyncio.get_running_loop()
        self._fresh = asyncio.Event()
        self._lock = threading.Lock()
        self._blocks: list[bytes] = []
        self._response: BaseHTTPResponse | None = None
        self._stopped = False
        self._reading: Future[None] = detached(self._read, "verge-s3")
        self._reading.add_done_callback(lambda _: self._tell())

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is there, or comes first, to the part's end."""
        ended = False
        while not ended:
            await self._fresh.wait()
            self._fresh.clear()
            ended = self._reading.done()
            with self._lock:
                taken, self._blocks = b"".join(self._blocks), []
            if taken:
                yield taken
        try:
            self._reading.result()
        except HTTPError as error:
            raise answers.broken_off(self._uri, error) from error

    async def close(self) -> None:
        """Break off; an answer that is still waited for is left behind, and closed when it comes."""
        with self._lock:
            self._stopped = True
            response = self._response
        if response is not None and not self._reading.done():
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # the answer is at its end already
                response.shutdown()
            await asyncio.wait([asyncio.wrap_future(self._reading)])

    def _read(self) -> None:
        response = self._opener(self._start, self._end)
        try:
            with self._lock:
                self._response = response
            missing = self._end - self._start
            while not self._stopped and (block := response.read1(_BLOCK)):
                missing -= len(block)
                with self._lock:
                    self._blocks.append(block)
                self._tell()
            # A link that breaks at the wrong moment looks like the answer's end.
            if missing and not self._stopped:
                raise ArtifactUnreachableError(
                    f"{self._uri} broke off {missing} bytes before the end of a part",
                    hint="the link or the server failed",
                )
        finally:
            response.close()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and so is whoever waits
            self._loop.call_soon_threadsafe(self._fresh.set)
