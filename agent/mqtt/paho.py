"""paho-mqtt behind what a connection needs of a client: set up from options, with our messages and tickets.

``PahoClient`` is what the two halves of a connection know.  A message's properties are packed here: paho takes some 30
µs to set and pack two of them, more than for the rest of the packet.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from struct import Struct
from typing import Any, Literal

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import ConfigError, NotConnectedError, PublishError
from agent.mqtt.reasons import publish_refused
from agent.mqtt.receiving import Received, Receiving, next_packet_id
from agent.mqtt.sending import ClientBusyError, Sending
from agent.mqtt.transport import Message
from agent.topics import valid_text

__all__ = ["PahoClient", "connack_limits", "new_client", "publish_properties", "tls_context"]

log = logging.getLogger("agent.mqtt.client")

_IS_TEXT = b"\x01\x01"
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


class PahoClient:
    """A paho client for ``sending`` and ``receiving``; tickets are its packet ids.

    Acknowledgements and answers go to the halves from inside paho's callbacks.  Messages are kept for
    ``take_received``, outside of them, so that handlers may publish, subscribe and acknowledge.
    """

    def __init__(self, paho: Client, sending: Sending, receiving: Receiving) -> None:
        self.paho = paho
        self._five = paho.protocol == MQTTProtocolVersion.MQTTv5
        self._sending = sending
        self._receiving = receiving
        self._received: deque[Received] = deque()
        paho.on_publish = self._on_publish
        paho.on_subscribe = self._on_subscribe
        paho.on_message = self._on_message

    @property
    def ready(self) -> bool:
        """Whether there is a connection to write to."""
        return self.paho.socket() is not None

    def take_received(self) -> None:
        """Pass on what was read."""
        while self._received:
            self._receiving.received(self._received.popleft())

    def publish(self, message: Message) -> int | None:
        """Send a message; its packet id, or None for QoS 0 that is written already."""
        properties = publish_properties(message) if self._five else None
        # The result says whether QoS 0 was written at once; to call back costs paho as much as to write.
        quiet = not message.qos and not self.paho.want_write()
        if quiet:
            self.paho.on_publish = None
        try:
            info = self.paho.publish(message.topic, message.payload, message.qos, message.retain, properties)
        finally:
            if quiet:
                self.paho.on_publish = self._on_publish
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise ClientBusyError("the packet id is still in use")
        if message.qos:  # also where the write failed: paho sends it again
            return info.mid
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotConnectedError(
                f"a QoS 0 message for {message.topic!r} was lost with the link",
                hint="publish with QoS 1 what must arrive",
            )
        return None if info.is_published() else info.mid

    def subscribe(self, filters: Sequence[tuple[str, int]], identifier: int | None) -> int | None:
        """Subscribe to filters with their QoS; the packet id."""
        properties = _subscribe_properties(identifier) if identifier else None
        return self.paho.subscribe(list(filters), properties=properties)[1]

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Leave filters."""
        self.paho.unsubscribe(list(filters))

    def acknowledge(self, acknowledgement: object) -> None:
        """Acknowledge a message by what ``Received`` holds of it: its packet id and QoS."""
        match acknowledgement:
            case (int(packet_id), int(qos)):
                # paho reads this flag when it acknowledges, and after each message.
                self.paho.manual_ack_set(True)
                self.paho.ack(packet_id, qos)
                self.paho.manual_ack_set(False)

    def _on_publish(self, _client: Client, _data: Any, packet_id: int, reason: ReasonCode, _more: Properties) -> None:
        failed = reason.is_failure
        error = publish_refused(str(reason), self._sending.queue.topic_of(packet_id)) if failed else None
        self._sending.ended(packet_id, error)

    def _on_subscribe(
        self, _client: Client, _data: Any, packet_id: int, reasons: Sequence[ReasonCode], _more: Any
    ) -> None:
        self._receiving.subscribed(packet_id, [str(reason) if reason.is_failure else None for reason in reasons])

    def _on_message(self, client: Client, _data: Any, received: MQTTMessage) -> None:
        try:
            topic = received.topic
        except UnicodeDecodeError:
            log.warning("a message from %s has a topic that is no UTF-8; it is dropped", self._receiving.address)
            return
        manual = bool(received.qos) and self._receiving.leaves_acknowledgement(topic)
        client.manual_ack_set(manual)
        message = _message(received, topic, next_packet_id() if received.qos else 0)
        acknowledgement = (received.mid, received.qos) if manual else None
        self._received.append(Received(message, _identifiers(received), acknowledgement))


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
    client.max_inflight_messages = 0  # the send queue keeps the window
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
    properties = _connect_properties(session_expiry_s=options.session_expiry_s, receive_maximum=options.receive_maximum)
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


def _connect_properties(*, session_expiry_s: int, receive_maximum: int) -> Properties:
    """What a CONNECT asks for."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    properties.ReceiveMaximum = receive_maximum
    return properties


def _subscribe_properties(identifier: int) -> Properties:
    """What a SUBSCRIBE carries so that its messages name it."""
    properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
    properties.SubscriptionIdentifier = identifier
    return properties


def publish_properties(message: Message) -> Properties | None:
    """The MQTT 5 properties of a message to be published or left as a will; None when it has none.

    Raises ``PublishError`` for a value that MQTT cannot carry.
    """
    parts = []
    if message.expiry_s is not None:
        if not 0 <= message.expiry_s <= _MAX_EXPIRY_S:
            raise _no_property(f"an expiry of {message.expiry_s} s")
        parts += [_EXPIRY, _four_bytes(message.expiry_s)]
    if message.is_text:
        parts.append(_IS_TEXT)
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


class _Packed(Properties):
    """Properties that paho only has to copy."""

    packed: bytes

    def __init__(self, packed: bytes) -> None:
        vars(self)["packed"] = packed  # a plain assignment is paho's, which knows MQTT's names only

    def pack(self) -> bytes:
        return self.packed


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


def _message(received: MQTTMessage, topic: str, packet_id: int) -> Message:
    """A received message; ``packet_id`` as ``Transport.acknowledge`` wants it."""
    payload = bytes(received.payload)  # bytes already: no copy
    if received.properties is None:
        return Message(topic, payload, received.qos, received.retain, packet_id=packet_id, redelivered=received.dup)
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
        is_text=given.get("PayloadFormatIndicator") == 1,
        packet_id=packet_id,
        redelivered=received.dup,
    )


def _identifiers(received: MQTTMessage) -> list[int]:
    """The subscriptions that a received message says it is for."""
    return vars(received.properties).get("SubscriptionIdentifier", []) if received.properties else []
