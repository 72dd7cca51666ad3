"""One SQLite database of messages that wait, on disk or in memory.

WAL mode appends: a transaction is one write and one synchronisation.  ``synchronous=FULL`` synchronises at every
commit, so what is committed is there after a power cut; ``NORMAL`` would only at checkpoints, and what was acknowledged
could be gone.  The cost is one synchronisation for each batch, however many messages are in it.

What gives way when there is no room is of the lowest rank that has something, what just came included:

======================  ======================================================================================
policy                  which of that rank
======================  ======================================================================================
``drop-oldest``         the oldest
``drop-new``            the newest
``newest-per-stream``   the oldest that has a newer one on its topic; where there is none, the oldest
======================  ======================================================================================

What the caller spares, for it may be on the wire, does not give way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.mqtt.outbox.record import NUMBER, RANKS, SHIFT, Record, read
from agent.mqtt.outbox.scheduler import READ_AHEAD, TOPICS

__all__ = ["Bounds", "Connect", "Database", "Drop", "ForeignDatabaseError"]

Connect = Callable[[str], sqlite3.Connection]

VERSION = 1
_SCHEMA = f"""
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, at_ms INTEGER NOT NULL, size INTEGER NOT NULL,
    state INTEGER NOT NULL, facts TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX by_topic ON messages (topic);
