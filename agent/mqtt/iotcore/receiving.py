"""The receiving half of a link: subscriptions kept in force, messages passed on, acknowledgements.

Every message of QoS 1 is acknowledged by us: when its handlers returned, or, where a subscription says so, when
``acknowledge`` is called.  So the broker never has more on its way than ``receive_maximum``, and sends again what a
process that died had not handled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.mqtt.iotcore.awscrt import Arrived, Client
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.subscriptions import Session
from agent.mqtt.transport import Message
from agent.topics import TopicTable

__all__ = ["Receiving"]

log = logging.getLogger("agent.mqtt.iotcore")


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
        self._manual: TopicTable[None] = TopicTable()
        self._unacknowledged: dict[int, Any] = {}
        self._count = 0

    def up(self, client: Client, limits: BrokerLimits, *, session_present: bool) -> None:
        """Bring the broker's subscriptions in line with the wanted ones."""
        self._client = client
        self._limits = limits
        self._unacknowledged.clear()
        self._session.begin(present=session_present)
        self._reconcile()

    def down(self) -> None:
        """The link is lost."""
        self._client = None

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

    def acknowledge(self, packet_id: int, _qos: int) -> None:
        """Acknowledge a message; one of an earlier connection is not ours any more."""
        acknowledgement = self._unacknowledged.pop(packet_id, None)
        if acknowledgement is not None and self._client:
            self._client.acknowledge(acknowledgement)

    def arrived(self, event: Arrived) -> None:
        """Pass a message on."""
        message = event.message
        if message.qos:
            self._count += 1
            message = replace(message, packet_id=self._count)
            self._unacknowledged[self._count] = event.acknowledgement
        self._received(message, self._session.meant(event.identifiers, message.topic))
        if message.qos and not self._manual.match(message.topic):
            self.acknowledge(message.packet_id, message.qos)

    def answered(self, ticket: int, failures: tuple[str | None, ...]) -> None:
        """The broker answered a SUBSCRIBE, with a reason for each filter that failed."""
        self._tell_refused(self._session.answered(ticket, failures))

    def _reconcile(self) -> None:
        client = self._client
        if client is None:
            return
        if hopeless := self._session.hopeless(self._limits.objection):
            self._tell_refused(hopeless)
        if surplus := self._session.surplus():
            client.unsubscribe(surplus)
            self._session.left(surplus)
        numbered = self._limits.identifiers_available
        for batch in self._session.missing(numbered=numbered):
            self._count += 1
            client.subscribe(self._count, batch, self._session.number(batch[0][0]) if numbered else None)
            self._session.asked(self._count, [topic_filter for topic_filter, _ in batch])

    def _tell_refused(self, refused: dict[str, str]) -> None:
        for topic_filter, reason in refused.items():
            log.warning("%s refuses the subscription to %r: %s", self._address, topic_filter, reason)
        self._subscribed(dict(self._session.refused))
