"""Disk writes that are whole or not there, and paths as people write them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["remove_tree", "under", "write_atomically"]


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only parts too; one that is not there is gone already."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=not folder.exists())


def under(folder: Path, name: str) -> Path:
    """A path that a person wrote: relative to ``folder``, ``~`` and ``~user`` are homes if there is such a home."""
    path = Path(name)
    try:
        return folder / path.expanduser()
    except RuntimeError:
        return folder / path


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write to a temporary in the same folder, then rename: a reader or a power cut sees the old file or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)  # noqa: PTH105 the temporary is a name, not a Path
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
