"""The store of an outbox, and the thread that works on it.

``Writer`` collects what is to be written, and gives one batch after the other to the store.  While one batch is
written the next is collected (group commit).  Removals have no hurry: they ride with the next batch, and go alone a
second later at the latest.

``Store`` is a database on disk, and one in memory while the disk takes nothing.  ``perform`` is the only way in and is
called by the writer's thread.  It never raises for what a disk does:

===================  =========================================================================================
the disk             what is done
===================  =========================================================================================
is full, fails       what comes is kept in memory, bounded; what is removed is remembered; the disk is tried again
                     after growing delays and gets all of it at once
holds a broken file  the file is set aside under a name with the time; what can be read of it goes into a new one
cannot be opened     memory, and again later: another process has it, or nobody may write there
===================  =========================================================================================

While a disk with messages on it cannot be read, later ones in memory go out before them: late is better than never.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import disk
from agent.config.transports import OutboxOptions
from agent.files import make_file, make_folder
from agent.mqtt.outbox.database import Bounds, Connect, Database, Drop
from agent.mqtt.outbox.record import Record
from agent.mqtt.outbox.recovery import Trouble, is_broken, salvage, trouble_of
from agent.mqtt.outbox.scheduler import Load, Loaded

__all__ = ["Clock", "Job", "Report", "Store", "Writer", "connect"]

log = logging.getLogger("agent.mqtt.outbox")

_SHORTEST_BACKOFF_MS = 1000
_LONGEST_BACKOFF_MS = 30_000
_TICK_S = 1.0
_BATCH = 2000
_PENDING_MESSAGES = 10_000
_PENDING_BYTES = 16 * 1024 * 1024
_REMOVALS = 500
"""So many have company enough."""


def connect(path: str) -> sqlite3.Connection:
    """A connection that begins no transaction by itself and does not wait for other processes."""
    return sqlite3.connect(path, isolation_level=None, timeout=0)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done in one turn, in this order: add, remove, drop what is too old, read."""

    now_ms: int
    adds: Sequence[Record] = ()
    removes: Sequence[int] = ()
    held: Sequence[Record] = ()
    """What is in memory of the messages in the store: spared, and written into a new file if there must be one."""
    loads: Sequence[Load] = ()
    tick: bool = False


@dataclass(slots=True)
class Report:
    """The outcome of a job."""

    opened: bool = False
    """The file is open as of now, or is a new one."""
    topics: dict[str, int] | None = None
    last: int = 0
    newest_ms: int = 0
    durable: list[int] = field(default_factory=list)
    """Of this job's or earlier ones' messages those that are on disk as of now."""
    drops: list[Drop] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    loaded: list[Loaded] = field(default_factory=list)
    broken: int = 0
    """Messages that were in a broken file and could not be read."""
    messages: int = 0
    bytes: int = 0


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
        """Write a message, as soon as possible."""
        self._adds.append(record)
        self.bytes += record.size
        self._work.set()

    def remove(self, seq: int) -> None:
        """Remove a message, in no hurry."""
        self._removes.append(seq)
        if len(self._removes) >= _REMOVALS:
            self._work.set()

    def load(self, load: Load) -> None:
        """Read, as soon as possible."""
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


