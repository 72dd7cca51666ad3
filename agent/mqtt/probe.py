"""A client for a short visit: it tries what a broker allows, and takes nothing that is meant for others.

It is paho's, pumped by hand without a thread: one question, one answer, and a broker that hangs up instead of answering
has answered too.  Nothing that comes is acknowledged: what waits in a session that the agent keeps at the broker is
there for the agent afterwards.  The ``Transport`` seam neither knows SUBACK from silence nor leaves a message
unacknowledged, so it is not used here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.config.transports import MqttOptions
from agent.errors import BrokerUnreachableError
from agent.mqtt.paho import new_client, publish_properties, tls_context
from agent.mqtt.reasons import BAD_PROTOCOL, CLOSED, connect_failed, connection_lost, connection_refused
from agent.mqtt.transport import Message
from agent.topics import matches

__all__ = ["Visitor"]

_WAIT_S = 5.0
_PUMP_S = 0.05


class Visitor:
    """One client, connected while it is entered; every method blocks until it is answered, at most some seconds.

    Entering raises ``BrokerUnreachableError`` or ``ConfigError``; so does a question after which the broker hung up and
    cannot be reached again.
    """

    def __init__(self, options: MqttOptions) -> None:
        self.five = options.version != "3.1.1"
        """Whether the broker reports refused publications."""
        self._options = options
        self._wait_s = min(_WAIT_S, options.connect_timeout_s)
        self._tls = tls_context(options.tls) if options.tls else None
        self._client = self._new_client()
        self._connack: ReasonCode | None = None
        self._lost: ReasonCode | None = None
        self._reasons: dict[int, ReasonCode] = {}
        self._received: list[tuple[str, bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._enter()
        except BrokerUnreachableError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._pump(lambda: self._lost is not None, _PUMP_S)

    def subscribe(self, topic_filter: str) -> str | None:
        """Ask for a filter; why it is refused, None when it is granted."""
        return self._question(lambda: self._client.subscribe(topic_filter, qos=1)[1])

    def publish(self, topic: str, payload: bytes = b"", *, retain: bool = False) -> str | None:
        """Send a message with QoS 1; why it is refused, None when the broker has it."""
        self._received.clear()
        properties = publish_properties(Message(topic, payload)) if self.five else None
        return self._question(lambda: self._client.publish(topic, payload, 1, retain, properties).mid)

    def receives(self, topic_filter: str, timeout_s: float, payload: bytes | None = None) -> bool:
        """Whether something, or just this payload, comes under the filter in time, from the last ``publish`` on."""

        def came() -> bool:
            return any(
                payload in {None, received} and matches(topic_filter, topic) for topic, received in self._received
            )

        self._pump(came, timeout_s)
        return came()

    def _new_client(self) -> Client:
        version = MQTTProtocolVersion.MQTTv5 if self.five else MQTTProtocolVersion.MQTTv311
        client = new_client(self._options, version, None, self._tls)
        client.manual_ack_set(True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _enter(self) -> None:
        """Connect, on MQTT 3.1.1 where that is left to the broker and it takes nothing else."""
        try:
            self._connect()
        except BrokerUnreachableError as error:
            if self._options.version != "auto" or error.code not in {BAD_PROTOCOL, CLOSED}:
                raise
            self.five = False
            self._client = self._new_client()
            self._connect()

    def _connect(self) -> None:
        self._connack = self._lost = None
        address = self._options.address
        try:
            self._client.reconnect()
        except OSError as error:
            raise connect_failed(error, address) from error
        self._pump(lambda: self._connack is not None or self._lost is not None, self._wait_s)
        if self._connack is None:
            if self._lost is not None:
                raise connection_lost(self._lost.value, str(self._lost), address)
            raise BrokerUnreachableError(f"no answer from {address}", code="timeout", hint="check host, port and TLS")
        if self._connack.is_failure:
            raise connection_refused(self._connack.value, str(self._connack), address)

    def _question(self, put: Callable[[], int | None]) -> str | None:
        number = put()
        self._pump(lambda: number in self._reasons or self._lost is not None, self._wait_s)
        reason = self._reasons.pop(number, None) if number is not None else None
        if reason is not None:
            return str(reason) if reason.is_failure else None
        if self._lost is None:
            return f"no answer within {self._wait_s:g} s"
        why = str(self._lost)
        self._connect()
        return f"the broker hung up: {why}"

    def _pump(self, done: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not done() and time.monotonic() < deadline:
            if self._client.loop(_PUMP_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def _on_connect(self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _more: Any) -> None:
        self._connack = reason

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _more: Any
    ) -> None:
        self._lost = reason

    def _on_subscribe(
        self, _client: Client, _data: Any, number: int, reasons: Sequence[ReasonCode], _more: Properties | None
    ) -> None:
        self._reasons[number] = reasons[0]

    def _on_publish(self, _client: Client, _data: Any, number: int, reason: ReasonCode, _more: Any) -> None:
        self._reasons[number] = reason

    def _on_message(self, _client: Client, _data: Any, received: MQTTMessage) -> None:
        self._received.append((received.topic, bytes(received.payload)))
