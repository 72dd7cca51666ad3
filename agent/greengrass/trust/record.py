"""The record of ``order`` on the disk: two small files beside the ledger, either of which brings it back.

Each has a checksum and is written whole or not at all, the copy after the file.  Reading joins what both say, so one
that is damaged, missing or a write behind is mended from the other.  Where neither can be read, the order goes on from
the times of the active set and says so; only which documents without a time of their own came before is not known any
more then.

Ledger and record do not need each other: a ledger that is lost makes nothing old new again.  The agent reads the record
before each decision, so that ``verge trust forget`` works while it runs; a lock keeps the two apart.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import UnreachableError
from agent.files import DamagedFileError, make_folder, read_checked, write_checked
from agent.greengrass.trust import order
from agent.greengrass.trust.order import Record

__all__ = ["OrderRecord", "OrderRecordError"]

log = logging.getLogger(__name__)

_MODE: Final = 0o600


class OrderRecordError(UnreachableError):
    """The record cannot be written; nothing is accepted without it."""

    default_code = "IO_WRITE_ERROR"


class OrderRecord:
    """The record in the files ``path`` and ``path.copy``.  Its calls block for a few milliseconds."""

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_name(f"{path.name}.copy"))
        self._lock = path.with_name(f"{path.name}.lock")
        self._known = Record()
        self.damage = ""
        """What was lost of it, for people; empty where nothing was."""

    @property
    def exists(self) -> bool:
        """Whether there is one, whole or damaged."""
        return any(path.exists() for path in self._paths)

    def open(
        self, timestamps: Mapping[str, int], now_ms: int, taken: tuple[str, ...] = (), *, pruned: bool = False
    ) -> None:
        """Read it and mend what is damaged; where there is none, begin with what the ledger knows.

        ``timestamps`` are those of the active set, ``taken`` the digests of documents without a time of their own;
        ``pruned``: there may have been more of them.
        """
        found, damaged = self._read()
        if found:
            self._known = reduce(order.joined, found)
        else:
            self._known = order.migrated(timestamps, now_ms, taken, forgot=pruned or bool(damaged))
        if damaged:
            names = " and ".join(path.name for path in damaged)
            went_on = "mended from its copy" if found else "lost; the order goes on from the times of the active set"
            self.damage = f"the record of the order of deployments ({names}) was damaged: it is {went_on}"
            log.log(logging.WARNING if found else logging.ERROR, "%s", self.damage)
        try:
            self.update(lambda record: record)
        except OrderRecordError as error:
            log.warning("%s", error)

    def read(self) -> Record:
        """The record as it is now."""
        found, _ = self._read()
        self._known = reduce(order.joined, found, self._known)
        return self._known

    def update(self, change: Callable[[Record], Record]) -> Record:
        """Change the record, on disk before this returns.  Raises ``OrderRecordError``, and it is unchanged then."""
        try:
            with self._locked():
                changed = change(self.read())
                for path in self._paths:
                    if _read(path) != changed:
                        write_checked(path, msgspec.json.encode(changed))
                        self._give(path)
        except OSError as error:
            raise OrderRecordError(
                f"the record of the order of deployments cannot be written to {self._paths[0]}: {error.strerror}",
                hint="is the disk full or the folder not writable?",
            ) from error
        self._known = changed
        return changed

    def _read(self) -> tuple[list[Record], list[Path]]:
        """What the files say, and which of them cannot be read."""
        found, damaged = [], []
        for path in self._paths:
            record = _read(path)
            if record is not None:
                found.append(record)
            elif path.exists():
                damaged.append(path)
        return found, damaged

    def _give(self, path: Path) -> None:
        """What root writes stays the agent's, whose folder it is in."""
        owner = path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(path, owner.st_uid, owner.st_gid)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self._lock.parent)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            self._give(self._lock)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> Record | None:
    """What the file says; None where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(read_checked(path), type=Record)
    except (OSError, DamagedFileError, msgspec.DecodeError, UnicodeDecodeError):
        return None
