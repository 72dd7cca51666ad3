"""The record of deployments, on disk before anything is done: the step, the sets, the reports.

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
new one, and the step says what was under way.

``Ledger`` is the agent's: its calls run in a thread of their own, in order.  ``LedgerReader`` is for commands, beside a
running agent or without one: it reads, and leaves neither a change nor a file behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from agent.errors import UnreachableError
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.request import Origin

__all__ = ["Entry", "Ledger", "LedgerError", "LedgerReader", "Step"]

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
    """One deployment; ``outcome`` is None while it is under way.

    ``source`` is ``ORIGIN`` or ``ORIGIN/KEY``; the key distinguishes requests of one origin.
    """

    seq: int
    id: str
    source: str
    document: bytes
    received_ms: int
    step: Step
    attempts: int
    outcome: bytes | None
    reported: bool

    @property
    def origin(self) -> Origin:
        """Where the document came from."""
        return Origin(self.source.partition("/")[0])

    @property
    def job_id(self) -> str | None:
        """The job that brought the document; None where none did."""
        return self.source.split("/")[1] if self.origin is Origin.JOB and "/" in self.source else None


class Ledger:
    """The ledger in a file; entering opens it, leaving closes it.  Raises ``LedgerError`` for what the disk does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agent.ledger")
        self._database = _Database()

    async def __aenter__(self) -> Self:
        await self._in_thread(self._database.open, self._path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_thread(self._database.close)
        self._thread.shutdown()

    async def receive(self, identity: str, source: str, document: bytes, received_ms: int) -> int:
        """Keep a document; the result is its number here."""
        return await self._in_thread(self._database.receive, identity, source, document, received_ms)

    async def begin_anew(self, seq: int) -> int:
        """Begin an interrupted deployment anew; the result is which attempt it is."""
        return await self._in_thread(self._database.begin_anew, seq)

    async def step(self, seq: int, step: Step) -> None:
        """Write a step before it is taken."""
        await self._in_thread(self._database.step, seq, step)

    async def commit(self, seq: int, content: bytes, outcome: bytes) -> None:
        """Make a set the active one and write how the deployment ended: both, or after a power cut neither."""
        await self._in_thread(self._database.commit, seq, content, outcome)

    async def end(self, seq: int, outcome: bytes) -> None:
        """Write how a deployment ended that leaves the active set as it is.

        A disk that refuses is logged: the next start finds the deployment interrupted, which does no harm.
        """
        await self._tolerantly(self._database.end, seq, outcome)

    async def reported(self, seq: int) -> None:
        """The requester has the outcome; where the disk refuses, it is reported again after the next start."""
        await self._tolerantly(self._database.reported, seq)

    async def active(self) -> tuple[bytes | None, bytes | None]:
        """The active set and the one before it."""
        return await self._in_thread(self._database.active)

    async def entries(self, limit: int = 20) -> list[Entry]:
        """The latest deployments, the newest first."""
        return await self._in_thread(self._database.entries, limit)

    async def unreported(self) -> list[Entry]:
        """Deployments that were under way, or whose outcome was not reported, the oldest first."""
        return await self._in_thread(self._database.unreported)

    async def number(self, name: str, value: int | None = None) -> int:
        """A number kept under a name, 0 at first; with ``value`` it is set."""
        return await self._in_thread(self._database.number, name, value)

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
            with _guarded(self._path, "is the disk full or the folder not writable?"):
                return call(*arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)


_READER_HINT = "read it as the agent's user, or name its configuration with -c"


class LedgerReader:
    """The ledger of an agent's data folder, for reading; entering opens it.  Raises ``LedgerError``.

    Of several ``folders`` the first that has a ledger counts (``agent.config.load.data_folders``).
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._places = [Layout(folder).ledger for folder in folders]
        self._path = next((place for place in self._places if _is_file(place)), Path())
        self._database = _Database()

    def __enter__(self) -> Self:
        if self._path == Path():
            places = " or ".join(map(str, self._places))
            raise LedgerError(f"there is no ledger in {places}", code="no-ledger", hint=_READER_HINT)
        with self._guarded():
            self._database.open_to_read(self._path)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._database.close()

    def entries(self, limit: int = 20) -> list[Entry]:
        """The latest deployments, the newest first."""
        with self._guarded():
            return self._database.entries(limit)

    def active(self) -> tuple[bytes | None, bytes | None]:
        """The active set and the one before it (``DeployedState.load``)."""
        with self._guarded():
            return self._database.active()

    def _guarded(self) -> AbstractContextManager[None]:
        return _guarded(self._path, _READER_HINT)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that is not ours to look into
        return False


@contextmanager
def _guarded(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"the ledger {path} failed: {error}", hint=hint) from error


class _Database:
    """The database, called in one thread."""

    _db: sqlite3.Connection

    def open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except BaseException:
            self._db.close()
            raise

    def open_to_read(self, path: Path) -> None:
        # Without a write-ahead log nobody has it open: SQLite must not make one for a reader's sake.
        at_rest = not path.with_name(f"{path.name}-wal").exists()
        options = "mode=ro&immutable=1" if at_rest else "mode=ro"
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None)

    def close(self) -> None:
        self._db.close()

    def receive(self, identity: str, source: str, document: bytes, received_ms: int) -> int:
        query = "INSERT INTO deployments (id, source, document, received_ms, step) VALUES (?, ?, ?, ?, ?) RETURNING seq"
        return int(self._one(query, identity, source, document, received_ms, Step.RECEIVED)[0])

    def begin_anew(self, seq: int) -> int:
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
        entries = (dict(zip(_NAMES, row, strict=True)) for row in rows)
        return [
            Entry(**entry | {"step": Step(entry["step"]), "reported": bool(entry["reported"])}) for entry in entries
        ]

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
