"""Between our ``Message`` and paho's messages and properties."""

from __future__ import annotations

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.transport.base import Message

__all__ = [
    "connack_limits",
    "connect_properties",
    "identifiers_of",
    "message_of",
    "publish_properties",
    "subscribe_properties",
]

_LIMITS = (
    "MaximumPacketSize",
    "ReceiveMaximum",
    "MaximumQoS",
    "RetainAvailable",
    "WildcardSubscriptionAvailable",
    "SharedSubscriptionAvailable",
    "SubscriptionIdentifierAvailable",
    "TopicAliasMaximum",
)


def connack_limits(properties: Properties | None) -> dict[str, int]:
    """The limits that a CONNACK names."""
    return {name: getattr(properties, name) for name in _LIMITS if hasattr(properties, name)}


def connect_properties(*, session_expiry_s: int, receive_maximum: int) -> Properties:
    """What a CONNECT asks for."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    properties.ReceiveMaximum = receive_maximum
    return properties


def subscribe_properties(identifier: int) -> Properties:
    """What a SUBSCRIBE carries so that its messages tell that they are for it."""
    properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
    properties.SubscriptionIdentifier = identifier
    return properties


def identifiers_of(received: MQTTMessage) -> list[int]:
    """The subscriptions that a received message says it is for."""
    return getattr(received.properties, "SubscriptionIdentifier", [])


def publish_properties(message: Message, packet_type: int = PacketTypes.PUBLISH) -> Properties | None:
    """The MQTT 5 properties of a message to be published or left as a will; None when it has none."""
    given = {
        "ContentType": message.content_type,
        "ResponseTopic": message.response_topic,
        "CorrelationData": message.correlation_data,
        "MessageExpiryInterval": message.expiry_s,
        "UserProperty": list(message.user_properties) or None,
    }
    if all(value is None for value in given.values()):
        return None
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in given.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


def message_of(received: MQTTMessage, topic: str, packet_id: int) -> Message:
    """A received message; ``packet_id`` as ``Transport.acknowledge`` wants it."""
    payload = bytes(received.payload)  # bytes already: no copy
    properties = received.properties
    if properties is None:
        return Message(topic, payload, received.qos, received.retain, packet_id=packet_id)
    return Message(
        topic,
        payload,
        received.qos,
        received.retain,
        content_type=getattr(properties, "ContentType", None),
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation_data=getattr(properties, "CorrelationData", None),
        user_properties=tuple(getattr(properties, "UserProperty", ())),
        expiry_s=getattr(properties, "MessageExpiryInterval", None),
        packet_id=packet_id,
    )
