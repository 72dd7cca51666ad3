"""What can be wrong with the outbox's file, in words for people and programs, and what is saved of a broken one."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent import disk
from agent.mqtt.outbox.database import Connect, Database, ForeignDatabaseError
from agent.mqtt.outbox.record import RANKS, Record, rank_of, read
from agent.topics import valid_topic

__all__ = ["Trouble", "is_broken", "salvage", "trouble_of"]

log = logging.getLogger("agent.mqtt.outbox")

_AT_ONCE = 500
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
    code = disk.trouble_code(error).replace("file-locked", "outbox-locked")
    return Trouble(code, f"the outbox {path} cannot be written: {error}", _HINTS[code], reopen=code != "disk-full")


def is_broken(error: Exception) -> bool:
    """Whether the file itself is wrong, not the disk under it."""
    return isinstance(error, ForeignDatabaseError) or disk.is_broken(error)


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
