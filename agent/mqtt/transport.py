"""The seam to every broker: a frozen message and the transport that carries it.

A transport remembers its subscriptions and renews them when the broker lost the session.  Handlers
and delivery callbacks run on the event loop's thread, in the order of arrival, and must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

from agent.errors import VergeError

__all__ = ["Checked", "Counts", "Delivered", "Handler", "Limits", "LinkState", "Message", "Transport"]


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT application message, received or to be published."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    expiry_s: int | None = None
    packet_id: int = 0
    """Set on received messages of QoS 1 and 2; what ``acknowledge`` needs."""
    redelivered: bool = False
    """The broker sent it before, on a connection that ended without the acknowledgement; IoT Core does not say so."""
    is_text: bool = False
    """The sender says that the payload is UTF-8 (MQTT 5's payload format indicator)."""
    arrived: float | None = None
    """When a message came that was held back before its handlers got it, by ``time.monotonic``."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """Whether the broker is connected, and if not, why."""

    connected: bool
    reason: str = ""
    session_present: bool = False


class Limits(Protocol):
    """What a broker takes."""

    def check(self, message: Message) -> int:
        """The bytes of the message's packet; raises ``PublishError`` for a message that would never pass."""

    def objection(self, topic_filter: str) -> str | None:
        """Why the broker would not take a filter, or None."""


Handler: TypeAlias = Callable[[Message], None]
Delivered: TypeAlias = Callable[[VergeError | None], None]
Counts: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Part of a transport → what it counts, by name: plain values, as they are published."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Limits that a message was checked against, and its size in bytes: it is not checked again while these hold."""

    limits: Limits
    size: int


class Transport(Protocol):
    """A bus: entering connects in the background, leaving says goodbye and disconnects."""

    name: str

    @property
    def address(self) -> str:
        """Where the broker is, for people."""

    @property
    def state(self) -> LinkState:
        """The link as it is now."""

    @property
    def limits(self) -> Limits:
        """What the broker takes, as far as it is known: that of the last connection."""

    @property
    def counts(self) -> Counts:
        """What the transport counts beyond its state; empty for most."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def wait_connected(self, timeout_s: float) -> LinkState:
        """The state once the link is up; raises ``BrokerUnreachableError`` with the reason when it is not in time."""

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0, manual_ack: bool = False) -> None:
        """Have ``handler`` called for each message that matches, now and after each reconnect."""

    async def granted(self, topic_filter: str) -> str | None:
        """Wait for the broker's answer to a filter: why it refuses it, or None where it serves it.

        None too while there is no link: it is asked for with the next one.
        """

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair; the last handler of a filter also leaves it at the broker."""

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription: it is done with."""

    def when_safe(self, call: Callable[[], None]) -> None:
        """Call once all that was published so far is as safe as this transport makes it.

        What is acknowledged to a broker only then comes again after a crash, or what came of it does.
        """

    def publish(
        self, message: Message, on_delivered: Delivered | None = None, *, checked: Checked | None = None
    ) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken.

        ``on_delivered`` is called once: with None when the broker has it (QoS 0: when it is written),
        or with the error that lost it.  ``checked`` spares a second check.
        """

    def watch(self, listener: Callable[[LinkState], None]) -> None:
        """Have ``listener`` called whenever the link goes up or down."""

    def hold(self) -> None:
        """Hand on and acknowledge nothing of a session that outlives this process, and leave none of its filters.

        For the time in which subscribers come (a start) and go (a stop): what the broker has queued for one that is not
        there yet, or not any more, stays its own.  A session that ends with the process is not affected.
        """

    @property
    def hands_over(self) -> bool:
        """Whether what is not acknowledged now comes to the next process: held, in a session that outlives this one."""

    def release(self) -> None:
        """Every subscriber is there: what was held back is theirs, and filters that nobody wants are left."""
