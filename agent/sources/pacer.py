"""The event loop's timer on a grid of beats: one timer at any time, set anew after each beat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.sources.beat import Beat

__all__ = ["Pacer"]


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