class Store:
    """The messages that wait, in the file ``path``; ``rank`` gives a topic's rank."""

    def __init__(
        self, path: Path, options: OutboxOptions, rank: Callable[[str], int], connecting: Connect = connect
    ) -> None:
        self.trouble: Trouble | None = None
        self.set_aside: Path | None = None
        self.oldest_ms: int | None = None
        self._path = path
        self._bounds = Bounds(options.max_bytes, int(options.max_age_s * 1e3), options.policy)
        self._memory_bounds = replace(self._bounds, max_bytes=options.memory_bytes)
        self._rank = rank
        self._connect = connecting
        self._disk: Database | None = None
        self._identity: tuple[int, int] | None = None
        """Of the file that is open."""
        self._memory: Database | None = None
        self._unsaved: set[int] = set()
        """What is in memory only."""
        self._unremoved: set[int] = set()
        """What is on disk and should not be."""
        self._on_disk = 0
        self._again_ms = 0
        self._backoff_ms = _SHORTEST_BACKOFF_MS

    def perform(self, job: Job) -> Report:
        """Do a job."""
        report = Report()
        due = not self.trouble or job.now_ms >= self._again_ms
        if due and self._disk is not None and disk.identity(self._path) != self._identity:
            self._put_back(job, report)
        if self._disk is None and job.now_ms >= self._again_ms:
            self._open(job, report)
        if not self._saved(job, report):
            self._remembered(job, report)
        if job.tick:
            self._tend(job, report)
        report.loaded = [self._load(load, job, report) for load in job.loads]
        self._describe(report)
        return report

    def close(self) -> None:
        """Close the files."""
        for database in (self._disk, self._memory):
            if database is not None:
                with suppress(sqlite3.Error):
                    database.close()
        self._disk = self._memory = None

    # -- opening ------------------------------------------------------------------------------------------

    def _open(self, job: Job, report: Report) -> None:
        try:
            self._disk = self._opened()
        except (sqlite3.Error, OSError) as error:
            if not is_broken(error) or not self._renewed(error, job, report):
                self._failed(error, job)
                return
        report.opened = True
        if not (self._unsaved or self._unremoved):
            self._recovered()

    def _opened(self) -> Database:
        make_folder(self._path.parent)
        make_file(self._path)
        database = Database(str(self._path), self._bounds, self._connect)
        try:
            database.reclassify(self._rank)
        except BaseException:
            database.close()
            raise
        self._identity = disk.identity(self._path)
        return database

    def _put_back(self, job: Job, report: Report) -> None:
        """The file was removed or replaced while it is open: write it anew, with all that waits."""
        assert self._disk is not None  # noqa: S101 the caller looked
        new = self._path.with_name(f"{self._path.name}.new")
        replaced: Path | None = None
        try:
            make_folder(self._path.parent)
            if os.path.lexists(self._path):
                replaced = disk.set_aside(self._path)
            self._disk.copy_to(new)
            # Before the rename: SQLite removes the log of what it closes by its name.
            self._disk.close()
            new.replace(self._path)
            self._disk = self._opened()
            if replaced is not None:
                salvage(replaced, self._disk, self._connect)
        except (sqlite3.Error, OSError) as error:
            # What was open there is lost when it is closed: what is held in memory is kept.
            self._failed(error, job)
            return
        self.set_aside = replaced or self.set_aside
        report.opened = True
        log.error("the outbox %s was removed or replaced while the agent runs; it is written anew", self._path)

    def _renewed(self, error: Exception, job: Job, report: Report) -> bool:
        """Whether the broken file is out of the way, and a new one has what could be saved."""
        self._close_disk()
        try:
            self.set_aside = disk.set_aside(self._path)
            self._disk = self._opened()
            salvage(self.set_aside, self._disk, self._connect)
            self._disk.restore([record for record in job.held if record.seq not in self._unsaved])
        except (sqlite3.Error, OSError) as another:
            self._failed(another, job)
            return False
        report.opened = True
        report.broken += max(0, self._on_disk - self._disk.totals[0])
        log.error("the outbox %s was broken (%s); it is set aside as %s", self._path, error, self.set_aside)
        return True

    # -- writing ------------------------------------------------------------------------------------------

    def _saved(self, job: Job, report: Report) -> bool:
        """Whether the disk has what there is to write."""
        if self._disk is None or (self.trouble and job.now_ms < self._again_ms):
            return False
        removes = [*self._unremoved, *job.removes]
        if not (job.adds or removes or self._unsaved):
            return True
        adds = [*self._from_memory(), *job.adds]
        try:
            drops = self._write(adds, removes, job, report)
        except sqlite3.Error as error:
            self._failed(error, job)
            return False
        dropped = {drop.seq for drop in drops}
        report.durable = [record.seq for record in adds if record.seq not in dropped]
        report.drops += drops
        report.removed = removes
        self._recovered()
        return True

    def _write(self, adds: list[Record], removes: list[int], job: Job, report: Report) -> list[Drop]:
        spared = {record.seq for record in job.held}
        assert self._disk is not None  # noqa: S101 the caller looked
        try:
            return self._disk.apply(adds, removes, spared)
        except sqlite3.Error as error:
            if not is_broken(error) or not self._renewed(error, job, report):
                raise
            return self._disk.apply(adds, removes, spared)

    def _remembered(self, job: Job, report: Report) -> None:
        """Memory does what the disk does not."""
        if self._memory is None:
            self._memory = Database(":memory:", self._memory_bounds, connect)
        report.removed = [seq for seq in job.removes if seq in self._unsaved]
        drops = self._memory.apply(job.adds, report.removed, {record.seq for record in job.held})
        reason = self.trouble.code if self.trouble else "outbox-full"
        report.drops += [drop if drop.reason == "superseded" else Drop(drop.seq, drop.topic, reason) for drop in drops]
        self._unremoved.update(seq for seq in job.removes if seq not in self._unsaved)
        self._unsaved.update(record.seq for record in job.adds)
        self._unsaved.difference_update(report.removed, (drop.seq for drop in drops))

    def _from_memory(self) -> list[Record]:
        return self._memory.everything() if self._memory is not None else []

    def _recovered(self) -> None:
        if self.trouble:
            log.warning("the outbox %s is written again", self._path)
        if self._memory is not None:
            self._memory.close()
        self.trouble = self._memory = None
        self._unsaved.clear()
        self._unremoved.clear()
        self._backoff_ms = _SHORTEST_BACKOFF_MS

    def _failed(self, error: Exception, job: Job) -> None:
        trouble = trouble_of(error, self._path)
        if self.trouble is None or self.trouble.code != trouble.code:
            log.error("%s; what comes is kept in memory (hint: %s)", trouble.reason, trouble.hint)
        self.trouble = trouble
        self._again_ms = job.now_ms + self._backoff_ms
        self._backoff_ms = min(2 * self._backoff_ms, _LONGEST_BACKOFF_MS)
        if trouble.reopen:
            self._close_disk()

    def _close_disk(self) -> None:
        if self._disk is not None:
            with suppress(sqlite3.Error):
                self._disk.close()
        self._disk = None

    # -- reading ------------------------------------------------------------------------------------------

    def _load(self, load: Load, job: Job, report: Report) -> Loaded:
        records: list[Record] = []
        exhausted = True
        if self._disk is not None:
            try:
                records, exhausted = self._disk.load(load.rank, load.after)
            except sqlite3.Error as error:
                self._unreadable(error, job, report)
                return Loaded(load, None, exhausted=False)
        if exhausted and self._memory is not None:
            # All that is in memory came after what is on disk.
            later, exhausted = self._memory.load(load.rank, max(load.after, records[-1].seq if records else 0))
            records += later
        return Loaded(load, records, exhausted)

    def _tend(self, job: Job, report: Report) -> None:
        spared = {record.seq for record in job.held} | self._unremoved
        for database in (self._disk, self._memory):
            if database is None or (database is self._disk and self.trouble):
                continue
            try:
                drops = database.expire(job.now_ms, spared)
                database.shrink()
            except sqlite3.Error as error:
                self._unreadable(error, job, report)
                continue
            report.drops += drops
            self._unsaved.difference_update(drop.seq for drop in drops)
        self._look_for_the_oldest()

    def _look_for_the_oldest(self) -> None:
        with suppress(sqlite3.Error):
            ages = [database.oldest_ms for database in (self._disk, self._memory) if database is not None]
            self.oldest_ms = min((at_ms for at_ms in ages if at_ms is not None), default=None)

    def _unreadable(self, error: sqlite3.Error, job: Job, report: Report) -> None:
        if not is_broken(error) or not self._renewed(error, job, report):
            self._failed(error, job)

    def _describe(self, report: Report) -> None:
        databases = [database for database in (self._disk, self._memory) if database is not None]
        try:
            totals = [database.totals for database in databases]
            if report.opened and self._disk is not None:
                report.last, report.newest_ms = self._disk.last, self._disk.newest_ms
                topics = [database.topics() for database in databases]
                report.topics = _together([counts for counts in topics if counts is not None], len(databases))
        except sqlite3.Error as error:  # the next job meets it, too, and sees to it
            log.debug("the outbox %s cannot be counted: %s", self._path, error)
            return
        self._on_disk = totals[0][0] if self._disk is not None else 0
        report.messages = sum(messages for messages, _ in totals)
        report.bytes = sum(size for _, size in totals)


def _together(counts: Sequence[dict[str, int]], databases: int) -> dict[str, int] | None:
    """One count of all; None where one is missing."""
    if len(counts) < databases:
        return None
    topics: dict[str, int] = {}
    for count in counts:
        for topic, messages in count.items():
            topics[topic] = topics.get(topic, 0) + messages
    return topics
