"""The ledger's database: SQLite (standard library) in WAL mode with full synchronisation.

A row is there after a power cut or it is not.  Each set lies beside its digest, since SQLite sees only damage to its
own structure; the rows of deployments are looked at when they are read.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent.errors import UnreachableError
from agent.files import make_file, make_folder
from agent.greengrass.deployments.active import ActiveRecord
from agent.greengrass.deployments.request import Origin
from agent.topics import level

__all__ = ["LOST", "DamagedLedgerError", "Entry", "LedgerDatabase", "LedgerError", "RefusedDocument", "Step"]

_KEEP = 100
_KEEP_REFUSED = 100
_KEEP_BYTES = 65_536
"""A document of more is kept until its deployment has ended, and not longer."""
_LOOSE_BYTES = 16_000_000
"""So much that is free in the file is given back when it is opened."""
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
CREATE TABLE IF NOT EXISTS bootstraps (
    seq INTEGER NOT NULL, task TEXT NOT NULL, status INTEGER NOT NULL, PRIMARY KEY (seq, task)
);
CREATE TABLE IF NOT EXISTS refused (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, source TEXT NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, received_ms INTEGER NOT NULL, outcome BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS digests (set_id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS configurations (
    component TEXT PRIMARY KEY, set_id INTEGER NOT NULL, content BLOB NOT NULL, sha256 TEXT NOT NULL
);
INSERT OR IGNORE INTO active VALUES (1, NULL, NULL);
"""

_NAMES = ("seq", "id", "source", "document", "received_ms", "step", "attempts", "outcome", "reported")
_COLUMNS = ", ".join(_NAMES)

_IDENTITY = "ledger"
LOST = "active_set_lost"

log = logging.getLogger(__name__)


class LedgerError(UnreachableError):
    """The ledger cannot be read or written."""

    default_code = "IO_WRITE_ERROR"


class Step(StrEnum):
    """How far a deployment has come."""

    RECEIVED = "RECEIVED"
    RESOLVED = "RESOLVED"
    STAGED = "STAGED"
    ASKING = "ASKING"
    BOOTSTRAPPING = "BOOTSTRAPPING"
    RESTARTING = "RESTARTING"
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


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """What stays of a document that is not taken."""

    id: str
    source: str
    digest: str
    size: int


class DamagedLedgerError(sqlite3.DatabaseError):
    """SQLite finds no fault with the file, and yet it is not what was written."""


