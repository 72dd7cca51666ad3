"""How long a worker may take for one picture before it counts as hung: max(floor, 20 × its own p99)."""

from __future__ import annotations

from collections import deque

__all__ = ["Deadline"]

_FACTOR = 20
_WINDOW = 256
_REFRESH = 64


class Deadline:
    """Learns from what the answers took; seconds throughout."""

    def __init__(self, floor_s: float = 2.0) -> None:
        self._floor_s = floor_s
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._since = 0
        self.seconds = floor_s

    def observe(self, seconds: float) -> None:
        """Take in one answer's duration; the deadline is worked out anew now and then."""
        self._recent.append(seconds)
        self._since += 1
        if self._since >= _REFRESH:
            self._since = 0
            ordered = sorted(self._recent)
            p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            self.seconds = max(self._floor_s, _FACTOR * p99)
