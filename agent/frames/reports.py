"""How often a refused payload is worth a report: once per topic and interval, with the number held back.

Theory of operation: a camera that sends what cannot be read sends it many times a second.  The first
refusal on a topic is reported at once, later ones are counted, and the next report after the interval
carries the count.  Topics are remembered up to a bound, the least recently refused is forgotten first,
so that a publisher who invents topics cannot fill the memory.  The clock is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Report", "Reports"]


@dataclass(frozen=True, slots=True)
class Report:
    """A refusal to be reported; ``suppressed`` were refused on the topic since its last report."""

    topic: str
    code: str
    suppressed: int


class Reports:
    """Decides which refusals are reported: at most one per topic in ``per_s`` seconds."""

    def __init__(self, per_s: float = 60.0, max_topics: int = 1024) -> None:
        self._per_s = per_s
        self._max_topics = max_topics
        # topic → (time of its last report, refusals since); kept in the order of the latest refusal.
        self._topics: dict[str, tuple[float, int]] = {}

    def note(self, topic: str, code: str, now: float) -> Report | None:
        """Take note of a refusal at ``now`` (monotonic seconds): the report to make, or None."""
        known = self._topics.pop(topic, None)
        if known is not None and now - known[0] < self._per_s:
            self._topics[topic] = (known[0], known[1] + 1)
            return None
        self._topics[topic] = (now, 0)
        if len(self._topics) > self._max_topics:
            del self._topics[next(iter(self._topics))]
        return Report(topic, code, suppressed=known[1] if known else 0)

    def __len__(self) -> int:
        return len(self._topics)
