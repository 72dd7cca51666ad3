"""A transport over one broker: who subscribed, who is called, what is accepted.

``BrokerTransport`` is the same whichever client speaks with the broker: it is made with a factory of connections.  Its
two halves (``sending``, ``receiving``) outlive connections and clients.  What is published is in the send queue until
its end is known, and ends exactly once; who waits for the end is called in a later turn, never from inside ``publish``.

``MqttTransport`` is the one with paho: MQTT 3.1.1 and 5 over TCP, TLS and WebSockets.  Its connection is served by the
same event loop: what is published is written before ``publish`` returns, if the socket takes it, and what is received
is handled in the turn in which it was read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, ParamSpec, Protocol, Self, TypeAlias, TypeVar

from agent.config.transports import MqttOptions
from agent.errors import BrokerUnreachableError, NotConnectedError
from agent.mqtt.connection import PahoConnection
from agent.mqtt.history import LinkHistory
from agent.mqtt.kept import KeptFilters
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.receiving import Receiving
from agent.mqtt.sending import OutgoingMessage, Pacing, Sending, SendQueue
from agent.mqtt.transport import Checked, Counts, Delivered, Handler, LinkState, Message
from agent.topics import TopicTable, valid_filter

__all__ = ["BrokerTransport", "Changed", "Connection", "ConnectionFactory", "MqttTransport"]

log = logging.getLogger("agent.mqtt.client")

P = ParamSpec("P")
T = TypeVar("T")

_LEAVE_S = 2.0
"""How long leaving waits for the acknowledgements of what was published last."""


class Connection(Protocol):
    """One broker's connection, from ``start`` to ``leave``, made anew whenever it is lost."""

    trouble: BrokerUnreachableError | None
    """Why the last connection or attempt ended."""

    def start(self) -> None:
        """Connect, and serve until ``leave``."""

    async def leave(self, within_s: float) -> None:
        """Send what waits, within ``within_s``, say goodbye and end."""

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of ``sending`` or ``receiving``, and see to what follows from it."""


Changed: TypeAlias = Callable[[LinkState, BrokerLimits | None], None]
"""Called when a connection went up, with what the broker takes, or down or failed for a new reason."""

ConnectionFactory: TypeAlias = Callable[[Sending, Receiving, Changed], Connection]


class QueueOptions(Protocol):
    """What the options of every transport say of what waits."""

    @property
    def address(self) -> str:
        """Where the broker is, for people."""

    @property
    def max_queued_messages(self) -> int:
        """Bound of what is published and not delivered yet."""

    @property
    def max_queued_bytes(self) -> int:
        """The same in bytes of payloads."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    handler: Handler
    qos: int
    manual_ack: bool