CREATE TABLE totals (rank INTEGER PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES {", ".join(f"({rank}, 0, 0)" for rank in range(len(RANKS)))};
CREATE TRIGGER come AFTER INSERT ON messages BEGIN
    UPDATE totals SET messages = messages + 1, bytes = bytes + new.size WHERE rank = new.seq >> {SHIFT};
END;
CREATE TRIGGER gone AFTER DELETE ON messages BEGIN
    UPDATE totals SET messages = messages - 1, bytes = bytes - old.size WHERE rank = old.seq >> {SHIFT};
END;
PRAGMA user_version = {VERSION};
"""  # noqa: S608 constants of this program
_OF_RANK = f"FROM messages AS m WHERE seq >= ? << {SHIFT} AND seq < (? + 1) << {SHIFT}"
_OLDEST = f"SELECT seq, topic, size {_OF_RANK} ORDER BY seq"
_NEWEST = f"{_OLDEST} DESC"
_OLDEST_BUT_ONE = _OLDEST.replace(
    "ORDER", "AND EXISTS (SELECT 1 FROM messages AS n WHERE n.topic = m.topic AND n.seq > m.seq) ORDER"
)
GIVES_WAY = {
    "drop-oldest": (_OLDEST,),
    "drop-new": (_NEWEST,),
    "newest-per-stream": (_OLDEST_BUT_ONE, _OLDEST),
}
"""Policy → who is asked for, one after the other."""

# Each step of a statement gives the interpreter's lock away, and has to wait for it where the loop is busy.  So
# many rows are written and read in one step.
_INSERT_AT_ONCE = 128
_PLACE = len("(?,?,?,?,?,?,?),")
_PLACES = "(?,?,?,?,?,?,?)," * _INSERT_AT_ONCE
_MANY = (
    "SELECT json_group_array(json_array(seq, topic, at_ms, size, facts, hex(payload)))"
    " FROM (SELECT * FROM messages WHERE seq > ? AND seq <= ? ORDER BY seq)"
)
_decode = msgspec.json.Decoder(list[tuple[int, str, int, int, str, str]]).decode

_EXPIRE_AT_ONCE = 2000
_READ_BYTES = 1024 * 1024
_FREE_PAGES = 4096
"""An empty database that holds so many free pages gives them back."""


class ForeignDatabaseError(sqlite3.DatabaseError):
    """The file was made by another version."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much, how old, and what gives way."""

    max_bytes: int
    max_age_ms: int
    policy: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A message that was dropped, and why."""

    seq: int
    topic: str
    reason: str


class Database:
    """A database; every method is one transaction and raises ``sqlite3.Error``.  Used by one thread."""

    def __init__(self, path: str, bounds: Bounds, connect: Connect) -> None:
        self._bounds = bounds
        self._connection = connect(path)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    @property
    def totals(self) -> tuple[int, int]:
        """Messages, and their bytes."""
        messages, size = self._one("SELECT sum(messages), sum(bytes) FROM totals")
        return messages, size

    @property
    def last(self) -> int:
        """The highest number of a message, without its rank."""
        tops = (self._one(f"SELECT max(seq) {_OF_RANK}", rank, rank)[0] for rank in range(len(RANKS)))
        return max(((top & NUMBER) for top in tops if top is not None), default=0)

    @property
    def newest_ms(self) -> int:
        """When the last one was published."""
        return max((at_ms for at_ms in self._ends("DESC")), default=0)

    @property
    def oldest_ms(self) -> int | None:
        """When the first one was published that still waits."""
        return min((at_ms for at_ms in self._ends("")), default=None)

    def topics(self) -> dict[str, int] | None:
        """How many messages of which topic; None where there are too many topics."""
        rows = self._all("SELECT topic, count(*) FROM messages GROUP BY topic LIMIT ?", TOPICS + 1)
        return dict(rows) if len(rows) <= TOPICS else None

    def apply(self, adds: Sequence[Record], removes: Sequence[int], spared: AbstractSet[int]) -> list[Drop]:
        """Add and remove; gives what had to give way, which may be among the added."""
        with self._transaction():
            self._insert(adds)
            self._delete(removes)
            drops = [drop for record in adds if record.is_state for drop in self._supersede(record, spared)]
            return drops + (self._make_room(spared) if adds else [])

    def restore(self, records: Sequence[Record]) -> None:
        """Add what may be there already."""
        missing = [record for record in records if not self._all("SELECT 1 FROM messages WHERE seq = ?", record.seq)]
        self.apply(missing, (), {record.seq for record in missing})

    def expire(self, now_ms: int, spared: AbstractSet[int]) -> list[Drop]:
        """Drop what is too old, some of it: what is left is dropped next time."""
        old = []
        for rank in range(len(RANKS)):
            rows = self._all(
                f"SELECT seq, topic, at_ms {_OF_RANK} ORDER BY seq LIMIT ?", rank, rank, _EXPIRE_AT_ONCE
            )  # fmt: skip
            old += [row for row in rows if row[2] < now_ms - self._bounds.max_age_ms and row[0] not in spared]
        if old:
            with self._transaction():
                self._delete([seq for seq, _, _ in old])
        return [Drop(seq, topic, "expired") for seq, topic, _ in old]

    def shrink(self) -> None:
        """Give disk space back when nothing waits."""
        if not self.totals[0] and self._one("PRAGMA freelist_count")[0] > _FREE_PAGES:
            self._connection.execute("VACUUM")

    def load(self, rank: int, after: int, limit: int = READ_AHEAD) -> tuple[list[Record], bool]:
        """The next messages of a rank, and whether these were the last."""
        after = max(after, (rank << SHIFT) - 1)
        sizes = self._all(f"SELECT seq, size {_OF_RANK} AND seq > ? ORDER BY seq LIMIT ?", rank, rank, after, limit)
        total, last = 0, after
        for seq, size in sizes:
            if total > _READ_BYTES:
                return self._between(after, last), False
            total, last = total + size, seq
        return self._between(after, last), len(sizes) < limit

    def everything(self) -> list[Record]:
        """All messages; for a small database."""
        return self._between(-1, 1 << 62)

    def reclassify(self, rank: Callable[[str], int]) -> None:
        """Move messages whose topics have another rank now than when they were written."""
        topics = self._all("SELECT topic, min(seq) >> ?, max(seq) >> ? FROM messages GROUP BY topic", SHIFT, SHIFT)
        moved = [(topic, rank(topic)) for topic, low, high in topics if not low == high == rank(topic)]
        if not moved:
            return
        with self._transaction():
            for topic, new in moved:
                self._connection.execute(
                    "UPDATE messages SET seq = (seq & ?) | (? << ?) WHERE topic = ? AND seq >> ? != ?",
                    (NUMBER, new, SHIFT, topic, SHIFT, new),
                )
            self._connection.execute(
                "UPDATE totals SET (messages, bytes) = (SELECT count(*), coalesce(sum(size), 0) FROM messages"
                " WHERE seq >> ? = totals.rank)",
                (SHIFT,),
            )

    def copy_to(self, path: Path) -> None:
        """Write all of it into another file, which only its owner can read.  Raises ``OSError`` too."""
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._connection.execute("VACUUM INTO ?", (str(path),))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self) -> None:
        for pragma in (
            "locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "secure_delete = OFF",
            "temp_store = MEMORY",
        ):  # fmt: skip
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        version = self._one("PRAGMA user_version")[0]
        if version not in {0, VERSION}:
            raise ForeignDatabaseError(f"it is of version {version}, and this program writes {VERSION}")
        if not version:
            with self._transaction():
                for statement in _statements(_SCHEMA):
                    self._connection.execute(statement)
        self._one("SELECT seq, topic, at_ms, size, state, facts, payload FROM messages LIMIT 1")
        if len(self._all("SELECT rank FROM totals")) != len(RANKS):
            raise ForeignDatabaseError("it has no totals")

    def _supersede(self, record: Record, spared: AbstractSet[int]) -> list[Drop]:
        rows = self._all(
            "SELECT seq FROM messages WHERE topic = ? AND seq < ? AND state", record.message.topic, record.seq
        )
        older = [seq for (seq,) in rows if seq not in spared]
        self._delete(older)
        return [Drop(seq, record.message.topic, "superseded") for seq in older]

    def _make_room(self, spared: AbstractSet[int]) -> list[Drop]:
        needed = self.totals[1] - self._bounds.max_bytes
        drops: list[Drop] = []
        for rank in reversed(range(len(RANKS))):
            for query in GIVES_WAY[self._bounds.policy]:
                rows = self._up_to(query, rank, needed, spared) if needed > 0 else []
                self._delete([seq for seq, _, _ in rows])
                needed -= sum(size for _, _, size in rows)
                drops += [Drop(seq, topic, "outbox-full") for seq, topic, _ in rows]
        return drops

    def _up_to(self, query: str, rank: int, needed: int, spared: AbstractSet[int]) -> list[tuple[int, str, int]]:
        taken = []
        with closing(self._connection.execute(query, (rank, rank))) as rows:
            for seq, topic, size in rows:
                if needed <= 0:
                    break
                if seq not in spared:
                    taken.append((seq, topic, size))
                    needed -= size
        return taken

    def _insert(self, records: Sequence[Record]) -> None:
        for start in range(0, len(records), _INSERT_AT_ONCE):
            chunk = records[start : start + _INSERT_AT_ONCE]
            values = [
                value
                for e in chunk
                for value in (e.seq, e.message.topic, e.at_ms, e.size, e.is_state, e.facts, e.message.payload)
            ]
            places = _PLACES[: len(chunk) * _PLACE - 1]
            self._connection.execute(f"INSERT INTO messages VALUES {places}", values)  # noqa: S608 only places

    def _delete(self, seqs: Sequence[int]) -> None:
        if seqs:
            numbers = str(list(seqs))  # which is JSON
            self._connection.execute("DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?))", (numbers,))

    def _between(self, after: int, last: int) -> list[Record]:
        ((rows,),) = self._all(_MANY, after, last)
        return [read(*row[:-1], bytes.fromhex(row[-1])) for row in _decode(rows)]

    def _ends(self, direction: str) -> Iterator[int]:
        for rank in range(len(RANKS)):
            query = f"SELECT at_ms {_OF_RANK} ORDER BY seq {direction} LIMIT 1"
            for (at_ms,) in self._all(query, rank, rank):
                yield at_ms

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # of some errors SQLite rolls back by itself
                self._connection.execute("ROLLBACK")
            raise

    def _one(self, query: str, *values: object) -> tuple[int, ...]:
        rows = self._all(query, *values)
        return rows[0] if rows else ()

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
