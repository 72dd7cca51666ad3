"""The ledger through damage: its database, and the second record of the active set.

====================================  ==========================================================================
what happens                          what is done
====================================  ==========================================================================
the database is damaged or no ledger  it is set aside, and one is begun anew from the second record, or from what
                                      can be read of it
it lacks what was committed           the same: its log was lost
the disk takes nothing                a copy in memory is read, writes are refused, and the disk is tried again
the files are removed or replaced     they are written anew from what is open
====================================  ==========================================================================

None of it is an error to whoever opens or reads; what is the matter is in ``problems``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from agent import disk
from agent.files import DamagedFileError, make_folder
from agent.greengrass.deployments import active
from agent.greengrass.deployments.active import ActiveRecord, Trusted
from agent.greengrass.deployments.database import LOST, DamagedLedgerError, LedgerDatabase, LedgerError

__all__ = ["LedgerKeeper"]

log = logging.getLogger(__name__)

Value = TypeVar("Value")
Call: TypeAlias = Callable[[LedgerDatabase], Value]

_HINTS = {
    "disk-full": "make room on the disk",
    "disk-read-only": "make the file system writable, or set data_dir to a folder on one that is",
    "disk-denied": "give the agent's user the right to write there, or set data_dir to a folder of its own",
    "file-locked": "end the program that has the ledger open",
    "disk-error": "check the disk and the path",
}


class LedgerKeeper:
    """The database and the second record of the active set, through damage; called in one thread."""

    def __init__(self, path: Path) -> None:
        self.problems: dict[str, LedgerError] = {}
        self.record = ActiveRecord()
        """The active set, as long as this runs."""
        self._configurations: dict[str, bytes] = {}
        """What components have changed of it."""
        self._path = path
        self._file = path.with_name("active.record")
        self._database = LedgerDatabase()
        self._identity: tuple[int, int] | None = None
        self._file_identity: tuple[int, int] | None = None
        self._in_memory = False

    # -- for the agent ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open what there is, or make it; what of it cannot be is a problem."""
        try:
            self._open(self._second_record())
        except Exception as error:  # whatever it is: what runs without the ledger goes on running
            log.exception("the ledger %s failed unexpectedly", self._path)
            self._go_on_in_memory(error, None)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def read(self, call: Call[Value]) -> Value:
        """Ask the database, or its copy in memory."""
        return self._call(call)

    def write(self, call: Call[Value]) -> Value:
        """Change the database.  Raises ``LedgerError``."""
        self.tend()
        if self._in_memory:
            raise self.problems["ledger"]
        value = self._call(call)
        self.problems.pop("ledger", None)
        return value

    def commit(self, seq: int, content: bytes, outcome: bytes, replaced: bytes | None = None) -> None:
        """Make a set the active one, here and in the second record.  Raises ``LedgerError``."""
        number = self.write(lambda db: db.commit(seq, content, outcome, replaced))
        previous = self.record.current if replaced is None else replaced
        self.record = replace(self.record, number=number, current=content, previous=previous)
        self._configurations = {}
        self.problems.pop("active-set", None)
        self._write_second_record()

    def configure(self, configurations: Mapping[str, bytes]) -> None:
        """Keep what components have set of their configurations.  Raises ``LedgerError``."""
        self.write(lambda db: db.configure(configurations))
        self._configurations |= configurations

    def tend(self) -> None:
        """Look whether the files are still there, and try a disk again that took nothing."""
        if self._in_memory:
            self._try_again()
        elif disk.identity(self._path) != self._identity:
            self._put_back()
        if not self._in_memory and (self._file_identity is None or disk.identity(self._file) != self._file_identity):
            self._write_second_record()

    def _try_again(self) -> None:
        try:
            database, _ = self._opened()
        except (sqlite3.Error, OSError) as error:
            if not self._replaceable(error, self.record):
                return
        else:
            database.close()
        self._database.close()
        self._open(self.record)

    # -- opening ---------------------------------------------------------------------------------------------

    def _open(self, file: ActiveRecord | None) -> None:
        there = os.path.lexists(self._path)
        try:
            database, ledger = self._opened()
        except (sqlite3.Error, OSError) as error:
            if not self._replaceable(error, file) or not self._begin_anew(str(error), file):
                self._go_on_in_memory(error, file)
            return
        match active.judge(ledger, file):
            case Trusted.FILE:
                database.close()
                why = "it lacks what was committed, or is another device's" if there else "it was gone"
                if not self._begin_anew(why, file):
                    self._go_on_in_memory(OSError("it cannot be replaced"), file)
            case _:
                self._adopt(database, ledger)
                if not ledger.number and file is None and self._was_used:
                    self._lose("there is no record of it any more")

    def _opened(self) -> tuple[LedgerDatabase, ActiveRecord]:
        database = LedgerDatabase()
        database.open(self._path)
        try:
            record = database.record()
            return database, record if record.ledger else replace(record, ledger=database.identify())
        except BaseException:
            database.close()
            raise

    def _adopt(self, database: LedgerDatabase, record: ActiveRecord) -> None:
        self._database, self.record = database, record
        self._configurations = database.configurations()
        self._identity, self._in_memory = disk.identity(self._path), False
        if self.problems.pop("ledger", None):
            log.warning("the ledger %s is written again", self._path)
        if database.number(LOST):
            self._lose("neither of its records could be read at an earlier start")
        self._write_second_record(only_if_different=True)

    def _replaceable(self, error: Exception, file: ActiveRecord | None) -> bool:
        """Whether a new ledger in its place would do: the file is wrong, and not the disk."""
        if disk.is_broken(error) or isinstance(error, DamagedLedgerError | IsADirectoryError):
            return True
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:  # it has other tables
            return True
        folder_takes = os.access(self._path.parent, os.W_OK | os.X_OK)
        # Without a second record it is better to have the right to the file given than to lose it.
        return disk.trouble_code(error) == "disk-denied" and folder_takes and file is not None

    def _begin_anew(self, why: str, file: ActiveRecord | None) -> bool:
        """Whether the ledger is out of the way and a new one has what is known; says so."""
        try:
            aside = disk.set_aside(self._path) if os.path.lexists(self._path) else None
            database = LedgerDatabase()
            database.open(self._path)
            salvaged = _salvage(aside, database) if aside is not None else None
            record = file if file is not None else salvaged
            record = database.restore(record or ActiveRecord())
            database.configure(self._configurations)
        except (sqlite3.Error, OSError) as error:
            log.warning("the ledger %s cannot be begun anew: %s", self._path, error)
            return False
        self._adopt(database, record)
        kept = "the active set is kept" if record.number else "nothing of it could be read"
        where = f"; it is set aside as {aside}" if aside is not None else ""
        self._problem(
            "ledger-renewed",
            LedgerError(
                f"the ledger {self._path} was damaged and is begun anew ({why}): {kept}{where}",
                code="ledger-renewed",
                hint="check the disk; the history of deployments may be incomplete",
            ),
        )
        if not record.number:
            self._lose("neither of its records could be read")
        return True

    def _go_on_in_memory(self, error: Exception, file: ActiveRecord | None) -> None:
        database = LedgerDatabase()
        database.open(None)
        ledger = _salvage(self._path, database)
        counts = file if active.judge(ledger, file) is Trusted.FILE else ledger
        self.record = database.restore(counts or ActiveRecord())
        database.configure(self._configurations)
        self._database, self._in_memory = database, True
        self._trouble(error)

    @property
    def _was_used(self) -> bool:
        with suppress(OSError):
            return any((self._path.parent.parent / "packages" / "artifacts").iterdir())
        return False

    def _lose(self, why: str) -> None:
        with suppress(sqlite3.Error):
            self._database.number(LOST, 1)
        self._problem(
            "active-set",
            LedgerError(
                f"what was deployed here is not known any more ({why}): only what the configuration names runs",
                code="active-set-lost",
                hint="deploy again",
            ),
        )

    # -- the second record -----------------------------------------------------------------------------------

    def _second_record(self) -> ActiveRecord | None:
        try:
            record = active.load(self._file)
        except (DamagedFileError, OSError) as error:
            log.warning("the second record of the active set cannot be used: %s", error)
            return None
        return record

    def _write_second_record(self, *, only_if_different: bool = False) -> None:
        if only_if_different:
            with suppress(DamagedFileError, OSError):
                if active.load(self._file) == self.record:
                    self._file_identity = disk.identity(self._file)
                    return
        self._file_identity = None
        try:
            if self._file.is_dir():
                disk.set_aside(self._file)
            active.store(self._file, self.record)
        except OSError as error:
            self._trouble(error)
            return
        self._file_identity = disk.identity(self._file)

    # -- at work ---------------------------------------------------------------------------------------------

    def _call(self, call: Call[Value]) -> Value:
        try:
            return call(self._database)
        except (sqlite3.Error, OSError) as error:
            if self._in_memory or not self._replaceable(error, self.record):
                raise self._trouble(error) from error
            self._database.close()
            if not self._begin_anew(str(error), self.record):
                self._go_on_in_memory(error, self.record)
                raise self.problems["ledger"] from error
        try:
            return call(self._database)
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    def _put_back(self) -> None:
        """The file was removed or replaced while it is open: write it anew, where it was."""
        if not self.record.number and os.path.lexists(self._path):
            # A disk that was mounted late: what it brings is more than the nothing that is open.
            self._database.close()
            self._open(self._second_record())
            self._gone("another data folder than at the start is here now")
            return
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            make_folder(self._path.parent, ours=True)
            if os.path.lexists(self._path):
                disk.set_aside(self._path)
            self._database.copy_to(new)
            # Before the rename: SQLite removes the log of what it closes by its name.
            self._database.close()
            new.replace(self._path)
            self._adopt(*self._opened())
        except (sqlite3.Error, OSError) as error:
            self._go_on_in_memory(error, self.record)
            return
        self._gone("it is written anew")

    def _gone(self, what: str) -> None:
        problem = LedgerError(
            f"{self._path} was removed or replaced while the agent runs: {what}",
            code="data-folder-gone",
            hint="restart the agent, and deploy again what has lost its files",
        )
        self._problem("data-folder", problem)

    def _trouble(self, error: Exception) -> LedgerError:
        code = disk.trouble_code(error)
        trouble = LedgerError(
            f"the ledger {self._path} cannot be written: {error}; deployments are refused until it can",
            code=code,
            hint=_HINTS[code],
        )
        known = self.problems.get("ledger")
        if known is None or known.code != code:
            self._problem("ledger", trouble)
        return trouble

    def _problem(self, name: str, problem: LedgerError) -> None:
        self.problems[name] = problem
        log.error("%s", problem)


def _salvage(path: Path, target: LedgerDatabase) -> ActiveRecord | None:
    """Copy the numbers, the configurations and the deployments that ended, as far as they can be read.

    The result is the active set.
    """
    source = LedgerDatabase()
    try:
        source.open_to_salvage(path)
    except (sqlite3.Error, OSError) as error:
        log.info("%s cannot be read: %s", path, error)
        return None
    with closing(source):
        record = None
        with _tolerated(path):
            target.take_numbers(source.numbers())
        with _tolerated(path):
            target.take_entries(source.ended())
        with _tolerated(path):
            target.take_configurations(source.configuration_rows())
        with _tolerated(path):
            record = source.record()
    return record


@contextmanager
def _tolerated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError) as error:
        log.info("not all of %s can be read: %s", path, error)
