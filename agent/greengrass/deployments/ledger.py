"""The record of deployments, on disk before anything is done: the step, the sets, the reports.

SQLite (standard library) in WAL mode with full synchronisation: a row is there after a power cut or it is not.

======================  ======================================================================================
step                    what is true once it is written
======================  ======================================================================================
``RECEIVED``            the document is kept; nothing else happened
``RESOLVED``            a set of components was found
``STAGED``              their files are in folders of their own
``ASKING``              components are asked what they say to it; nothing has been changed
``BOOTSTRAPPING``       Bootstrap steps of new versions are run; each one that has ended is kept with its status
``RESTARTING``          they asked for a restart; the deployment goes on after it
``ACTIVATING``          the new set is being made live; the old one is still the active one
``VERIFYING``           the new set answers; it is being watched
``COMMITTED``           the new set is the active one (the same transaction says so)
``ROLLING_BACK``        the old set is being made live again
``ENDED``               it ended otherwise
======================  ======================================================================================

The active set changes in one place, ``commit`` (but for configurations that components change themselves: they are
kept beside it until the next one); so after a crash at any moment the active set is the old one or the
new one, and the step says what was under way.  It is written down a second time (``active``): a ledger that is damaged,
lost or another device's is set aside and begun anew from there.  Where the disk takes nothing, the ledger is a copy in
memory that can be read, every write is refused with the reason, and the disk is tried again.

``Ledger`` is the agent's: its calls run in a thread of their own, in order.  ``LedgerReader`` is for commands, beside a
running agent or without one: it reads, and leaves neither a change nor a file behind.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar

from agent.greengrass.deployments.database import Entry, LedgerDatabase, LedgerError, RefusedDocument, Step
from agent.greengrass.deployments.keeper import LedgerKeeper
from agent.greengrass.deployments.layout import Layout

__all__ = ["LEDGER_PROBLEMS", "Entry", "Ledger", "LedgerError", "LedgerReader", "RefusedDocument", "Step"]

log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""How often the ledger looks whether its files are still there, and tries a disk again that took nothing."""

Value = TypeVar("Value")
Problems: TypeAlias = Mapping[str, LedgerError]
"""What a person should know of the ledger, by a name of ``LEDGER_PROBLEMS``."""
LEDGER_PROBLEMS: Final = ("ledger", "ledger-renewed", "active-set", "data-folder")


