"""What the broker takes, and what is done with a message past it.

MQTT 5 brokers say their limits in the CONNACK.  MQTT 3.1.1 brokers close the connection when a packet is
too large for them, and a client that keeps its promise to re-send does so for ever: ``SizeSuspicion``
finds that size out and has it refused instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.errors import PublishError
from agent.mqtt.transport import Message
from agent.topics import valid_topic

__all__ = ["MQTT_5", "MQTT_311", "BrokerLimits", "SizeSuspicion", "publish_bytes"]

MQTT_5 = 5
MQTT_311 = 4
"""3.1.1 as it stands in the CONNECT packet."""

MAX_PACKET_BYTES = 268_435_460
"""The largest packet that MQTT can express: a remaining length of 2²⁸ - 1 and the header."""

_DEFAULT_WINDOW = 20
"""Unacknowledged messages sent to a broker that names no maximum: what brokers commonly take."""
_MAX_WINDOW = 64
_BYTE_LIMIT = 128


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """What one broker takes; the defaults are those of a broker that says nothing."""

    maximum_packet_size: int = MAX_PACKET_BYTES
    receive_maximum: int = _DEFAULT_WINDOW
    maximum_qos: int = 2
    retain_available: bool = True
    wildcard_available: bool = True
    shared_available: bool = True
    identifiers_available: bool = True
    """Whether a message can say which subscriptions it is for."""
    topic_alias_maximum: int = 0
    version: int = MQTT_5
    source: str = "MQTT"
    """Who set ``maximum_packet_size``, for the message."""

    @classmethod
    def from_connack(cls, properties: Mapping[str, int], *, version: int = MQTT_5) -> BrokerLimits:
        """Read the properties of a CONNACK, named as in the standard without blanks."""
        size = properties.get("MaximumPacketSize")
        return cls(
            maximum_packet_size=MAX_PACKET_BYTES if size is None else size,
            receive_maximum=properties.get("ReceiveMaximum", _MAX_WINDOW if version == MQTT_5 else _DEFAULT_WINDOW),
            maximum_qos=properties.get("MaximumQoS", 2),
            retain_available=bool(properties.get("RetainAvailable", 1)),
            wildcard_available=bool(properties.get("WildcardSubscriptionAvailable", 1)),
            shared_available=bool(properties.get("SharedSubscriptionAvailable", 1)),
            identifiers_available=version == MQTT_5 and bool(properties.get("SubscriptionIdentifierAvailable", 1)),
            topic_alias_maximum=properties.get("TopicAliasMaximum", 0),
            version=version,
            source="MQTT" if size is None else "the broker",
        )

    @property
    def window(self) -> int:
        """How many messages of QoS 1 and 2 are sent ahead of their acknowledgements."""
        return min(self.receive_maximum, _MAX_WINDOW)

    def capped(self, max_packet_bytes: int | None, source: str) -> BrokerLimits:
        """These limits with a smaller packet size, if it is smaller."""
        if max_packet_bytes is None or max_packet_bytes >= self.maximum_packet_size:
            return self
        return replace(self, maximum_packet_size=max_packet_bytes, source=source)

    def check(self, message: Message) -> int:
        """The bytes of the message's packet; raises ``PublishError`` for a message that would never pass."""
        if not valid_topic(message.topic):
            raise PublishError(
                f"{message.topic!r} is no topic to publish on", code="bad-topic", hint="no wildcards or control codes"
            )
        size = publish_bytes(message, version=self.version)
        if size > self.maximum_packet_size:
            raise PublishError(
                f"a message of {size} bytes for {message.topic!r} is larger than the {self.maximum_packet_size} bytes"
                f" that {self.source} allows",
                code="packet-too-large",
                hint="send less (a smaller or stronger compressed picture) or raise the broker's maximum packet size",
            )
        return size

    def fitted(self, message: Message) -> Message:
        """The message with its QoS and retain flag lowered to what the broker takes."""
        if message.qos <= self.maximum_qos and (self.retain_available or not message.retain):
            return message
        return replace(message, qos=min(message.qos, self.maximum_qos), retain=message.retain and self.retain_available)

    def objection(self, topic_filter: str) -> str | None:
        """Why the broker would not take this filter, or None."""
        if not self.shared_available and topic_filter.startswith("$share/"):
            return "the broker has no shared subscriptions"
        if not self.wildcard_available and ("+" in topic_filter or "#" in topic_filter):
            return "the broker has no wildcard subscriptions"
        return None


def publish_bytes(message: Message, *, version: int = MQTT_5) -> int:
    """Size of the PUBLISH packet that carries ``message``, header, topic and properties included."""
    remaining = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + len(message.payload)
    if version == MQTT_5:
        properties = _property_bytes(message)
        remaining += _varint_bytes(properties) + properties
    return 1 + _varint_bytes(remaining) + remaining


def _property_bytes(message: Message) -> int:
    size = (0 if message.expiry_s is None else 5) + (2 if message.is_text else 0)
    for value in (message.content_type, message.response_topic):
        size += 0 if value is None else 3 + len(value.encode())
    size += 0 if message.correlation_data is None else 3 + len(message.correlation_data)
    return size + sum(5 + len(key.encode()) + len(value.encode()) for key, value in message.user_properties)


def _varint_bytes(value: int) -> int:
    size = 1
    while value >= _BYTE_LIMIT:
        value //= _BYTE_LIMIT
        size += 1
    return size


class SizeSuspicion:
    """Finds out which packet size makes a broker hang up without a word.

    A drop while a packet larger than any that was acknowledged had just been sent is a strike; two in a
    row are taken as proof.  The proof expires, for the network may have failed twice by chance: the first
    connection after ``HOLDS_FOR_S`` is without it.
    """

    STRIKES = 2
    SUSPICIOUS_BYTES = 4096
    HOLDS_FOR_S = 600.0

    def __init__(self) -> None:
        self._largest_taken = self.SUSPICIOUS_BYTES
        self._strikes: list[int] = []
        self._limit: int | None = None
        self._expires = 0.0

    def taken(self, size: int) -> None:
        """The broker acknowledged a packet of ``size`` bytes."""
        if size > self._largest_taken:
            self._largest_taken = size
            self._strikes.clear()

    def dropped(self, largest_sent: int, now: float, *, said: bool = False) -> bool:
        """The broker hung up after packets up to ``largest_sent`` bytes; True when that is now proof.

        ``said``: the broker said that a packet was too large.
        """
        if largest_sent <= self._largest_taken:
            return False
        self._strikes.append(largest_sent)
        if len(self._strikes) < self.STRIKES and not said:
            return False
        self._limit = min(self._strikes) - 1
        self._expires = now + self.HOLDS_FOR_S
        self._strikes.clear()
        return True

    def limit(self, now: float) -> int | None:
        """The largest packet to send, or None while nothing is proven; ``now`` is monotonic seconds."""
        if self._limit is not None and now >= self._expires:
            self._limit = None
        return self._limit
