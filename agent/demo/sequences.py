"""Which of a stream's frames were answered, by the numbers that the agent gives them: holes and doubles show.  Pure."""

from __future__ import annotations

from collections import Counter

__all__ = ["Sequences"]


class Sequences:
    """The numbers of answered frames, 1 and up, in any order.

    >>> seen = Sequences()
    >>> for number in (1, 2, 4, 4):
    ...     seen.saw(number)
    >>> seen.missing(0, 4), seen.twice(0, 4)
    (1, 1)
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self.highest = 0

    def saw(self, number: int) -> None:
        """A result of this frame arrived."""
        self._seen[number] += 1
        self.highest = max(self.highest, number)

    def missing(self, after: int, upto: int) -> int:
        """Frames of (after, upto] without a result."""
        return sum(not self._seen[number] for number in range(after + 1, upto + 1))

    def twice(self, after: int, upto: int) -> int:
        """Results of (after, upto] that came more than once."""
        return sum(max(0, self._seen[number] - 1) for number in range(after + 1, upto + 1))
