"""The outbox's thread: what is to be written is collected, and one batch after the other goes to the store.

While one batch is written the next is collected (group commit).  Removals have no hurry: they ride with the next
batch, and go alone a second later at the latest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from agent.mqtt.outbox.database import Drop
from agent.mqtt.outbox.record import Record
from agent.mqtt.outbox.scheduler import Load, Loaded
from agent.mqtt.outbox.store import Job, Report, Store

__all__ = ["Clock", "Writer"]

log = logging.getLogger("agent.mqtt.outbox")

_TICK_S = 1.0
_BATCH = 2000
_PENDING_MESSAGES = 10_000
_PENDING_BYTES = 16 * 1024 * 1024
_REMOVALS = 500
"""So many have company enough."""


class Clock:
    """Milliseconds that never go back, whatever is done to the wall clock; ``wall`` and ``steady`` give seconds.

    Edge devices often start without the right time and get it later, by months.  The outbox's clock begins at the wall
    clock, or at the newest message in the store where that is later, and then goes on with the steady clock only.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._ahead = wall() - steady()

    def now_ms(self) -> int:
        """The time now."""
        return int((self._steady() + self._ahead) * 1e3)

    def not_before(self, at_ms: int) -> None:
        """It is at least ``at_ms``: something in the store was written then."""
        self._ahead += max(0.0, (at_ms - self.now_ms()) / 1e3)


class Writer:
    """Writes to ``store``, whose messages that are in memory are ``held``; ``on_report`` gets each job's outcome."""

    def __init__(
        self,
        name: str,
        store: Store,
        clock: Clock,
        held: Callable[[], Iterable[Record]],
        on_report: Callable[[Job, Report], None],
    ) -> None:
        self.bytes = 0
        """Of what is not written yet."""
        self._name = name
        self._store = store
        self._clock = clock
        self._held = held
        self._on_report = on_report
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"agent.outbox.{name}")
        self._adds: deque[Record] = deque()
        self._removes: list[int] = []
        self._loads: list[Load] = []
        self._writing = 0
        self._work = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        return len(self._adds) + self._writing

    async def open(self) -> None:
        """Open the store, and write from now on."""
        self._loop = asyncio.get_running_loop()
        await self._turn(tick=True)
        self._task = self._loop.create_task(self._run(), name=f"agent.outbox.{self._name}")

    async def close(self) -> None:
        """Write what there is, and close the store."""
        self._closing = True
        self._work.set()
        await self._task
        await self._loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    def has_room(self, size: int) -> bool:
        """Whether a message of so many bytes can wait to be written."""
        return len(self._adds) < _PENDING_MESSAGES and (not self._adds or self.bytes + size <= _PENDING_BYTES)

    def add(self, record: Record) -> None:
        """Write a message, as soon as may be."""
        self._adds.append(record)
        self.bytes += record.size
        self._work.set()

    def remove(self, seq: int) -> None:
        """Remove a message, some time."""
        self._removes.append(seq)
        if len(self._removes) >= _REMOVALS:
            self._work.set()

    def load(self, load: Load) -> None:
        """Read, as soon as may be."""
        self._loads.append(load)
        self._work.set()

    async def _run(self) -> None:
        due = self._loop.time() + _TICK_S
        while not self._closing or self._adds:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._work.wait()
            self._work.clear()
            tick = self._loop.time() >= due
            due = self._loop.time() + _TICK_S if tick else due
            await self._turn(tick=tick)
        await self._turn(tick=False)

    async def _turn(self, *, tick: bool) -> None:
        job = self._job(tick=tick)
        try:
            report = await self._loop.run_in_executor(self._thread, self._store.perform, job)
        except Exception:
            log.exception("the outbox of %s failed unexpectedly; a batch is lost", self._name)
            report = Report(
                drops=[Drop(record.seq, record.message.topic, "outbox-failed") for record in job.adds],
                loaded=[Loaded(load, None, exhausted=False) for load in job.loads],
            )
            self._removes += job.removes
        self._writing = 0
        self._on_report(job, report)

    def _job(self, *, tick: bool) -> Job:
        adds = [self._adds.popleft() for _ in range(min(len(self._adds), _BATCH))]
        self._writing = len(adds)
        self.bytes -= sum(record.size for record in adds)
        removes, self._removes = self._removes, []
        loads, self._loads = self._loads, []
        if self._adds:
            self._work.set()
        return Job(self._clock.now_ms(), adds, removes, tuple(self._held()), loads, tick)
