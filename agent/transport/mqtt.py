"""MQTT behind the ``Transport`` seam: the event loop's side of a link.

The network is served by a thread (``link``); what happens there crosses to the loop on one line,
``_hand_over``, in the order it happened.  Received messages pass a gate that blocks the thread while the
loop is behind, so a flood waits in the broker and not in our memory.  What is published is counted until
its end is known, and everything counted ends exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

from agent.errors import BrokerUnreachable, NotConnected, PublishRefused, VergeError
from agent.transport.base import Delivered, Handler, LinkState, Message
from agent.transport.filters import TopicTable, valid_filter, valid_topic
from agent.transport.gate import Gate
from agent.transport.limits import BrokerLimits
from agent.transport.link import Link
from agent.transport.options import MqttOptions
from agent.transport.outbox import Parcel

__all__ = ["MqttTransport"]

log = logging.getLogger("agent.transport.mqtt")

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
        self._state = LinkState(connected=False, reason="not connected yet")
        self._limits = BrokerLimits().capped(options.max_packet_bytes, "max_packet_bytes of the configuration")
        self._subscriptions: TopicTable[_Subscription] = TopicTable()
        self._outstanding: set[Parcel] = set()
        self._outstanding_bytes = 0
        self._watchers: list[Callable[[LinkState], None]] = []
        self._connected = asyncio.Event()
        self._closed = False
        self._gate = Gate(options.max_waiting_messages, options.max_waiting_bytes)
        self._loop: asyncio.AbstractEventLoop | None = None
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
        self._link.orders.give(self._link.leave, _LEAVE_S)
        try:
            await asyncio.to_thread(self._link.join, _LEAVE_S + 1.0)
        finally:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._gate.open()
        self._loop = None
        if self._link.is_alive():
            log.warning("the link to %s is still busy connecting; it is left behind", self.options.address)
        else:
            self._link.orders.close()
        self._changed(LinkState(connected=False, reason="closed"), None)
        for parcel in tuple(self._outstanding):
            self._ended(parcel, NotConnected(f"{self.name} was closed before {parcel.message.topic!r} was delivered"))

    async def wait_connected(self, timeout_s: float) -> LinkState:
        """The state once the link is up; raises ``BrokerUnreachable`` with the reason when it is not in time."""
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            raise BrokerUnreachable(f"{self.name}: {self._state.reason} (waited {timeout_s:g} s)") from None
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
        self._link.orders.give(self._link.receiving.subscribe, topic_filter, qos, manual_ack=manual_ack)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair; the last handler of a filter also leaves it at the broker."""
        for subscription in self._subscriptions.under(topic_filter):
            if subscription.handler == handler:
                self._subscriptions.discard(topic_filter, subscription)
                break
        receiving = self._link.receiving
        if topic_filter in self._subscriptions:
            wanted = self._acknowledged_manually(topic_filter)
            self._link.orders.give(receiving.acknowledge_manually, topic_filter, wanted=wanted)
        else:
            self.refused.pop(topic_filter, None)
            self._link.orders.give(receiving.unsubscribe, topic_filter)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription; one of a lost connection is ignored."""
        if message.qos:
            self._link.orders.give(self._link.receiving.acknowledge, message.packet_id, message.qos)

    def publish(self, message: Message, on_delivered: Delivered | None = None) -> None:
        """Queue a message; raises ``PublishRefused`` or ``NotConnected`` when it cannot be taken."""
        if not valid_topic(message.topic):
            raise PublishRefused(
                f"{message.topic!r} is no topic to publish on", code="bad-topic", hint="use no wildcards and no NUL"
            )
        self._limits.check(message)
        if self._closed or (not message.qos and not self._state.connected):
            raise NotConnected(f"no link for {message.topic!r}: {self._state.reason}", hint="QoS 1 waits for the link")
        size = len(message.payload)
        if (
            len(self._outstanding) >= self.options.max_queued_messages
            or self._outstanding_bytes + size > self.options.max_queued_bytes
        ):
            raise NotConnected(
                f"no room for {message.topic!r}: {len(self._outstanding)} messages of {self._outstanding_bytes} bytes"
                " wait for the broker",
                code="queue-full",
                hint="raise max_queued_messages or max_queued_bytes, or publish less",
            )
        parcel = Parcel(message, on_delivered)
        self._outstanding.add(parcel)
        self._outstanding_bytes += size
        self._link.orders.give(self._link.sending.publish, parcel)

    # -- LinkEvents: in the link's thread -------------------------------------------------------------

    def changed(self, state: LinkState, limits: BrokerLimits | None) -> None:
        """The link went up or down."""
        self._hand_over(self._changed, state, limits)

    def received(self, message: Message, filters: tuple[str, ...]) -> None:
        """A message came; blocks while the loop is behind."""
        self._gate.enter(len(message.payload))
        self._hand_over(self._received, message, filters)

    def ended(self, parcel: Parcel, error: VergeError | None) -> None:
        """What was published ended."""
        self._hand_over(self._ended, parcel, error)

    def subscribed(self, refused: dict[str, str]) -> None:
        """The broker answered a subscription."""
        self._hand_over(self._subscribed, refused)

    def _hand_over(self, call: Callable[..., None], *args: Any) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call, *args)

    # -- in the event loop ----------------------------------------------------------------------------

    def _acknowledged_manually(self, topic_filter: str) -> bool:
        return any(subscription.manual_ack for subscription in self._subscriptions.under(topic_filter))

    def _changed(self, state: LinkState, limits: BrokerLimits | None) -> None:
        self._state = state
        if state.connected:
            self._connected.set()
        else:
            self._connected.clear()
        if limits is not None:
            self._limits = limits
        for listener in self._watchers:
            listener(state)

    def _received(self, message: Message, filters: tuple[str, ...]) -> None:
        try:
            for subscription in self._meant(message.topic, filters):
                _call(subscription.handler, message)
        finally:
            self._gate.leave(len(message.payload))

    def _meant(self, topic: str, filters: tuple[str, ...]) -> tuple[_Subscription, ...]:
        if not filters:
            return self._subscriptions.match(topic)
        return tuple(chain.from_iterable(map(self._subscriptions.under, filters)))

    def _ended(self, parcel: Parcel, error: VergeError | None) -> None:
        if parcel not in self._outstanding:
            return
        self._outstanding.discard(parcel)
        self._outstanding_bytes -= len(parcel.message.payload)
        if parcel.on_delivered is not None:
            parcel.on_delivered(error)

    def _subscribed(self, refused: dict[str, str]) -> None:
        self.refused = refused


def _call(handler: Handler, message: Message) -> None:
    """Call a handler; its failure is its own and not that of the others."""
    try:
        handler(message)
    except Exception:
        log.exception("a handler failed on a message on %r", message.topic)
