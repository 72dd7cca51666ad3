"""Secrets in files: a secret for each file of a folder, by its path in it.

A file has to be the agent's own and readable by nobody else, and no link: one that is not is refused, whatever it
holds.  Its content is the value as it is, a newline at its end too.  Files are read whenever they are asked for, so a
changed one counts at once; those whose names begin with a dot are none (editors' and tools' own).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.greengrass.services.secrets.secret import SecretError

__all__ = ["listed", "read"]

_LARGEST: Final = 65_536
"""Bytes; Secrets Manager takes no more."""
_MODES: Final = (0o600, 0o400)


def listed(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[str]:
    """The names of all secrets; a folder that cannot be looked into is passed by, and why is said to ``on_error``."""
    for place, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        within = Path(place).relative_to(folder)
        yield from (str(within / name) for name in sorted(files) if not name.startswith("."))


def read(folder: Path, name: str) -> str | bytes:
    """The value of a secret: a text, or bytes where it is none in UTF-8.  Raises ``SecretError``."""
    path = folder / name
    try:
        # What is checked is what is read, whoever renames files meanwhile; and a pipe is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _check(path, os.fstat(descriptor))
            content = file.read(_LARGEST + 1)
    except OSError as error:
        hint = "give it to the agent's user, as a file and no link"
        raise SecretError(f"the secret {path} cannot be read: {error.strerror}", hint=hint) from None
    if len(content) > _LARGEST:
        raise SecretError(f"the secret {path} is longer than {_LARGEST} bytes", hint="keep large things elsewhere")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SecretError(f"the secret {path} is no file", hint="put a file there")
    if status.st_uid != os.geteuid():
        raise SecretError(f"the secret {path} belongs to another user", hint=f"chown {os.geteuid()} {path}")
    mode = stat.S_IMODE(status.st_mode)
    if mode not in _MODES:
        raise SecretError(f"the secret {path} has the mode {mode:04o}: others may read it", hint=f"chmod 0600 {path}")