class LedgerDatabase:
    """The database, called in one thread."""

    _db: sqlite3.Connection

    def open(self, path: Path | None) -> None:
        """Open or make the file, and look at all of it; None is memory."""
        if path is not None:
            make_folder(path.parent, ours=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            make_file(path)
            if not os.access(path, os.W_OK):  # SQLite does not say which of the two it is
                number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
                raise OSError(number, os.strerror(number), str(path))
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        try:
            # A damaged text is one row's trouble, which is looked at where rows are read.
            self._db.text_factory = lambda text: text.decode(errors="replace")
            self._db.create_function("level", 1, level, deterministic=True)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA journal_size_limit = 1048576")
            self._db.executescript(_SCHEMA)
            self._check()
            self._shrink()
        except BaseException:
            self._db.close()
            raise

    def open_to_salvage(self, path: Path) -> None:
        """Open what may be damaged, or lie on a disk that takes nothing."""
        for options in ("mode=rw", "mode=ro", "mode=ro&immutable=1"):
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?{options}", uri=True, check_same_thread=False, isolation_level=None
            )
            try:
                self._one("SELECT count(*) FROM sqlite_master")
            except sqlite3.Error:
                self._db.close()
                if "immutable" in options:
                    raise
            else:
                return

    def open_to_read(self, path: Path) -> None:
        """Open it as it is, and leave no file behind."""
        # Without a write-ahead log nobody has it open: SQLite must not make one for a reader's sake.
        at_rest = not path.with_name(f"{path.name}-wal").exists()
        options = "mode=ro&immutable=1" if at_rest else "mode=ro"
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def receive(self, identity: str, source: str, document: bytes, received_ms: int) -> int:
        """``Ledger.receive``."""
        query = "INSERT INTO deployments (id, source, document, received_ms, step) VALUES (?, ?, ?, ?, ?) RETURNING seq"
        return int(self._one(query, identity, source, document, received_ms, Step.RECEIVED)[0])

    def begin_anew(self, seq: int) -> int:
        """``Ledger.begin_anew``."""
        # A restart that the deployment itself asked for is no attempt, and has come now.
        restarted = "(SELECT step FROM deployments WHERE seq = ?) = ?"
        query = f"UPDATE deployments SET step = ?, attempts = attempts + NOT ({restarted}) WHERE seq = ?"  # noqa: S608
        with self._transaction():
            done = f"UPDATE bootstraps SET status = 0 WHERE seq = ? AND {restarted}"  # noqa: S608 constants
            self._db.execute(done, (seq, seq, Step.RESTARTING))
            rows = self._db.execute(
                f"{query} RETURNING attempts", (Step.RECEIVED, seq, Step.RESTARTING, seq)
            ).fetchall()
        return int(rows[0][0]) if rows else 1

    def step(self, seq: int, step: Step) -> None:
        """``Ledger.step``."""
        self._db.execute("UPDATE deployments SET step = ? WHERE seq = ?", (step, seq))

    def bootstrapped(self, seq: int, task: str, status: int) -> None:
        """``Ledger.bootstrapped``."""
        self._db.execute("INSERT OR REPLACE INTO bootstraps VALUES (?, ?, ?)", (seq, task, status))

    def bootstraps(self, seq: int) -> dict[str, int]:
        """``Ledger.bootstraps``."""
        return dict(self._db.execute("SELECT task, status FROM bootstraps WHERE seq = ?", (seq,)).fetchall())

    def commit(self, seq: int, content: bytes, outcome: bytes, replaced: bytes | None = None) -> int:
        """Make a set the active one; the result is its number."""
        with self._transaction():
            if replaced is not None:
                self._db.execute("UPDATE sets SET content = ? WHERE id = (SELECT set_id FROM active)", (replaced,))
                digest = "UPDATE digests SET sha256 = ? WHERE set_id = (SELECT set_id FROM active)"
                self._db.execute(digest, (_digest(replaced),))
            self._db.execute("DELETE FROM configurations")
            (made,) = self._one("INSERT INTO sets (content) VALUES (?) RETURNING id", content)
            self._db.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (made, _digest(content)))
            self._db.execute("UPDATE active SET previous = set_id, set_id = ?", (made,))
            self._finish(seq, Step.COMMITTED, outcome)
            self.number(LOST, 0)
            for table, key in (("sets", "id"), ("digests", "set_id")):
                self._db.execute(
                    f"DELETE FROM {table} WHERE {key} NOT IN (SELECT set_id FROM active) AND {key} NOT IN"  # noqa: S608
                    " (SELECT previous FROM active WHERE previous IS NOT NULL)"
                )
        return int(made)

    def configure(self, configurations: Mapping[str, bytes]) -> None:
        """``Ledger.configure``."""
        with self._transaction():
            for component, content in configurations.items():
                query = "INSERT OR REPLACE INTO configurations SELECT ?, coalesce(set_id, 0), ?, ? FROM active"
                self._db.execute(query, (component, content, _digest(content)))

    def configurations(self) -> dict[str, bytes]:
        """``Ledger.configurations``; one that is not as it was written is logged, and none."""
        (current,) = self._one("SELECT coalesce(set_id, 0) FROM active")
        rows = {row[0]: row for row in self.configuration_rows() if row[1] == current}
        damaged = [name for name, (_, _, content, digest) in rows.items() if not _as_written(content, digest)]
        for name in damaged:
            log.error("what %s has set of its configuration is damaged, and lost", name)
        return {name: row[2] for name, row in rows.items() if name not in damaged}

    def configuration_rows(self) -> Iterator[tuple[Any, ...]]:
        """What components have set of their configurations, and of which set they were."""
        yield from self._db.execute("SELECT component, set_id, content, sha256 FROM configurations")

    def take_configurations(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Keep such rows of another ledger."""
        for row in rows:
            self._db.execute("INSERT OR REPLACE INTO configurations VALUES (?, ?, ?, ?)", row)

    def record(self) -> ActiveRecord:
        """The active set and the one before it; raises ``sqlite3.DatabaseError`` where they are not as written."""
        numbers = self._one("SELECT set_id, previous FROM active")
        contents = []
        for number in numbers:
            rows = self._db.execute(
                "SELECT content, sha256 FROM sets LEFT JOIN digests ON set_id = id WHERE id = ?", (number,)
            ).fetchall()
            if number is not None and (not rows or not _as_written(*rows[0])):
                raise DamagedLedgerError("a set is not as it was written")
            contents.append(rows[0][0] if rows else None)
        return ActiveRecord(
            ledger=self.number(_IDENTITY), number=numbers[0] or 0, current=contents[0], previous=contents[1]
        )

    def identify(self) -> int:
        """Give this ledger the number by which its second record knows it."""
        return self.number(_IDENTITY, 1 + secrets.randbits(62))

    def restore(self, record: ActiveRecord) -> ActiveRecord:
        """Begin with the sets of a record, in a new database; the result names this one."""
        identity = record.ledger or 1 + secrets.randbits(62)
        with self._transaction():
            numbers: list[int | None] = []
            for number, content in ((record.number, record.current), (record.number - 1, record.previous)):
                numbers.append(None if content is None else number)
                if content is not None:
                    self._db.execute("INSERT OR REPLACE INTO sets VALUES (?, ?)", (number, content))
                    self._db.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (number, _digest(content)))
            self._db.execute("UPDATE active SET set_id = ?, previous = ?", numbers)
            self.number(_IDENTITY, identity)
        return replace(record, ledger=identity)

    def numbers(self) -> list[tuple[str, int]]:
        """All numbers but the one that names this ledger."""
        return [
            (str(name), int(value))
            for name, value in self._db.execute("SELECT name, value FROM numbers")
            if name != _IDENTITY
        ]

    def take_numbers(self, numbers: Iterable[tuple[str, int]]) -> None:
        """Keep numbers of another ledger."""
        for name, value in numbers:
            self.number(name, value)

    def ended(self) -> Iterator[tuple[Any, ...]]:
        """The rows of the latest deployments that ended, the newest first."""
        query = f"SELECT {_COLUMNS} FROM deployments WHERE outcome IS NOT NULL ORDER BY seq DESC LIMIT ?"  # noqa: S608
        yield from self._db.execute(query, (_KEEP,))

    def take_entries(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Keep rows of another ledger; raises for one that is none."""
        places = ", ".join("?" * len(_NAMES))
        for row in rows:
            _entry(row)
            self._db.execute(f"INSERT OR IGNORE INTO deployments ({_COLUMNS}) VALUES ({places})", row)  # noqa: S608

    def copy_to(self, path: Path) -> None:
        """Write all of it into another file, which only its owner can read."""
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._db.execute("VACUUM INTO ?", (str(path),))

    def end(self, seq: int, outcome: bytes) -> None:
        """``Ledger.end``."""
        with self._transaction():
            self._finish(seq, Step.ENDED, outcome)

    def reported(self, seq: int) -> None:
        """``Ledger.reported``."""
        self._db.execute("UPDATE deployments SET reported = 1 WHERE seq = ?", (seq,))

    def refuse(self, document: RefusedDocument, received_ms: int, outcome: bytes) -> tuple[bool, list[str]]:
        """``Ledger.refuse``."""
        with self._transaction():
            same = "DELETE FROM refused WHERE id = ? AND digest = ? RETURNING seq"
            known = bool(self._db.execute(same, (document.id, document.digest)).fetchall())
            query = "INSERT INTO refused (id, source, digest, size, received_ms, outcome) VALUES (?, ?, ?, ?, ?, ?)"
            values = document.id, document.source, document.digest, document.size, received_ms, outcome
            self._db.execute(query, values)
            over = "seq <= (SELECT seq FROM refused ORDER BY seq DESC LIMIT 1 OFFSET ?)"
            query = f"DELETE FROM refused WHERE {over} RETURNING id"  # noqa: S608 constants
            gone = self._db.execute(query, (_KEEP_REFUSED,)).fetchall()
            where = "level(id) = level(?)"  # ids of one topic: it is still somebody's
            left = f"SELECT 1 FROM refused WHERE {where} UNION SELECT 1 FROM deployments WHERE {where}"  # noqa: S608
            return known, [one for (one,) in gone if not self._db.execute(left, (one, one)).fetchall()]

    def took(self, identity: str) -> bool:
        """``Ledger.took``."""
        return bool(
            self._db.execute("SELECT 1 FROM deployments WHERE level(id) = level(?) LIMIT 1", (identity,)).fetchall()
        )

    def active(self) -> tuple[bytes | None, bytes | None]:
        """The contents of the active set and of the one before it."""
        contents = "(SELECT content FROM sets WHERE id = set_id), (SELECT content FROM sets WHERE id = previous)"
        now, before = self._one(f"SELECT {contents} FROM active")  # noqa: S608 a constant
        return now, before

    def entries(self, limit: int) -> list[Entry]:
        """``Ledger.entries``."""
        return self._entries("ORDER BY seq DESC LIMIT ?", limit)

    def unreported(self) -> list[Entry]:
        """``Ledger.unreported``."""
        return self._entries("WHERE reported = 0 ORDER BY seq")

    def number(self, name: str, value: int | None = None) -> int:
        """``Ledger.number``."""
        if value is not None:
            self._db.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (name, value))
            return value
        return int(self._one("SELECT coalesce((SELECT value FROM numbers WHERE name = ?), 0)", name)[0])

    def _check(self) -> None:
        """Look at every page, and for every column; raises ``sqlite3.Error``."""
        if self._one("PRAGMA quick_check(1)") != ("ok",):
            raise DamagedLedgerError("its pages do not fit together")
        self._entries("LIMIT 1")

    def _finish(self, seq: int, step: Step, outcome: bytes) -> None:
        self._db.execute("UPDATE deployments SET step = ?, outcome = ? WHERE seq = ?", (step, outcome, seq))
        self._let_go("seq = ?", seq)
        self._db.execute("DELETE FROM bootstraps WHERE seq = ?", (seq,))
        self._db.execute("DELETE FROM deployments WHERE reported = 1 AND seq <= ?", (seq - _KEEP,))

    def _let_go(self, which: str, *values: int) -> None:
        query = f"UPDATE deployments SET document = x'' WHERE {which} AND length(document) > ?"  # noqa: S608 constants
        self._db.execute(query, (*values, _KEEP_BYTES))

    def _shrink(self) -> None:
        """Let go of large documents that an earlier version kept, and give their room back."""
        try:
            self._let_go("outcome IS NOT NULL")
            (pages,), (size,) = self._one("PRAGMA freelist_count"), self._one("PRAGMA page_size")
            if pages * size > _LOOSE_BYTES:
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("the ledger stays larger than it has to be: %s", error)

    def _entries(self, rest: str, *values: int) -> list[Entry]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM deployments {rest}", values)  # noqa: S608 constants
        entries = []
        for row in rows:
            try:
                entries.append(_entry(row))
            except (ValueError, TypeError) as error:
                log.warning("a deployment in the ledger cannot be read: %s", error)
        return entries

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(query, values).fetchall()[0]
        return row

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # of some errors SQLite rolls back by itself
                self._db.execute("ROLLBACK")
            raise


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _as_written(content: object, digest: str | None) -> bool:
    """Whether a set is whole; an earlier version wrote no digests."""
    return isinstance(content, bytes) and digest in {None, _digest(content)}


def _entry(row: tuple[Any, ...]) -> Entry:
    """A row as a value; raises ``ValueError`` and ``TypeError`` for what was not written so."""
    entry = dict(zip(_NAMES, row, strict=True))
    texts, blobs, numbers = ("id", "source", "step"), ("document",), ("seq", "received_ms", "attempts", "reported")
    for kind, names in ((str, texts), (bytes, blobs), (int, numbers)):
        if wrong := [name for name in names if not isinstance(entry[name], kind)]:
            raise TypeError(f"its {wrong[0]} is of another type")
    made = Entry(**entry | {"step": Step(entry["step"]), "reported": bool(entry["reported"])})
    Origin(made.origin)
    return made