class BrokerTransport:
    """A ``Transport`` over the connections that ``connect`` makes; ``limits`` are those known before the first one."""

    def __init__(
        self,
        name: str,
        options: QueueOptions,
        connect: ConnectionFactory,
        *,
        limits: BrokerLimits,
        pacing: Pacing | None = None,
        keeps_session: bool = False,
        client_id: str = "",
    ) -> None:
        self.name = name
        self.address = options.address
        self.refused: dict[str, str] = {}
        """Filter → why the broker does not serve it."""
        self.limits = limits
        """What the broker takes, as far as it is known: that of the last connection."""
        self._state = LinkState(connected=False, reason="not connected yet")
        self._subscriptions: TopicTable[_Subscription] = TopicTable()
        self._watchers: list[Callable[[LinkState], None]] = []
        self._connected = asyncio.Event()
        self._closed = False
        self._answers: set[asyncio.Future[None]] = set()
        """Who waits for the broker's next answer to a SUBSCRIBE."""
        self._sending = Sending(
            options.address, SendQueue(options.max_queued_messages, options.max_queued_bytes), pacing
        )
        self._receiving = Receiving(options.address, self._on_message, self._on_refused)
        self._connection = connect(self._sending, self._receiving, self._on_change)
        self._keeps_session = keeps_session
        self._history = LinkHistory(client_id)

    @property
    def state(self) -> LinkState:
        """The link as it is now."""
        return self._state

    @property
    def counts(self) -> Counts:
        """How often the link came back and why it was lost; and what is held back of a kept session.

        Of that, messages that wait for this process's subscribers, found no room so, or that nobody here subscribed to.
        """
        link = self._history.facts()
        told: dict[str, Mapping[str, Any]] = {"link": link} if link else {}
        if self._keeps_session:
            held, no_room, unclaimed = self._receiving.held_back, self._receiving.no_room, self._receiving.unclaimed
            told["session"] = {"held_back": held, "no_room": no_room, "unclaimed": unclaimed}
        return told

    @property
    def trouble(self) -> BrokerUnreachableError:
        """Why there is no connection, or why the last one ended."""
        return self._connection.trouble or BrokerUnreachableError(self._state.reason)

    async def __aenter__(self) -> Self:
        self._connection.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._closed:
            return
        try:
            await self._connection.leave(_LEAVE_S)
        finally:
            self._closed = True
            self._on_change(LinkState(connected=False, reason="closed"), None)
            self._sending.close(f"{self.name} was closed")
        await asyncio.sleep(0)  # who waits for an end is called before this returns

    async def wait_connected(self, timeout_s: float) -> LinkState:
        """The state once the link is up; raises ``BrokerUnreachableError`` with the reason when it is not in time."""
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            trouble = self.trouble
            raise BrokerUnreachableError(
                f"{self.name}: {trouble.message} (waited {timeout_s:g} s)", code=trouble.code, hint=trouble.hint
            ) from None
        return self._state

    def watch(self, listener: Callable[[LinkState], None]) -> None:
        """Have ``listener`` called whenever the link goes up or down."""
        self._watchers.append(listener)

    def inherit(self, kept: KeptFilters) -> None:
        """Go on with the session of an earlier process, where one is kept; ``kept`` is what it had subscribed to."""
        if self._keeps_session:
            self._receiving.inherit(kept)

    def hold(self) -> None:
        """Hand on and acknowledge nothing of a session that outlives this process, and leave none of its filters."""
        if self._keeps_session:
            self._connection.do(self._receiving.hold)

    @property
    def hands_over(self) -> bool:
        """Whether what is not acknowledged now comes to the next process."""
        return self._keeps_session and self._receiving.holding

    def release(self) -> None:
        """Every subscriber is there: what was held back is theirs, and filters that nobody wants are left."""
        self._connection.do(self._receiving.release)

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0, manual_ack: bool = False) -> None:
        """Have ``handler`` called for each message that matches; raises ``ValueError`` for a wrong filter.

        Retained messages come again with each call, to every handler of the filter.
        """
        if not valid_filter(topic_filter):
            raise ValueError(f"{topic_filter!r} is no MQTT topic filter")
        self._subscriptions.add(topic_filter, _Subscription(handler, qos, manual_ack))
        qos = max(subscription.qos for subscription in self._subscriptions.under(topic_filter))
        manual_ack = self._manual_ack(topic_filter)
        self._connection.do(self._receiving.subscribe, topic_filter, qos, manual_ack=manual_ack)

    async def granted(self, topic_filter: str) -> str | None:
        """Why the broker refuses a filter, once it has answered; None where it serves it or there is no link."""
        while self._receiving.awaits(topic_filter):
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._answers.add(answer)
            try:
                await answer
            finally:
                self._answers.discard(answer)
        return self.refused.get(topic_filter)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair; the last handler of a filter also leaves it at the broker."""
        for subscription in self._subscriptions.under(topic_filter):
            if subscription.handler == handler:
                self._subscriptions.discard(topic_filter, subscription)
                break
        if topic_filter in self._subscriptions:
            manual_ack = self._manual_ack(topic_filter)
            self._connection.do(self._receiving.set_manual_ack, topic_filter, manual_ack=manual_ack)
        else:
            self.refused.pop(topic_filter, None)
            self._connection.do(self._receiving.unsubscribe, topic_filter)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription; one of a lost connection is ignored."""
        if message.qos:
            self._connection.do(self._receiving.acknowledge, message.packet_id)

    def when_safe(self, call: Callable[[], None]) -> None:
        """Call at once: what is published waits in memory."""
        call()

    def publish(
        self, message: Message, on_delivered: Delivered | None = None, *, checked: Checked | None = None
    ) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken."""
        size = checked.size if checked and checked.limits is self.limits else self.limits.check(message)
        if self._closed or (not message.qos and not self._state.connected):
            raise NotConnectedError(
                f"no link for {message.topic!r}: {self._state.reason}", hint="QoS 1 waits for the link"
            )
        self._sending.queue.check_room(message)
        self._connection.do(self._sending.publish, OutgoingMessage(message, on_delivered, size))

    def _manual_ack(self, topic_filter: str) -> bool:
        return any(subscription.manual_ack for subscription in self._subscriptions.under(topic_filter))

    def _on_change(self, state: LinkState, limits: BrokerLimits | None) -> None:
        self._state = state
        if state.connected:
            self._connected.set()
            self._history.up(time.time())
        else:
            self._connected.clear()
            if not self._closed:
                self._history.down(self.trouble, time.time())
        if guess := self._history.news():
            log.warning("%s: %s", self.name, guess)
        if limits is not None:
            self.limits = limits
        self._answer()
        for listener in self._watchers:
            _call(listener, state, f"a watcher of {self.name}")

    def _on_message(self, message: Message, filters: tuple[str, ...]) -> None:
        subscriptions = self._subscribers(message.topic, filters)
        if not subscriptions:
            self._receiving.note_unclaimed(message)
        for subscription in subscriptions:
            _call(subscription.handler, message, f"a handler of {message.topic!r}")

    def _subscribers(self, topic: str, filters: tuple[str, ...]) -> tuple[_Subscription, ...]:
        if not filters:
            return self._subscriptions.match(topic)
        return tuple(chain.from_iterable(map(self._subscriptions.under, filters)))

    def _on_refused(self, refused: dict[str, str]) -> None:
        self.refused = refused
        self._answer()

    def _answer(self) -> None:
        for answer in self._answers:
            if not answer.done():
                answer.set_result(None)


class MqttTransport(BrokerTransport):
    """A ``Transport`` over one MQTT broker; ``will`` is published by the broker when the link breaks.

    Raises ``ConfigError`` for TLS files that cannot be used.
    """

    def __init__(self, name: str, options: MqttOptions, *, will: Message | None = None) -> None:
        self.options = options
        limits = BrokerLimits().capped(options.max_packet_bytes, "max_packet_bytes of the configuration")
        connect = partial(PahoConnection, name, options, will)
        super().__init__(
            name, options, connect, limits=limits, keeps_session=not options.clean_start, client_id=options.client_id
        )


def _call(callback: Callable[[T], None], argument: T, name: str) -> None:
    """Call a handler or watcher; its failure is its own, not that of the others nor of the link."""
    try:
        callback(argument)
    except Exception:
        log.exception("%s failed", name)
