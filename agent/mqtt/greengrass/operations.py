"""Messages as requests to a nucleus, and its events as messages.

Local publish/subscribe carries a payload and its topic; IoT Core's messages keep their properties.  Payloads are always
published as bytes, so that they arrive as they were written; JSON that another component published comes as the text
that it had on the socket.  No event says which QoS a message had.  (awsiotsdk, ``greengrasscoreipc/model.py``.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from agent.errors import InvalidInputError
from agent.mqtt.greengrass.places import Place
from agent.mqtt.transport import Message
from agent.topics import valid_topic

__all__ = ["Request", "UnreadableEventError", "publishing", "received", "subscribing"]

_encode = msgspec.json.Encoder().encode
_JSON: Final = "application/json"


class Request(NamedTuple):
    """An operation and what is asked of it."""

    operation: str
    payload: bytes


class UnreadableEventError(InvalidInputError):
    """An event of the nucleus that holds no message."""

    default_code = "unreadable-event"


# -- out ---------------------------------------------------------------------------------------------------------------


def publishing(message: Message, place: Place) -> Request:
    """The request that publishes a message."""
    if place is Place.LOCAL:
        content = {"topic": message.topic, "publishMessage": {"binaryMessage": {"message": message.payload}}}
        return Request("PublishToTopic", _encode(content))
    named = {"topicName": message.topic, "qos": str(message.qos)}
    return Request("PublishToIoTCore", _encode(named | {"payload": message.payload} | _properties(message)))


def _properties(message: Message) -> dict[str, Any]:
    there = {
        "retain": message.retain or None,
        "payloadFormat": "1" if message.is_text else None,
        "contentType": message.content_type,
        "responseTopic": message.response_topic,
        "correlationData": message.correlation_data,
        "messageExpiryIntervalSeconds": message.expiry_s,
        "userProperties": [{"key": key, "value": value} for key, value in message.user_properties] or None,
    }
    return {name: value for name, value in there.items() if value is not None}


def subscribing(topic_filter: str, qos: int, place: Place) -> Request:
    """The request that subscribes to a filter; what the agent publishes itself comes too, as from a broker."""
    if place is Place.LOCAL:
        content = {"topic": topic_filter, "receiveMode": "RECEIVE_ALL_MESSAGES"}
        return Request("SubscribeToTopic", _encode(content))
    return Request("SubscribeToIoTCore", _encode({"topicName": topic_filter, "qos": str(min(qos, 1))}))


# -- in ----------------------------------------------------------------------------------------------------------------


class _Context(Struct):
    topic: str | None = None


class _Binary(Struct):
    message: bytes = b""
    context: _Context | None = None


class _Json(Struct):
    message: Raw = Raw(b"null")
    context: _Context | None = None


class _Local(Struct, rename="camel"):
    binary_message: _Binary | None = None
    json_message: _Json | None = None


class _Property(Struct):
    key: str
    value: str


class _Mqtt(Struct, rename="camel"):
    topic_name: str
    payload: bytes | None = None
    retain: bool | None = None
    user_properties: tuple[_Property, ...] | None = None
    message_expiry_interval_seconds: float | None = None
    correlation_data: bytes | None = None
    response_topic: str | None = None
    content_type: str | None = None
    payload_format: str | None = None


class _IotCore(Struct):
    message: _Mqtt


_decode_local = msgspec.json.Decoder(_Local).decode
_decode_iot_core = msgspec.json.Decoder(_IotCore).decode


def received(payload: bytes, place: Place, topic_filter: str) -> Message:
    """The message of an event that came for a filter.  Raises ``UnreadableEventError``."""
    try:
        message = _READERS[place](payload, topic_filter)
    except msgspec.DecodeError as error:
        raise UnreadableEventError(f"an event for {topic_filter!r} cannot be read: {error}") from error
    if not valid_topic(message.topic):
        raise UnreadableEventError(f"an event for {topic_filter!r} says no topic")
    return message


def _local(payload: bytes, topic_filter: str) -> Message:
    event = _decode_local(payload)
    content = event.binary_message or event.json_message
    if content is None:
        raise UnreadableEventError(f"an event for {topic_filter!r} holds no message")
    # Old nuclei do not say the topic, which is the filter's where that has no wildcard.
    topic = (content.context and content.context.topic) or topic_filter
    if isinstance(content, _Binary):
        return Message(topic, content.message)
    return Message(topic, bytes(content.message), content_type=_JSON)


def _iot_core(payload: bytes, _: str) -> Message:
    event = _decode_iot_core(payload).message
    expiry_s = event.message_expiry_interval_seconds
    return Message(
        event.topic_name,
        event.payload or b"",
        retain=bool(event.retain),
        content_type=event.content_type,
        response_topic=event.response_topic,
        correlation_data=event.correlation_data,
        user_properties=tuple((one.key, one.value) for one in event.user_properties or ()),
        expiry_s=None if expiry_s is None else int(expiry_s),
        is_text=event.payload_format == "1",
    )


_READERS: Final[Mapping[Place, Callable[[bytes, str], Message]]] = {Place.LOCAL: _local, Place.IOT_CORE: _iot_core}
