"""Artifacts on a disk of this machine: ``file:///absolute/path``."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import FileIO
from pathlib import Path
from urllib.parse import unquote

from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.store import Content, Store, in_thread
from agent.greengrass.artifacts.uri import not_valid, shown, split

__all__ = ["FileStore"]

_CHUNK = 1024 * 1024


class FileStore(Store):
    """Regular files; another modification time or inode is another content."""

    @asynccontextmanager
    async def _open(self, uri: str, offset: int, version: str | None) -> AsyncIterator[Content]:
        with _reading(uri):
            file = FileIO(_path(uri), opener=_open_regular)
        with file:
            facts = os.fstat(file.fileno())
            current = f"{facts.st_dev}-{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}"
            start = offset if offset <= facts.st_size and version in {None, current} else 0
            file.seek(start)
            yield Content(_chunks(uri, file, start, facts.st_size), start, facts.st_size, current)


async def _chunks(uri: str, file: FileIO, start: int, size: int) -> AsyncIterator[bytes]:
    """The bytes from ``start`` on; raises ``ArtifactError`` for a file that does not have its ``size``."""
    done = start
    with _reading(uri):
        while chunk := await in_thread(file.read, _CHUNK):
            done += len(chunk)
            if done > size:
                raise _changing(uri, size, f"{done} or more")
            yield chunk
    if done != size:
        raise _changing(uri, size, str(done))


def _changing(uri: str, size: int, came: str) -> ArtifactError:
    return ArtifactError(
        f"{shown(uri)} is no finished file: it says that it has {size} bytes, and {came} came",
        hint="name a file on a disk that nobody is writing; what is in /proc or /sys is none",
        code="IO_READ_ERROR",
    )


def _open_regular(path: str, flags: int) -> int:
    """Open without waiting, as a pipe or a device would have it; raises ``OSError`` for what is no regular file."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def _path(uri: str) -> Path:
    parts = split(uri)
    path = Path(unquote(parts.path))
    if parts.netloc.lower() not in {"", "localhost"} or not path.is_absolute() or "\0" in str(path):
        raise not_valid(uri, "write file:///absolute/path; other machines are reached by https")
    return path


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{shown(uri)} cannot be read: {error.strerror}",
            hint="check the path and the agent's right to read there",
            code="IO_READ_ERROR",
        ) from error
