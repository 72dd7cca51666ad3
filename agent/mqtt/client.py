"""MQTT behind the ``Transport`` seam: who subscribed, who is called, what is counted.

The link (``link``) is served by the same event loop: what is published is written before ``publish`` returns, if the
socket takes it, and what is received is handled in the turn in which it was read.  What is published is counted until
its end is known, and everything counted ends exactly once; who waits for the end is called in a later turn, never
from inside ``publish``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Self, TypeVar

from agent.config.transports import MqttOptions
from agent.errors import BrokerUnreachableError, NotConnectedError, PublishError, VergeError
from agent.mqtt.connection import Link
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.sending import OutgoingMessage
from agent.mqtt.transport import Delivered, Handler, LinkState, Message
from agent.topics import TopicTable, valid_filter, valid_topic

__all__ = ["MqttTransport"]

log = logging.getLogger("agent.mqtt.client")

T = TypeVar("T")

_LEAVE_S = 2.0
"""How long leaving waits for the acknowledgements of what was published last."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    handler: Handler
    qos: int
    manual_ack: bool


class MqttTransport:
    """A ``Transport`` over one MQTT broker; ``will`` is published by the broker when the link breaks."""

    def __init__(self, name: str, options: MqttOptions, *, will: Message | None = None) -> None:
        self.name = name
        self.options = options
        self.refused: dict[str, str] = {}
        """Filter → why the broker does not serve it."""
        self.limits = BrokerLimits().capped(options.max_packet_bytes, "max_packet_bytes of the configuration")
        """What the broker takes, as far as it is known: that of the last connection."""
        self._state = LinkState(connected=False, reason="not connected yet")
        self._subscriptions: TopicTable[_Subscription] = TopicTable()
        self._outstanding: set[OutgoingMessage] = set()
        self._outstanding_bytes = 0
        self._watchers: list[Callable[[LinkState], None]] = []
        self._connected = asyncio.Event()
        self._closed = False
        self._link = Link(name, options, will, self)

    @property
    def state(self) -> LinkState:
        """The link as it is now."""
        return self._state

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._link.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._closed:
            return
        try:
            await self._link.leave(_LEAVE_S)
        finally:
            self._close()
        await asyncio.sleep(0)  # who waits for an end hears of it before this returns

    def _close(self) -> None:
        self._closed = True
        self.changed(LinkState(connected=False, reason="closed"), None)
        for outgoing in tuple(self._outstanding):
            self.ended(
                outgoing, NotConnectedError(f"{self.name} was closed before {outgoing.message.topic!r} was delivered")
            )

    async def wait_connected(self, timeout_s: float) -> LinkState:
        """The state once the link is up; raises ``BrokerUnreachableError`` with the reason when it is not in time."""
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            trouble = self._link.trouble or BrokerUnreachableError(self._state.reason)
            raise BrokerUnreachableError(
                f"{self.name}: {trouble.message} (waited {timeout_s:g} s)", code=trouble.code, hint=trouble.hint
            ) from None
        return self._state

    def watch(self, listener: Callable[[LinkState], None]) -> None:
        """Have ``listener`` called whenever the link goes up or down."""
        self._watchers.append(listener)

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0, manual_ack: bool = False) -> None:
        """Have ``handler`` called for each message that matches; raises ``ValueError`` for a wrong filter.

        Retained messages come again with each call, to every handler of the filter.
        """
        if not valid_filter(topic_filter):
            raise ValueError(f"{topic_filter!r} is no MQTT topic filter")
        self._subscriptions.add(topic_filter, _Subscription(handler, qos, manual_ack))
        qos = max(subscription.qos for subscription in self._subscriptions.under(topic_filter))
        manual_ack = self._acknowledged_manually(topic_filter)
        self._link.do(self._link.receiving.subscribe, topic_filter, qos, manual_ack=manual_ack)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair; the last handler of a filter also leaves it at the broker."""
        for subscription in self._subscriptions.under(topic_filter):
            if subscription.handler == handler:
                self._subscriptions.discard(topic_filter, subscription)
                break
        receiving = self._link.receiving
        if topic_filter in self._subscriptions:
            wanted = self._acknowledged_manually(topic_filter)
            self._link.do(receiving.acknowledge_manually, topic_filter, wanted=wanted)
        else:
            self.refused.pop(topic_filter, None)
            self._link.do(receiving.unsubscribe, topic_filter)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription; one of a lost connection is ignored."""
        if message.qos:
            self._link.do(self._link.receiving.acknowledge, message.packet_id, message.qos)

    def publish(self, message: Message, on_delivered: Delivered | None = None) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken."""
        if not valid_topic(message.topic):
            raise PublishError(
                f"{message.topic!r} is no topic to publish on", code="bad-topic", hint="no wildcards or control codes"
            )
        self.limits.check(message)
        if self._closed or (not message.qos and not self._state.connected):
            raise NotConnectedError(
                f"no link for {message.topic!r}: {self._state.reason}", hint="QoS 1 waits for the link"
            )
        size = len(message.payload)
        if (
            len(self._outstanding) >= self.options.max_queued_messages
            or self._outstanding_bytes + size > self.options.max_queued_bytes
        ):
            raise NotConnectedError(
                f"no room for {message.topic!r}: {len(self._outstanding)} messages of {self._outstanding_bytes} bytes"
                " wait for the broker",
                code="queue-full",
                hint="raise max_queued_messages or max_queued_bytes, or publish less",
            )
        outgoing = OutgoingMessage(message, on_delivered)
        self._outstanding.add(outgoing)
        self._outstanding_bytes += size
        self._link.do(self._link.sending.publish, outgoing)

    def _acknowledged_manually(self, topic_filter: str) -> bool:
        return any(subscription.manual_ack for subscription in self._subscriptions.under(topic_filter))

    def _meant(self, topic: str, filters: tuple[str, ...]) -> tuple[_Subscription, ...]:
        if not filters:
            return self._subscriptions.match(topic)
        return tuple(chain.from_iterable(map(self._subscriptions.under, filters)))

    # -- LinkEvents -----------------------------------------------------------------------------------

    def changed(self, state: LinkState, limits: BrokerLimits | None) -> None:
        """The link went up or down."""
        self._state = state
        if state.connected:
            self._connected.set()
        else:
            self._connected.clear()
        if limits is not None:
            self.limits = limits
        for listener in self._watchers:
            _call(listener, state, f"a watcher of {self.name}")

    def received(self, message: Message, filters: tuple[str, ...]) -> None:
        """A message came."""
        for subscription in self._meant(message.topic, filters):
            _call(subscription.handler, message, f"a handler of {message.topic!r}")

    def ended(self, outgoing: OutgoingMessage, error: VergeError | None) -> None:
        """What was published ended."""
        if outgoing not in self._outstanding:
            return
        self._outstanding.discard(outgoing)
        self._outstanding_bytes -= len(outgoing.message.payload)
        if outgoing.on_delivered is not None:
            self._loop.call_soon(outgoing.on_delivered, error)

    def subscribed(self, refused: dict[str, str]) -> None:
        """The broker answered a subscription."""
        self.refused = refused


def _call(callback: Callable[[T], None], what: T, name: str) -> None:
    """Call a handler or watcher; its failure is its own, not that of the others nor of the link."""
    try:
        callback(what)
    except Exception:
        log.exception("%s failed", name)