class Ledger:
    """The ledger in a file; entering opens it, leaving closes it.

    Entering never raises, and nor does reading: what is the matter is in ``problems``, and ``on_problems`` is called
    when that changes.  What writes raises ``LedgerError`` for what the disk does.
    """

    def __init__(self, path: Path, on_problems: Callable[[Problems], None] = lambda _: None) -> None:
        self.problems: Problems = {}
        self._keeper = LedgerKeeper(path)
        self._on_problems = on_problems
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agent.ledger")

    async def __aenter__(self) -> Self:
        await self._in_thread(self._keeper.open)
        self._tending = asyncio.create_task(self._tend(), name="agent.ledger")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tending.cancel()
        await self._in_thread(self._keeper.close)
        self._thread.shutdown()

    async def receive(self, identity: str, source: str, document: bytes, received_ms: int) -> int:
        """Keep a document; the result is its number here."""
        return await self._write(lambda db: db.receive(identity, source, document, received_ms))

    async def begin_anew(self, seq: int) -> int:
        """Begin an interrupted deployment anew; the result is which attempt it is."""
        return await self._write(lambda db: db.begin_anew(seq))

    async def step(self, seq: int, step: Step) -> None:
        """Write a step before it is taken."""
        await self._write(lambda db: db.step(seq, step))

    async def bootstrapped(self, seq: int, task: str, status: int) -> None:
        """A Bootstrap step of a deployment has ended."""
        await self._write(lambda db: db.bootstrapped(seq, task, status))

    async def bootstraps(self, seq: int) -> dict[str, int]:
        """The Bootstrap steps of a deployment that have ended, with the statuses whose restart is still to come."""
        return await self._read(lambda db: db.bootstraps(seq))

    async def commit(self, seq: int, content: bytes, outcome: bytes, replaced: bytes | None = None) -> None:
        """Make a set the active one and write how the deployment ended: both, or after a power cut neither.

        ``replaced`` is the set before as it has become, where that is not as it was committed.
        """
        await self._in_thread(lambda: self._keeper.commit(seq, content, outcome, replaced))

    async def configure(self, configurations: Mapping[str, bytes]) -> None:
        """Keep what components of the active set have set of their configurations; the next commit has it in itself."""
        await self._in_thread(lambda: self._keeper.configure(configurations))

    async def configurations(self) -> dict[str, bytes]:
        """What was kept so since the active set was committed."""
        return await self._read(LedgerDatabase.configurations)

    async def end(self, seq: int, outcome: bytes) -> None:
        """Write how a deployment ended that leaves the active set as it is.

        A disk that refuses is logged: the next start finds the deployment interrupted, which does no harm.
        """
        await self._tolerantly(lambda db: db.end(seq, outcome))

    async def reported(self, seq: int) -> None:
        """The requester has the outcome; where the disk refuses, it is reported again after the next start."""
        await self._tolerantly(lambda db: db.reported(seq))

    async def refuse(self, document: RefusedDocument, received_ms: int, outcome: bytes) -> tuple[bool, list[str]]:
        """Note a document that is not taken; whether it was noted before, and the ids that had to make room for it."""
        return await self._write(lambda db: db.refuse(document, received_ms, outcome))

    async def took(self, identity: str) -> bool:
        """Whether a deployment that is reported on the topic of that id was taken, among those that are kept."""
        return await self._read(lambda db: db.took(identity))

    async def active(self) -> tuple[bytes | None, bytes | None]:
        """The active set and the one before it."""
        record = await self._in_thread(lambda: self._keeper.record)
        return record.current, record.previous

    async def entries(self, limit: int = 20) -> list[Entry]:
        """The latest deployments, the newest first."""
        return await self._read(lambda db: db.entries(limit))

    async def unreported(self) -> list[Entry]:
        """Deployments that were under way, or whose outcome was not reported, the oldest first."""
        return await self._read(LedgerDatabase.unreported)

    async def number(self, name: str, value: int | None = None) -> int:
        """A number kept under a name, 0 at first; with ``value`` it is set."""
        return await (self._read if value is None else self._write)(lambda db: db.number(name, value))

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._in_thread(self._keeper.tend)

    async def _tolerantly(self, call: Callable[[LedgerDatabase], None]) -> None:
        try:
            await self._write(call)
        except LedgerError as error:
            log.warning("a note is lost: %s", error)

    async def _read(self, call: Callable[[LedgerDatabase], Value]) -> Value:
        return await self._in_thread(lambda: self._keeper.read(call))

    async def _write(self, call: Callable[[LedgerDatabase], Value]) -> Value:
        return await self._in_thread(lambda: self._keeper.write(call))

    async def _in_thread(self, call: Callable[[], Value]) -> Value:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        finally:
            self._look_at_problems()

    def _look_at_problems(self) -> None:
        problems = dict(self._keeper.problems)
        if problems != self.problems:
            self.problems = problems
            self._on_problems(problems)


_READER_HINT = "read it as the agent's user, or name its configuration with -c"


class LedgerReader:
    """The ledger of an agent's data folder, for reading; entering opens it.  Raises ``LedgerError``.

    Of several ``folders`` the first that has a ledger counts (``agent.config.load.data_folders``).
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._places = [Layout(folder).ledger for folder in folders]
        self._path = next((place for place in self._places if _is_file(place)), Path())
        self._database = LedgerDatabase()

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
