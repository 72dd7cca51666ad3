"""What IoT Core takes of one message or filter, each refusal a sentence.

Pure.  How much it takes in a second is the business of ``bucket``; how many filters a SUBSCRIBE has, of ``session``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from agent.config.transports import BasicIngestOptions, IotCoreLimits
from agent.errors import PublishError
from agent.mqtt.limits import BrokerLimits, publish_bytes
from agent.mqtt.transport import Message
from agent.topics import matches, share_stripped

__all__ = ["Bucket", "IotCoreBroker", "ingested"]

_RULES = "$aws/rules/"
_RULES_LEVELS = 3


@dataclass(frozen=True, slots=True)
class IotCoreBroker(BrokerLimits):
    """What the broker said it takes, and ``rules`` of which IoT Core says nothing."""

    rules: IotCoreLimits = field(default_factory=IotCoreLimits)

    def check(self, message: Message) -> None:
        """Raise ``PublishError`` for a message that would never pass."""
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
        size = publish_bytes(message)
        if size > rules.bytes_per_s:
            raise PublishError(
                f"a message of {size} bytes for {message.topic!r} is more than limits.bytes_per_s lets pass",
                code="packet-too-large",
                hint="send less, or raise limits.bytes_per_s",
            )
        BrokerLimits.check(self, message)

    def objection(self, topic_filter: str) -> str | None:
        """Why the broker would not take this filter, or None."""
        return BrokerLimits.objection(self, topic_filter) or _too_long(share_stripped(topic_filter), self.rules)


def ingested(message: Message, options: BasicIngestOptions | None) -> Message:
    """The message with the topic that takes it to the rule, if it is one for the rule."""
    if options is None or message.retain or not any(matches(each, message.topic) for each in options.topics):
        return message
    return replace(message, topic=f"{_RULES}{options.rule}/{message.topic}")


def _too_long(topic: str, limits: IotCoreLimits) -> str | None:
    levels = topic.split("/", _RULES_LEVELS)
    if topic.startswith(_RULES) and len(levels) > _RULES_LEVELS:
        topic = levels[-1]
    if (size := len(topic.encode())) > limits.topic_bytes:
        return f"has {size} bytes, IoT Core takes {limits.topic_bytes}"
    if (slashes := topic.count("/")) > limits.topic_slashes:
        return f"has {slashes} slashes, IoT Core takes {limits.topic_slashes}"
    return None


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
