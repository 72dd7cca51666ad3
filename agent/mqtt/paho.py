"""A paho client set up from options: everything but its callbacks."""

from __future__ import annotations

import os
import socket
import ssl
from struct import Struct
from typing import Any, Literal

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import ConfigError, PublishError
from agent.mqtt.transport import Message
from agent.topics import valid_text

__all__ = [
    "connack_limits", "connect_properties", "identifiers_of", "message_of", "new_client", "publish_properties",
    "subscribe_properties", "tls_context",
]  # fmt: skip
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


def new_client(options: MqttOptions, version: int, will: Message | None, tls: ssl.SSLContext | None) -> Client:
    """A client for ``version`` (5, or 4 which is 3.1.1 on the wire) that is ready to ``reconnect``."""
    five = version == MQTTProtocolVersion.MQTTv5
    kind: Literal["tcp", "websockets"] = "websockets" if options.websocket_path else "tcp"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        clean_session=None if five else options.clean_start,
        protocol=MQTTProtocolVersion(version),
        transport=kind,
        reconnect_on_failure=False,
    )
    client.connect_timeout = options.connect_timeout_s
    client.max_inflight_messages = 0  # the outbox keeps the window
    client.on_socket_open = _no_delay
    if options.websocket_path:
        client.ws_set_options(path=options.websocket_path)
    if tls:
        client.tls_set_context(tls)
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    if will:
        properties = publish_properties(will) if five else None
        client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
    _aim(client, options, five=five)
    return client


def _aim(client: Client, options: MqttOptions, *, five: bool) -> None:
    if not five:
        client.connect_async(options.host, options.port, options.keepalive_s)
        return
    properties = connect_properties(session_expiry_s=options.session_expiry_s, receive_maximum=options.receive_maximum)
    clean_start = MQTT_CLEAN_START_FIRST_ONLY if options.clean_start else False
    client.connect_async(
        options.host, options.port, options.keepalive_s, clean_start=clean_start, properties=properties
    )


def _no_delay(_client: Client, _userdata: Any, connection: Any) -> None:
    # A WebSocket wrapper hides its socket; a duplicate of the descriptor is the same socket to the kernel.
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """The context for ``options``; raises ``ConfigError`` when a file is missing, encrypted or no PEM of its kind."""
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = ", ".join(name for name in (options.ca_file, options.cert_file, options.key_file) if name)
        raise ConfigError(
            f"the TLS files cannot be used ({error})", hint=f"check {named}: PEM, readable, key fits certificate"
        ) from error
    context.sslsocket_class = _ClosedOnFailure
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal, and an agent has none."""
    raise ConfigError(
        "the key of the TLS certificate is encrypted",
        hint="store it decrypted (openssl pkey -in KEY -out KEY.pem), readable by the agent's user only",
    )


class _ClosedOnFailure(ssl.SSLSocket):
    """paho forgets a socket whose handshake failed; this one closes itself."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


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
