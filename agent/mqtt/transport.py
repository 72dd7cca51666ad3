"""The seam to every broker: a frozen message and the transport that carries it.

A transport remembers its subscriptions and renews them when the broker lost the session.  Handlers
and delivery callbacks run on the event loop's thread, in the order of arrival, and must not block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

from agent.errors import VergeError

__all__ = ["Delivered", "Handler", "LinkState", "Message", "Transport"]


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


@dataclass(frozen=True, slots=True)
class LinkState:
    """Whether the broker is connected, and if not, why."""

    connected: bool
    reason: str = ""
    session_present: bool = False


Handler: TypeAlias = Callable[[Message], None]
Delivered: TypeAlias = Callable[[VergeError | None], None]


class Transport(Protocol):
    """A bus: entering connects in the background, leaving says goodbye and disconnects."""

    name: str

    @property
    def state(self) -> LinkState:
        """The link as it is now."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0, manual_ack: bool = False) -> None:
        """Have ``handler`` called for each message that matches, now and after each reconnect."""

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair; the last handler of a filter also leaves it at the broker."""

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription: it is done with."""

    def publish(self, message: Message, on_delivered: Delivered | None = None) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken.

        ``on_delivered`` is called once: with None when the broker has it (QoS 0: when it is written),
        or with the error that lost it.
        """

    def watch(self, listener: Callable[[LinkState], None]) -> None:
        """Have ``listener`` called whenever the link goes up or down."""
