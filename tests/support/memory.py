"""A bus inside this process that keeps the promises of a broker.

Order, retained messages, last wills and the acknowledgement of QoS 1 and 2 are as over MQTT; everything is
delivered by the event loop after the publisher returned, never inside ``publish``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from agent.errors import BrokerUnreachableError, NotConnectedError
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.transport import Checked, Counts, Delivered, Handler, LinkState, Message
from agent.topics import TopicTable, matches, valid_filter

__all__ = ["MemoryBus", "MemoryTransport"]

_MAX_PACKET_ID = 65_535


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    topic_filter: str
    handler: Handler
    qos: int
    manual_ack: bool
    deliver: Callable[[_Subscription, Message], None]


class MemoryBus:
    """What transports in one process meet on."""

    def __init__(self) -> None:
        self.retained: dict[str, Message] = {}
        self._subscriptions: TopicTable[_Subscription] = TopicTable()
        self._turn = 0

    def subscribe(self, subscription: _Subscription) -> None:
        """Serve ``subscription``, beginning with what is retained."""
        self._subscriptions.add(subscription.topic_filter, subscription)
        if not subscription.topic_filter.startswith("$share/"):
            for topic, message in self.retained.items():
                if matches(subscription.topic_filter, topic):
                    subscription.deliver(subscription, message)

    def unsubscribe(self, subscription: _Subscription) -> None:
        """Serve ``subscription`` no more."""
        self._subscriptions.discard(subscription.topic_filter, subscription)

    def publish(self, message: Message) -> None:
        """Hand ``message`` to every subscription that matches and keep it if it is to be retained."""
        if message.retain and message.payload:
            self.retained[message.topic] = message
        elif message.retain:
            self.retained.pop(message.topic, None)
        live = replace(message, retain=False)
        for subscription in self._chosen(self._subscriptions.match(message.topic)):
            subscription.deliver(subscription, live)

    def _chosen(self, matching: tuple[_Subscription, ...]) -> Iterator[_Subscription]:
        """All ordinary subscriptions, and of each shared one those of the member whose turn it is."""
        self._turn += 1
        groups: dict[str, dict[object, list[_Subscription]]] = {}
        for subscription in matching:
            if subscription.topic_filter.startswith("$share/"):
                members = groups.setdefault(subscription.topic_filter, {})
                members.setdefault(subscription.deliver, []).append(subscription)
            else:
                yield subscription
        for members in groups.values():
            yield from list(members.values())[self._turn % len(members)]


class MemoryTransport:
    """A ``Transport`` on a ``MemoryBus``; ``drop`` and ``restore`` play an outage."""

    def __init__(
        self, bus: MemoryBus, name: str, *, will: Message | None = None, max_queued_messages: int = 1000
    ) -> None:
        self.name = name
        self.limits = BrokerLimits()
        self.unacknowledged: dict[int, Message] = {}
        """Messages of ``manual_ack`` subscriptions that were not acknowledged yet, by packet id."""
        self._bus = bus
        self._will = will
        self._max_queued_messages = max_queued_messages
        self._state = LinkState(connected=False, reason="not connected yet")
        self._subscriptions: list[_Subscription] = []
        self._waiting: deque[tuple[Message, Delivered | None]] = deque()
        self._watchers: list[Callable[[LinkState], None]] = []
        self._packet_id = 0
        self._closed = False

    @property
    def address(self) -> str:
        """A bus is nowhere else."""
        return "this process"

    @property
    def state(self) -> LinkState:
        """The link as it is now."""
        return self._state

    @property
    def waiting(self) -> int:
        """How many messages wait for the link."""
        return len(self._waiting)

    @property
    def counts(self) -> Counts:
        """Nothing beyond the state."""
        return {}

    async def wait_connected(self, timeout_s: float) -> LinkState:
        """The state once the link is up; raises ``BrokerUnreachableError`` when it is not in time."""
        if self._state.connected:
            return self._state
        connected: asyncio.Future[LinkState] = asyncio.get_running_loop().create_future()
        self.watch(lambda state: connected.set_result(state) if state.connected and not connected.done() else None)
        try:
            return await asyncio.wait_for(connected, timeout_s)
        except TimeoutError:
            raise BrokerUnreachableError(self._state.reason) from None

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().call_soon(self.restore)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._closed:
            return
        await asyncio.sleep(0)  # what was published last is on its way
        self._closed = True
        self._down("closed")
        while self._waiting:
            message, on_delivered = self._waiting.popleft()
            if on_delivered is not None:
                on_delivered(NotConnectedError(f"{self.name} was closed before {message.topic!r} was delivered"))

    def drop(self) -> None:
        """Lose the link without a goodbye: the last will is published."""
        self._down("dropped")
        if self._will is not None:
            self._bus.publish(self._will)

    def restore(self) -> None:
        """Be connected again: subscriptions are renewed, then what waited is published."""
        self._state = LinkState(connected=True)
        for subscription in self._subscriptions:
            self._bus.subscribe(subscription)
        while self._waiting:
            self._send(*self._waiting.popleft())
        self._tell()

    def when_safe(self, call: Callable[[], None]) -> None:
        """A bus keeps nothing."""
        call()

    def hold(self) -> None:
        """A bus keeps no session."""

    hands_over = False

    def release(self) -> None:
        """A bus keeps no session."""

    def watch(self, listener: Callable[[LinkState], None]) -> None:
        """Have ``listener`` called whenever the link goes up or down."""
        self._watchers.append(listener)

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0, manual_ack: bool = False) -> None:
        """Have ``handler`` called for each message that matches; raises ``ValueError`` for a wrong filter."""
        if not valid_filter(topic_filter):
            raise ValueError(f"{topic_filter!r} is no MQTT topic filter")
        subscription = _Subscription(topic_filter, handler, qos, manual_ack, self._deliver)
        self._subscriptions.append(subscription)
        if self._state.connected:
            self._bus.subscribe(subscription)

    async def granted(self, topic_filter: str) -> str | None:
        """A bus refuses no filter."""
        del topic_filter

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair."""
        for subscription in self._subscriptions:
            if subscription.topic_filter == topic_filter and subscription.handler == handler:
                self._subscriptions.remove(subscription)
                self._bus.unsubscribe(subscription)
                return

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription."""
        self.unacknowledged.pop(message.packet_id, None)

    def publish(
        self, message: Message, on_delivered: Delivered | None = None, *, checked: Checked | None = None
    ) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken."""
        if checked is None:
            self.limits.check(message)
        if self._state.connected:
            self._send(message, on_delivered)
        elif self._closed or not message.qos:
            raise NotConnectedError(
                f"no link for {message.topic!r}: {self._state.reason}", hint="QoS 1 waits for the link"
            )
        elif len(self._waiting) >= self._max_queued_messages:
            raise NotConnectedError(
                f"no room for {message.topic!r}: {len(self._waiting)} messages wait",
                code="queue-full",
                hint="raise max_queued_messages, or publish less",
            )
        else:
            self._waiting.append((message, on_delivered))

    def _send(self, message: Message, on_delivered: Delivered | None) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._bus.publish, message)
        if on_delivered is not None:
            loop.call_soon(on_delivered, None)

    def _deliver(self, subscription: _Subscription, message: Message) -> None:
        qos = min(message.qos, subscription.qos)
        if qos:
            self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
        received = replace(message, qos=qos, packet_id=self._packet_id if qos else 0)
        if qos and subscription.manual_ack:
            self.unacknowledged[received.packet_id] = received
        asyncio.get_running_loop().call_soon(self._handle, subscription, received)

    def _handle(self, subscription: _Subscription, message: Message) -> None:
        if subscription in self._subscriptions:
            subscription.handler(message)

    def _down(self, reason: str) -> None:
        for subscription in self._subscriptions:
            self._bus.unsubscribe(subscription)
        self._state = LinkState(connected=False, reason=reason)
        self.unacknowledged.clear()
        self._tell()

    def _tell(self) -> None:
        for listener in self._watchers:
            listener(self._state)
