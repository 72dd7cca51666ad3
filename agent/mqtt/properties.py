"""Between our ``Message`` and paho's messages and properties.

What a message is published with is packed here: paho takes some 30 µs to set and pack two properties, more than for
the rest of the packet.
"""

from __future__ import annotations

from struct import Struct

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.errors import PublishError
from agent.mqtt.transport import Message
from agent.topics import valid_text

__all__ = [
    "connack_limits",
    "connect_properties",
    "identifiers_of",
    "message_of",
    "publish_properties",
    "subscribe_properties",
]

_EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA, _USER_PROPERTY = b"\x02", b"\x03", b"\x08", b"\x09", b"\x26"
_two_bytes, _four_bytes = Struct("!H").pack, Struct("!I").pack
_MAX_TEXT, _MAX_EXPIRY_S = 2**16 - 1, 2**32 - 1
_MORE = 0x80
_SHOWN = 40

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
    return vars(received.properties).get("SubscriptionIdentifier", []) if received.properties else []


class _Packed(Properties):
    """Properties that paho only has to copy."""

    packed: bytes

    def __init__(self, packed: bytes) -> None:
        vars(self)["packed"] = packed  # a plain assignment is paho's, which knows MQTT's names only

    def pack(self) -> bytes:
        return self.packed


def publish_properties(message: Message) -> Properties | None:
    """The MQTT 5 properties of a message to be published or left as a will; None when it has none.

    Raises ``PublishError`` for a value that MQTT cannot carry.
    """
    parts = []
    if message.expiry_s is not None:
        if not 0 <= message.expiry_s <= _MAX_EXPIRY_S:
            raise _no_property(f"an expiry of {message.expiry_s} s")
        parts += [_EXPIRY, _four_bytes(message.expiry_s)]
    if message.content_type is not None:
        parts += [_CONTENT_TYPE, _text(message.content_type)]
    if message.response_topic is not None:
        parts += [_RESPONSE_TOPIC, _text(message.response_topic)]
    if message.correlation_data is not None:
        parts += [_CORRELATION_DATA, _counted(message.correlation_data)]
    for key, value in message.user_properties:
        parts += [_USER_PROPERTY, _text(key), _text(value)]
    if not parts:
        return None
    packed = b"".join(parts)
    return _Packed(_varint(len(packed)) + packed)


def _text(text: str) -> bytes:
    if not valid_text(text):
        raise _no_property(f"{text[:_SHOWN]!r}")
    data = text.encode()
    return _two_bytes(len(data)) + data


def _counted(data: bytes) -> bytes:
    if len(data) > _MAX_TEXT:
        raise _no_property(f"{len(data)} bytes")
    return _two_bytes(len(data)) + data


def _varint(value: int) -> bytes:
    """An MQTT variable byte integer: seven bits a byte, the lowest first."""
    packed = bytearray()
    while value >= _MORE:
        packed.append(value % _MORE | _MORE)
        value //= _MORE
    packed.append(value)
    return bytes(packed)


def _no_property(what: str) -> PublishError:
    hint = f"at most {_MAX_TEXT} bytes, no control characters in texts, an expiry of 0 to {_MAX_EXPIRY_S} s"
    return PublishError(f"{what} cannot be a message's property", code="bad-property", hint=hint)


def message_of(received: MQTTMessage, topic: str, packet_id: int) -> Message:
    """A received message; ``packet_id`` as ``Transport.acknowledge`` wants it."""
    payload = bytes(received.payload)  # bytes already: no copy
    if received.properties is None:
        return Message(topic, payload, received.qos, received.retain, packet_id=packet_id)
    given = vars(received.properties)
    return Message(
        topic,
        payload,
        received.qos,
        received.retain,
        content_type=given.get("ContentType"),
        response_topic=given.get("ResponseTopic"),
        correlation_data=given.get("CorrelationData"),
        user_properties=tuple(given.get("UserProperty", ())),
        expiry_s=given.get("MessageExpiryInterval"),
        packet_id=packet_id,
    )
