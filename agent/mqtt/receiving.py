"""The receiving half of a connection: subscriptions kept in force, messages passed on, acknowledgements.

A message of QoS 1 or 2 that the client does not acknowledge by itself is acknowledged here: when its handlers
returned, or, where a subscription is ``manual_ack``, when ``acknowledge`` is called.  awscrt leaves all
acknowledgements to us, so that the broker never has more on its way than ``receive_maximum``; paho acknowledges as it
reads, except what belongs to a ``manual_ack`` subscription.  An acknowledgement means something on its own connection
only.

While a session that outlives this process is on hold, its messages of QoS 1 and 2 wait here, unacknowledged: a process
that starts has no subscriber yet for what the broker queued, and one that stops has none any more.  They are bounded by
what the broker may send unacknowledged, and by count and bytes; what goes beyond that is counted, and comes again with
the next connection, as what is lost with this one does.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple, Protocol, TypeAlias

from agent.mqtt.kept import KeptFilters
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.subscriptions import Session
from agent.mqtt.transport import Message
from agent.topics import TopicTable

__all__ = ["Acknowledgement", "Received", "Receiving", "SubscribeClient", "next_packet_id"]

log = logging.getLogger("agent.mqtt.client")

_MAX_HELD = 10_000
_MAX_HELD_BYTES = 64 * 1024 * 1024

Acknowledgement: TypeAlias = object
"""What a client needs to acknowledge a message; only the client looks into it."""

next_packet_id = count(1).__next__
"""A number for a received message of QoS 1 or 2.  MQTT's own are used again; these are not, in this process."""


class Received(NamedTuple):
    """A message that came, for the subscriptions numbered ``identifiers`` if the broker said so."""

    message: Message
    identifiers: Sequence[int]
    acknowledgement: Acknowledgement | None
    """None: the client acknowledges the message by itself, or it is of QoS 0."""


class SubscribeClient(Protocol):
    """What the receiving half needs of a client."""

    @property
    def ready(self) -> bool:
        """Whether there is a connection to write to."""

    def subscribe(self, filters: Sequence[tuple[str, int]], identifier: int | None) -> int | None:
        """Subscribe to filters with their QoS; the ticket of the SUBACK, or None when the connection is lost."""

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Leave filters."""

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Acknowledge a message of this connection."""


