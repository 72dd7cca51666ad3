"""A download under way: bounded, hashed as it grows, resumable, and visible only when whole.

The bytes gather in ``<target>.partial`` beside the target, so that the last step is one rename.  A partial
that another process left is taken up again when the target's digest is known: the bytes are hashed anew, and
the digest has the last word about them.  Without a digest nothing could tell a hole left by a power cut from
data, so it starts empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path

from agent.files import make_folder
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.space import require, writing

__all__ = ["Partial", "partial_of", "settle"]

_BLOCK = 1024 * 1024


def partial_of(target: Path) -> Path:
    """Where the bytes of ``target`` gather."""
    return target.with_name(f"{target.name}.partial")


def settle(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Partial:
    """The bytes of ``target`` so far.  Its methods block, and must not run two at a time.

    ``version`` is what the source called the content these bytes are from; ``furthest`` is the most bytes
    there ever were; ``pieces`` counts the answers they were put together from.
    """

    def __init__(self, target: Path, *, max_bytes: int, reserve_bytes: int) -> None:
        self.version: str | None = None
        self.size = 0
        self.furthest = 0
        self.pieces = 0
        self._target = target
        self._path = partial_of(target)
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._hash = hashlib.sha256()
        self._file: io.FileIO | None = None

    @property
    def digest(self) -> Digest:
        """The digest of the bytes so far."""
        return Digest(self._hash.hexdigest())

    def open(self, keep: bool) -> None:
        """Begin; with ``keep`` go on after the bytes that are there.  Raises ``ArtifactError``."""
        with writing(self._path):
            make_folder(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._file = io.FileIO(descriptor, "r+")
            if not keep or os.fstat(descriptor).st_size > self._max_bytes:
                self.restart()
            while block := self._file.read(_BLOCK):
                self._count(block)
            self.pieces = 1 if self.size else 0

    def expect(self, total: int | None) -> None:
        """Refuse before the first byte what is too large, or more than the disk has room for."""
        if total is not None and total > self._max_bytes:
            raise self._too_large(f"has {total} bytes")
        require(self._path, max(0, (total or 0) - self.size), self._reserve_bytes)

    def write(self, chunk: bytes) -> None:
        """Append; raises ``ArtifactError`` past the limit or when the disk has no room left."""
        if self.size + len(chunk) > self._max_bytes:
            raise self._too_large("goes on")
        require(self._path, len(chunk), self._reserve_bytes)
        rest = memoryview(chunk)
        while rest:
            with writing(self._path):
                written = self._opened.write(rest)
            self._count(rest[:written])
            rest = rest[written:]

    def restart(self) -> None:
        """Forget all bytes."""
        with writing(self._path):
            self._opened.seek(0)
            self._opened.truncate()
        self._hash = hashlib.sha256()
        self.version = None
        self.size = self.pieces = 0

    def finish(self) -> None:
        """Make it visible under its name, so that a power cut leaves the whole file or none."""
        with writing(self._target):
            os.fsync(self._opened.fileno())
            self._path.replace(self._target)
            settle(self._target.parent)

    def discard(self) -> None:
        """Remove the bytes from the disk."""
        with contextlib.suppress(FileNotFoundError), writing(self._path):
            self._path.unlink()

    def close(self) -> None:
        """Let go of the file; the bytes stay."""
        if self._file is not None:
            self._file.close()

    @property
    def _opened(self) -> io.FileIO:
        if self._file is None:
            raise RuntimeError("open comes first")
        return self._file

    def _count(self, block: bytes | memoryview) -> None:
        self._hash.update(block)
        self.size += len(block)
        self.furthest = max(self.furthest, self.size)

    def _too_large(self, what: str) -> ArtifactError:
        return ArtifactError(
            f"the artifact {what}, the limit is {self._max_bytes} bytes",
            hint="publish a smaller artifact, or raise the limit",
            code="ARTIFACT_DOWNLOAD_ERROR",
        )
