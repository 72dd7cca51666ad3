"""The contents of the repository in SQLite: each batch of changes is one transaction, on disk before it is answered.

The write-ahead log makes a transaction one write and one sync, and a killed process or a power cut leaves the last
whole one.  The file is locked while it is open: two services with one memory would contradict each other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from agent.aws.jobs.service.job import Execution, JobRecord
from agent.aws.jobs.service.repository import Changes, Mailbox, Notice, Records
from agent.errors import ConfigError
from agent.files import make_file, make_folder

__all__ = ["JobStore"]

_LAYOUT = 1
_TABLES = """
CREATE TABLE jobs (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE executions (
    job TEXT NOT NULL, thing TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (job, thing, number)
) WITHOUT ROWID;
CREATE TABLE groups (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""

_NOTICES = """
CREATE TABLE IF NOT EXISTS notices (
    thing TEXT NOT NULL, namespace TEXT NOT NULL, listed INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (thing, namespace)
) WITHOUT ROWID
"""
"""A part of layout 1 since a service that does not know it loses nothing by that."""

_encode = msgspec.json.Encoder().encode
_job = msgspec.json.Decoder(JobRecord).decode
_execution = msgspec.json.Decoder(Execution).decode
_things = msgspec.json.Decoder(tuple[str, ...]).decode


class JobStore:
    """The file ``jobs.sqlite3`` in ``folder``, open while entered; raises ``ConfigError`` when it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.sqlite3"
        self._connection: sqlite3.Connection

    def __enter__(self) -> Self:
        try:
            make_folder(self.path.parent)
            make_file(self.path)
            with ExitStack() as undo:
                self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
                undo.callback(self._connection.close)
                self._open()
                undo.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{self.path} cannot be used: {error}",
                code="jobs-store",
                hint="another service may be using it; name another folder with --data",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _open(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")  # takes the lock, which then stays
        (layout,) = execute("PRAGMA user_version").fetchone()
        if layout == 0:
            for statement in filter(str.strip, _TABLES.split(";")):
                execute(statement)
            execute(f"PRAGMA user_version = {_LAYOUT}")
        if layout in {0, _LAYOUT}:
            execute(_NOTICES)
        execute("COMMIT")
        if layout not in {0, _LAYOUT}:
            raise ConfigError(
                f"{self.path} was written by another version of Verge (layout {layout})",
                code="jobs-store",
                hint="use that version, or name another folder with --data",
            )

    def read(self) -> Records:
        """Everything that is stored."""
        rows = self._connection.execute
        return Records(
            tuple(_job(body) for (body,) in rows("SELECT body FROM jobs")),
            tuple(_execution(body) for (body,) in rows("SELECT body FROM executions")),
            tuple((name, _things(body)) for name, body in rows("SELECT name, body FROM groups")),
        )

    def notices(self) -> list[Notice]:
        """Who is still to be notified."""
        rows = self._connection.execute("SELECT thing, namespace, listed, next FROM notices")
        return [
            Notice(Mailbox(thing, namespace), bool(listed), bool(following))
            for thing, namespace, listed, following in rows
        ]

    def write(self, changes: Changes, notices: Sequence[Notice] = (), settled: Sequence[Mailbox] = ()) -> None:
        """Write all of ``changes`` with the ``notices`` that follow from them or, raising ``sqlite3.Error``, none.

        The notices of ``settled`` are forgotten.
        """
        if not (changes or notices or settled):
            return
        with self._transaction() as rows:
            for job_id, job in changes.jobs.items():
                if job is None:
                    rows.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
                    rows.execute("DELETE FROM executions WHERE job = ?", (job_id,))
                else:
                    rows.execute("REPLACE INTO jobs VALUES (?, ?)", (job_id, _encode(job)))
            rows.executemany(
                "REPLACE INTO executions VALUES (?, ?, ?, ?)",
                ((*key, _encode(execution)) for key, execution in changes.executions.items()),
            )
            rows.executemany("DELETE FROM notices WHERE thing = ? AND namespace = ?", settled)
            rows.executemany(
                "REPLACE INTO notices VALUES (?, ?, ?, ?)",
                ((*one.mailbox, one.listed, one.next_changed) for one in notices),
            )
            for name, things in changes.groups.items():
                if things is None:
                    rows.execute("DELETE FROM groups WHERE name = ?", (name,))
                else:
                    rows.execute("REPLACE INTO groups VALUES (?, ?)", (name, _encode(things)))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)


class _Transaction:
    """Commits when it is left in order, and rolls back otherwise."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
