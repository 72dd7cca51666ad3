"""A bucket of tokens: what is spent comes back a second later.

Pure.  A bucket that is filled at a steady rate lets twice its content pass within the second that follows a pause.
Here every token comes back on its own, a second after it was spent, so that no second of all, wherever it begins,
sees more than the bucket holds, bursts included.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Bucket"]


class Bucket:
    """``capacity`` tokens, each back ``return_s`` after it was taken; times are monotonic seconds."""

    def __init__(self, capacity: int, return_s: float = 1.0) -> None:
        self.capacity = capacity
        self._return_s = return_s
        self._left = capacity
        self._taken: deque[tuple[float, int]] = deque()
        """When what is taken is back, and how much."""

    def wait_s(self, amount: int, now: float) -> float:
        """How long until ``amount`` can be taken; raises ``ValueError`` for more than the bucket ever holds."""
        if amount > self.capacity:
            raise ValueError(f"{amount} of {self.capacity} tokens")
        self._restore(now)
        left, wait_s = self._left, 0.0
        for back_at, taken in self._taken:
            if left >= amount:
                break
            left += taken
            wait_s = back_at - now
        return wait_s

    def take(self, amount: int, now: float) -> None:
        """Take ``amount``, for which there was no wait."""
        self._restore(now)
        self._left -= amount
        self._taken.append((now + self._return_s, amount))

    def _restore(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now:
            self._left += self._taken.popleft()[1]
