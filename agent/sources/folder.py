"""A folder's files on disk: which there are, and one of them read whole.  Everything here blocks.

A symbolic link is followed as far as the folder reaches: ``latest.jpg`` may lead to another file in it, but not out
of it.  Whoever may put files into the folder could otherwise have the agent, which may have more rights than he,
read a picture for him and show it on a topic.  The folder's own path may be a link: the configuration's owner wrote
it.  Pipes and devices are no files: opening one could block for ever.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from agent.config.streams import is_pattern, matches
from agent.errors import FrameError, UnreachableError
from agent.sources.watch import Entry

__all__ = ["MAX_ENTRIES", "FileContent", "FolderMissingError", "look", "read"]

MAX_ENTRIES = 20_000
"""Files of a folder that are looked at; a look at so many takes about 0.1 s."""
_BEING_WRITTEN_S = 2.0
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FolderMissingError(UnreachableError):
    """The folder, or a file in it, is not there now."""

    default_code = "file-missing"


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's bytes and when they were written (seconds since the epoch)."""

    name: str
    data: bytes
    modified: float


def look(folder: Path, name: str) -> tuple[list[Entry], bool]:
    """The files that ``name`` stands for, and whether there are more than are read; raises ``FolderMissingError``."""
    try:
        if not is_pattern(name):
            return [_entry(name, (folder / name).stat())], False
        return _scan(folder, name)
    except OSError as error:
        raise FolderMissingError(f"{error.filename or folder}: {error.strerror}") from error


def _scan(folder: Path, pattern: str) -> tuple[list[Entry], bool]:
    entries: list[Entry] = []
    with os.scandir(folder) as listed:
        for seen, item in enumerate(listed):
            if seen >= MAX_ENTRIES:
                return entries, True
            if matches(pattern, item.name):
                try:
                    facts = item.stat()
                except FileNotFoundError:  # gone since it was listed, or a link to nothing
                    continue
                if stat.S_ISREG(facts.st_mode):
                    entries.append(_entry(item.name, facts))
    return entries, False


def _entry(name: str, facts: os.stat_result) -> Entry:
    return Entry(facts.st_mtime_ns, name, facts.st_size, facts.st_ino)


def read(folder: Path, name: str, *, max_bytes: int, settle_s: float) -> FileContent:
    """A file, whole: one that is being written is waited for, a little.

    Raises ``FolderMissingError`` where it is not there or is still being written, ``FrameError`` where it is refused.
    """
    try:
        path = _inside(folder, name)
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            facts = _settled(descriptor, name, settle_s)
            if not stat.S_ISREG(facts.st_mode):
                raise FrameError(f"{name} is no file", hint="pipes and devices are not read", code="not-a-file")
            if facts.st_size > max_bytes:
                raise FrameError(
                    f"{name} has {facts.st_size} bytes, the limit is {max_bytes}",
                    hint="store a smaller or more compressed picture, or raise max_bytes",
                    code="too-many-bytes",
                )
            data = file.read(max_bytes)
            after = os.fstat(descriptor)
    except FileNotFoundError as error:
        raise FolderMissingError(f"{folder / name}: {error.strerror}") from error
    except OSError as error:
        raise FrameError(f"{name} cannot be read: {error.strerror}", code="file-unreadable") from error
    if _entry(name, after) != _entry(name, facts):
        raise FolderMissingError(f"{folder / name} is being written", code="file-in-work", hint=_RENAME)
    return FileContent(name, data, facts.st_mtime)


_RENAME = "write beside it under another name, then rename"


def _inside(folder: Path, name: str) -> Path:
    """The file that a name leads to."""
    real = Path(os.path.realpath(folder / name, strict=True))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise FrameError(
            f"{name} is a link that leads out of {folder}",
            hint="name the folder where the pictures are, or copy them",
            code="file-outside",
        )
    return real


def _settled(descriptor: int, name: str, settle_s: float) -> os.stat_result:
    """Wait until nothing was written to the file for ``settle_s``."""
    until = time.monotonic() + max(_BEING_WRITTEN_S, 2 * settle_s)
    while True:
        facts = os.fstat(descriptor)
        age = time.time() - facts.st_mtime
        # A time of change in the future is another machine's clock and means nothing.
        if age < 0 or age >= settle_s:
            return facts
        if time.monotonic() > until:
            raise FolderMissingError(f"{name} is being written all the time", code="file-in-work", hint=_RENAME)
        time.sleep(settle_s - age)
