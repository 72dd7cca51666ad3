"""The receiving half of a link: subscriptions kept in force, messages passed on, acknowledgements.

What paho receives is passed on by ``deliver``, outside of paho's callback, so that handlers may publish, subscribe
and acknowledge.  paho acknowledges by itself, except what belongs to a ``manual_ack`` subscription: that waits for
``acknowledge``.  A packet id means something on its own connection only, so the number of the connection stands in
front of it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.reasoncodes import ReasonCode

from agent.mqtt.limits import BrokerLimits
from agent.mqtt.paho import identifiers_of, message_of, subscribe_properties
from agent.mqtt.subscriptions import Session
from agent.mqtt.transport import Message
from agent.topics import TopicTable

__all__ = ["Receiving"]

log = logging.getLogger("agent.mqtt.client")

_ID_BITS = 16


class Receiving:
    """What comes from the broker at ``address``.

    ``received`` gets each message and the filters it is for, if the broker told; ``subscribed`` the
    filters that the broker refuses and why, whenever it answered.
    """

    def __init__(
        self,
        address: str,
        received: Callable[[Message, tuple[str, ...]], None],
        subscribed: Callable[[dict[str, str]], None],
    ) -> None:
        self._address = address
        self._received = received
        self._subscribed = subscribed
        self._session = Session()
        self._limits = BrokerLimits()
        self._client: Client | None = None
        self._connections = 0
        self._manual: TopicTable[None] = TopicTable()
        self._unacknowledged: set[int] = set()
        self._arrived: deque[tuple[Message, tuple[str, ...]]] = deque()

    def attach(self, client: Client) -> None:
        """Hear of what ``client`` receives."""
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def deliver(self) -> None:
        """Pass on what arrived."""
        while self._arrived:
            self._received(*self._arrived.popleft())

    def connected(self, *, session_present: bool) -> None:
        """A connection begins: messages of a kept session may follow at once."""
        self._connections += 1
        self._unacknowledged.clear()
        self._session.begin(present=session_present)

    def up(self, client: Client, limits: BrokerLimits) -> None:
        """Bring the broker's subscriptions in line with the wanted ones."""
        self._client = client
        self._limits = limits
        self._reconcile()

    def down(self, *, session_kept: bool) -> None:
        """The connection is lost, and the session unless it is kept."""
        self._client = None
        if not session_kept:
            self._session.begin(present=False)

    def subscribe(self, topic_filter: str, qos: int, *, manual_ack: bool) -> None:
        """Ask the broker for ``topic_filter``, now and on each later connection."""
        self.acknowledge_manually(topic_filter, wanted=manual_ack)
        self._session.want(topic_filter, qos)
        self._reconcile()

    def unsubscribe(self, topic_filter: str) -> None:
        """Leave ``topic_filter``."""
        self.acknowledge_manually(topic_filter, wanted=False)
        self._session.forget(topic_filter)
        self._reconcile()

    def acknowledge_manually(self, topic_filter: str, *, wanted: bool) -> None:
        """Whether messages of ``topic_filter`` wait for ``acknowledge``."""
        self._manual.discard(topic_filter, None)
        if wanted:
            self._manual.add(topic_filter, None)

    def acknowledge(self, packet_id: int, qos: int) -> None:
        """Acknowledge a message; one of an earlier connection is not ours any more."""
        if packet_id in self._unacknowledged and self._client:
            self._unacknowledged.discard(packet_id)
            # paho reads this flag when it acknowledges, and after each message.
            self._client.manual_ack_set(True)
            self._client.ack(packet_id & ((1 << _ID_BITS) - 1), qos)
            self._client.manual_ack_set(False)

    def _reconcile(self) -> None:
        client = self._client
        if client is None or client.socket() is None:
            return
        if hopeless := self._session.hopeless(self._limits.objection):
            self._tell_refused(hopeless)
        if surplus := self._session.surplus():
            client.unsubscribe(surplus)
            self._session.left(surplus)
        numbered = self._limits.identifiers_available
        for batch in self._session.missing(numbered=numbered):
            number = self._session.number(batch[0][0]) if numbered else None
            _, packet_id = client.subscribe(batch, properties=subscribe_properties(number) if number else None)
            if packet_id is not None:
                self._session.asked(packet_id, [topic_filter for topic_filter, _ in batch])

    def _on_message(self, client: Client, _data: Any, received: MQTTMessage) -> None:
        try:
            topic = received.topic
        except UnicodeDecodeError:
            log.warning("a message from %s has a topic that is no UTF-8; it is dropped", self._address)
            return
        packet_id = self._connections << _ID_BITS | received.mid if received.qos else 0
        manual = bool(received.qos and self._manual.match(topic))
        client.manual_ack_set(manual)
        if manual:
            self._unacknowledged.add(packet_id)
        filters = self._session.meant(identifiers_of(received), topic)
        self._arrived.append((message_of(received, topic, packet_id), filters))

    def _on_subscribe(
        self, _client: Client, _data: Any, packet_id: int, reasons: Sequence[ReasonCode], _more: Any
    ) -> None:
        failures = [str(reason) if reason.is_failure else None for reason in reasons]
        self._tell_refused(self._session.answered(packet_id, failures))

    def _tell_refused(self, refused: dict[str, str]) -> None:
        for topic_filter, reason in refused.items():
            log.warning("%s refuses the subscription to %r: %s", self._address, topic_filter, reason)
        self._subscribed(dict(self._session.refused))
