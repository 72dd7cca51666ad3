"""Zip → folder: what ``zipplan`` decided, carried out beside the target and renamed when it is whole.

The archive's own modes, owners and times are not taken over.  An archive whose data is not what its
directory declares is refused when that shows; whatever fails leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.config.deployments import RESERVE_BYTES
from agent.files import PRIVATE, SHARED_FOLDER, make_folder
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.partial import settle
from agent.greengrass.artifacts.space import require, writing
from agent.greengrass.artifacts.zipplan import ZipEntry, ZipLimits, ZipPlan, plan, refused

__all__ = ["UnpackStoppedError", "measure", "unpack"]

_CHUNK = 1024 * 1024
_END_BYTES = 128 * 1024
"""More than the record at an archive's end with the longest comment."""

_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What ``zipfile`` raises on bytes that are no sound archive."""


class UnpackStoppedError(Exception):
    """The unpacking was interrupted."""


def measure(archive: Path, limits: ZipLimits | None = None) -> int:
    """The bytes that unpacking takes; raises ``ArtifactError`` as ``unpack`` does, and writes nothing."""
    with _opened(archive, limits or ZipLimits()) as (_, planned):
        return planned.total_bytes


def unpack(
    archive: Path,
    into: Path,
    *,
    mode: int = 0o440,
    limits: ZipLimits | None = None,
    reserve_bytes: int = RESERVE_BYTES,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Digest]:
    """Unpack to the folder ``into``, every file with ``mode``; an older folder there is replaced.

    The result is the digest of each file by its path below ``into``, taken while it was written.

    Raises:
        ArtifactError: IO_UNZIP_ERROR, DISK_SPACE_CRITICAL or IO_WRITE_ERROR; nothing new is there then.
        Stopped: ``stopped`` answered yes.
    """
    building = into.with_name(f".{into.name}.unpacking")
    digests: dict[str, Digest] = {}
    try:
        with _opened(archive, limits or ZipLimits()) as (opened, planned):
            require(into, planned.total_bytes, reserve_bytes)
            with writing(into):
                _remove(building)
                make_folder(building.parent, SHARED_FOLDER)
                make_folder(building)
                for entry in planned.entries:
                    _make(opened, entry, building, stopped, digests)
        with writing(into):
            _settle_tree(building, mode)
            _swap(building, into)
    except BaseException:
        _remove(building)
        raise
    return digests


@contextmanager
def _opened(archive: Path, limits: ZipLimits) -> Iterator[tuple[zipfile.ZipFile, ZipPlan]]:
    try:
        with _Bounded(archive, limits.max_directory_bytes) as file, zipfile.ZipFile(file) as opened:
            yield opened, plan(opened.infolist(), os.fstat(file.fileno()).st_size, limits)
    except _UNREADABLE as error:
        raise refused(f"it is damaged or no zip ({error})") from error


class _Bounded(io.FileIO):
    """A file that is read in small steps: an archive's directory is read in one, before anyone can count it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path, "rb")
        self._max_bytes = max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        to_the_end = size is None or size < 0
        wanted = os.fstat(self.fileno()).st_size - self.tell() if to_the_end else size or 0
        if wanted > (_END_BYTES if to_the_end else self._max_bytes):
            raise refused(f"its directory is larger than {self._max_bytes} bytes")
        return super().read(wanted) or b""


def _make(
    opened: zipfile.ZipFile, entry: ZipEntry, building: Path, stopped: Callable[[], bool], digests: dict[str, Digest]
) -> None:
    target = building / entry.path
    make_folder(target if entry.is_folder else target.parent)
    if not entry.is_folder:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        with open(descriptor, "wb") as file:  # noqa: PTH123 a descriptor is no path
            digests[str(entry.path)] = _pour(opened, entry, file, stopped)


def _pour(opened: zipfile.ZipFile, entry: ZipEntry, file: BinaryIO, stopped: Callable[[], bool]) -> Digest:
    size, counted = 0, hashlib.sha256()
    with opened.open(entry.info) as source:
        while chunk := source.read(_CHUNK):
            if stopped():
                raise UnpackStoppedError
            size += len(chunk)
            if size > entry.info.file_size:
                break
            counted.update(chunk)
            file.write(chunk)
    if size != entry.info.file_size:
        raise refused("holds another number of bytes than it declares", entry.info)
    return Digest(counted.hexdigest())


def _settle_tree(building: Path, mode: int) -> None:
    """Give every file its mode, and have all of it survive a power cut."""
    for folder, _, names in os.walk(building, topdown=False):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
        Path(folder).chmod(SHARED_FOLDER)
        settle(Path(folder))


def _swap(building: Path, into: Path) -> None:
    """Put the new folder in the place of an older one; what has its files open keeps them."""
    older = into.with_name(f".{into.name}.replaced")
    _remove(older)
    if into.exists():
        into.rename(older)
    building.rename(into)
    settle(into.parent)
    _remove(older)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be removed: {error.strerror}", code="IO_WRITE_ERROR") from error
