"""IoT Core for components: publish, subscribe and the state of the link, over the agent's own connection.

What is published with QoS 1 while there is no link waits in the send queue, or in the outbox where the transport has
one; what finds no room there is answered with an error.  Components that subscribe to the same filter share a
subscription; where filters overlap, each stream gets a message once.  (``MqttProxyIPCAgent.java``.)

The connection has rights that a component must not have: on a topic on which documents of deployments, key lists or
the answers of AWS IoT Jobs come, whoever publishes is the owner of the device.  Such a topic is refused, also where
``*`` is allowed, unless a policy names it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from agent.errors import VergeError
from agent.greengrass.ipc.authorization import IOT_CORE, Authorizer
from agent.greengrass.ipc.errors import InvalidArgumentsError, ServiceError, UnauthorizedError
from agent.greengrass.ipc.operations import NOTHING, Call, Empty, Operation, Reply
from agent.mqtt.transport import LinkState, Message, Transport
from agent.topics import share_stripped, valid_filter, valid_text, valid_topic

__all__ = ["MqttProxy", "is_control"]

_LONGEST_TOPIC: Final = 256
_MOST_SLASHES: Final = 7
_LARGEST: Final = 128 * 1024
_RULE: Final = re.compile(r"\$aws/rules/[^/]+/")
_LACKING: Final = (
    'there is no link to AWS IoT Core here: configure a transport of the type iotcore, or set iot_core = "broker" in '
    "the table [ipc] to use the broker that deployments come from"
)
_CONTROL: Final = re.compile(
    r"(?:verge/[^/]+/(?:deployments|trust)"
    r"|[^/]+(?:/[^/]+)?/things/[^/]+/(?:jobs|shadow/name/AWSManagedGreengrassV2Deployment)"
    r"|verge/aws/jobs)(?:/.*)?",
    re.DOTALL,
)

_UNSPECIFIED: Final = 128
_REASON_CODES: Final = {
    "implementation specific error": 131,
    "not authorized": 135,
    "topic filter invalid": 143,
    "packet identifier in use": 145,
    "quota exceeded": 151,
    "the broker has no shared subscriptions": 158,
    "shared subscriptions not supported": 158,
    "the broker has no wildcard subscriptions": 162,
    "wildcard subscriptions not supported": 162,
}
"""Why a filter is not served → the reason code of SUBACK that says it (MQTT 5, 3.9.3)."""

QoS: TypeAlias = Literal["0", "1"]


def is_control(topic: str, own: Iterable[str] = ()) -> bool:
    """Whether agents take from a topic what only the owner of a device may say.

    ``own`` are what such topics of this agent begin with, where it has others than most.

    >>> is_control("verge/press-7/deployments"), is_control("$aws/things/press-7/jobs/notify-next")
    (True, True)
    >>> is_control("$aws/things/press-7/shadow/update"), is_control("verge/press-7/results/line")
    (False, False)
    >>> is_control("acme/press-7/deployments", ["acme/press-7/deployments"])
    True
    """
    return _CONTROL.fullmatch(topic) is not None or any(topic == one or topic.startswith(f"{one}/") for one in own)


class _Property(Struct, frozen=True):
    key: str
    value: str


class _Publish(Struct, frozen=True, rename="camel"):
    topic_name: str | None = None
    qos: QoS | None = None
    payload: bytes | None = None
    retain: bool | None = None
    user_properties: tuple[_Property, ...] | None = None
    message_expiry_interval_seconds: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    correlation_data: Annotated[bytes, Meta(max_length=65_535)] | None = None
    response_topic: str | None = None
    payload_format: Literal["0", "1"] | None = None
    content_type: str | None = None


class _Subscribe(Struct, frozen=True, rename="camel"):
    topic_name: str | None = None
    qos: QoS | None = None


@dataclass(eq=False)
class _Upstream:
    """One filter at the broker, for all streams that want it."""

    qos: int
    calls: dict[Call, None] = field(default_factory=dict)

    def on_message(self, message: Message) -> None:
        """Hand a message to every stream."""
        event = {"message": _shown(message)}
        for call in tuple(self.calls):
            call.send(event)


class MqttProxy:
    """The operations of IoT Core over a ``transport``; without one they say what to configure.

    ``control`` are what the topics begin with on which this agent obeys.
    """

    def __init__(self, transport: Transport | None, authorizer: Authorizer, control: Sequence[str] = ()) -> None:
        self._transport = transport
        self._authorizer = authorizer
        self._control = tuple(control)
        self._upstream: dict[str, _Upstream] = {}
        self._watching: dict[Call, None] = {}
        self._connected: bool | None = None
        if transport is not None:
            self._connected = transport.state.connected
            transport.watch(self._on_link)

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("PublishToIoTCore", _Publish, self._publish),
            Operation("SubscribeToIoTCore", _Subscribe, self._subscribe),
            Operation("SubscribeToIoTCoreConnectionStatus", Empty, self._watch),
        )

    @property
    def _link(self) -> Transport:
        if self._transport is None:
            raise ServiceError(_LACKING)
        return self._transport

    # -- publish -------------------------------------------------------------------------------------------------------

    def _publish(self, request: _Publish, call: Call) -> Reply:
        topic = _checked(request.topic_name)
        if not valid_topic(topic):
            raise InvalidArgumentsError(f"{topic!r} is no topic to publish to")
        qos = _qos(request.qos)
        if request.payload is None:
            raise InvalidArgumentsError("payload is missing")
        _check_texts(request)
        self._authorizer.permit(call, IOT_CORE, topic)
        if is_control(topic, self._control) and not self._authorizer.named(call, IOT_CORE, topic):
            raise UnauthorizedError(
                f"{topic} is a topic of those who own the device: a policy has to name it as it is, without wildcards"
            )
        if len(request.payload) > _LARGEST:
            raise ServiceError(f"a message of {len(request.payload)} bytes is larger than the {_LARGEST} of IoT Core")
        try:
            self._link.publish(_message(topic, qos, request))
        except VergeError as error:
            raise ServiceError(str(error)) from error
        return NOTHING

    # -- subscribe -----------------------------------------------------------------------------------------------------

    async def _subscribe(self, request: _Subscribe, call: Call) -> Reply:
        topic_filter, qos = _checked(request.topic_name), _qos(request.qos)
        if not valid_filter(topic_filter):
            raise InvalidArgumentsError(f"{topic_filter!r} is no topic filter")
        self._authorizer.permit(call, IOT_CORE, topic_filter)
        link = self._link
        call.on_close(lambda: self._leave(topic_filter, call))
        self._join(topic_filter, qos, call)
        if refusal := link.limits.objection(topic_filter) or await link.granted(topic_filter):
            self._leave(topic_filter, call)
            code = _REASON_CODES.get(refusal.lower(), _UNSPECIFIED)
            context = {"reasonCode": code, "reasonString": refusal}
            raise ServiceError(f"the broker does not serve {topic_filter}: {refusal}", members={"context": context})
        return NOTHING

    def _join(self, topic_filter: str, qos: int, call: Call) -> None:
        upstream = self._upstream.get(topic_filter)
        if upstream is None or upstream.qos < qos:
            before = upstream
            upstream = _Upstream(qos, dict(before.calls) if before else {})
            self._upstream[topic_filter] = upstream
            self._link.subscribe(topic_filter, upstream.on_message, qos=qos)
            if before is not None:
                self._link.unsubscribe(topic_filter, before.on_message)
        upstream.calls[call] = None

    def _leave(self, topic_filter: str, call: Call) -> None:
        upstream = self._upstream.get(topic_filter)
        if upstream is None or call not in upstream.calls:
            return
        del upstream.calls[call]
        if not upstream.calls:
            del self._upstream[topic_filter]
            self._link.unsubscribe(topic_filter, upstream.on_message)

    # -- the link ------------------------------------------------------------------------------------------------------

    def _watch(self, request: Empty, call: Call) -> Reply:
        del request
        self._watching[call] = None
        call.on_close(lambda: self._watching.pop(call, None) and None)
        call.send(_status(connected=bool(self._connected)))
        return NOTHING

    def _on_link(self, state: LinkState) -> None:
        if state.connected == self._connected:
            return
        self._connected = state.connected
        for call in tuple(self._watching):
            call.send(_status(connected=state.connected))


def _checked(topic: str | None) -> str:
    """A topic or filter within the limits of IoT Core."""
    if not topic:
        raise InvalidArgumentsError("topicName is missing")
    counted = _RULE.sub("", share_stripped(topic), count=1)
    if len(counted) > _LONGEST_TOPIC or counted.count("/") > _MOST_SLASHES:
        raise InvalidArgumentsError(
            f"{topic[:300]!r} is past the limits of IoT Core: {_LONGEST_TOPIC} characters, {_MOST_SLASHES} slashes"
        )
    return topic


def _check_texts(request: _Publish) -> None:
    """What MQTT cannot carry as a property is refused before anything is acknowledged."""
    pairs = ((one.key, one.value) for one in request.user_properties or ())
    texts = (request.content_type, request.response_topic, *(text for pair in pairs for text in pair))
    if any(text is not None and not valid_text(text) for text in texts):
        raise InvalidArgumentsError(
            "contentType, responseTopic and user properties have at most 65535 bytes and no control characters"
        )


def _qos(qos: QoS | None) -> int:
    if qos is None:
        raise InvalidArgumentsError("qos is missing")
    return int(qos)


def _message(topic: str, qos: int, request: _Publish) -> Message:
    return Message(
        topic,
        request.payload or b"",
        qos,
        bool(request.retain),
        content_type=request.content_type,
        response_topic=request.response_topic,
        correlation_data=request.correlation_data,
        user_properties=tuple((one.key, one.value) for one in request.user_properties or ()),
        expiry_s=request.message_expiry_interval_seconds,
        is_text=request.payload_format == "1",
    )


def _shown(message: Message) -> Mapping[str, Any]:
    """A message under the names of the model; what it does not have is left out."""
    given: dict[str, Any] = {
        "userProperties": [{"key": key, "value": value} for key, value in message.user_properties] or None,
        "messageExpiryIntervalSeconds": message.expiry_s,
        "correlationData": message.correlation_data,
        "responseTopic": message.response_topic,
        "payloadFormat": "1" if message.is_text else None,
        "contentType": message.content_type,
    }
    head = {"topicName": message.topic, "payload": message.payload, "retain": message.retain}
    return head | {key: value for key, value in given.items() if value is not None}


def _status(*, connected: bool) -> Reply:
    return {"connectionStatusEvent": {"status": "CONNECTED" if connected else "DISCONNECTED"}}
