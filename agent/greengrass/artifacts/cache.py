"""Every artifact once, under its digest, shared between versions: ``sha256/ab/cdef…``.

There is no index: an entry is a file whose name is the digest of its bytes, made visible by one rename, so
no crash can leave the two apart.  Rotten bytes are found when an entry is first used in a process, and are
fetched anew.  Versions share an entry by hard links, which also tell that it is in use: what has other links
or is pinned is never evicted; of the rest the least recently used goes first.  ``unnamed`` holds what has no
digest until it has arrived.  One agent at a time may use the folder.
"""

from __future__ import annotations

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
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.partial import partial_of, settle
from agent.greengrass.artifacts.space import free_bytes, full, require, writing

__all__ = ["Cache"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 10_000_000_000
"""The component store's limit in Greengrass."""


class Cache:
    """Artifacts by digest; every method blocks and may be called from any thread."""

    def __init__(self, folder: Path, *, max_bytes: int = _MAX_BYTES, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        self._sound: set[Digest] = set()
        self._pins: Counter[Path] = Counter()
        self._lock = threading.Lock()

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
            if digest not in self._sound and Digest.of(path) != digest:
                logger.warning("%s is rotten in the cache and fetched anew", digest)
                path.unlink()
                return None
            facts = path.stat()
            os.utime(path, ns=(time.time_ns(), facts.st_mtime_ns))
        except FileNotFoundError:
            self._sound.discard(digest)
            return None
        except OSError as error:
            logger.warning("%s cannot be read from the cache and is fetched anew: %s", digest, error)
            with writing(path):
                path.unlink(missing_ok=True)
            return None
        self._sound.add(digest)
        return path

    def arrived(self, path: Path, digest: Digest) -> Path:
        """Take a whole file of known digest, which may stand under ``unnamed``; its entry."""
        entry = self.path(digest)
        if path != entry and self.find(digest):
            with writing(path):
                path.unlink()
        elif path != entry:
            with writing(entry):
                entry.parent.mkdir(parents=True, exist_ok=True)
                path.replace(entry)
                settle(entry.parent)
        self._sound.add(digest)
        return entry

    def materialise(self, digest: Digest, path: Path, mode: int, *, shared: bool = True) -> None:
        """Have the entry's bytes stand at ``path`` with ``mode``, at once or not at all.

        It is a hard link where ``shared`` allows and the file system can, else a copy.
        Raises ``ArtifactError`` DISK_SPACE_CRITICAL or IO_WRITE_ERROR.
        """
        source = self.path(digest)
        temporary = path.with_name(f".{path.name}.placing")
        with self._lock, writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            if not (shared and _linked(source, temporary, mode)):
                require(path, source.stat().st_size, self.reserve_bytes)
                _copy(source, temporary, mode)
            temporary.replace(path)
            temporary.unlink(missing_ok=True)  # a rename between two links of one file leaves both
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
            yield _Item(path, facts.st_size, facts.st_atime_ns, path in pinned or facts.st_nlink > 1)


@dataclass(frozen=True, slots=True)
class _Item:
    path: Path
    size: int
    used_ns: int
    in_use: bool


def _linked(source: Path, target: Path, mode: int) -> bool:
    """Whether a link could be made: all links of a file have one mode, and some file systems have no links."""
    facts = source.stat()
    if facts.st_nlink == 1:
        source.chmod(mode)
    elif facts.st_mode & 0o7777 != mode:
        return False
    try:
        target.hardlink_to(source)
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path, mode: int) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    target.chmod(mode)
