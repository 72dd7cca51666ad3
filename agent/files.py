"""What the agent writes: whole or not there, and for its own eyes; what strangers wrote; paths as people write them.

The modes are set here and not by the umask, which is whatever the agent was started with:

=================  ======  ===========================================================================================
what               mode    whose
=================  ======  ===========================================================================================
``PRIVATE``        0600    a file of the agent's: ledger, outbox, recipes, quarantined pictures, results, logs
``PRIVATE_FOLDER``  0700   a folder of such files
``SHARED``         0644    a file that is handed on: what a command wrote for a person, an environment's marks
``SHARED_FOLDER``  0755    what components may look into: their packages, the environments of their runtimes
``passage()``      0711    a folder on the way to a shared one, where components run as another user than the agent
=================  ======  ===========================================================================================

A checked file begins with a line that names the digest of the rest, so that a file which a disk, a program or a
person changed is told from one that was written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from agent.errors import InvalidInputError

__all__ = [
    "PRIVATE",
    "PRIVATE_FOLDER",
    "SHARED",
    "SHARED_FOLDER",
    "DamagedFileError",
    "head",
    "make_file",
    "make_folder",
    "open_way",
    "passage",
    "read_checked",
    "remove_tree",
    "under",
    "write_atomically",
    "write_checked",
]

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
SHARED, SHARED_FOLDER = 0o644, 0o755
_CHECKED = b"sha256:"


class DamagedFileError(InvalidInputError):
    """A checked file is not as it was written."""

    default_code = "file-damaged"


def passage() -> int:
    """The mode of a folder that leads to shared ones: only a root agent's components are another user."""
    return 0o711 if os.geteuid() == 0 else PRIVATE_FOLDER


def make_folder(folder: Path, mode: int = PRIVATE_FOLDER, *, ours: bool = False) -> None:
    """Make a folder and what is missing above it, each with ``mode``; raises ``OSError``.

    A folder that is there keeps its mode: it may be a person's.  One that is the agent's alone (``ours``) gets it.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(mode)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if ours and not missing and stat.S_IMODE(folder.stat().st_mode) != mode:
        folder.chmod(mode)


def open_way(folder: Path) -> None:
    """Let other users pass through a folder that is there, where components are other users; raises ``OSError``.

    Nothing is taken from its mode: it may be a person's.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode | passage() & 0o111 != mode:
        folder.chmod(mode | passage() & 0o111)


def make_file(path: Path, mode: int = PRIVATE) -> None:
    """Have an empty file of this mode where there is none, and none of another mode; raises ``OSError``.

    For files that a library writes: what SQLite puts beside a database gets the database's mode.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        # By its name: to close any descriptor of a database would let go of its locks.
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
    else:
        with os.fdopen(descriptor, "wb"):
            os.fchmod(descriptor, mode)


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only parts too; one that is not there is gone already."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=not folder.exists())


def head(path: Path, most: int) -> bytes:
    """The first ``most`` bytes of a file that a stranger may have put there; raises ``OSError``.

    What is no regular file is refused: a pipe would be waited for.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read(most)


def under(folder: Path, name: str) -> Path:
    """A path that a person wrote: relative to ``folder``, ``~`` and ``~user`` are homes if there is such a home."""
    path = Path(name)
    try:
        return folder / path.expanduser()
    except RuntimeError:
        return folder / path


def write_atomically(path: Path, data: bytes, mode: int = PRIVATE) -> None:
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


def write_checked(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write atomically, below a line with the digest of ``data``, and wait for the disk.  Raises ``OSError``."""
    write_atomically(path, _CHECKED + hashlib.sha256(data).hexdigest().encode() + b"\n" + data, mode)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_checked(path: Path) -> bytes:
    """What ``write_checked`` wrote; raises ``DamagedFileError`` for anything else, and ``OSError``."""
    head, _, data = path.read_bytes().partition(b"\n")
    if head != _CHECKED + hashlib.sha256(data).hexdigest().encode():
        raise DamagedFileError(f"{path} is damaged: its digest does not fit", hint="check the disk")
    return data
