"""Which filters the broker should hold for us, which it holds, and which it refused.

Pure.  One rule covers the first connection, a lost session, a kept session and what changed during an
outage: subscribe what is wanted and not held, leave what is held and not wanted.

Where filters overlap, some brokers send a message once and some once for each filter.  MQTT 5 lets each
copy name the subscriptions it is for, by number, so that no handler sees a message twice.  Only filters
that overlap get one, for the number costs paho 50 µs a message.  It follows from the filter, so that what
a broker queued for an earlier process names the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from agent.topics import matches, overlap

__all__ = ["Session"]

_MOST_NUMBERS = 2**28 - 1
FILTERS_PER_SUBSCRIBE = 8
"""IoT Core's limit; others take more."""


class Session:
    """The subscriptions of one client at its broker."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """Filter → why the broker does not serve it."""
        self._wanted: dict[str, int] = {}
        self._held: set[str] = set()
        """Granted, or asked for and not answered yet."""
        self._renewed: set[str] = set()
        """Those of the held that are to be asked for again."""
        self._asked: dict[int, tuple[str, ...]] = {}
        self._numbers: dict[str, int] = {}
        self._numbered: dict[int, str] = {}

    @property
    def filters(self) -> frozenset[str]:
        """What the broker may hold for us from now on."""
        return frozenset(self._wanted.keys() | self._held)

    def inherit(self, filters: Iterable[str]) -> None:
        """An earlier process subscribed to these in a session that the broker may have kept; they are asked for again.

        Only by them is it known what to leave: a broker does not say what it holds.
        """
        self._held.update(filters)
        self._renewed.update(filters)

    def want(self, topic_filter: str, qos: int) -> None:
        """From now on ``topic_filter`` is wanted with ``qos``; it is asked for even if it was before."""
        for other in self._wanted:
            if other != topic_filter and overlap(other, topic_filter):
                self._number(other)
                self._number(topic_filter)
        self._wanted[topic_filter] = qos
        self._renewed.add(topic_filter)
        self.refused.pop(topic_filter, None)

    def is_asked(self, topic_filter: str) -> bool:
        """Whether the broker's answer to a filter is still to come."""
        return any(topic_filter in batch for batch in self._asked.values())

    def forget(self, topic_filter: str) -> None:
        """``topic_filter`` is not wanted any more."""
        self._wanted.pop(topic_filter, None)
        self.refused.pop(topic_filter, None)
        self._numbered.pop(self._numbers.pop(topic_filter, 0), None)

    def number(self, topic_filter: str) -> int | None:
        """The number by which messages are to name ``topic_filter``; None where nothing overlaps it."""
        return self._numbers.get(topic_filter)

    def meant(self, numbers: Iterable[int], topic: str) -> tuple[str, ...]:
        """The filters that a message on ``topic`` is for; none when it names none of this process."""
        named = (self._numbered.get(number) for number in numbers)
        return tuple(name for name in named if name is not None and matches(name, topic))

    def begin(self, *, present: bool) -> None:
        """A connection begins; ``present`` tells whether the broker kept the session."""
        unanswered = {topic_filter for batch in self._asked.values() for topic_filter in batch}
        self._renewed |= unanswered
        if not present:
            self._held.clear()
        self._asked.clear()
        self.refused.clear()

    def hopeless(self, objection: Callable[[str], str | None]) -> dict[str, str]:
        """Refuse, without asking, every wanted filter to which there is an ``objection``; those are returned."""
        news = self._wanted.keys() - self._known
        refused = {topic_filter: why for topic_filter in news if (why := objection(topic_filter)) is not None}
        self.refused.update(refused)
        return refused

    def missing(self, *, numbered: bool) -> list[list[tuple[str, int]]]:
        """What to subscribe, in batches that every broker takes; a number needs a batch of its own."""
        known = self._known
        wanted = [(topic_filter, qos) for topic_filter, qos in self._wanted.items() if topic_filter not in known]
        alone = [item for item in wanted if numbered and item[0] in self._numbers]
        rest = [item for item in wanted if item not in alone]
        batches = [rest[start : start + FILTERS_PER_SUBSCRIBE] for start in range(0, len(rest), FILTERS_PER_SUBSCRIBE)]
        return batches + [[item] for item in alone]

    def surplus(self) -> list[str]:
        """What to unsubscribe."""
        return sorted(self._held - self._wanted.keys())

    def asked(self, packet_id: int, filters: Iterable[str]) -> None:
        """A SUBSCRIBE for ``filters`` is on its way."""
        self._asked[packet_id] = tuple(filters)
        self._held.update(self._asked[packet_id])
        self._renewed.difference_update(self._asked[packet_id])

    def answered(self, packet_id: int, failures: Sequence[str | None]) -> dict[str, str]:
        """The SUBACK came, with a reason for each filter that failed; those are returned."""
        answers = zip(self._asked.pop(packet_id, ()), failures, strict=False)
        refused = {topic_filter: failure for topic_filter, failure in answers if failure is not None}
        self._held.difference_update(refused)
        self.refused.update(refused)
        return refused

    def left(self, filters: Iterable[str]) -> None:
        """An UNSUBSCRIBE for ``filters`` is on its way."""
        self._held.difference_update(filters)

    @property
    def _known(self) -> set[str]:
        """What need not be asked for."""
        return (self._held - self._renewed) | self.refused.keys()

    def _number(self, topic_filter: str) -> None:
        if topic_filter not in self._numbers:
            number = crc32(topic_filter.encode()) % _MOST_NUMBERS + 1
            while number in self._numbered:
                number = number % _MOST_NUMBERS + 1
            self._numbers[topic_filter] = number
            self._numbered[number] = topic_filter
            self._renewed.add(topic_filter)  # with its number
