"""Every artifact once, under its digest, shared between versions: ``sha256/ab/cdef…``.

There is no index: an entry is a file whose name is the digest of its bytes, made visible by one rename, so
no crash can leave the two apart.  Bytes are compared with their digest at every use: rotten ones are found
before anybody gets them, and are fetched anew.  What is placed is a copy (one that shares the disk's blocks,
where the file system can) and never another name of the entry: components may write into their files.  What
is pinned is never evicted; of the rest the least recently used goes first.  ``unnamed`` holds what has no
digest until it has arrived.  One agent at a time may use the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.config.deployments import RESERVE_BYTES
from agent.files import PRIVATE, SHARED_FOLDER, make_folder
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, RottenArtifactError
from agent.greengrass.artifacts.partial import partial_of, settle
from agent.greengrass.artifacts.space import free_bytes, full, require, writing

__all__ = ["Cache"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 10_000_000_000
"""The component store's limit in Greengrass."""
_BLOCK = 1024 * 1024
_FICLONE = 0x40049409
"""The request of Linux by which a file gets another's blocks, to be copied when one of the two is written to."""


class Cache:
    """Artifacts by digest; every method blocks and may be called from any thread."""

    def __init__(self, folder: Path, *, max_bytes: int = _MAX_BYTES, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self._max_bytes = self._own_max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        self._pins: Counter[Path] = Counter()
        self._lock = threading.Lock()

    def limit(self, max_bytes: int | None) -> None:
        """Keep no more than that from the next artifact on, where it is less than what was said first; None: that."""
        self._max_bytes = min(max_bytes or self._own_max_bytes, self._own_max_bytes)

    def path(self, digest: Digest) -> Path:
        """Where the artifact with this digest is, or will be."""
        return self.folder / "sha256" / digest.hex[:2] / digest.hex[2:]

    def unnamed(self, uri: str) -> Path:
        """Where an artifact arrives whose digest is not known before."""
        return self.folder / "unnamed" / hashlib.sha256(uri.encode()).hexdigest()

    @contextmanager
    def pinned(self, path: Path) -> Iterator[None]:
        """Keep what is, or is becoming, ``path`` from being evicted."""
        with self._lock:
            self._pins[path] += 1
        try:
            yield
        finally:
            with self._lock:
                self._pins[path] -= 1
                self._pins += Counter()  # what nobody pins is forgotten

    def find(self, digest: Digest) -> Path | None:
        """The entry, if it is there and sound; rotten bytes are removed."""
        path = self.path(digest)
        try:
            if Digest.of(path) != digest:
                logger.warning("%s is rotten in the cache and fetched anew", digest)
                path.unlink()
                return None
            facts = path.stat()
            os.utime(path, ns=(time.time_ns(), facts.st_mtime_ns))
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("%s cannot be read from the cache and is fetched anew: %s", digest, error)
            with writing(path):
                path.unlink(missing_ok=True)
            return None
        return path

    def arrived(self, path: Path, digest: Digest) -> Path:
        """Take a whole file of known digest, which may stand under ``unnamed``; its entry."""
        entry = self.path(digest)
        if path != entry and self.find(digest):
            with writing(path):
                path.unlink()
        elif path != entry:
            with writing(entry):
                make_folder(entry.parent)
                path.replace(entry)
                settle(entry.parent)
        return entry

    def take(self, file: Path, digest: Digest) -> bool:
        """Whether the cache has the entry, now or by a copy of ``file``, which may be anything."""
        if self.find(digest) is not None:
            return True
        arriving = self.unnamed(str(file))
        try:
            make_folder(arriving.parent)
            _copy(file, arriving, PRIVATE)
        except OSError:
            return False
        if Digest.of(arriving) != digest:
            arriving.unlink()
            return False
        self.arrived(arriving, digest)
        return True

    def materialise(self, digest: Digest, path: Path, mode: int) -> None:
        """Have the entry's bytes stand at ``path`` with ``mode``, at once or not at all.

        Raises:
            RottenArtifactError: they are not what their digest says, or gone; nothing is placed then.
            ArtifactError: DISK_SPACE_CRITICAL or IO_WRITE_ERROR.
        """
        source = self.path(digest)
        temporary = path.with_name(f".{path.name}.placing")
        with self._lock, writing(path):
            make_folder(path.parent, SHARED_FOLDER)
            temporary.unlink(missing_ok=True)
            if not source.exists():
                raise _rotten(digest, "is gone from the cache")
            require(path, source.stat().st_size, self.reserve_bytes)
            try:
                _copy(source, temporary, mode)
                # What was placed is compared, and not the entry: nothing can change between the two.
                if Digest.of(temporary) != digest:
                    source.unlink(missing_ok=True)
                    raise _rotten(digest, "is rotten in the cache")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            settle(path.parent)

    def make_room(self, needed: int, *, beside: int = 0) -> None:
        """Evict until ``needed`` more bytes fit, into the limit and on the disk; ``beside`` go elsewhere on the disk.

        Raises:
            ArtifactError: DISK_SPACE_CRITICAL; nothing is evicted then.
        """
        with self._lock:
            items = sorted(self._items(), key=lambda item: item.used_ns)
            total = sum(item.size for item in items)
            short = max(
                total + needed - self._max_bytes,
                needed + beside + self.reserve_bytes - free_bytes(self.folder),
            )
            idle = [item for item in items if not item.in_use]
            if short > sum(item.size for item in idle):
                raise self._no_room(needed + beside, total)
            for item in idle:
                if short <= 0:
                    return
                self._evict(item)
                short -= item.size

    def _no_room(self, needed: int, total: int) -> ArtifactError:
        free = free_bytes(self.folder) - self.reserve_bytes
        return full(
            f"{needed} bytes are needed, {max(0, free)} are usable; the cache has {total} bytes of "
            f"{self._max_bytes} allowed, and not enough of them are idle",
            self.folder,
        )

    def _evict(self, item: _Item) -> None:
        with writing(item.path):
            item.path.unlink(missing_ok=True)
        logger.info("evicted %s from the cache, %d bytes", item.path.name, item.size)

    def _items(self) -> Iterator[_Item]:
        pinned = {place for path in self._pins for place in (path, partial_of(path))}
        for path in (*self.folder.glob("sha256/*/*"), *self.folder.glob("unnamed/*")):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # a download was renamed or removed meanwhile
            yield _Item(path, facts.st_size, facts.st_atime_ns, path in pinned)


@dataclass(frozen=True, slots=True)
class _Item:
    path: Path
    size: int
    used_ns: int
    in_use: bool


def _copy(source: Path, target: Path, mode: int) -> None:
    """A copy of its own, with the same blocks where the file system can."""
    with source.open("rb") as given, target.open("xb") as taken:
        os.fchmod(taken.fileno(), mode)
        try:
            fcntl.ioctl(taken.fileno(), _FICLONE, given.fileno())
        except OSError:  # one file system of many can, and only within itself
            shutil.copyfileobj(given, taken, _BLOCK)
            taken.flush()
        os.fsync(taken.fileno())


def _rotten(digest: Digest, how: str) -> RottenArtifactError:
    return RottenArtifactError(
        f"the artifact {digest} {how}", code="ARTIFACT_CHECKSUM_MISMATCH", hint="look after the disk: its bytes change"
    )
