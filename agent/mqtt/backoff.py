"""How long to wait before the next attempt: capped exponential with full jitter.

Full jitter spreads a fleet that lost its broker at the same moment over the whole interval, so that
the broker meets a trickle and not a wave when it is back.
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Delays in [0, min(cap_s, base_s · 2ⁿ)], n growing with each attempt until ``reset``."""

    def __init__(
        self, base_s: float = 0.5, cap_s: float = 30.0, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._uniform = uniform
        self._ceiling_s = min(base_s, cap_s)

    @property
    def ceiling_s(self) -> float:
        """The longest that the next delay can be."""
        return self._ceiling_s

    def next_s(self) -> float:
        """The delay before the next attempt, seconds."""
        delay_s = self._uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._cap_s, self._ceiling_s * 2)
        return delay_s

    def slow_s(self) -> float:
        """The delay after a refusal that only a person can mend: the upper half of the cap, seconds."""
        self._ceiling_s = self._cap_s
        return self._uniform(self._cap_s / 2, self._cap_s)

    def reset(self) -> None:
        """Begin again at ``base_s``: the last attempt held."""
        self._ceiling_s = min(self._base_s, self._cap_s)
