"""Local publish and subscribe: messages between components, and between them and the agent's own services.

Nothing is kept: a message that nobody subscribed to is gone, and there is no quality of service but the order of each
publisher.  A subscriber whose filter has wildcards does not get its own messages unless it asks for all
(``receiveMode``); one without gets them.  (``PubSubIPCEventStreamAgent.java``.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from msgspec import Raw, Struct

from agent.greengrass.ipc.errors import InvalidArgumentsError
from agent.greengrass.ipc.operations import NOTHING, Call, Operation, Permit, Reply
from agent.greengrass.ipc.topics import TopicIndex, is_filter

__all__ = ["PUBSUB", "LocalBus", "LocalMessage", "PubSub"]

PUBSUB: Final = "aws.greengrass.ipc.pubsub"
_LONGEST: Final = 65_535
_OTHERS: Final = "RECEIVE_MESSAGES_FROM_OTHERS"
_OPENED: Final = b"{"

ReceiveMode: TypeAlias = Literal["RECEIVE_ALL_MESSAGES", "RECEIVE_MESSAGES_FROM_OTHERS"]


@dataclass(frozen=True, slots=True)
class LocalMessage:
    """What is published; ``payload`` is a JSON object where ``is_json``, else any bytes."""

    topic: str
    payload: bytes
    is_json: bool = False
    publisher: str = ""
    """The component that published it; empty for the agent's own services."""


Listener: TypeAlias = Callable[[LocalMessage], None]


class _Subscription:
    """One listener on one filter; ``own`` is whose messages it does not want."""

    __slots__ = ("listener", "own")

    def __init__(self, listener: Listener, own: str | None) -> None:
        self.listener = listener
        self.own = own


class LocalBus:
    """Hands messages to whoever subscribed, at once and in order."""

    def __init__(self) -> None:
        self._index: TopicIndex[_Subscription] = TopicIndex()

    def publish(self, message: LocalMessage) -> None:
        """Hand a message on."""
        for subscription in self._index.match(message.topic):
            if subscription.own is None or subscription.own != message.publisher:
                subscription.listener(message)

    def subscribe(self, topic_filter: str, listener: Listener, *, own: str | None = None) -> Callable[[], None]:
        """Have messages handed to ``listener``; the result ends that.  Those of ``own`` are left out."""
        subscription = _Subscription(listener, own)
        self._index.add(topic_filter, subscription)

        def close() -> None:
            self._index.remove(topic_filter, subscription)

        return close


class _Binary(Struct, frozen=True):
    message: bytes | None = None


class _Json(Struct, frozen=True):
    message: Raw = Raw(b"null")


class _PublishMessage(Struct, frozen=True, rename="camel"):
    json_message: _Json | None = None
    binary_message: _Binary | None = None


class _Publish(Struct, frozen=True, rename="camel"):
    topic: str | None = None
    publish_message: _PublishMessage | None = None


class _Subscribe(Struct, frozen=True, rename="camel"):
    topic: str | None = None
    receive_mode: ReceiveMode | None = None


@dataclass(frozen=True)
class PubSub:
    """The operations of local publish and subscribe."""

    bus: LocalBus
    permit: Permit

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("PublishToTopic", _Publish, self._publish),
            Operation("SubscribeToTopic", _Subscribe, self._subscribe),
        )

    def _publish(self, request: _Publish, call: Call) -> Reply:
        topic = _topic(request.topic)
        if is_filter(topic) or "*" in topic:
            raise InvalidArgumentsError(f"{topic!r} has wildcards: a message is published to one topic")
        payload, is_json = _content(request.publish_message)
        self.permit(call, PUBSUB, topic)
        self.bus.publish(LocalMessage(topic, payload, is_json, call.caller.name))
        return NOTHING

    def _subscribe(self, request: _Subscribe, call: Call) -> Reply:
        topic = _topic(request.topic)
        self.permit(call, PUBSUB, topic)
        others = request.receive_mode == _OTHERS or (request.receive_mode is None and is_filter(topic))
        own = call.caller.name if others else None
        call.on_close(self.bus.subscribe(topic, lambda message: call.send(_event(message)), own=own))
        return {"topicName": topic}


def _topic(topic: str | None) -> str:
    if not topic:
        raise InvalidArgumentsError("topic is missing")
    if len(topic.encode()) > _LONGEST:
        raise InvalidArgumentsError(f"topic is longer than {_LONGEST} bytes")
    return topic


def _content(message: _PublishMessage | None) -> tuple[bytes, bool]:
    """The bytes of a message, and whether they are JSON."""
    if message is None:
        raise InvalidArgumentsError("publishMessage is missing")
    if message.json_message is not None:
        content = bytes(message.json_message.message)
        if not content.lstrip().startswith(_OPENED):
            raise InvalidArgumentsError("jsonMessage.message is no object")
        return content, True
    if message.binary_message is not None and message.binary_message.message is not None:
        return message.binary_message.message, False
    raise InvalidArgumentsError("publishMessage holds neither a jsonMessage nor a binaryMessage")


def _event(message: LocalMessage) -> Reply:
    kind, content = ("jsonMessage", Raw(message.payload)) if message.is_json else ("binaryMessage", message.payload)
    return {kind: {"message": content, "context": {"topic": message.topic}}}
