"""Room on the disk, asked for before it is needed.

A device whose disk is full cannot even write down why: some room always stays free.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.config.deployments import RESERVE_BYTES
from agent.greengrass.artifacts.errors import ArtifactError

__all__ = ["existing", "free_bytes", "full", "require", "writing"]


_MB = 1_000_000
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def free_bytes(path: Path) -> int:
    """What the agent may still write where ``path`` is or will be."""
    facts = os.statvfs(existing(path))
    return facts.f_bavail * facts.f_frsize


def require(path: Path, needed: int, reserve: int = RESERVE_BYTES) -> None:
    """Raise ``ArtifactError`` DISK_SPACE_CRITICAL unless ``needed`` bytes fit and ``reserve`` stays free."""
    free = free_bytes(path)
    if free < needed + reserve:
        raise full(f"{needed / _MB:.1f} MB are needed, {max(0, free - reserve) / _MB:.1f} MB are usable", path)


def full(what: str, path: Path) -> ArtifactError:
    """The error of a disk that cannot take more; ``what`` tells the numbers."""
    return ArtifactError(
        f"no room under {existing(path)}: {what}",
        hint="remove component versions that are not used, lower the cache's limit, or name a larger disk",
        code="DISK_SPACE_CRITICAL",
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what the disk says to a writer: DISK_SPACE_CRITICAL when it is full, else IO_WRITE_ERROR."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full(f"the disk took no more ({os.strerror(error.errno)})", path) from error
        raise ArtifactError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check the disk and the right to write there",
            code="IO_WRITE_ERROR",
        ) from error
