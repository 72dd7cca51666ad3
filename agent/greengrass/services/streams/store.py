"""Streams and their messages in SQLite: one database on disk, and one in memory for streams that want that.

What is appended is committed before it is acknowledged: it outlives the end of the process, whichever that is.  A
stream with ``flushOnWrite`` waits for the disk too, and so outlives a power cut; others reach the disk with SQLite's
next checkpoint.  A stream has its messages' bytes counted in its own row, in the same transaction.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.disk import is_broken, set_aside, trouble_code
from agent.errors import UnreachableError
from agent.files import make_file
from agent.greengrass.services.streams.definition import Definition, OnFull, Persistence
from agent.greengrass.services.streams.wire import RefusedError, Status

__all__ = ["READ_BYTES", "ExportState", "Store", "StreamMessage", "StreamStoreError"]

log = logging.getLogger(__name__)

READ_BYTES: Final = 16 * 1024 * 1024
"""Bytes of messages in one response, and in one batch of an export."""
_STREAMS: Final = 1000
_VERSION: Final = 1
_SCHEMA: Final = (
    """CREATE TABLE streams (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL, next INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE messages (stream INTEGER NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        size INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (stream, seq)) WITHOUT ROWID""",
    "CREATE INDEX by_age ON messages (stream, at_ms)",
    """CREATE TABLE exports (stream INTEGER NOT NULL, identifier TEXT NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (stream, identifier)) WITHOUT ROWID""",
    """CREATE TRIGGER come AFTER INSERT ON messages BEGIN
        UPDATE streams SET bytes = bytes + new.size, next = new.seq + 1 WHERE id = new.stream; END""",
    """CREATE TRIGGER gone AFTER DELETE ON messages BEGIN
        UPDATE streams SET bytes = bytes - old.size WHERE id = old.stream; END""",
    f"PRAGMA user_version = {_VERSION}",
)


class StreamStoreError(UnreachableError):
    """The disk of the streams; ``code`` says what is the matter with it."""


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message; ``at_ms`` is when it was appended, Unix time in milliseconds."""

    seq: int
    at_ms: int
    payload: bytes


class ExportState(msgspec.Struct, frozen=True):
    """How far an export has come: ``position`` is the next number that it has not delivered or given up."""

    position: int = 0
    last_ms: int = 0
    error: str = ""
    exported_bytes: int = 0
    exported_messages: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    definition: Definition
    next: int
    bytes: int


class Store:
    """Every stream.  Used by one thread; raises ``RefusedError`` for what cannot be, and ``StreamStoreError``."""

    def __init__(self, path: Path) -> None:
        with _disk(path):
            self._disk = _open(path)
        self._memory = _prepared(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
        self._path = path

    def close(self) -> None:
        """Close the file; streams in memory are gone."""
        self._disk.close()
        self._memory.close()

    def names(self) -> list[str]:
        """The streams' names, sorted."""
        with _disk(self._path):
            return sorted(row[0] for part in self._parts for row in part.execute("SELECT name FROM streams"))

    def streams(self) -> list[tuple[int, Definition]]:
        """Every stream, with its number: another stream of the same name has another."""
        rows = (self._row(name) for name in self.names())
        return [(row.id if part is self._disk else -row.id, row.definition) for part, row in rows]

    def create(self, definition: Definition) -> None:
        """Make a stream.  INVALID_REQUEST where there is one of this name."""
        names = self.names()
        if definition.name in names:
            raise RefusedError(Status.INVALID_REQUEST, f"The stream {definition.name} exists already")
        if len(names) >= _STREAMS:
            raise RefusedError(Status.INVALID_REQUEST, f"There are {_STREAMS} streams already: delete some")
        part = self._memory if definition.persistence is Persistence.MEMORY else self._disk
        with self._transaction(part, durable=True):
            part.execute("INSERT INTO streams (name, definition) VALUES (?, ?)", (definition.name, _json(definition)))

    def update(self, definition: Definition) -> None:
        """Change a stream.  Where it is kept cannot change: UPDATE_NOT_ALLOWED."""
        part, row = self._row(definition.name)
        if (definition.persistence or 0) != (row.definition.persistence or 0):
            raise RefusedError(Status.UPDATE_NOT_ALLOWED, "The persistence of a stream cannot be changed")
        if row.bytes > definition.limit and definition.strategy_on_full is OnFull.REJECT:
            raise RefusedError(
                Status.UPDATE_NOT_ALLOWED,
                f"The stream holds {row.bytes} bytes, more than the new maxSize of {definition.limit}",
            )
        identifiers = [one.identifier for one in definition.exports]
        with self._transaction(part, durable=True):
            part.execute("UPDATE streams SET definition = ? WHERE id = ?", (_json(definition), row.id))
            part.execute(
                "DELETE FROM exports WHERE stream = ? AND identifier NOT IN (SELECT value FROM json_each(?))",
                (row.id, msgspec.json.encode(identifiers).decode()),
            )
            self._make_room(part, row, definition.limit)

    def delete(self, name: str) -> None:
        """Remove a stream with everything in it."""
        part, row = self._row(name)
        with self._transaction(part, durable=True):
            for query in (
                "DELETE FROM messages WHERE stream = ?",
                "DELETE FROM exports WHERE stream = ?",
                "DELETE FROM streams WHERE id = ?",
            ):
                part.execute(query, (row.id,))

    def append(self, name: str, payload: bytes, now_ms: int) -> int:
        """Add a message; gives its number.  A full stream refuses it or drops its oldest, as it is defined."""
        part, row = self._row(name)
        limit, size = row.definition.limit, len(payload)
        if size > limit:
            raise RefusedError(Status.REQUEST_TOO_LARGE, f"{size} bytes are more than the stream's maxSize of {limit}")
        with self._transaction(part, durable=bool(row.definition.flush_on_write)):
            self._expire(part, row, now_ms)
            if row.definition.strategy_on_full is OnFull.REJECT and self._bytes(part, row) + size > limit:
                raise RefusedError(Status.UNKNOWN_FAILURE, f"The stream {name} is full and rejects new messages")
            self._make_room(part, row, limit - size)
            part.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", (row.id, row.next, now_ms, size, payload))
        return row.next

    def read(self, name: str, start: int, most: int, now_ms: int) -> tuple[list[StreamMessage], bool]:
        """Messages from ``start`` on, and whether ``READ_BYTES`` ended them before ``most`` did."""
        part, row = self._row(name)
        messages: list[StreamMessage] = []
        total = 0
        with _disk(self._path):
            found = part.execute(
                "SELECT seq, at_ms, payload FROM messages WHERE stream = ? AND seq >= ? AND at_ms >= ?"
                " ORDER BY seq LIMIT ?",
                (row.id, start, _oldest_ms(row, now_ms), most),
            )
            for seq, at_ms, payload in found:
                total += len(payload)
                if total > READ_BYTES and messages:
                    return messages, True
                messages.append(StreamMessage(seq, at_ms, payload))
        return messages, False

    def describe(self, name: str, now_ms: int) -> tuple[Definition, int, int, int, dict[str, ExportState]]:
        """The definition; the oldest and the newest number; bytes; the exports' states."""
        part, row = self._row(name)
        with self._transaction(part, durable=False):
            self._expire(part, row, now_ms)
            oldest = part.execute("SELECT min(seq) FROM messages WHERE stream = ?", (row.id,)).fetchone()[0]
            used = self._bytes(part, row)
        states = {one.identifier: self.state(name, one.identifier) for one in row.definition.exports}
        return row.definition, row.next if oldest is None else oldest, row.next - 1, used, states

    def state(self, name: str, identifier: str) -> ExportState:
        """How far an export is; one that never ran begins where its definition says."""
        part, row = self._row(name)
        with _disk(self._path):
            found = part.execute(
                "SELECT state FROM exports WHERE stream = ? AND identifier = ?", (row.id, identifier)
            ).fetchone()
        if found:
            return msgspec.json.decode(found[0], type=ExportState)
        starts = (getattr(o, "start_sequence_number", 0) for o in row.definition.exports if o.identifier == identifier)
        return ExportState(next(starts, 0) or 0)

    def advance(self, number: int, name: str, identifier: str, state: ExportState) -> None:
        """Keep how far an export of the stream of this number is; NOT_FOUND where that is another by now."""
        part, row = self._row(name)
        if number != (row.id if part is self._disk else -row.id):
            raise RefusedError(Status.NOT_FOUND, f"The stream {name} is another by now")
        with self._transaction(part, durable=True):
            part.execute("INSERT OR REPLACE INTO exports VALUES (?, ?, ?)", (row.id, identifier, _json(state)))

    @property
    def _parts(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        return self._disk, self._memory

    def _row(self, name: str) -> tuple[sqlite3.Connection, _Row]:
        with _disk(self._path):
            for part in self._parts:
                row = part.execute("SELECT id, definition, next, bytes FROM streams WHERE name = ?", (name,)).fetchone()
                if row:
                    return part, _Row(row[0], msgspec.json.decode(row[1], type=Definition), row[2], row[3])
        raise RefusedError(Status.NOT_FOUND, f"There is no stream {name}")

    def _bytes(self, part: sqlite3.Connection, row: _Row) -> int:
        return int(part.execute("SELECT bytes FROM streams WHERE id = ?", (row.id,)).fetchone()[0])

    def _expire(self, part: sqlite3.Connection, row: _Row, now_ms: int) -> None:
        if row.definition.time_to_live_millis:
            part.execute("DELETE FROM messages WHERE stream = ? AND at_ms < ?", (row.id, _oldest_ms(row, now_ms)))

    def _make_room(self, part: sqlite3.Connection, row: _Row, limit: int) -> None:
        needed, last = self._bytes(part, row) - limit, -1
        if needed <= 0:
            return
        for seq, size in part.execute("SELECT seq, size FROM messages WHERE stream = ? ORDER BY seq", (row.id,)):
            needed, last = needed - size, seq
            if needed <= 0:
                break
        part.execute("DELETE FROM messages WHERE stream = ? AND seq <= ?", (row.id, last))

    @contextmanager
    def _transaction(self, part: sqlite3.Connection, *, durable: bool) -> Iterator[None]:
        with _disk(self._path):
            part.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            part.execute("BEGIN IMMEDIATE")
            try:
                yield
                part.execute("COMMIT")
            except BaseException:
                if part.in_transaction:  # of some errors SQLite rolls back by itself
                    part.execute("ROLLBACK")
                raise


def _oldest_ms(row: _Row, now_ms: int) -> int:
    ttl = row.definition.time_to_live_millis
    return now_ms - ttl if ttl else 0


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StreamStoreError(
            f"the streams in {path}: {error}", hint="see to the disk", code=trouble_code(error)
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    make_file(path)
    try:
        return _prepared(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
    except sqlite3.Error as error:
        if not is_broken(error):
            raise
        log.warning("%s is damaged (%s): it is set aside as %s, and streams begin anew", path, error, set_aside(path))
        make_file(path)
        return _prepared(sqlite3.connect(path, isolation_level=None, check_same_thread=False))


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise sqlite3.DatabaseError(  # noqa: TRY301 the handler closes it
                f"it is of version {version}, and this program writes {_VERSION}"
            )
        if not version:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection
