"""Beats at an interval, on an absolute grid: start + n × interval, whatever happens between them.

A beat is *served* or *missed*: it is missed when the clock has passed it by more than half an interval, so that what
was late is skipped and never made up for, and two served beats are at least half an interval apart.  Because every
beat is reckoned from the start, lateness does not add up.

Another interval starts another grid at the last served beat: the next beat is one new interval after it, or the first
point of the new grid from now on.  There is one grid at any time.  ``Beat`` is the grid and takes the clock of its
caller; ``Pacer`` is the event loop's timer on it, set anew after each beat.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

__all__ = ["Beat", "Pacer"]
_LATE = 0.5
"""The part of an interval by which a beat may be late and still be served."""


class Pacer:
    """Calls ``serve`` on every beat once it has an interval; a beat that ``serve`` returns False for is missed."""

    def __init__(self, serve: Callable[[], bool]) -> None:
        self._serve = serve
        self._beat: Beat | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0

    @property
    def on(self) -> bool:
        """Whether there are beats."""
        return self._beat is not None

    @property
    def interval_s(self) -> float:
        """Seconds between two beats; 0 without beats."""
        return self._beat.interval_s if self._beat else 0.0

    @property
    def beats(self) -> int:
        """How many were served."""
        return self._beat.served - self._refused if self._beat else 0

    @property
    def missed(self) -> int:
        """How many were not."""
        return self._beat.missed + self._refused if self._beat else 0

    def set(self, interval_s: float) -> None:
        """Beat at this interval from now on, or no more (0)."""
        now = asyncio.get_running_loop().time()
        if not interval_s:
            self.stop()
        elif self._beat is None:
            self._beat, self._refused = Beat(now, interval_s), 0
        else:
            self._beat.retime(now, interval_s)
        self._arm()

    def stop(self) -> None:
        """No more beats."""
        self._beat = None
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._beat is not None:
            self._timer = asyncio.get_running_loop().call_at(self._beat.due, self._fire)

    def _fire(self) -> None:
        beat = self._beat
        if beat is None:
            return
        # Armed first: what serving may break must not end the schedule.
        serve = beat.take(asyncio.get_running_loop().time())
        self._arm()
        if serve and not self._serve():
            self._refused += 1


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
