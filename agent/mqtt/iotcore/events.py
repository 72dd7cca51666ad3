"""What the client tells, as frozen values that cross from its threads to the event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from agent.errors import BrokerUnreachableError, VergeError
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.transport import Message

__all__ = ["Arrived", "Attempting", "Down", "Event", "Published", "Stopped", "Subscribed", "Up"]


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
class Arrived:
    """A message came, for the subscriptions numbered ``identifiers`` if the broker told."""

    message: Message
    identifiers: tuple[int, ...]
    acknowledgement: Any
    """What the client needs to acknowledge it; None for QoS 0."""


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


Event: TypeAlias = Attempting | Up | Down | Arrived | Published | Subscribed | Stopped
