"""Artifacts over ``https:``, and over ``http:`` from this machine or hosts that are allowed by name.

The client is urllib3, in threads: pure Python, released and mended this year, and the HTTP client that boto3
brings as well.  It costs 4 MB beside ``ssl`` where aiohttp costs 13 and httpx 9 (and httpx has had no release
for two years).  It is imported when the first such artifact is fetched.

A read is broken off by shutting the socket down; a connection attempt cannot be, so a cancellation leaves it
behind to end at its timeout and to be closed then.  Redirects are followed here, for each one is judged:
never from https to http, never with the credentials of another origin.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TypeVar

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.store import Content, Store
from agent.greengrass.artifacts.stores import answers
from agent.greengrass.artifacts.stores.client import Client

__all__ = ["HttpsStore"]

_AHEAD = 512 * 1024

Answer = TypeVar("Answer")


class HttpsStore(Store):
    """HTTP/1.1 with ranges; an ETag or a modification time tells one content from another."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(options)
        self._client = Client(options)

    async def close(self) -> None:
        """Close the connections; what still tries to connect ends by itself."""
        self._client.close()

    @asynccontextmanager
    async def _open(self, uri: str, offset: int, version: str | None) -> AsyncIterator[Content]:
        response = await self._get(uri, offset, version)
        if response.status == answers.NOT_SATISFIABLE and answers.whole_size(response) != offset:
            # The content is shorter than what is here: another one.
            response.close()
            response = await self._get(uri, 0, None)
        body = _Body(response, uri)
        try:
            start, total = answers.extent(response, uri)
            yield Content(body.chunks(), start, total, answers.version(response))
        finally:
            await body.close()

    async def _get(self, uri: str, offset: int, version: str | None) -> BaseHTTPResponse:
        """The answer's head; a cancellation does not wait for it."""
        pending = _started(lambda: self._client.get(uri, offset, version))
        try:
            response = await asyncio.shield(asyncio.wrap_future(pending))
        except asyncio.CancelledError:
            pending.add_done_callback(_close_late)  # called by the thread: the event loop may be gone by then
            raise
        except HTTPError as error:
            raise answers.not_connected(uri, error) from error
        answers.judge(response, uri, offset)
        return response


class _Body:
    """The bytes of an answer: a thread reads ahead, the event loop takes all that is there.

    TLS hands out 16 KiB at a time; handed over one by one they would cost more than they are worth.
    """

    def __init__(self, response: BaseHTTPResponse, uri: str) -> None:
        self._response = response
        self._uri = uri
        self._loop = asyncio.get_running_loop()
        self._fresh = asyncio.Event()
        self._changed = threading.Condition()
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._reading: asyncio.Future[None] | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is there, or comes first, to the end.  What came before a failure is not lost."""
        self._reading = asyncio.wrap_future(_started(self._read))
        ended = False
        while not ended:
            await self._fresh.wait()
            self._fresh.clear()
            taken, ended = self._take()
            if taken:
                yield taken
        try:
            await asyncio.shield(self._reading)
        except HTTPError as error:
            raise answers.broken_off(self._uri, error) from error

    async def close(self) -> None:
        """Stop, and let go of the connection when nobody reads from it."""
        try:
            if self._reading and not self._reading.done():
                self._end()
                with contextlib.suppress(OSError, RuntimeError, ValueError):  # the answer is at its end already
                    self._response.shutdown()
                await asyncio.wait([self._reading])
        finally:
            self._response.close()
        if self._reading:
            self._reading.exception()  # retrieved: nobody waits for it any more

    def _take(self) -> tuple[bytes, bool]:
        with self._changed:
            taken = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._changed.notify_all()
            return taken, self._ended

    def _read(self) -> None:
        """Read to the end, a bounded way ahead."""
        try:
            while part := self._response.read1(_AHEAD):
                with self._changed:
                    self._parts.append(part)
                    self._size += len(part)
                self._hand_over()
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._size < _AHEAD)
                    if self._ended:
                        return
        finally:
            self._end()
            self._hand_over()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _hand_over(self) -> None:
        self._loop.call_soon_threadsafe(self._fresh.set)


def _started(work: Callable[[], Answer]) -> Future[Answer]:
    """The answer of ``work`` in a thread of its own, which the end of the program does not wait for."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 it is raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=run, name="verge-https", daemon=True).start()
    return answer


def _close_late(pending: Future[BaseHTTPResponse]) -> None:
    if pending.exception() is None:
        pending.result().close()
