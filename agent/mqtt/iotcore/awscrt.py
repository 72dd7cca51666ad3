"""awscrt's MQTT 5 client for the halves of a connection, and its events as frozen values.

awscrt is AWS's own client: it signs WebSocket requests, keeps keys in security modules, goes through proxies, and is
what the Device SDK is made of.  It calls from a thread of its own: its events cross to the event loop by ``Handover``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from typing import Any, TypeAlias

from awscrt import mqtt5  # type: ignore[import-untyped]

from agent.config.transports import IotCoreOptions
from agent.errors import BrokerUnreachableError, VergeError
from agent.mqtt.iotcore import reasons
from agent.mqtt.iotcore.awscrt_options import HIGHEST_QOS, client_options, name_of, publish_packet, text_of
from agent.mqtt.iotcore.quotas import IotCoreBroker
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.receiving import Received, next_packet_id
from agent.mqtt.transport import Message

__all__ = ["Attempting", "CrtClient", "Down", "Event", "Published", "Stopped", "Subscribed", "Up"]

_FAILURE = 128
_WITH_THE_LINK = {
    "AWS_ERROR_MQTT5_OPERATION_FAILED_DUE_TO_OFFLINE_QUEUE_POLICY",
    "AWS_ERROR_MQTT5_USER_REQUESTED_STOP",
    "AWS_ERROR_MQTT5_CLIENT_TERMINATED",
}
_tickets = count(1)
"""Of all clients: one that takes over must not be taken for the one before."""


@dataclass(frozen=True, slots=True)
class Attempting:
    """The client begins to connect."""


@dataclass(frozen=True, slots=True)
class Up:
    """The broker took the connection."""

    session_present: bool
    limits: BrokerLimits


@dataclass(frozen=True, slots=True)
class Down:
    """The connection, or an attempt at one, ended."""

    trouble: BrokerUnreachableError


@dataclass(frozen=True, slots=True)
class Published:
    """A publish ended: delivered, or with the error that kept it from that."""

    ticket: int
    error: VergeError | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A SUBSCRIBE ended, with a reason for each filter that failed."""

    ticket: int
    failures: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The client is at rest: nothing more comes."""


Event: TypeAlias = Attempting | Up | Down | Received | Published | Subscribed | Stopped


class CrtClient:
    """One connection that is made anew until ``stop``; ``emit`` is called from another thread.

    ``tls`` is the result of ``tls_context``.
    """

    def __init__(self, options: IotCoreOptions, tls: Any, will: Message | None, emit: Callable[[Event], None]) -> None:
        self._address = options.address
        self._rules = options.limits
        self._emit = emit
        self._leaving = False
        configured = client_options(options, tls, will)
        configured.on_publish_callback_fn = self._on_publish
        configured.on_lifecycle_event_attempting_connect_fn = self._on_attempting
        configured.on_lifecycle_event_connection_success_fn = self._on_up
        configured.on_lifecycle_event_connection_failure_fn = self._on_failure
        configured.on_lifecycle_event_disconnection_fn = self._on_down
        configured.on_lifecycle_event_stopped_fn = self._on_stopped
        self._mqtt = mqtt5.Client(configured)

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        self._mqtt.start()

    def stop(self) -> None:
        """Say goodbye; ``Stopped`` is the last event, if there was an ``Attempting``."""
        self._leaving = True
        self._mqtt.stop(mqtt5.DisconnectPacket())

    @property
    def ready(self) -> bool:
        """Always: what is written to a lost connection ends with an error."""
        return True

    def publish(self, message: Message) -> int:
        """Send a message; the ticket of the ``Published`` that reports its end."""
        ticket, topic = next(_tickets), message.topic
        try:
            future = self._mqtt.publish(publish_packet(message))
        except Exception as error:  # noqa: BLE001 the event reports it, whatever it is
            self._emit(Published(ticket, reasons.publish_failed(name_of(error) + " VALIDATION", text_of(error), topic)))
        else:
            future.add_done_callback(partial(self._on_published, ticket, topic))
        return ticket

    def subscribe(self, filters: Sequence[tuple[str, int]], identifier: int | None) -> int:
        """Subscribe to filters with their QoS; the ticket of the ``Subscribed`` that reports the answer.

        There is no event for a SUBSCRIBE that is lost with the connection.
        """
        ticket = next(_tickets)
        subscriptions = [
            mqtt5.Subscription(topic_filter, mqtt5.QoS(min(qos, HIGHEST_QOS))) for topic_filter, qos in filters
        ]
        packet = mqtt5.SubscribePacket(subscriptions=subscriptions, subscription_identifier=identifier)
        try:
            future = self._mqtt.subscribe(packet)
        except Exception as error:  # noqa: BLE001 the event reports it, whatever it is
            self._emit(Subscribed(ticket, (text_of(error),) * len(subscriptions)))
        else:
            future.add_done_callback(partial(self._on_subscribed, ticket, len(subscriptions)))
        return ticket

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Leave filters."""
        self._mqtt.unsubscribe(mqtt5.UnsubscribePacket(topic_filters=list(filters)))

    def acknowledge(self, acknowledgement: object) -> None:
        """Acknowledge a message; nothing happens if it came on an earlier connection."""
        if self._leaving:
            return  # it would be put before the goodbye, which then never goes out; the broker sends the message again
        self._mqtt.invoke_publish_acknowledgement(acknowledgement)

    # -- on awscrt's thread ---------------------------------------------------------------------------------

    def _on_publish(self, data: Any) -> None:
        packet, acquire = data.publish_packet, data.acquire_publish_acknowledgement_control
        qos = int(packet.qos)
        message = Message(
            packet.topic,
            packet.payload or b"",
            qos,
            packet.retain,
            content_type=packet.content_type,
            response_topic=packet.response_topic,
            correlation_data=packet.correlation_data_bytes,
            user_properties=tuple((user.name, user.value) for user in packet.user_properties or ()),
            expiry_s=packet.message_expiry_interval_sec,
            is_text=packet.payload_format_indicator == mqtt5.PayloadFormatIndicator.AWS_MQTT5_PFI_UTF8,
            packet_id=next_packet_id() if qos else 0,
        )
        self._emit(Received(message, tuple(packet.subscription_identifiers or ()), acquire() if acquire else None))

    def _on_published(self, ticket: int, topic: str, future: Future[Any]) -> None:
        error = future.exception()
        code = None if error is not None else future.result().puback.reason_code
        if error is not None:
            self._emit(Published(ticket, reasons.publish_failed(name_of(error), text_of(error), topic)))
        elif code is not None and code >= _FAILURE:
            self._emit(Published(ticket, reasons.publish_refused(code, _worded(code), topic)))
        else:
            self._emit(Published(ticket, None))

    def _on_subscribed(self, ticket: int, count: int, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            codes = future.result().reason_codes
            failures = (_worded(code) if code is None or code >= _FAILURE else None for code in codes)
            self._emit(Subscribed(ticket, tuple(failures)))
        elif name_of(error) not in _WITH_THE_LINK:
            self._emit(Subscribed(ticket, (text_of(error),) * count))

    def _on_attempting(self, _data: Any) -> None:
        self._emit(Attempting())

    def _on_up(self, data: Any) -> None:
        settings = data.negotiated_settings
        limits = BrokerLimits.from_connack(
            {
                "MaximumPacketSize": settings.maximum_packet_size_to_server,
                "ReceiveMaximum": settings.receive_maximum_from_server,
                "MaximumQoS": min(settings.maximum_qos, HIGHEST_QOS),
                "RetainAvailable": settings.retain_available,
                "WildcardSubscriptionAvailable": settings.wildcard_subscriptions_available,
                "SharedSubscriptionAvailable": settings.shared_subscriptions_available,
                "SubscriptionIdentifierAvailable": settings.subscription_identifiers_available,
            }
        )
        self._emit(Up(data.connack_packet.session_present, IotCoreBroker(**asdict(limits), rules=self._rules)))

    def _on_failure(self, data: Any) -> None:
        if data.connack_packet is not None and data.connack_packet.reason_code:
            code = data.connack_packet.reason_code
            trouble = reasons.connection_refused(code, _worded(code), self._address)
        else:
            trouble = reasons.connection_failed(name_of(data.exception), text_of(data.exception), self._address)
        self._emit(Down(trouble))

    def _on_down(self, data: Any) -> None:
        code = data.disconnect_packet.reason_code if data.disconnect_packet else None
        name = name_of(data.exception) if code is None else _worded(code)
        self._emit(Down(reasons.connection_lost(code, name, text_of(data.exception), self._address)))

    def _on_stopped(self, _data: Any) -> None:
        self._emit(Stopped())


def _worded(code: Any) -> str:
    """A reason code in words: ``Not authorized``."""
    return "unknown reason" if code is None else code.name.replace("_", " ").capitalize()
