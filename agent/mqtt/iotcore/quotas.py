"""What IoT Core takes: of one message or filter (``IotCoreBroker``), and of all in a second (``Pace``).

Pure.  How many filters a SUBSCRIBE has is the business of ``agent.mqtt.subscriptions``.

A bucket that is filled at a steady rate lets twice its content pass within the second that follows a pause.  In
``Bucket`` every token comes back on its own, a second after it was spent, so that no second of all, wherever it begins,
sees more than the bucket holds, bursts included.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from agent.config.transports import BasicIngestOptions, IotCoreLimits
from agent.errors import PublishError
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.transport import Message
from agent.topics import share_stripped

__all__ = ["Bucket", "IotCoreBroker", "Pace", "ingested"]

_RULES = "$aws/rules/"
_RULES_LEVELS = 3
_PAUSE_S = 1.0
"""How long nothing is sent after the broker, or the client, could not take what was."""


@dataclass(frozen=True, slots=True)
class IotCoreBroker(BrokerLimits):
    """What the broker said it takes, and ``rules`` of which IoT Core says nothing."""

    rules: IotCoreLimits = field(default_factory=IotCoreLimits)

    @property
    def window(self) -> int:
        """How many messages of QoS 1 are sent ahead of their acknowledgements."""
        return min(self.receive_maximum, self.rules.in_flight)

    def check(self, message: Message) -> int:
        """The bytes of the message's packet; raises ``PublishError`` for a message that would never pass."""
        rules = self.rules
        wrong = _too_long(message.topic, rules)
        if wrong is not None:
            raise PublishError(f"the topic {message.topic!r} {wrong}", code="bad-topic", hint="shorten the topic")
        if len(message.payload) > rules.payload_bytes:
            raise PublishError(
                f"a payload of {len(message.payload)} bytes for {message.topic!r} is larger than the"
                f" {rules.payload_bytes} bytes that IoT Core takes",
                code="packet-too-large",
                hint="send less, or send what is large through a local broker or S3",
            )
        size = BrokerLimits.check(self, message)
        if size > rules.bytes_per_s:
            raise PublishError(
                f"a message of {size} bytes for {message.topic!r} is more than limits.bytes_per_s lets pass",
                code="packet-too-large",
                hint="send less, or raise limits.bytes_per_s",
            )
        return size

    def objection(self, topic_filter: str) -> str | None:
        """Why the broker would not take this filter, or None."""
        return BrokerLimits.objection(self, topic_filter) or _too_long(share_stripped(topic_filter), self.rules)


def _too_long(topic: str, limits: IotCoreLimits) -> str | None:
    levels = topic.split("/", _RULES_LEVELS)
    if topic.startswith(_RULES) and len(levels) > _RULES_LEVELS:
        topic = levels[-1]
    if (size := len(topic.encode())) > limits.topic_bytes:
        return f"has {size} bytes, IoT Core takes {limits.topic_bytes}"
    if (slashes := topic.count("/")) > limits.topic_slashes:
        return f"has {slashes} slashes, IoT Core takes {limits.topic_slashes}"
    return None


class Pace:
    """What IoT Core takes in a second, of messages and of bytes, as ``agent.mqtt.sending.Pacing``."""

    def __init__(self, rules: IotCoreLimits) -> None:
        self._messages = Bucket(rules.publishes_per_s)
        self._bytes = Bucket(rules.bytes_per_s)
        self._not_before = 0.0

    def wait_s(self, size: int, now: float) -> float:
        """How long until a packet of ``size`` bytes may be sent."""
        return max(self._messages.wait_s(1, now), self._bytes.wait_s(size, now), self._not_before - now)

    def spend(self, size: int, now: float) -> None:
        """Such a packet is sent."""
        self._messages.take(1, now)
        self._bytes.take(size, now)

    def pause(self, now: float) -> None:
        """The broker, or the client, could not take what was sent."""
        self._not_before = now + _PAUSE_S

    def resume(self) -> None:
        """There is a new connection: no pause holds any more."""
        self._not_before = 0.0


class Bucket:
    """``capacity`` tokens, each back ``return_s`` after it was taken; times are monotonic seconds."""

    def __init__(self, capacity: int, return_s: float = 1.0) -> None:
        self.capacity = capacity
        self._return_s = return_s
        self._left = capacity
        self._taken: deque[tuple[float, int]] = deque()
        """When what is taken is back, and how much."""

    def wait_s(self, amount: int, now: float) -> float:
        """How long until ``amount`` can be taken; raises ``ValueError`` for more than the bucket ever holds."""
        if amount > self.capacity:
            raise ValueError(f"{amount} of {self.capacity} tokens")
        self._restore(now)
        left, wait_s = self._left, 0.0
        for back_at, taken in self._taken:
            if left >= amount:
                break
            left += taken
            wait_s = back_at - now
        return wait_s

    def take(self, amount: int, now: float) -> None:
        """Take ``amount``, for which there was no wait."""
        self._restore(now)
        self._left -= amount
        self._taken.append((now + self._return_s, amount))

    def _restore(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now:
            self._left += self._taken.popleft()[1]


def ingested(message: Message, options: BasicIngestOptions | None) -> Message:
    """The message with the topic that takes it to the rule, if it is one for the rule."""
    if options is None or (topic := options.topic_used(message.topic, retain=message.retain)) == message.topic:
        return message
    return replace(message, topic=topic)
