"""Several messages of one topic in one publish, and what a receiver makes of it.

Pure.  A batch is published on the topic of its messages, with the highest of their QoS, as ``application/json`` with
the user property ``verge-batch`` = ``1``; an example with two messages::

    {"messages":[{"payload":{"label":"cat"},"content_type":"application/json","user_properties":[["verge-id","a-1"]]},
                 {"base64":"/9j/4AAQ"}]}

The messages stand in the order in which they were published.  ``payload`` is the JSON that a message carried,
``base64`` what was no JSON; ``content_type`` and ``user_properties`` are there where the message had them.  With the
user property ``content-encoding`` = ``gzip`` a payload, of a batch or of a single message, is compressed.

A message that is no part of a stream (retained, a request, an answer, one with an expiry, QoS 0), or larger than a
batch, goes alone; what waits on its topic goes before it.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from agent.config.transports import BatchOptions
from agent.mqtt.sending import OutgoingMessage
from agent.mqtt.transport import Message
from agent.topics import matches

__all__ = ["BATCH", "ENCODING", "Batch", "Batcher", "compressed"]

BATCH = ("verge-batch", "1")
ENCODING = ("content-encoding", "gzip")
_OPEN, _COMMA, _CLOSE = b'{"messages":[', b",", b"]}"
_GZIP_LEVEL = 6
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes out as one message, and whose end it is."""

    message: Message
    messages: tuple[OutgoingMessage, ...]


class _Pending:
    """What waits on one topic since ``began``."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.messages: list[OutgoingMessage] = []
        self.parts: list[bytes] = []
        self.size = len(_OPEN) + len(_CLOSE)

    def add(self, outgoing: OutgoingMessage, part: bytes) -> None:
        self.size += len(part) + (len(_COMMA) if self.parts else 0)
        self.messages.append(outgoing)
        self.parts.append(part)


class Batcher:
    """Collects what matches ``options``; times are monotonic seconds."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._pending: dict[str, _Pending] = {}
        self._batched: dict[str, bool] = {}
        self.messages = self.bytes = 0
        """What waits, all topics together."""

    @property
    def due(self) -> float | None:
        """When the next batch is to go out."""
        # Batches begin in the order in which they stand here.
        first = next(iter(self._pending.values()), None)
        return None if first is None else first.began + self._options.max_s

    def wants(self, message: Message) -> bool:
        """Whether a message is for ``add``."""
        alone = message.retain or message.response_topic or message.correlation_data or message.expiry_s is not None
        if alone or not message.qos:
            return False
        batched = self._batched.get(message.topic)
        if batched is None:
            if len(self._batched) >= _REMEMBERED:
                self._batched.clear()
            batched = any(matches(topic_filter, message.topic) for topic_filter in self._options.topics)
            self._batched[message.topic] = batched
        return batched

    def add(self, outgoing: OutgoingMessage, now: float) -> list[Batch]:
        """Take a message; gives what is to be published now, in this order."""
        options, message = self._options, outgoing.message
        if options.max_messages == 1:
            return [Batch(self._packed(message), (outgoing,))]
        part = _part(message)
        if len(_OPEN) + len(part) + len(_CLOSE) > options.max_bytes:
            return [*self.flush(message.topic), Batch(self._packed(message), (outgoing,))]
        out: list[Batch] = []
        pending = self._pending.get(message.topic)
        if pending is not None and pending.size + len(_COMMA) + len(part) > options.max_bytes:
            out, pending = self.flush(message.topic), None
        if pending is None:
            pending = self._pending[message.topic] = _Pending(now)
        pending.add(outgoing, part)
        self.messages += 1
        self.bytes += len(part)
        if len(pending.messages) >= options.max_messages:
            out += self.flush(message.topic)
        return out

    def ripe(self, now: float) -> Iterator[Batch]:
        """Take what waited long enough."""
        while (due := self.due) is not None and due <= now:
            yield from self.flush(next(iter(self._pending)))

    def flush(self, topic: str) -> list[Batch]:
        """Take what waits on ``topic``, one batch or none."""
        pending = self._pending.pop(topic, None)
        if pending is None:
            return []
        self.messages -= len(pending.parts)
        self.bytes -= sum(map(len, pending.parts))
        return [self._made(topic, pending)]

    def flush_all(self) -> list[Batch]:
        """Take all that waits."""
        return [batch for topic in tuple(self._pending) for batch in self.flush(topic)]

    def _made(self, topic: str, pending: _Pending) -> Batch:
        payload = _OPEN + _COMMA.join(pending.parts) + _CLOSE
        qos = max(outgoing.message.qos for outgoing in pending.messages)
        message = Message(topic, payload, qos, content_type="application/json", user_properties=(BATCH,))
        return Batch(self._packed(message), tuple(pending.messages))

    def _packed(self, message: Message) -> Message:
        return compressed(message) if self._options.gzip else message


def compressed(message: Message) -> Message:
    """The message with its payload compressed, or as it is where that makes it no smaller."""
    payload = gzip.compress(message.payload, _GZIP_LEVEL, mtime=0)
    if len(payload) >= len(message.payload):
        return message
    return replace(message, payload=payload, user_properties=(*message.user_properties, ENCODING))


def _part(message: Message) -> bytes:
    """A message as it stands in a batch."""
    try:
        msgspec.json.decode(message.payload)
        fields = [b'"payload":' + message.payload]
    except (ValueError, RecursionError):
        fields = [b'"base64":"' + base64.b64encode(message.payload) + b'"']
    if message.content_type is not None:
        fields.append(b'"content_type":' + msgspec.json.encode(message.content_type))
    if message.user_properties:
        fields.append(b'"user_properties":' + msgspec.json.encode(message.user_properties))
    return b"{" + b",".join(fields) + b"}"
