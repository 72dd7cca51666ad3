"""What the agent remembers of deployments, on disk before it is done: the step, the sets, the reports.

SQLite (standard library) in WAL mode with full synchronisation: a row is there after a power cut or it is not.

======================  ======================================================================================
step                    what is true once it is written
======================  ======================================================================================
``RECEIVED``            the document is kept; nothing else happened
``RESOLVED``            a set of components was found
``STAGED``              their files are in folders of their own
``ACTIVATING``          the new set is being made live; the old one is still the active one
``VERIFYING``           the new set answers; it is being watched
``COMMITTED``           the new set is the active one (the same transaction says so)
``ROLLING_BACK``        the old set is being made live again
``ENDED``               it ended otherwise
======================  ======================================================================================

The active set changes in one place, ``commit``; so after a crash at any moment the active set is the old one or the
new one, and what was under way is told by its step.  Calls run in a thread of their own, in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from agent.errors import UnreachableError

__all__ = ["Entry", "Ledger", "LedgerError", "Step"]

_KEEP = 100
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sets (id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS active (
    one INTEGER PRIMARY KEY CHECK (one = 1), set_id INTEGER REFERENCES sets, previous INTEGER REFERENCES sets
);
CREATE TABLE IF NOT EXISTS deployments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, source TEXT NOT NULL, document BLOB NOT NULL,
    received_ms INTEGER NOT NULL, step TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 1,
    outcome BLOB, reported INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO active VALUES (1, NULL, NULL);
"""

_NAMES = ("seq", "id", "source", "document", "received_ms", "step", "attempts", "outcome", "reported")
_COLUMNS = ", ".join(_NAMES)

log = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class LedgerError(UnreachableError):
    """The ledger cannot be read or written."""

    default_code = "IO_WRITE_ERROR"


class Step(StrEnum):
    """How far a deployment has come."""

    RECEIVED = "RECEIVED"
    RESOLVED = "RESOLVED"
    STAGED = "STAGED"
    ACTIVATING = "ACTIVATING"
    VERIFYING = "VERIFYING"
    COMMITTED = "COMMITTED"
    ROLLING_BACK = "ROLLING_BACK"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Entry:
    """One deployment; ``outcome`` is None while it is under way."""

    seq: int
    id: str
    source: str
    document: bytes
    received_ms: int
    step: Step
    attempts: int
    outcome: bytes | None
    reported: bool


