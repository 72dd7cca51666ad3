"""The filters that a nucleus is asked for on one connection, each on a stream of its own.

=================================  ====================================================================================
what the nucleus does              what follows
=================================  ====================================================================================
it answers                         the stream is the filter's, and one that it had before is closed: none is missed,
                                   and none comes twice
it says that it may not be         the filter is refused until the next connection
it cannot do it now, or ends the   it is asked again, backing off; whoever waits for the answer goes on waiting
stream
=================================  ====================================================================================

Each event names its stream, and so the one filter that it is for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Protocol

from agent.mqtt.backoff import Backoff
from agent.mqtt.greengrass import operations, reasons
from agent.mqtt.greengrass.operations import Request
from agent.mqtt.greengrass.places import Place, Places
from agent.mqtt.greengrass.streams import Failure
from agent.topics import matches

__all__ = ["NucleusFilter", "NucleusSubscriptions", "StreamOwner"]

log = logging.getLogger("agent.mqtt.greengrass")


class _Timer(Protocol):
    def cancel(self) -> None: ...


class StreamOwner(Protocol):
    """The connection, as the subscriptions need it."""

    def open(self, request: Request, *, has_events: bool) -> int:
        """Ask for an operation; the result is its stream."""

    def close(self, stream: int) -> None:
        """Have no more interest in a stream."""

    def later(self, delay_s: float, call: Callable[[], None]) -> _Timer:
        """Have something called after a while."""

    def settled(self, ticket: int, failures: Sequence[str | None]) -> None:
        """All filters of a ticket are answered, with a reason for each that is refused."""


@dataclass(slots=True)
class _Ask:
    """A ticket of ``subscribe``: how many answers are missing, and which filters were refused."""

    ticket: int
    filters: tuple[str, ...]
    missing: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> list[str | None]:
        return [self.refused.get(topic_filter) for topic_filter in self.filters]


@dataclass(slots=True)
class NucleusFilter:
    """A filter in one of its places."""

    topic_filter: str
    place: Place
    backoff: Backoff
    qos: int = 0
    number: int | None = None
    """What messages of the filter are to name."""
    stream: int = 0
    """Where events come; 0 while there is none."""
    asked: int = 0
    """Where an answer is waited for; 0 while none is."""
    ask: _Ask | None = None
    timer: _Timer | None = None
    failed: bool = False
    """The nucleus could not do it, the last time."""

    @property
    def request(self) -> Request:
        """What is asked of the nucleus."""
        return operations.subscribing(self.topic_filter, self.qos, self.place)


class NucleusSubscriptions:
    """The filters of one connection, which is ``owner``."""

    def __init__(self, places: Places, owner: StreamOwner, backoff: Callable[[], Backoff]) -> None:
        self._places = places
        self._owner = owner
        self._backoff = backoff
        self._wanted: dict[tuple[str, Place], NucleusFilter] = {}
        self._streams: dict[int, NucleusFilter] = {}
        self._next_ticket = count(1).__next__

    def __contains__(self, stream: int) -> bool:
        return stream in self._streams

    def subscribe(self, filters: Sequence[tuple[str, int]], number: int | None) -> int:
        """Want filters with their QoS; messages of theirs name ``number``.  The result is the ticket of the answer."""
        ask = _Ask(self._next_ticket(), tuple(topic_filter for topic_filter, _ in filters))
        for topic_filter, qos in filters:
            for place in self._places.of_filter(topic_filter):
                self._want(topic_filter, place, qos if place is Place.IOT_CORE else 0, number, ask)
        if not ask.missing:
            self._owner.later(0, partial(self._owner.settled, ask.ticket, ask.failures))
        return ask.ticket

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Want filters no more."""
        for topic_filter in filters:
            for place in Place:
                if one := self._wanted.pop((topic_filter, place), None):
                    self._stop(one)
                    self._drop(one.stream)
                    self._settle(one)

    def close(self) -> None:
        """Ask for nothing any more: the connection has ended."""
        for one in self._wanted.values():
            if one.timer is not None:
                one.timer.cancel()

    def awaits(self, topic: str) -> bool:
        """Whether a filter of a topic has just been asked for and is not answered."""
        pending = (one for one in self._wanted.values() if one.asked and not one.stream and not one.failed)
        return any(matches(one.topic_filter, topic) for one in pending)

    def events_on(self, stream: int) -> NucleusFilter | None:
        """Whose events come on a stream; None where they are nobody's any more."""
        one = self._streams.get(stream)
        return one if one is not None and one.stream == stream else None

    # -- what the nucleus does -----------------------------------------------------------------------------------------

    def answered(self, stream: int) -> None:
        """A filter is in force."""
        one = self._streams[stream]
        self._drop(one.stream)
        one.stream, one.asked, one.failed = stream, 0, False
        one.backoff.reset()
        self._settle(one)

    def failed(self, stream: int, failure: Failure) -> None:
        """A stream ended with an error."""
        one = self._streams[stream]
        why = reasons.subscribe_refused(failure, one.request, one.topic_filter) if stream == one.asked else None
        if why is None:
            self.ended(stream, failure.message or failure.shape)
            return
        del self._streams[stream]
        one.asked = 0
        if not one.stream:
            del self._wanted[one.topic_filter, one.place]
        self._settle(one, why)

    def ended(self, stream: int, reason: str = "") -> None:
        """A stream ended, of a filter that is wanted: it is asked for again."""
        one = self._streams.pop(stream)
        if stream == one.stream:
            one.stream = 0
        else:
            one.asked = 0
        if one.asked or one.timer is not None:
            return
        if not one.failed:
            log.warning("the nucleus serves no %r now: %s; it is asked again", one.topic_filter, reason or "it ended")
        one.failed = True
        one.timer = self._owner.later(one.backoff.next_s(), partial(self._ask, one))

    # -- what follows --------------------------------------------------------------------------------------------------

    def _want(self, topic_filter: str, place: Place, qos: int, number: int | None, ask: _Ask) -> None:
        one = self._wanted.get((topic_filter, place))
        if one is None:
            one = self._wanted[topic_filter, place] = NucleusFilter(topic_filter, place, self._backoff())
        one.number = number
        if one.stream and one.qos == qos:
            return
        self._stop(one)
        self._settle(one)  # another ask takes its place
        one.qos, one.ask = qos, ask
        ask.missing += 1
        self._ask(one)

    def _ask(self, one: NucleusFilter) -> None:
        one.timer = None
        one.asked = self._owner.open(one.request, has_events=True)
        self._streams[one.asked] = one

    def _stop(self, one: NucleusFilter) -> None:
        """Have no answer come."""
        if one.timer is not None:
            one.timer.cancel()
            one.timer = None
        self._drop(one.asked)
        one.asked = 0

    def _drop(self, stream: int) -> None:
        if self._streams.pop(stream, None) is not None:
            self._owner.close(stream)

    def _settle(self, one: NucleusFilter, refused: str | None = None) -> None:
        ask, one.ask = one.ask, None
        if ask is None:
            return
        if refused is not None:
            ask.refused[one.topic_filter] = refused
        ask.missing -= 1
        if not ask.missing:
            self._owner.settled(ask.ticket, ask.failures)
