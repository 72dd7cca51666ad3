"""What disks do to writers: full, read-only, gone.  Counted each time, said once, never fatal."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from types import TracebackType

__all__ = ["DiskLosses"]

logger = logging.getLogger(__name__)

CODES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-denied",
    errno.EPERM: "disk-denied",
}
HINTS = {
    "disk-full": "make room, or keep fewer or smaller files",
    "disk-read-only": "name a folder on a writable file system",
    "disk-denied": "give the agent's user the right to write there",
    "disk-error": "check the disk and the path",
}


class DiskLosses:
    """A ``with`` around each write: an ``OSError`` is counted by code, and logged when the trouble begins."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._in_trouble = False
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if error is None:
            if self._in_trouble:
                logger.info("%s are written again", self._what)
            self._in_trouble = False
            return False
        if not isinstance(error, OSError):
            return False
        code = CODES.get(error.errno or 0, "disk-error")
        self.counts[code] += 1
        if not self._in_trouble:
            self._in_trouble = True
            logger.error("%s cannot be written: %s (hint: %s) [%s]", self._what, error, HINTS[code], code)
        return True
