"""A source's log files, the oldest first, whatever they are renamed to.

A file is known by its inode and its first line: rotation renames it, and a new file may have the inode of one that is
gone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.greengrass.services.logs.options import Source

__all__ = ["LogFile", "bound", "listed", "piece", "remove"]

_FIRST_LINE: Final = 1024


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file as it was when it was listed."""

    path: Path
    identity: str
    inode: int
    size: int
    changed_s: float
    active: bool
    """Whether it is the newest, which is still written."""


def listed(source: Source) -> list[LogFile]:
    """The source's files with at least one line; raises ``OSError`` where its folder cannot be read."""
    if not source.folder.is_dir():
        return []
    found = []
    for entry in os.scandir(source.folder):
        if not source.files.search(entry.name) or not entry.is_file(follow_symlinks=False):
            continue
        try:
            with open(entry.path, "rb") as file:  # noqa: PTH123 an entry has a path as text
                status, first = os.fstat(file.fileno()), file.readline(_FIRST_LINE)
        except FileNotFoundError:  # rotated under our eyes: the next round finds it
            continue
        if first.endswith(b"\n") or len(first) == _FIRST_LINE:
            found.append((status, f"{status.st_ino}:{hashlib.sha256(first).hexdigest()[:16]}", Path(entry.path)))
    found.sort(key=lambda one: one[0].st_mtime_ns)
    return [
        LogFile(path, identity, status.st_ino, status.st_size, status.st_mtime, number == len(found))
        for number, (status, identity, path) in enumerate(found, 1)
    ]


def piece(file: LogFile, start: int, length: int) -> bytes | None:
    """Bytes of it; None where its path is another file by now.  Raises ``OSError``."""
    try:
        with file.path.open("rb") as opened:
            if os.fstat(opened.fileno()).st_ino != file.inode:
                return None
            opened.seek(start)
            return opened.read(length)
    except FileNotFoundError:
        return None


def remove(file: LogFile) -> bool:
    """Remove it, if it is still there under its path; raises ``OSError``."""
    try:
        if file.path.stat().st_ino != file.inode:
            return False
        file.path.unlink()
    except FileNotFoundError:
        return False
    return True


def bound(source: Source) -> int:
    """Remove the oldest until the rest is within the source's disk space, but never the one that is written.

    To be called where files are rotated, in the agent's own thread.  Gives how many went; raises ``OSError``.
    """
    if source.disk_bytes is None:
        return 0
    files = listed(source)
    total, gone = sum(file.size for file in files), 0
    for file in files:
        if total <= source.disk_bytes or file.active:
            break
        gone += remove(file)
        total -= file.size
    return gone
