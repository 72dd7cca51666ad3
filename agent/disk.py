"""What can be the matter with a disk and with the files on it, by name; and what is done with a file that is of no use.

A database that is damaged is set aside, not removed: a person may want to look at it.  One whose file was removed or
replaced while it is open goes on in a file that nobody sees; ``identity`` shows that.

``FolderLock`` makes a folder one process's.  It locks the folder itself (flock): that needs no file, holds on a disk
that takes nothing, and ends with the process however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.errors import UnreachableError

__all__ = ["KEPT", "FolderInUseError", "FolderLock", "identity", "is_broken", "set_aside", "trouble_code"]

KEPT = 2
"""Files set aside that are kept; older ones are removed."""
_BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}
_OF_SQLITE = {
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_READONLY: "disk-read-only",
    sqlite3.SQLITE_CANTOPEN: "disk-denied",
    sqlite3.SQLITE_PERM: "disk-denied",
    sqlite3.SQLITE_BUSY: "file-locked",
    sqlite3.SQLITE_LOCKED: "file-locked",
}
_OF_SYSTEM = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-denied",
    errno.EPERM: "disk-denied",
}


class FolderInUseError(UnreachableError):
    """Another process has the folder."""

    default_code = "data-dir-in-use"


class FolderLock:
    """A folder that is this process's while it is entered; entering makes it and raises ``FolderInUseError``.

    Where the folder cannot be made or locked, ``trouble`` says why, and nothing is locked.
    """

    def __init__(self, folder: Path) -> None:
        self.trouble: OSError | None = None
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.trouble = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.__exit__(None, None, None)
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
                raise self._in_use() from None
            self.trouble = error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    @property
    def held(self) -> bool:
        """Whether the folder that is there now is the one that was locked."""
        if self._descriptor is None:
            return False
        status = os.fstat(self._descriptor)
        return identity(self._folder) == (status.st_dev, status.st_ino)

    def renew(self) -> None:
        """Make and lock the folder again, which is not ``held`` any more.  Raises ``FolderInUseError``."""
        self.__exit__(None, None, None)
        self.__enter__()

    def _in_use(self) -> FolderInUseError:
        pid = _holder(self._folder)
        who = f"the agent of process {pid}" if pid else "another agent"
        end = f"end it (kill {pid}, or systemctl stop verge)" if pid else "end it"
        return FolderInUseError(
            f"the data folder {self._folder} is in use: {who} has it",
            hint=f"{end}, or give this one a folder of its own with data_dir",
        )


def _holder(folder: Path) -> int | None:
    """The process that has the folder's lock, as far as the system tells."""
    try:
        inode = folder.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        match line.split():  # 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF
            case [_, "FLOCK", _, _, pid, place, *_] if place.endswith(f":{inode}"):
                return int(pid) if Path(f"/proc/{pid}/stat").exists() else None
    return None


def trouble_code(error: Exception) -> str:
    """The trouble in an error of SQLite or of the system: ``disk-full``, ``disk-read-only`` …, else ``disk-error``."""
    if isinstance(error, OSError):
        return _OF_SYSTEM.get(error.errno or 0, "disk-error")
    return _OF_SQLITE.get(_code(error) & 0xFF, "disk-error")


def is_broken(error: Exception) -> bool:
    """Whether the database itself is wrong, not the disk under it."""
    return bool({_code(error), _code(error) & 0xFF} & _BROKEN)


def set_aside(path: Path) -> Path:
    """Rename a database and its log, or whatever is in its place; gives the new name.  Raises ``OSError``."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now * 1e3) % 1000:03}Z"
    name = path.with_name(f"{path.name}.broken-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.is_file() and suffix == "-shm":  # an index of the log, which is made anew
            part.unlink()
        elif part.exists() or part.is_symlink():
            part.replace(name.with_name(name.name + suffix))
    older = [file for file in sorted(path.parent.glob(f"{path.name}.broken-*Z")) if file.is_file()][:-KEPT]
    for file in older:
        for suffix in ("-wal", "-shm", ""):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    return name


def identity(path: Path) -> tuple[int, int] | None:
    """Which file is at ``path``; None where there is none, or none to be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) or 0
