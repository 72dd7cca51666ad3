"""Which topics are the device's own and which are IoT Core's, and what either takes.

A topic belongs to one place: local publish/subscribe where one of the local filters matches it, else IoT Core.  What is
published goes there, and what is subscribed to is taken from there; a filter with topics of both is asked for in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from agent.config.transports import IotCoreLimits
from agent.eventstream.frames import MAX_MESSAGE_BYTES
from agent.mqtt.iotcore.quotas import IotCoreBroker
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.transport import Message
from agent.topics import covers, matches, overlap

__all__ = ["NucleusLimits", "Pauses", "Place", "Places"]

_IN_FLIGHT: Final = 64
_AROUND_BYTES: Final = 256 * 1024
"""Of a message on the socket around its payload: headers, and the topic in JSON."""
_PAUSE_S: Final = 1.0


class Place(StrEnum):
    """Which of the nucleus's two buses."""

    LOCAL = "local"
    IOT_CORE = "iot-core"


@dataclass(frozen=True, slots=True)
class Places:
    """Where topics belong."""

    local: tuple[str, ...]
    """Filters of the device's own."""

    def of_topic(self, topic: str) -> Place:
        """Where a topic belongs."""
        return Place.LOCAL if any(matches(one, topic) for one in self.local) else Place.IOT_CORE

    def of_filter(self, topic_filter: str) -> Sequence[Place]:
        """Where topics that fall under a filter belong."""
        if any(covers(one, topic_filter) for one in self.local):
            return (Place.LOCAL,)
        if any(overlap(one, topic_filter) for one in self.local):
            return (Place.LOCAL, Place.IOT_CORE)
        return (Place.IOT_CORE,)


@dataclass(frozen=True, slots=True)
class NucleusLimits(BrokerLimits):
    """What a nucleus takes, of itself and for IoT Core."""

    maximum_packet_size: int = (MAX_MESSAGE_BYTES - _AROUND_BYTES) // 4 * 3
    """Of a local message: payloads are base64 on the socket, whose messages are bounded."""
    receive_maximum: int = _IN_FLIGHT
    maximum_qos: int = 1
    shared_available: bool = False
    source: str = "the nucleus"
    places: Places = Places(())
    iot_core: IotCoreBroker = field(default_factory=IotCoreBroker)

    @classmethod
    def of(cls, local_topics: tuple[str, ...], max_payload_bytes: int) -> NucleusLimits:
        """Those of a configuration."""
        rules = IotCoreLimits(payload_bytes=max_payload_bytes, bytes_per_s=MAX_MESSAGE_BYTES * 2)
        return cls(places=Places(local_topics), iot_core=IotCoreBroker(rules=rules))

    def check(self, message: Message) -> int:
        """The bytes of the message's packet; raises ``PublishError`` for a message that would never pass."""
        size = BrokerLimits.check(self, message)
        return size if self.places.of_topic(message.topic) is Place.LOCAL else self.iot_core.check(message)

    def objection(self, topic_filter: str) -> str | None:
        """Why the nucleus would not take this filter, or None."""
        if topic_filter.startswith("$share/"):
            return "a nucleus is one client of IoT Core, and its components cannot share a subscription"
        if Place.IOT_CORE in self.places.of_filter(topic_filter):
            return self.iot_core.objection(topic_filter)
        return None


class Pauses:
    """A nucleus paces itself; nothing is sent for a moment after it had no room.

    Times are monotonic seconds, as ``agent.mqtt.sending.Pacing``.
    """

    def __init__(self) -> None:
        self._not_before = 0.0

    def wait_s(self, size: int, now: float) -> float:
        """How long until a packet may be sent, of whatever size."""
        del size
        return self._not_before - now

    def spend(self, size: int, now: float) -> None:
        """Such a packet is sent, which nobody here counts."""

    def pause(self, now: float) -> None:
        """The nucleus could not take what was sent."""
        self._not_before = now + _PAUSE_S

    def resume(self) -> None:
        """There is a new connection: no pause holds any more."""
        self._not_before = 0.0