class Ledger:
    """The ledger in a file; entering opens it, leaving closes it.  Raises ``LedgerError`` for what the disk does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agent.ledger")
        self._book = _Book()

    async def __aenter__(self) -> Self:
        await self._in_thread(self._book.open, self._path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_thread(self._book.close)
        self._thread.shutdown()

    async def receive(self, identity: str, source: str, document: bytes, received_ms: int) -> int:
        """Keep a document; the result is its number here."""
        return await self._in_thread(self._book.receive, identity, source, document, received_ms)

    async def again(self, seq: int) -> int:
        """Begin an interrupted deployment anew; the result is which attempt it is."""
        return await self._in_thread(self._book.again, seq)

    async def step(self, seq: int, step: Step) -> None:
        """Note a step before it is taken."""
        await self._in_thread(self._book.step, seq, step)

    async def commit(self, seq: int, content: bytes, outcome: bytes) -> None:
        """Make a set the active one and note how the deployment ended: both, or after a power cut neither."""
        await self._in_thread(self._book.commit, seq, content, outcome)

    async def end(self, seq: int, outcome: bytes) -> None:
        """Note how a deployment ended that leaves the active set as it is.

        A disk that refuses is told in the log: the next start finds the deployment interrupted, which does no harm.
        """
        await self._tolerantly(self._book.end, seq, outcome)

    async def reported(self, seq: int) -> None:
        """The outcome was told to whoever asked; where the disk refuses, it is told again after the next start."""
        await self._tolerantly(self._book.reported, seq)

    async def active(self) -> tuple[bytes | None, bytes | None]:
        """The active set and the one before it."""
        return await self._in_thread(self._book.active)

    async def entries(self, limit: int = 20) -> list[Entry]:
        """The latest deployments, the newest first."""
        return await self._in_thread(self._book.entries, limit)

    async def unreported(self) -> list[Entry]:
        """Deployments that were under way, or whose outcome was not told, the oldest first."""
        return await self._in_thread(self._book.unreported)

    async def number(self, name: str, value: int | None = None) -> int:
        """A number kept under a name, 0 at first; with ``value`` it is set."""
        return await self._in_thread(self._book.number, name, value)

    async def _tolerantly(
        self, call: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> None:
        try:
            await self._in_thread(call, *arguments, **named)
        except LedgerError as error:
            log.warning("a note is lost: %s", error)

    async def _in_thread(
        self, call: Callable[Arguments, Value], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Value:
        def guarded() -> Value:
            try:
                return call(*arguments, **named)
            except (sqlite3.Error, OSError) as error:
                raise LedgerError(
                    f"the ledger {self._path} failed: {error}", hint="is the disk full or the folder not writable?"
                ) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)


class _Book:
    """The database, called in one thread."""

    _db: sqlite3.Connection

    def open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def receive(self, identity: str, source: str, document: bytes, received_ms: int) -> int:
        query = "INSERT INTO deployments (id, source, document, received_ms, step) VALUES (?, ?, ?, ?, ?) RETURNING seq"
        return int(self._one(query, identity, source, document, received_ms, Step.RECEIVED)[0])

    def again(self, seq: int) -> int:
        query = "UPDATE deployments SET step = ?, attempts = attempts + 1 WHERE seq = ? RETURNING attempts"
        return int(self._one(query, Step.RECEIVED, seq)[0])

    def step(self, seq: int, step: Step) -> None:
        self._db.execute("UPDATE deployments SET step = ? WHERE seq = ?", (step, seq))

    def commit(self, seq: int, content: bytes, outcome: bytes) -> None:
        with self._transaction():
            (made,) = self._one("INSERT INTO sets (content) VALUES (?) RETURNING id", content)
            self._db.execute("UPDATE active SET previous = set_id, set_id = ?", (made,))
            self._finish(seq, Step.COMMITTED, outcome)
            self._db.execute(
                "DELETE FROM sets WHERE id NOT IN (SELECT set_id FROM active) AND id NOT IN"
                " (SELECT previous FROM active WHERE previous IS NOT NULL)"
            )

    def end(self, seq: int, outcome: bytes) -> None:
        with self._transaction():
            self._finish(seq, Step.ENDED, outcome)

    def reported(self, seq: int) -> None:
        self._db.execute("UPDATE deployments SET reported = 1 WHERE seq = ?", (seq,))

    def active(self) -> tuple[bytes | None, bytes | None]:
        contents = "(SELECT content FROM sets WHERE id = set_id), (SELECT content FROM sets WHERE id = previous)"
        now, before = self._one(f"SELECT {contents} FROM active")  # noqa: S608 a constant
        return now, before

    def entries(self, limit: int) -> list[Entry]:
        return self._entries("ORDER BY seq DESC LIMIT ?", limit)

    def unreported(self) -> list[Entry]:
        return self._entries("WHERE reported = 0 ORDER BY seq")

    def number(self, name: str, value: int | None) -> int:
        if value is not None:
            self._db.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (name, value))
            return value
        return int(self._one("SELECT coalesce((SELECT value FROM numbers WHERE name = ?), 0)", name)[0])

    def _finish(self, seq: int, step: Step, outcome: bytes) -> None:
        self._db.execute("UPDATE deployments SET step = ?, outcome = ? WHERE seq = ?", (step, outcome, seq))
        self._db.execute("DELETE FROM deployments WHERE reported = 1 AND seq <= ?", (seq - _KEEP,))

    def _entries(self, rest: str, *values: int) -> list[Entry]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM deployments {rest}", values)  # noqa: S608 constants
        found = (dict(zip(_NAMES, row, strict=True)) for row in rows)
        return [Entry(**each | {"step": Step(each["step"]), "reported": bool(each["reported"])}) for each in found]

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(query, values).fetchall()[0]
        return row

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
