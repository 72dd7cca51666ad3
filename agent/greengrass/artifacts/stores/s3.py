"""Artifacts in S3: ``s3://bucket/key``.

boto3 does the talking, in threads; it is imported by the thread that fetches the first such artifact (``aws.sdk``
tells what it costs).  An object is looked at first (HEAD: its size and its ETag), then fetched in parts
that S3 gives only while the ETag is still the same, so a new object under the same key begins anew.

Each part is an answer of its own that a thread reads into memory; the first in the row is handed on as it comes, so
even a link that never carries a whole part gets further.  How many go side by side begins with one and grows with
each part that came whole, up to what the store has left: all parts of all artifacts share one gate, which bounds
the memory they take.  An artifact's first part waits at the gate, the others are only sent when it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from agent.aws.detached import detached
from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.errors import ArtifactUnreachableError
from agent.greengrass.artifacts.store import AwsStoreOptions, Content, Store
from agent.greengrass.artifacts.stores import answers
from agent.greengrass.artifacts.stores.s3answers import S3Error, S3Object

if TYPE_CHECKING:
    from agent.greengrass.artifacts.stores.s3client import S3Client

__all__ = ["PARALLEL", "PART_BYTES", "Parts", "S3Store"]

Answer = TypeVar("Answer")
PART_BYTES = 4 * 1024 * 1024
PARALLEL = 4
_BLOCK = 256 * 1024
Opener = Callable[[int, int], BaseHTTPResponse]
"""Ask for the bytes from a first up to a last that is not among them; blocks."""


class S3Store(Store):
    """Amazon's S3, or what stands in for it; an ETag tells one content from another."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(options)
        self._aws = options if isinstance(options, AwsStoreOptions) else AwsStoreOptions()
        self._client: S3Client | None = None
        self._connecting = asyncio.Lock()
        self._gate = asyncio.Semaphore(PARALLEL)

    async def close(self) -> None:
        """Close the connections; what still tries to connect ends by itself."""
        if self._client is not None:
            self._client.close()

    @asynccontextmanager
    async def _open(self, uri: str, offset: int, version: str | None) -> AsyncIterator[Content]:
        place = S3Object.parse(uri)
        client = await self._connected()
        facts = await _answer(lambda: client.facts(place))
        same = version in {None, facts.etag} and offset <= facts.size
        start = offset if same else 0
        parts = Parts(
            lambda first, end: client.part(place, facts, first, end), place.uri, start, facts.size, self._gate
        )
        try:
            yield Content(parts.chunks(), start, facts.size, facts.etag)
        finally:
            await parts.close()

    async def _connected(self) -> S3Client:
        async with self._connecting:
            if self._client is None:
                self._client = await _answer(lambda: _connect(self._aws))
            return self._client


async def _answer(work: Callable[[], Answer]) -> Answer:
    """What blocking work comes to; a cancellation does not wait for it."""
    return await asyncio.wrap_future(detached(work, "verge-s3"))


def _connect(options: AwsStoreOptions) -> S3Client:
    try:
        module = importlib.import_module("agent.greengrass.artifacts.stores.s3client")
    except ModuleNotFoundError as error:
        raise S3Error(
            f"artifacts in S3 need boto3, and {error.name} is not installed",
            hint="pip install 'verge-edge[aws]'",
            code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
        ) from error
    client: S3Client = module.S3Client(options)
    return client


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
