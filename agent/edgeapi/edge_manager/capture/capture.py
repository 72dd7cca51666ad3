"""The parts in one loop: a request into the spool, batches out of it, what failed again after a pause."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from agent.edgeapi.edge_manager.capture import queue, record
from agent.edgeapi.edge_manager.capture.destinations import CaptureDestination
from agent.edgeapi.edge_manager.capture.queue import Queue, Rules
from agent.edgeapi.edge_manager.capture.record import CapturePlace, File, Record
from agent.edgeapi.edge_manager.capture.spool import Spool, State
from agent.errors import InvalidInputError, UnreachableError, VergeError
from agent.mqtt.backoff import Backoff

__all__ = ["BufferFullError", "Capture", "CaptureLimits", "Captures", "CapturesOffError", "NoCaptures", "Report"]

log = logging.getLogger(__name__)

_LEAVE_S: Final = 3.0
"""How long what waits may take to leave when the agent does; what is left goes on from the spool."""
_LONGEST_PAUSE_S: Final = 60.0


class BufferFullError(UnreachableError):
    """As many captures wait as may."""

    default_code = "buffer-full"


class CapturesOffError(InvalidInputError):
    """Captures are refused."""

    default_code = "captures-off"


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """What may wait."""

    captures: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """How captures are; what has arrived, failed and been refused since the start."""

    waiting: int
    waiting_bytes: int
    arrived: int
    failed: int
    refused: int
    problem: str
    """Why the batch in turn has not arrived; empty where nothing is the matter."""


class Captures(Protocol):
    """Takes captures."""

    @property
    def report(self) -> Report:
        """How captures are."""

    async def take(self, captured: Record) -> None:
        """Take a capture; raises ``VergeError`` for one that is not taken."""

    async def state(self, capture_id: str) -> State:
        """What became of a capture."""


class NoCaptures:
    """Refuses every capture."""

    report = Report(0, 0, 0, 0, 0, "")

    async def take(self, captured: Record) -> None:
        """Raises ``CapturesOffError``."""
        del captured
        raise CapturesOffError("captures have no destination", hint="name a disk path or a bucket for them")

    async def state(self, capture_id: str) -> State:
        """There is none."""
        del capture_id
        return State.NOT_FOUND


class Capture:
    """Captures on their way to a destination while entered; ``base_s`` is the first pause behind a failure."""

    def __init__(
        self, spool: Path, place: CapturePlace, destination: CaptureDestination, rules: Rules, limits: CaptureLimits, *,
        upload: bool = False, base_s: float = 0.5, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._spool = Spool(spool, self._taken)
        self._place = place
        self._destination = destination
        self._rules = rules
        self._limits = limits
        self._upload = upload
        self._backoff = Backoff(base_s, _LONGEST_PAUSE_S)
        self._clock = clock
        self._queue = Queue()
        self._outgoing: tuple[int, ...] = ()
        """A batch that is to be sent now."""
        self._bytes = 0
        self._entering: list[int] = []
        """Bytes of each capture that is on its way into the spool."""
        self._arrived = self._failed = self._refused = 0
        self._problem = ""
        self._stirred = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Raises ``SpoolError``."""
        await self._spool.__aenter__()
        kept = await self._spool.kept()
        now = self._clock()
        self._queue = Queue(
            tuple((number, now) for number in kept.waiting), kept.batch, now if kept.batch else math.inf
        )
        self._bytes = kept.nbytes
        self._step(queue.Tick())
        self._task = asyncio.create_task(self._run(), name="agent.edgeapi.captures")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._problem:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._spool.__aexit__(None, None, None)

    @property
    def spool(self) -> Spool:
        """Where captures are kept."""
        return self._spool

    @property
    def report(self) -> Report:
        """How captures are."""
        waiting = len(self._queue)
        return Report(waiting, self._bytes, self._arrived, self._failed, self._refused, self._problem)

    async def take(self, captured: Record) -> None:
        """Take a capture: it is in the spool, synchronised, when this returns.

        Raises ``BufferFullError``, ``CaptureExistsError`` and ``SpoolError``.
        """
        waiting, nbytes = len(self._queue) + len(self._entering), self._bytes + sum(self._entering)
        if waiting >= self._limits.captures or nbytes + captured.nbytes > self._limits.nbytes:
            self._refused += 1
            raise BufferFullError(
                f"{waiting} captures of {nbytes} bytes wait",
                hint=self._problem or "capture more slowly, or raise buffer_size",
            )
        self._entering.append(captured.nbytes)
        try:
            await self._spool.take(captured)
        finally:
            self._entering.remove(captured.nbytes)

    async def state(self, capture_id: str) -> State:
        """What became of a capture."""
        return await self._spool.state(capture_id)

    async def flush(self) -> None:
        """Have what waits leave now, and wait for it."""
        self._idle.clear()
        self._step(queue.Flush())
        if len(self._queue):
            await self._idle.wait()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _taken(self, number: int, size: int) -> None:
        self._bytes += size
        self._step(queue.CaptureTaken(number))

    def _step(self, event: queue.Event) -> None:
        self._queue, batch = queue.step(self._queue, event, self._clock(), self._rules)
        self._outgoing = batch or self._outgoing
        if not len(self._queue):
            self._idle.set()
        self._stirred.set()

    async def _run(self) -> None:
        while True:
            if batch := self._outgoing:
                self._outgoing = ()
                self._step(await self._send(batch))
                continue
            self._stirred.clear()
            pause_s = queue.due(self._queue, self._rules) - self._clock()
            try:
                async with asyncio.timeout(None if pause_s == math.inf else max(0.0, pause_s)):
                    await self._stirred.wait()
            except TimeoutError:
                self._step(queue.Tick())

    async def _send(self, batch: Sequence[int]) -> queue.Event:
        """Bring a batch to its destination; what became of it."""
        try:
            await self._spool.cut(batch)
            found = await self._spool.read(batch)
            files = record.files(list(found.values()), self._place)
            await self._destination.write(files)
            if damaged := [number for number in batch if number not in found]:
                await self._settle(damaged, State.FAILURE)
            await self._settle(list(found), State.SUCCESS, files if self._upload else ())
        except InvalidInputError as error:
            return await self._given_up(batch, error)
        except VergeError as error:
            return self._postponed(error)
        except Exception as error:  # a fault of ours costs an attempt, and not the loop
            log.exception("captures could not be written")
            return self._postponed(VergeError(f"a fault: {error}"))
        self._well()
        return queue.Arrived()

    async def _settle(self, numbers: Sequence[int], state: State, uploads: Sequence[File] = ()) -> None:
        if not numbers:
            return
        self._bytes -= await self._spool.settle(numbers, state, uploads)
        if state is State.SUCCESS:
            self._arrived += len(numbers)
        else:
            self._failed += len(numbers)

    async def _given_up(self, batch: Sequence[int], error: VergeError) -> queue.Event:
        log.error("%d captures are given up: %s", len(batch), error)
        try:
            await self._settle(batch, State.FAILURE)
        except VergeError as failure:
            return self._postponed(failure)
        return queue.Arrived()

    def _postponed(self, error: VergeError) -> queue.Event:
        if not self._problem:
            log.warning("captures wait: %s", error)
        self._problem = error.message
        return queue.Failed(self._backoff.next_s())

    def _well(self) -> None:
        if self._problem:
            log.info("captures arrive again")
        self._problem = ""
        self._backoff.reset()
