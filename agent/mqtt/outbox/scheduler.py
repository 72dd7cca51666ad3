"""What the outbox sends next.

Pure: ``step`` takes an event and returns effects.  A stored message waits in one of two ways.  A **live** one, which
was published while the link was up and nothing waited before it on its topic, stays in memory and is sent in its
turn.  All others are only on disk, from where a bounded **window** is read ahead, rank by rank in the order of
publication.

======================  ======================================================================================
who goes first          rule
======================  ======================================================================================
between ranks           ``first`` before ``middle`` before ``last``, always
within a rank           while both wait, ``live_per_replayed`` live messages for each replayed one
on one topic            the order of publication: nothing is live while something of its topic is on disk only
======================  ======================================================================================

When the link is lost, or more is live than may be, the lane **spills**: it forgets the messages that it holds, for the
disk has them, and reads from the beginning.  So memory holds a bounded number of messages whatever waits, and one rule
covers start, outage and overload.  An acknowledged message is remembered until its row is gone, so that reading never
finds it again.

A message that was sent is **handed over** until the transport reports its end.  Whether it is in flight or waits for a
connection is the transport's business (``agent.mqtt.sending.SendQueue``): here it counts against ``in_flight`` of the
options, and the store must not drop it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, TypeAlias

from agent.config.transports import OutboxOptions
from agent.mqtt.outbox.record import RANKS, SHIFT, Record, rank_of

__all__ = [
    "READ_AHEAD", "TOPICS", "Bounced", "Dropped", "Effect", "Ended", "Event", "Leaving", "LinkChanged", "Load",
    "Loaded", "Opened", "Remove", "Removed", "Scheduler", "Send", "Stored", "Tick",
]  # fmt: skip

READ_AHEAD = 128
"""Messages in one reading; a window that is half used up is read on."""
LIVE_MESSAGES = 512
LIVE_BYTES = 4 * 1024 * 1024
TOPICS = 4096
"""Topics of which it is known whether something is on disk only; past it, everything is taken to be."""
GONE = 5000
"""Replay stops when so many acknowledged messages could not be removed from the disk."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The store is open: how many messages of which topic it has; None: of too many topics to count."""

    topics: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The link went up or down."""

    up: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """These records are in the store now, in the order of publication."""

    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Load:
    """Read the messages of ``rank`` after the number ``after``."""

    rank: int
    after: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a ``Load``; without records it failed."""

    load: Load
    records: Sequence[Record] | None
    exhausted: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A message is done with: the broker has it, or will never take it."""

    seq: int


@dataclass(frozen=True, slots=True)
class Bounced:
    """The transport did not take a message, or gave it back."""

    seq: int


@dataclass(frozen=True, slots=True)
class Removed:
    """These messages are not in the store any more."""

    seqs: Sequence[int]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Messages of these topics were dropped that waited on disk only; a topic for each message."""

    topics: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: what did not work may be tried again."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The agent is leaving: only live messages and those of the first rank are still sent."""


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a message over to the transport; ``replayed``: it had waited on disk."""

    record: Record
    replayed: bool


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a message from the store, in no hurry."""

    seq: int


Event: TypeAlias = Opened | LinkChanged | Stored | Loaded | Ended | Bounced | Removed | Dropped | Tick | Leaving


Effect: TypeAlias = Send | Load | Remove


@dataclass(slots=True)
class _Lane:
    """What is held of one rank."""

    rank: int
    live: dict[int, Record] = field(default_factory=dict)
    live_bytes: int = 0
    window: deque[Record] = field(default_factory=deque)
    cursor: int = 0
    epoch: int = 0
    loading: bool = False
    exhausted: bool = True
    turn: int = 0
    """Live messages since the last replayed one."""

    def spill(self) -> list[Record]:
        """Forget what is held; gives what was live."""
        forgotten = list(self.live.values())
        self.live.clear()
        self.live_bytes = 0
        self.window.clear()
        self.cursor = self.rank << SHIFT
        self.epoch += 1
        self.loading = self.exhausted = False
        return forgotten

    def take_live(self) -> Record:
        """The next live one."""
        record = self.live.pop(next(iter(self.live)))
        self.live_bytes -= record.size
        return record


