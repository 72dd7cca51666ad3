"""An absolute grid of beats: start + n × interval, whatever happens between them.

A beat is *served* or *missed*: it is missed when the clock has passed it by more than half an interval, so that what
was late is skipped and never made up for, and two served beats are at least half an interval apart.  Because every
beat is reckoned from the start, lateness does not add up.

Another interval starts another grid at the last served beat: the next beat is one new interval after it, or the first
point of the new grid from now on.  There is one grid at any time.  The clock is the caller's.
"""

from __future__ import annotations

import math

__all__ = ["Beat"]

_LATE = 0.5
"""The part of an interval by which a beat may be late and still be served."""


class Beat:
    """The beats of a schedule that begins at ``start``: the first one is due at once."""

    def __init__(self, start: float, interval_s: float) -> None:
        self._start = start
        self._number = 0
        self._last: float | None = None
        self.interval_s = interval_s
        self.served = 0
        self.missed = 0

    @property
    def due(self) -> float:
        """When the next beat is."""
        return self._start + self._number * self.interval_s

    def take(self, now: float) -> bool:
        """At ``now``, take note that the beat which is due is reached; the result is whether to serve it.

        Before it is due nothing happens.  Afterwards ``due`` is later than ``now``.
        """
        if now < self.due:
            return False
        newest = max(self._number, math.floor((now - self._start) / self.interval_s))
        while self._start + (newest + 1) * self.interval_s <= now:  # what dividing lost
            newest += 1
        while newest > self._number and self._start + newest * self.interval_s > now:
            newest -= 1
        at = self._start + newest * self.interval_s
        on_time = now - at <= _LATE * self.interval_s
        self.missed += newest - self._number + (not on_time)
        self.served += on_time
        self._last = at if on_time else self._last
        self._number = newest + 1
        return on_time

    def retime(self, now: float, interval_s: float) -> None:
        """Go on with another interval."""
        if interval_s == self.interval_s:
            return
        self.interval_s = interval_s
        if self._last is None:
            self._start, self._number = self.due if self._number == 0 else now, 0
            return
        self._start = self._last
        self._number = max(1, math.ceil((now - self._start) / interval_s))
