"""The sending half of a link: from the outbox through the broker's limits to paho, and each one's end.

The window of unacknowledged messages is kept here and not by paho, which
forgets it when it sends again after an outage and is then cut off by brokers that count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import NotConnectedError, PublishError, VergeError
from agent.mqtt.inflight import Outbox, Parcel
from agent.mqtt.limits import MQTT_5, BrokerLimits, SizeSuspicion, publish_bytes
from agent.mqtt.properties import publish_properties
from agent.mqtt.transport import Message

__all__ = ["Sending"]

log = logging.getLogger("agent.mqtt.client")

_RECENT_S = 1.0
"""How long after it was written a QoS 0 message may be what the broker hung up on."""


class Sending:
    """What is on its way to the broker at ``address``; ``ended`` hears of each parcel's end, once."""

    def __init__(self, address: str, ended: Callable[[Parcel, VergeError | None], None]) -> None:
        self.outbox = Outbox()
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
        for parcel in self.outbox.unsendable():
            self._ended(parcel, _lost(parcel))

    def publish(self, parcel: Parcel) -> None:
        """Send ``parcel`` in its turn."""
        if self._client is None and not parcel.message.qos:
            self._ended(parcel, _lost(parcel))
        else:
            self.outbox.add(parcel)
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window goes."""
        while self._client and self._client.socket():
            parcel = self.outbox.next(self._limits.window)
            if parcel is None or not self._send(self._client, parcel):
                return

    def suspect_size(self, *, told: bool) -> bool:
        """The broker hung up: whether it is now proven that a packet was too large for it."""
        now = time.monotonic()
        written_at, size = self._written
        sizes = [publish_bytes(parcel.message, version=self._limits.version) for parcel in self.outbox.flying]
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

    def _send(self, client: Client, parcel: Parcel) -> bool:
        message = self._limits.fitted(parcel.message)
        try:
            self._limits.check(message)
            properties = publish_properties(message) if self._limits.version == MQTT_5 else None
        except PublishError as error:
            self._ended(parcel, error)
            return True
        info = self._hand_over(client, message, properties)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # the packet id is still in use
            self.outbox.put_back(parcel)
            return False
        if message.qos:
            self.outbox.sent(info.mid, parcel, message.qos)
        elif info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._ended(parcel, _lost(parcel))
        elif info.is_published():
            self._wrote(parcel)
        else:
            self.outbox.sent(info.mid, parcel, 0)
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
        flight = self.outbox.ended(packet_id)
        if flight is None:  # QoS 0, written before publish() returned
            return
        parcel, qos = flight
        if reason.is_failure:
            self._ended(parcel, _refused(parcel, str(reason)))
        elif not qos:
            self._wrote(parcel)
        else:
            self._suspicion.taken(publish_bytes(parcel.message, version=self._limits.version))
            self._ended(parcel, None)

    def _wrote(self, parcel: Parcel) -> None:
        self._written = (time.monotonic(), publish_bytes(parcel.message, version=self._limits.version))
        self._ended(parcel, None)


def _lost(parcel: Parcel) -> NotConnectedError:
    return NotConnectedError(
        f"a QoS 0 message for {parcel.message.topic!r} was lost with the link",
        hint="publish with QoS 1 what must arrive",
    )


def _refused(parcel: Parcel, reason: str) -> PublishError:
    return PublishError(
        f"the broker refused a message for {parcel.message.topic!r}: {reason}",
        hint="check the broker's access rules and quotas",
    )
