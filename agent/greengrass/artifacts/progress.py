"""How far a fetch is: the sum over its artifacts, told at most once an interval and once at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Listener", "Meter", "Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is."""

    bytes_done: int
    bytes_total: int | None
    """None while a source does not tell how much it has."""
    artifacts_done: int
    artifacts_total: int


Listener: TypeAlias = Callable[[Progress], None]


class Meter:
    """The count behind ``Progress``; ``interval_s`` keeps a fast link from flooding a topic."""

    def __init__(
        self, listener: Listener, *, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._listener = listener
        self._interval_s = interval_s
        self._clock = clock
        self._told_at = -interval_s + clock()
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._finished: set[str] = set()

    def expect(self, name: str, total: int | None) -> None:
        """Count ``name`` in, with the bytes it has if that is known."""
        self._total[name] = total
        self._done.setdefault(name, 0)

    def advance(self, name: str, done: int, total: int | None) -> None:
        """``done`` bytes of ``name`` are here."""
        self._done[name] = done
        self._total[name] = total if total is not None else self._total.get(name)
        self._tell(urgent=False)

    def finish(self, name: str) -> None:
        """``name`` is whole."""
        self._finished.add(name)
        self._total[name] = self._done[name] = max(self._done[name], self._total[name] or 0)
        self._tell(urgent=self._finished == self._total.keys())

    def _tell(self, *, urgent: bool) -> None:
        now = self._clock()
        if not urgent and now - self._told_at < self._interval_s:
            return
        self._told_at = now
        totals = [total for total in self._total.values() if total is not None]
        self._listener(
            Progress(
                bytes_done=sum(self._done.values()),
                bytes_total=sum(totals) if len(totals) == len(self._total) else None,
                artifacts_done=len(self._finished),
                artifacts_total=len(self._total),
            )
        )
