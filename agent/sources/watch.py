"""Which files of a folder are new or changed, and whole, from one look at it to the next.

A file is ready when it was the same in all looks of the last ``settle_s``: what is still being written grows or gets
another time of change in between.  A file that was renamed into place has another inode than the one before it.  The
clock is the caller's; a folder is looked at as a mapping, so that what is remembered is bounded by what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Entry", "Watch", "pick"]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A file as a look at the folder found it; ordered by when it was written."""

    modified_ns: int
    name: str
    size: int
    inode: int


class Watch:
    """Remembers what a folder was like."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._known: dict[str, Entry] = {}
        self._settling: dict[str, tuple[Entry, float]] = {}

    def know(self, entries: Iterable[Entry]) -> None:
        """Take these for seen: only what changes from here on is a frame."""
        self._known.update((entry.name, entry) for entry in entries)

    def look(self, entries: Sequence[Entry], now: float) -> list[Entry]:
        """The files that are new or changed since they were last given, and whole; the one written first first."""
        settling: dict[str, tuple[Entry, float]] = {}
        ready = []
        for entry in entries:
            if self._known.get(entry.name) == entry:
                continue
            before, since = self._settling.get(entry.name, (None, now))
            since = since if before == entry else now
            if now - since >= self._settle_s:
                ready.append(entry)
            else:
                settling[entry.name] = entry, since
        self._settling = settling
        names = {entry.name for entry in entries}
        self._known = {name: entry for name, entry in self._known.items() if name in names}
        self.know(ready)
        return sorted(ready)


def pick(entries: Sequence[Entry], how: Literal["newest", "next"], last: str) -> Entry | None:
    """The file whose turn it is at a beat, ``last`` being the one before; None where there is none."""
    if not entries:
        return None
    if how == "newest":
        return max(entries)
    by_name = sorted(entries, key=lambda entry: entry.name)
    return next((entry for entry in by_name if entry.name > last), by_name[0])
