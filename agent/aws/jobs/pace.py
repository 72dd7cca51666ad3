"""How long a conversation waits: for an answer, after a setback, and until it asks without a reason.

Pure, so that the machines stay so: ``spread`` is drawn once per process and keeps a fleet from asking in step.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace"]


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits in seconds, each stretched by ``1 + spread``."""

    first_s: float = 10.0
    """For the first answer; each repetition waits twice as long as the one before."""
    setback_s: float = 1.0
    cap_s: float = 120.0
    refresh_s: float = 900.0
    """A notification may be lost with a broker: ask at least so often."""
    spread: float = 0.0

    def patience(self, repetitions: int) -> float:
        """How long to wait for an answer.

        >>> [Pace().patience(tries) for tries in range(5)]
        [10.0, 20.0, 40.0, 80.0, 120.0]
        """
        return self._grown(self.first_s, repetitions)

    def pause(self, setbacks: int) -> float:
        """How long to be quiet after so many rejections in a row."""
        return self._grown(self.setback_s, setbacks)

    def refresh(self) -> float:
        """How long to go without a question."""
        return self.refresh_s * (1 + self.spread)

    def _grown(self, first_s: float, times: int) -> float:
        return min(self.cap_s, first_s * 2.0 ** min(times, 32)) * (1 + self.spread)
