"""The queue on the disk: one SQLite database, one thread that works on it.

Requests that come together are written in one transaction and synchronised once (group commit).  Bodies go when a
capture has arrived; its id and what became of it stay, for the newest ``remembered`` of them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from agent.disk import is_broken, set_aside, trouble_code
from agent.edgeapi.edge_manager.capture.record import File, Record
from agent.errors import InvalidInputError, UnreachableError
from agent.files import make_file, make_folder

__all__ = ["CaptureExistsError", "CapturesKept", "Spool", "SpoolError", "State"]

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

REMEMBERED: Final = 100_000
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS captures (
        number INTEGER PRIMARY KEY AUTOINCREMENT, capture_id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, batch INTEGER
    );
    CREATE INDEX IF NOT EXISTS captures_by_state ON captures (state, number);
    CREATE TABLE IF NOT EXISTS bodies (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS uploads (number INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL);
"""
_PRAGMAS: Final = ("journal_mode = WAL", "synchronous = FULL", "secure_delete = OFF")


class State(IntEnum):
    """What became of a capture, by the numbers of the interface."""

    FAILURE = 0
    SUCCESS = 1
    IN_PROGRESS = 2
    NOT_FOUND = 3


class SpoolError(UnreachableError):
    """The spool's disk takes nothing now."""

    default_code = "disk-error"


class CaptureExistsError(InvalidInputError):
    """There is a capture of this id."""

    default_code = "capture-exists"


@dataclass(frozen=True, slots=True)
class CapturesKept:
    """What an earlier process left."""

    waiting: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    """The batch that was being sent."""
    nbytes: int = 0


@dataclass(slots=True)
class _Request:
    capture_id: str
    body: bytes
    taken: asyncio.Future[int] = field(repr=False)


