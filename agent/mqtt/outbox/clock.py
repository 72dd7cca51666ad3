"""Ages that no step of the wall clock can change.

Edge devices often start without the right time and are told it later, by months.  The outbox's clock begins at the
wall clock, or at the newest message in the store where that is later, and then goes on with the steady clock only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Milliseconds that never go back; ``wall`` and ``steady`` give seconds."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._ahead = wall() - steady()

    def now_ms(self) -> int:
        """The time now."""
        return int((self._steady() + self._ahead) * 1e3)

    def not_before(self, at_ms: int) -> None:
        """It is at least ``at_ms``: something in the store was written then."""
        self._ahead += max(0.0, (at_ms - self.now_ms()) / 1e3)
