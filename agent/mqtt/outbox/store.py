"""The store of an outbox: a book on disk, and one in memory while the disk takes nothing.

``perform`` is the only way in and is called by one thread.  It never raises for what a disk does:

===================  =========================================================================================
the disk             what is done
===================  =========================================================================================
is full, fails       what comes is kept in memory, bounded; what is removed is remembered; the disk is tried again
                     with growing patience and gets all of it at once
holds a broken file  the file is set aside under a name with the time; what can be read of it goes into a new one
cannot be opened     memory, and again later: another process has it, or nobody may write there
===================  =========================================================================================

While a disk with messages on it cannot be read, later ones in memory go out before them: late is better than never.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.config.transports import OutboxOptions
from agent.mqtt.outbox.database import Bounds, Connect, Database, Drop
from agent.mqtt.outbox.record import Record
from agent.mqtt.outbox.recovery import Trouble, is_broken, quarantine_file, salvage, trouble_of
from agent.mqtt.outbox.scheduler import Load, Loaded

__all__ = ["Job", "Report", "Store", "connect"]

log = logging.getLogger("agent.mqtt.outbox")

_SHORTEST_PAUSE_MS = 1000
_LONGEST_PAUSE_MS = 30_000


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
    """What came of a job."""

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


class Store:
    """The messages that wait, in the file ``path``; ``rank`` tells a topic's rank."""

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
        self._memory: Database | None = None
        self._unsaved: set[int] = set()
        """What is in memory only."""
        self._unremoved: set[int] = set()
        """What is on disk and should not be."""
        self._on_disk = 0
        self._again_ms = 0
        self._pause_ms = _SHORTEST_PAUSE_MS

    def perform(self, job: Job) -> Report:
        """Do a job."""
        report = Report()
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = Database(str(self._path), self._bounds, self._connect)
        try:
            database.reclassify(self._rank)
        except BaseException:
            database.close()
            raise
        return database

    def _renewed(self, error: Exception, job: Job, report: Report) -> bool:
        """Whether the broken file is out of the way, and a new one has what could be saved."""
        self._close_disk()
        try:
            self.set_aside = quarantine_file(self._path)
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
        self._pause_ms = _SHORTEST_PAUSE_MS

    def _failed(self, error: Exception, job: Job) -> None:
        trouble = trouble_of(error, self._path)
        if self.trouble is None or self.trouble.code != trouble.code:
            log.error("%s; what comes is kept in memory (hint: %s)", trouble.reason, trouble.hint)
        self.trouble = trouble
        self._again_ms = job.now_ms + self._pause_ms
        self._pause_ms = min(2 * self._pause_ms, _LONGEST_PAUSE_MS)
        if trouble.reopen:
            self._close_disk()

    def _close_disk(self) -> None:
        if self._disk is not None:
            with suppress(sqlite3.Error):
                self._disk.close()
        self._disk = None

    # -- reading ------------------------------------------------------------------------------------------

    def _load(self, load: Load, job: Job, report: Report) -> Loaded:
        found: list[Record] = []
        exhausted = True
        if self._disk is not None:
            try:
                found, exhausted = self._disk.load(load.rank, load.after)
            except sqlite3.Error as error:
                self._unreadable(error, job, report)
                return Loaded(load, None, exhausted=False)
        if exhausted and self._memory is not None:
            # All that is in memory came after what is on disk.
            later, exhausted = self._memory.load(load.rank, max(load.after, found[-1].seq if found else 0))
            found += later
        return Loaded(load, found, exhausted)

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
                report.topics = _together([each for each in topics if each is not None], len(databases))
        except sqlite3.Error as error:  # the next job meets it, too, and sees to it
            log.debug("the outbox %s cannot be counted: %s", self._path, error)
            return
        self._on_disk = totals[0][0] if self._disk is not None else 0
        report.messages = sum(messages for messages, _ in totals)
        report.bytes = sum(size for _, size in totals)


def _together(counts: Sequence[dict[str, int]], wanted: int) -> dict[str, int] | None:
    """One count of all; None where one is missing."""
    if len(counts) < wanted:
        return None
    topics: dict[str, int] = {}
    for count in counts:
        for topic, messages in count.items():
            topics[topic] = topics.get(topic, 0) + messages
    return topics
