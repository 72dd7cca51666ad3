"""When a dead worker is started again: at once, then with growing delays, then rarely and visibly.

A worker that lived for ``healthy_s`` starts the count anew.  After ``limit`` quick deaths the model is
*broken*: that is shown, and a start is tried only every ``cap_s``, so that a box nobody visits can still
heal when what was wrong has gone away.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Restart", "Restarts"]


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after ``delay_s``; ``broken`` when it happened too quickly too often."""

    delay_s: float
    broken: bool


class Restarts:
    """The count of quick deaths and what follows from it."""

    def __init__(
        self, *, healthy_s: float = 30.0, limit: int = 6, base_s: float = 0.25, cap_s: float = 30.0, free: int = 2
    ) -> None:
        self._healthy_s = healthy_s
        self._limit = limit
        self._base_s = base_s
        self._cap_s = cap_s
        self._free = free
        self._quick = 0

    def died(self, lived_s: float) -> Restart:
        """Decide after a death; the first ``free`` quick ones cost no delay."""
        self._quick = 1 if lived_s >= self._healthy_s else self._quick + 1
        if self._quick >= self._limit:
            return Restart(self._cap_s, broken=True)
        step = self._quick - self._free
        return Restart(0.0 if step <= 0 else min(self._cap_s, self._base_s * 2 ** (step - 1)), broken=False)

    def refused(self) -> Restart:
        """Decide after a start that failed for a reason that time alone seldom mends."""
        return Restart(self._cap_s, broken=True)