class Receiving:
    """What comes from the broker at ``address``.

    ``on_message`` gets each message and the filters it is for, if the broker said so; ``on_refused`` the filters that
    the broker refuses and why, whenever it answered.
    """

    def __init__(
        self,
        address: str,
        on_message: Callable[[Message, tuple[str, ...]], None],
        on_refused: Callable[[dict[str, str]], None],
    ) -> None:
        self.address = address
        self._on_message = on_message
        self._on_refused = on_refused
        self._session = Session()
        self._limits = BrokerLimits()
        self._client: SubscribeClient | None = None
        self._manual: TopicTable[None] = TopicTable()
        self._unacknowledged: dict[int, Acknowledgement] = {}
        self._holding = False
        self._held: deque[Received] = deque()
        self._held_bytes = 0
        self._kept: KeptFilters | None = None
        self.no_room = 0
        """Messages that found no room while they were held back; the broker has them still."""
        self.unclaimed = 0
        """Messages of a kept session that nobody here has subscribed to."""

    def begin(self, *, session_present: bool) -> None:
        """A connection begins: messages of a kept session may follow at once."""
        self._unacknowledged.clear()
        self._forget_held()
        self._session.begin(present=session_present)

    def up(self, client: SubscribeClient, limits: BrokerLimits) -> None:
        """Bring the broker's subscriptions in line with ours."""
        self._client = client
        self._limits = limits
        self._reconcile()

    def down(self, *, session_kept: bool = True) -> None:
        """The connection is lost, and the session unless it is kept."""
        self._client = None
        self._forget_held()
        if not session_kept:
            self._session.begin(present=False)

    def inherit(self, kept: KeptFilters) -> None:
        """Take over the session of an earlier process, whose filters ``kept`` knows, and keep them there."""
        self._kept = kept
        self._session.inherit(kept.read())

    @property
    def holding(self) -> bool:
        """Whether what comes is kept back."""
        return self._holding

    def hold(self) -> None:
        """Keep back what comes from now on, and leave no filter."""
        self._holding = True

    def release(self) -> None:
        """Pass on what was kept back; from now on filters that nobody wants are left."""
        if not self._holding:
            return
        self._holding = False
        held, self._held, self._held_bytes = self._held, deque(), 0
        for received in held:
            self.received(received)
        self._reconcile()

    def subscribe(self, topic_filter: str, qos: int, *, manual_ack: bool) -> None:
        """Subscribe to ``topic_filter``, now and on each later connection."""
        self.set_manual_ack(topic_filter, manual_ack=manual_ack)
        self._session.want(topic_filter, qos)
        self._reconcile()

    def unsubscribe(self, topic_filter: str) -> None:
        """Leave ``topic_filter``."""
        self.set_manual_ack(topic_filter, manual_ack=False)
        self._session.forget(topic_filter)
        self._reconcile()

    def set_manual_ack(self, topic_filter: str, *, manual_ack: bool) -> None:
        """Whether messages of ``topic_filter`` wait for ``acknowledge``."""
        self._manual.discard(topic_filter, None)
        if manual_ack:
            self._manual.add(topic_filter, None)

    def manual_ack(self, topic: str) -> bool:
        """Whether messages on ``topic`` wait for ``acknowledge``."""
        return bool(self._manual.match(topic))

    def leaves_acknowledgement(self, topic: str) -> bool:
        """Whether the client is to leave the acknowledgement of a message on ``topic`` to us."""
        return self._holding or self.manual_ack(topic)

    def received(self, received: Received) -> None:
        """Pass a message on, and acknowledge it if that is left to us."""
        message, identifiers, acknowledgement = received
        if self._holding and message.qos:
            self._hold_back(received)
            return
        if acknowledgement is None:
            self._on_message(message, self._session.meant(identifiers, message.topic))
            return
        self._unacknowledged[message.packet_id] = acknowledgement
        self._on_message(message, self._session.meant(identifiers, message.topic))
        if not self.manual_ack(message.topic):
            self.acknowledge(message.packet_id)

    def acknowledge(self, packet_id: int) -> None:
        """Acknowledge a message; one of an earlier connection is not ours any more."""
        acknowledgement = self._unacknowledged.pop(packet_id, None)
        if acknowledgement is not None and self._client:
            self._client.acknowledge(acknowledgement)

    def subscribed(self, ticket: int, failures: Sequence[str | None]) -> None:
        """The broker answered a SUBSCRIBE, with a reason for each filter that failed."""
        self._refused(self._session.answered(ticket, failures))

    def awaits(self, topic_filter: str) -> bool:
        """Whether the broker is still to say whether it serves a filter."""
        return self._client is not None and self._session.is_asked(topic_filter)

    @property
    def held_back(self) -> int:
        """How many messages wait for ``release``."""
        return len(self._held)

    def note_unclaimed(self, message: Message) -> None:
        """Nobody here has subscribed to a message: it is lost, which is said once."""
        if not self.unclaimed:
            log.warning("%s sent a message on %r to which nothing here subscribes", self.address, message.topic)
        self.unclaimed += 1

    def _hold_back(self, received: Received) -> None:
        message = received.message
        size = len(message.payload)
        if len(self._held) >= _MAX_HELD or self._held_bytes + size > _MAX_HELD_BYTES:
            self.no_room += 1
            return
        self._held.append(received._replace(message=replace(message, arrived=time.monotonic())))
        self._held_bytes += size

    def _forget_held(self) -> None:
        # An acknowledgement means something on its own connection only, so the broker sends them again on the next.
        self._held.clear()
        self._held_bytes = 0

    def _reconcile(self) -> None:
        if self._kept is not None and not self._holding:
            self._kept.write(self._session.filters)
        client = self._client
        if client is None or not client.ready:
            return
        if hopeless := self._session.hopeless(self._limits.objection):
            self._refused(hopeless)
        if not self._holding and (surplus := self._session.surplus()):
            client.unsubscribe(surplus)
            self._session.left(surplus)
        numbered = self._limits.identifiers_available
        for batch in self._session.missing(numbered=numbered):
            ticket = client.subscribe(batch, self._session.number(batch[0][0]) if numbered else None)
            if ticket is not None:
                self._session.asked(ticket, [topic_filter for topic_filter, _ in batch])

    def _refused(self, refused: dict[str, str]) -> None:
        for topic_filter, reason in refused.items():
            log.warning("%s refuses the subscription to %r: %s", self.address, topic_filter, reason)
        self._on_refused(dict(self._session.refused))
