"""What can be wrong with the outbox's file: its name for people and programs, and what is saved of a broken one."""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.mqtt.outbox.database import Connect, Database, ForeignDatabaseError
from agent.mqtt.outbox.record import RANKS, Record, rank_of, read
from agent.topics import valid_topic

__all__ = ["Trouble", "is_broken", "quarantine_file", "salvage", "trouble_of"]

log = logging.getLogger("agent.mqtt.outbox")

KEPT = 2
"""Files set aside that are kept; older ones are removed."""
_AT_ONCE = 500
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_OF_SQLITE = {
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_READONLY: "disk-read-only",
    sqlite3.SQLITE_CANTOPEN: "disk-denied",
    sqlite3.SQLITE_PERM: "disk-denied",
    sqlite3.SQLITE_BUSY: "outbox-locked",
    sqlite3.SQLITE_LOCKED: "outbox-locked",
}
_OF_SYSTEM = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-denied",
    errno.EPERM: "disk-denied",
}
_HINTS = {
    "disk-full": "make room, or lower max_bytes of the outbox",
    "disk-read-only": "name a path on a writable file system",
    "disk-denied": "give the agent's user the right to write there",
    "outbox-locked": "only one agent can have an outbox; give the other one a path of its own",
    "disk-error": "check the disk and the path",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the disk takes nothing."""

    code: str
    reason: str
    hint: str
    reopen: bool
    """The file is of no use as it is open now."""


def trouble_of(error: Exception, path: Path) -> Trouble:
    """The trouble in an error of SQLite or of the system."""
    code = _OF_SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else _OF_SQLITE.get(_primary(error))
    code = code or "disk-error"
    return Trouble(code, f"the outbox {path} cannot be written: {error}", _HINTS[code], reopen=code != "disk-full")


def is_broken(error: Exception) -> bool:
    """Whether the file itself is wrong, not the disk under it."""
    return isinstance(error, ForeignDatabaseError) or _primary(error) in _BROKEN


def quarantine_file(path: Path) -> Path:
    """Rename the database and its log; gives the new name.  Raises ``OSError``."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now * 1e3) % 1000:03}Z"
    name = path.with_name(f"{path.name}.broken-{stamp}")
    for suffix in ("-wal", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(name.with_name(name.name + suffix))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    older = sorted(path.parent.glob(f"{path.name}.broken-*Z"))[:-KEPT]
    for file in older:
        for suffix in ("-wal", "-shm", ""):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    return name


def salvage(path: Path, database: Database, connect: Connect) -> None:
    """Copy what can be read: from the beginning until something is wrong, and from the end back to there."""
    for direction in ("ASC", "DESC"):
        with closing(_readable(path, direction, connect)) as records:
            while chunk := list(islice(records, _AT_ONCE)):
                database.restore(chunk)


def _readable(path: Path, direction: str, connect: Connect) -> Generator[Record]:
    query = f"SELECT seq, topic, at_ms, size, facts, payload FROM messages ORDER BY seq {direction}"  # noqa: S608
    try:
        with closing(connect(str(path))) as connection:
            for row in connection.execute(query):
                yield _checked(*row)
    except (sqlite3.DatabaseError, ValueError) as error:
        log.info("not all of %s can be read: %s", path, error)


def _checked(seq: object, topic: object, at_ms: object, size: object, facts: object, payload: object) -> Record:
    match seq, topic, at_ms, size, facts, payload:
        case int(), str(), int(), int(), str(), bytes() if valid_topic(topic) and 0 <= rank_of(seq) < len(RANKS):
            return read(seq, topic, at_ms, size, facts, payload)
    raise ValueError("a row is none of ours")


def _primary(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
