"""One message in the outbox: its number, its rank, what it costs and how it is written down.

Pure.  The number of a message holds its rank in the highest bits, so that a table sorted by number is sorted by
rank first and then by the order of publication.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import msgspec

from agent.config.transports import OutboxOptions
from agent.mqtt.transport import Checked, Message
from agent.topics import matches

__all__ = [
    "ID",
    "NUMBER",
    "RANKS",
    "SHIFT",
    "Record",
    "Route",
    "Sorting",
    "identified",
    "rank_of",
    "read",
    "route",
    "written",
]

ID = "verge-id"
"""The user property by which receivers know a message again."""
RANKS = ("first", "middle", "last")
SHIFT = 56
NUMBER = (1 << SHIFT) - 1
"""What of a ``seq`` is not its rank: the order of publication."""

_ROW_BYTES = 120
"""Of a row beside its text: its header, numbers and index entry, and the slack of its page."""


class _Facts(msgspec.Struct, array_like=True, frozen=True):
    """What a message is beside topic and payload."""

    qos: int
    retain: bool
    content_type: str | None
    response_topic: str | None
    correlation_data: bytes | None
    user_properties: tuple[tuple[str, str], ...]
    expiry_s: int | None
    is_text: bool = False


_decode = msgspec.json.Decoder(_Facts).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Record:
    """A message, when it was published (milliseconds of the outbox's clock) and its bytes on disk."""

    seq: int
    at_ms: int
    message: Message
    facts: str
    size: int
    checked: Checked | None = None
    """The limits that it was checked against; None when it was read from disk."""

    @property
    def is_state(self) -> bool:
        """Whether a newer one on the topic takes its place.

        A retained message is a state; but one with an ``id`` is a result, of which every one counts.
        """
        return self.message.retain and all(key != "id" for key, _ in self.message.user_properties)

    def left_s(self, now_ms: int) -> int | None:
        """Seconds until the message expires, None when it does not."""
        if self.message.expiry_s is None:
            return None
        return self.message.expiry_s - (now_ms - self.at_ms) // 1000


@dataclass(frozen=True, slots=True)
class Route:
    """Whether messages of a topic go through the outbox, and with which rank."""

    stored: bool
    rank: int


class Sorting:
    """The table of ranks: topic → route."""

    def __init__(self, options: OutboxOptions) -> None:
        self.route = lru_cache(4096)(lambda topic: route(options, topic))


def route(options: OutboxOptions, topic: str) -> Route:
    """The route of a topic by the options."""
    rank = 1
    for number, filters in ((2, options.last), (0, options.first)):
        rank = number if _any(filters, topic) else rank
    return Route(_any(options.topics, topic), rank)


def rank_of(seq: int) -> int:
    """The rank in a message's number: an index into ``RANKS``."""
    return seq >> SHIFT


def identified(message: Message, identity: str) -> Message:
    """The message with an id for its receivers, unless it has one."""
    if any(key == ID for key, _ in message.user_properties):
        return message
    return replace(message, user_properties=(*message.user_properties, (ID, identity)))


def written(message: Message) -> tuple[str, int]:
    """What a row holds beside topic and payload, and the bytes of the whole row."""
    facts = _encode(
        _Facts(
            message.qos,
            message.retain,
            message.content_type,
            message.response_topic,
            message.correlation_data,
            message.user_properties,
            message.expiry_s,
            message.is_text,
        )
    ).decode()
    return facts, len(message.payload) + len(facts) + 2 * len(message.topic.encode()) + _ROW_BYTES


def read(seq: int, topic: str, at_ms: int, size: int, facts: str, payload: bytes) -> Record:
    """An entry from its row."""
    values = _decode(facts)
    message = Message(
        topic,
        payload,
        values.qos,
        values.retain,
        values.content_type,
        values.response_topic,
        values.correlation_data,
        values.user_properties,
        values.expiry_s,
        is_text=values.is_text,
    )
    return Record(seq, at_ms, message, facts, size)


def _any(filters: tuple[str, ...], topic: str) -> bool:
    return any(matches(topic_filter, topic) for topic_filter in filters)