class Spool:
    """The captures of one folder; ``on_taken`` hears of each, with its bytes, in the order of their numbers."""

    def __init__(
        self, path: Path, on_taken: Callable[[int, int], None] = lambda _number, _size: None, *,
        remembered: int = REMEMBERED,
    ) -> None:  # fmt: skip
        self._path = path
        self._on_taken = on_taken
        self._remembered = remembered
        self._thread = ThreadPoolExecutor(1, "captures")
        self._database: sqlite3.Connection
        self._requests: list[_Request] = []
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Raises ``SpoolError``."""
        try:
            await self._do(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._do(self._close)
        self._thread.shutdown(wait=False)

    async def take(self, record: Record) -> int:
        """Keep a capture and give it a number: it is on the disk, synchronised, when this returns.

        Raises ``CaptureExistsError`` and ``SpoolError``.
        """
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(record.capture_id, msgspec.msgpack.encode(record), taken))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="agent.edgeapi.captures.write")
        return await asyncio.shield(taken)

    async def kept(self) -> CapturesKept:
        """What waits."""
        return await self._do(self._kept)

    async def cut(self, numbers: Sequence[int]) -> None:
        """Note that these leave together."""
        await self._do(lambda: self._change("UPDATE captures SET batch = ? WHERE number = ?", numbers[0], numbers))

    async def read(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Captures that wait, by number; one whose body is damaged is left out."""
        return await self._do(lambda: self._read(numbers))

    async def settle(self, numbers: Sequence[int], state: State, uploads: Sequence[File] = ()) -> int:
        """Note what became of captures, and which files are to be uploaded yet; how many bytes wait no more."""
        return await self._do(lambda: self._settle(numbers, state, [file.path for file in uploads]))

    async def state(self, capture_id: str) -> State:
        """What became of a capture."""
        return await self._do(lambda: self._state(capture_id))

    async def uploads(self, most: int) -> list[tuple[int, str]]:
        """Files to be uploaded, the oldest first."""
        query = "SELECT number, path FROM uploads ORDER BY number LIMIT ?"
        return await self._do(lambda: self._database.execute(query, (most,)).fetchall())

    async def uploaded(self, number: int) -> None:
        """Note that a file is uploaded."""
        await self._do(lambda: self._change("DELETE FROM uploads WHERE number <= ? AND number = ?", number, (number,)))

    # -- requests ----------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        while self._requests:
            requests, self._requests = self._requests, []
            try:
                numbers = await self._do(lambda requests=requests: self._insert(requests))  # type: ignore[misc]
            except SpoolError as error:
                for request in requests:
                    _fail(request, error)
                continue
            for request, number in zip(requests, numbers, strict=True):
                if number is None:
                    _fail(request, CaptureExistsError(f"there is a capture {request.capture_id!r} already"))
                    continue
                self._on_taken(number, len(request.body))
                if not request.taken.done():
                    request.taken.set_result(number)

    def _insert(self, requests: Sequence[_Request]) -> list[int | None]:
        numbers: list[int | None] = []
        with self._database as database:
            for request in requests:
                found = database.execute(
                    "INSERT OR IGNORE INTO captures (capture_id, state) VALUES (?, ?)",
                    (request.capture_id, State.IN_PROGRESS),
                )
                if not found.rowcount:
                    numbers.append(None)
                    continue
                numbers.append(found.lastrowid)
                database.execute("INSERT INTO bodies VALUES (?, ?)", (found.lastrowid, request.body))
        return numbers

    # -- in the thread -----------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], Answer]) -> Answer:
        """The work's answer; raises ``SpoolError``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"captures cannot be kept: {error}", code=trouble_code(error)) from error

    def _open(self) -> None:
        make_folder(self._path.parent)
        try:
            self._database = self._connected()
        except sqlite3.Error as error:
            if not is_broken(error):
                raise
            log.error("the captures in %s are damaged; set aside as %s", self._path, set_aside(self._path))  # noqa: TRY400 it is a sentence for people
            self._database = self._connected()

    def _connected(self) -> sqlite3.Connection:
        make_file(self._path)
        database = sqlite3.connect(self._path, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                database.execute(f"PRAGMA {pragma}")
            database.executescript(_SCHEMA)
            _check(database)
        except BaseException:
            database.close()
            raise
        return database

    def _close(self) -> None:
        self._database.close()

    def _kept(self) -> CapturesKept:
        rows = self._database.execute(
            "SELECT number, batch FROM captures WHERE state = ? ORDER BY number", (State.IN_PROGRESS,)
        ).fetchall()
        (size,) = self._database.execute("SELECT coalesce(sum(length(body)), 0) FROM bodies").fetchone()
        batch = tuple(number for number, batch in rows if batch is not None)
        return CapturesKept(tuple(number for number, batch in rows if batch is None), batch, size)

    def _read(self, numbers: Sequence[int]) -> dict[int, Record]:
        found: dict[int, Record] = {}
        for number in numbers:
            row = self._database.execute("SELECT body FROM bodies WHERE number = ?", (number,)).fetchone()
            try:
                found[number] = msgspec.msgpack.decode(row[0] if row else b"", type=Record)
            except msgspec.MsgspecError:
                log.warning("the capture %d is damaged", number)
        return found

    def _settle(self, numbers: Sequence[int], state: State, uploads: Sequence[str]) -> int:
        size = 0
        with self._database as database:
            for number in numbers:
                row = database.execute("SELECT length(body) FROM bodies WHERE number = ?", (number,)).fetchone()
                size += row[0] if row else 0
                database.execute("DELETE FROM bodies WHERE number = ?", (number,))
                database.execute("UPDATE captures SET state = ?, batch = NULL WHERE number = ?", (state, number))
            database.executemany("INSERT INTO uploads (path) VALUES (?)", [(path,) for path in uploads])
            dropped = database.execute(
                "DELETE FROM uploads WHERE number <= (SELECT max(number) FROM uploads) - ?", (self._remembered,)
            ).rowcount
            if dropped > 0:
                log.warning("%d captured files are on the disk alone: too many wait for their upload", dropped)
            database.execute(
                "DELETE FROM captures WHERE state != ? AND number <= ?",
                (State.IN_PROGRESS, numbers[-1] - self._remembered),
            )
        return size

    def _state(self, capture_id: str) -> State:
        row = self._database.execute("SELECT state FROM captures WHERE capture_id = ?", (capture_id,)).fetchone()
        return State(row[0]) if row else State.NOT_FOUND

    def _change(self, statement: str, value: Any, numbers: Sequence[int]) -> None:
        with self._database as database:
            database.executemany(statement, [(value, number) for number in numbers])


def _check(database: sqlite3.Connection) -> None:
    """Raises ``sqlite3.DatabaseError`` for a database that is damaged."""
    with closing(database.execute("PRAGMA quick_check")) as found:
        if found.fetchone() != ("ok",):
            error = sqlite3.DatabaseError("quick_check")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error


def _fail(request: _Request, error: Exception) -> None:
    if not request.taken.done():
        request.taken.set_exception(error)
