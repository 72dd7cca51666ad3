"""The sending half of a link: from the outbox through the broker's limits to paho, and each one's end.

The window of unacknowledged messages is kept here and not by paho, which
forgets it when it sends again after an outage and is then cut off by brokers that count.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import NotConnectedError, PublishError, VergeError
from agent.mqtt.limits import MQTT_5, BrokerLimits, SizeSuspicion, publish_bytes
from agent.mqtt.paho import publish_properties
from agent.mqtt.transport import Delivered, Message

__all__ = ["OutgoingMessage", "SendQueue", "Sending"]

log = logging.getLogger("agent.mqtt.client")

_RECENT_S = 1.0
"""How long after it was written a QoS 0 message may be what the broker hung up on."""


class Sending:
    """What is on its way to the broker at ``address``; ``ended`` hears of each parcel's end, once."""

    def __init__(self, address: str, ended: Callable[[OutgoingMessage, VergeError | None], None]) -> None:
        self.queue = SendQueue()
        self._address = address
        self._ended = ended
        self._suspicion = SizeSuspicion()
        self._limits = BrokerLimits()
        self._client: Client | None = None
        self._written = (0.0, 0)
        """When the last QoS 0 message was written, and its size."""

    def attach(self, client: Client) -> None:
        """Hear of the acknowledgements that ``client`` gets."""
        client.on_publish = self._on_publish

    def up(self, client: Client, limits: BrokerLimits) -> BrokerLimits:
        """Send what waits through ``client``; gives the limits that hold, with what was found out about them."""
        found = self._suspicion.limit(time.monotonic())
        self._limits = limits.capped(found, "the broker (it hung up twice on larger ones)")
        self._client = client
        self.flush()
        return self._limits

    def down(self) -> None:
        """The link is lost: QoS 0 messages with it, the others wait for the next."""
        self._client = None
        for outgoing in self.queue.unsendable():
            self._ended(outgoing, _lost(outgoing))

    def publish(self, outgoing: OutgoingMessage) -> None:
        """Send ``outgoing`` in its turn."""
        if self._client is None and not outgoing.message.qos:
            self._ended(outgoing, _lost(outgoing))
        else:
            self.queue.add(outgoing)
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window goes."""
        while self._client and self._client.socket():
            outgoing = self.queue.next(self._limits.window)
            if outgoing is None or not self._send(self._client, outgoing):
                return

    def suspect_size(self, *, told: bool) -> bool:
        """The broker hung up: whether it is now proven that a packet was too large for it."""
        now = time.monotonic()
        written_at, size = self._written
        sizes = [publish_bytes(outgoing.message, version=self._limits.version) for outgoing in self.queue.in_flight]
        sizes += [size] if now - written_at < _RECENT_S else []
        if not self._suspicion.dropped(max(sizes, default=0), now, told=told):
            return False
        log.warning(
            "%s hangs up on packets of %d bytes; such are refused for now"
            " (hint: raise its maximum packet size, or set max_packet_bytes)",
            self._address,
            max(sizes),
        )
        return True

    def _send(self, client: Client, outgoing: OutgoingMessage) -> bool:
        message = self._limits.fitted(outgoing.message)
        try:
            self._limits.check(message)
            properties = publish_properties(message) if self._limits.version == MQTT_5 else None
        except PublishError as error:
            self._ended(outgoing, error)
            return True
        info = self._hand_over(client, message, properties)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # the packet id is still in use
            self.queue.put_back(outgoing)
            return False
        if message.qos:
            self.queue.sent(info.mid, outgoing, message.qos)
        elif info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._ended(outgoing, _lost(outgoing))
        elif info.is_published():
            self._wrote(outgoing)
        else:
            self.queue.sent(info.mid, outgoing, 0)
        return True

    def _hand_over(self, client: Client, message: Message, properties: Properties | None) -> MQTTMessageInfo:
        # Of a QoS 0 message that is written at once the result tells; to call back costs paho as much as to write.
        quiet = not message.qos and not client.want_write()
        if quiet:
            client.on_publish = None
        try:
            return client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        finally:
            if quiet:
                client.on_publish = self._on_publish

    def _on_publish(self, _client: Client, _data: Any, packet_id: int, reason: ReasonCode, _more: Properties) -> None:
        flight = self.queue.ended(packet_id)
        if flight is None:  # QoS 0, written before publish() returned
            return
        outgoing, qos = flight
        if reason.is_failure:
            self._ended(outgoing, _refused(outgoing, str(reason)))
        elif not qos:
            self._wrote(outgoing)
        else:
            self._suspicion.taken(publish_bytes(outgoing.message, version=self._limits.version))
            self._ended(outgoing, None)

    def _wrote(self, outgoing: OutgoingMessage) -> None:
        self._written = (time.monotonic(), publish_bytes(outgoing.message, version=self._limits.version))
        self._ended(outgoing, None)


def _lost(outgoing: OutgoingMessage) -> NotConnectedError:
    return NotConnectedError(
        f"a QoS 0 message for {outgoing.message.topic!r} was lost with the link",
        hint="publish with QoS 1 what must arrive",
    )


def _refused(outgoing: OutgoingMessage, reason: str) -> PublishError:
    return PublishError(
        f"the broker refused a message for {outgoing.message.topic!r}: {reason}",
        hint="check the broker's access rules and quotas",
    )


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingMessage:
    """A message on its way and who wants to know how it ended."""

    message: Message
    on_delivered: Delivered | None


class SendQueue:
    """The waiting and the flying; bounded by whoever adds."""

    def __init__(self) -> None:
        self._waiting: deque[OutgoingMessage] = deque()
        self._in_flight: dict[int, tuple[OutgoingMessage, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        yield from (outgoing for outgoing, _ in self._in_flight.values())
        yield from self._waiting

    @property
    def in_flight(self) -> list[OutgoingMessage]:
        """What is sent and not acknowledged."""
        return [outgoing for outgoing, _ in self._in_flight.values()]

    def add(self, outgoing: OutgoingMessage) -> None:
        """Have ``outgoing`` wait behind all others."""
        self._waiting.append(outgoing)

    def next(self, window: int) -> OutgoingMessage | None:
        """Take the first that waits, or None when none does or ``window`` are in flight."""
        return self._waiting.popleft() if self._waiting and len(self._in_flight) < window else None

    def put_back(self, outgoing: OutgoingMessage) -> None:
        """Have ``outgoing`` wait before all others: it could not be sent after all."""
        self._waiting.appendleft(outgoing)

    def sent(self, packet_id: int, outgoing: OutgoingMessage, qos: int) -> None:
        """``outgoing`` flies under ``packet_id``, with the QoS that the broker takes."""
        self._in_flight[packet_id] = (outgoing, qos)

    def ended(self, packet_id: int) -> tuple[OutgoingMessage, int] | None:
        """Take what flew under ``packet_id`` and with which QoS; None when it is not known."""
        return self._in_flight.pop(packet_id, None)

    def requeue_in_flight(self) -> None:
        """Have what flies wait again, first: its packet ids mean nothing any more."""
        self._waiting.extendleft(outgoing for outgoing, _ in reversed(self._in_flight.values()))
        self._in_flight.clear()

    def unsendable(self) -> list[OutgoingMessage]:
        """Take what is QoS 0: the link is lost, and they with it."""
        lost = [outgoing for outgoing, qos in self._in_flight.values() if not qos]
        lost += [outgoing for outgoing in self._waiting if not outgoing.message.qos]
        self._in_flight = {packet_id: flight for packet_id, flight in self._in_flight.items() if flight[1]}
        self._waiting = deque(outgoing for outgoing in self._waiting if outgoing.message.qos)
        return lost
