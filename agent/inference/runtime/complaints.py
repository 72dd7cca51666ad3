"""What a decoder says beside its pixels.

libjpeg goes on where it cannot read on: it paints grey what is missing, or what it takes the damaged bits for, and
prints that it did.  OpenCV hands the pixels over without a word of it.  So while a picture is decoded, standard error
is a file in memory; a file that stayed empty costs a few system calls.  What others printed meanwhile is passed on.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Optional

__all__ = ["Complaints"]

_STANDARD_ERROR = 2
_MOST = 64 * 1024
_DAMAGE = (
    b"Corrupt JPEG data",
    b"Premature end of JPEG",
    b"Inconsistent progression sequence",
    b"Invalid progressive parameters",
    b"Invalid SOS parameters",
)
"""libjpeg's warnings of damage, as they begin; it has others, of versions and colours, which are none."""


class Complaints:
    """Hears what is printed while it is entered; without a standard error it hears nothing."""

    def __init__(self) -> None:
        self._file = _file_in_memory()
        self._own: Optional[int] = None

    def __enter__(self) -> None:
        try:
            self._own = os.dup(_STANDARD_ERROR)
            os.dup2(self._file, _STANDARD_ERROR)
        except OSError:
            self._own = None

    def __exit__(self, *exc_info: object) -> None:
        if self._own is not None:
            os.dup2(self._own, _STANDARD_ERROR)
            os.close(self._own)
            self._own = None

    def of_damage(self) -> bool:
        """Whether the decoder complained of a damaged picture since the last time it was asked."""
        length = os.lseek(self._file, 0, os.SEEK_CUR)
        if not length:
            return False
        said = os.pread(self._file, min(length, _MOST), 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.ftruncate(self._file, 0)
        lines = said.splitlines(keepends=True)
        others = [line for line in lines if not line.startswith(_DAMAGE)]
        if others:
            _print(b"".join(others))
        return len(others) < len(lines)


def _file_in_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("complaints")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _print(text: bytes) -> None:
    with contextlib.suppress(OSError):  # there may be nobody to tell
        os.write(_STANDARD_ERROR, text)