class Scheduler:
    """The state; ``step`` is the only way to change it."""

    def __init__(self, options: OutboxOptions) -> None:
        self.handed_over: dict[int, Send] = {}
        """What the transport has and has not reported the end of."""
        self._gone: set[int] = set()
        self._lanes = tuple(_Lane(rank) for rank in range(len(RANKS)))
        self._waiting: dict[str, int] = {}
        """Topic → messages that are on disk only, or in a window."""
        self._many = False
        """There are too many topics to count."""
        self._up = self._blocked = self._leaving = False
        self._in_flight = options.in_flight
        self._live_per_replayed = options.live_per_replayed
        self._live_first = options.order == "live-first"

    @property
    def idle(self) -> bool:
        """Nothing is handed over, live, or of the first rank."""
        first = self._lanes[0]
        return not (self.handed_over or any(lane.live for lane in self._lanes) or first.window) and first.exhausted

    def held(self) -> Iterator[Record]:
        """The records in memory, which may be on the wire the next moment: the store must not drop them."""
        handed_over = (send.record for send in self.handed_over.values())
        return chain(handed_over, *(chain(lane.live.values(), lane.window) for lane in self._lanes))

    def step(self, event: Event) -> list[Effect]:
        """Take an event; returns what is to be done now, in this order."""
        effects: list[Effect] = []
        self._HANDLERS[type(event)](self, event, effects)
        while (send := self._next()) is not None:
            self.handed_over[send.record.seq] = send
            effects.append(send)
        effects.extend(self._loads())
        self._calm()
        return effects

    # -- events ------------------------------------------------------------------------------------

    def _opened(self, event: Opened, _effects: list[Effect]) -> None:
        for lane in self._lanes:
            lane.spill()
        self._many = event.topics is None
        self._waiting = dict(event.topics or {})
        for send in self.handed_over.values():
            self._leave(send.record.message.topic)

    def _link(self, event: LinkChanged, _effects: list[Effect]) -> None:
        self._up, self._blocked = event.up, False
        if not event.up:
            for lane in self._lanes:
                self._spill(lane)

    def _stored(self, event: Stored, _effects: list[Effect]) -> None:
        for record in event.records:
            lane = self._lanes[rank_of(record.seq)]
            if not self._up or self._behind(record.message.topic):
                self._wait(record.message.topic)
                lane.exhausted = False
                continue
            lane.live[record.seq] = record
            lane.live_bytes += record.size
            if len(lane.live) > LIVE_MESSAGES or lane.live_bytes > LIVE_BYTES:
                self._spill(lane)

    def _loaded(self, event: Loaded, _effects: list[Effect]) -> None:
        lane = self._lanes[event.load.rank]
        if event.load.epoch != lane.epoch:
            return
        lane.loading = False
        if event.records is None:
            self._blocked = True
            return
        lane.exhausted = event.exhausted
        for record in event.records:
            lane.cursor = record.seq
            if record.seq not in self.handed_over and record.seq not in self._gone and record.seq not in lane.live:
                lane.window.append(record)

    def _ended(self, event: Ended, effects: list[Effect]) -> None:
        if self.handed_over.pop(event.seq, None) is not None:
            self._blocked = False
            self._gone.add(event.seq)
            effects.append(Remove(event.seq))

    def _bounced(self, event: Bounced, _effects: list[Effect]) -> None:
        send = self.handed_over.pop(event.seq, None)
        if send is not None:
            self._blocked = True
            self._wait(send.record.message.topic)
            self._spill(self._lanes[rank_of(event.seq)])

    def _removed(self, event: Removed, _effects: list[Effect]) -> None:
        self._gone.difference_update(event.seqs)

    def _dropped(self, event: Dropped, _effects: list[Effect]) -> None:
        for topic in event.topics:
            self._leave(topic)

    def _tick(self, _event: Tick, _effects: list[Effect]) -> None:
        self._blocked = False

    def _left(self, _event: Leaving, _effects: list[Effect]) -> None:
        self._leaving = True

    _HANDLERS: ClassVar[Mapping[type, Callable[[Scheduler, Any, list[Effect]], None]]] = {
        Opened: _opened,
        LinkChanged: _link,
        Stored: _stored,
        Loaded: _loaded,
        Ended: _ended,
        Bounced: _bounced,
        Removed: _removed,
        Dropped: _dropped,
        Tick: _tick,
        Leaving: _left,
    }

    # -- effects -------------------------------------------------------------------------------------

    def _next(self) -> Send | None:
        if not self._up or self._blocked or len(self.handed_over) >= self._in_flight:
            return None
        for lane in self._lanes:
            replay = lane.window and len(self._gone) < GONE and not (self._leaving and lane.rank)
            if lane.live and not (replay and lane.turn >= self._live_per_replayed):
                lane.turn = lane.turn + 1 if replay else 0
                return Send(lane.take_live(), replayed=False)
            if replay:
                lane.turn = 0
                record = lane.window.popleft()
                self._leave(record.message.topic)
                return Send(record, replayed=True)
        return None

    def _loads(self) -> Iterator[Load]:
        if not self._up or self._blocked:
            return
        for lane in self._lanes[: 1 if self._leaving else None]:
            if not lane.loading and not lane.exhausted and len(lane.window) <= READ_AHEAD // 2:
                lane.loading = True
                yield Load(lane.rank, lane.cursor, lane.epoch)

    def _spill(self, lane: _Lane) -> None:
        for record in lane.spill():
            self._wait(record.message.topic)

    def _behind(self, topic: str) -> bool:
        return not self._live_first and (self._many or topic in self._waiting)

    def _wait(self, topic: str) -> None:
        if not self._many:
            self._waiting[topic] = self._waiting.get(topic, 0) + 1
        if len(self._waiting) > TOPICS:
            self._many = True
            self._waiting.clear()

    def _leave(self, topic: str) -> None:
        left = self._waiting.get(topic, 0) - 1
        if left > 0:
            self._waiting[topic] = left
        else:
            self._waiting.pop(topic, None)

    def _calm(self) -> None:
        """Count anew when nothing is on disk only."""
        if (self._many or self._waiting) and all(lane.exhausted and not lane.window for lane in self._lanes):
            self._many = False
            self._waiting.clear()
