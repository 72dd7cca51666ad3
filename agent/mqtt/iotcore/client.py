"""AWS IoT Core behind the ``Transport`` seam.

Subscribers and accounts are those of every MQTT transport; the link below is awscrt's.  What is published is checked
against what IoT Core takes, goes to a rule or into a batch where the configuration says so, and is published then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from agent.config.transports import IotCoreOptions, MqttOptions
from agent.errors import NotConnectedError, PublishError, VergeError
from agent.mqtt.client import MqttTransport
from agent.mqtt.iotcore.batching import Batch, Batcher
from agent.mqtt.iotcore.connection import Link
from agent.mqtt.iotcore.quotas import IotCoreBroker, ingested
from agent.mqtt.sending import OutgoingMessage
from agent.mqtt.transport import Delivered, Message
from agent.topics import valid_topic

__all__ = ["Counts", "IotCoreTransport"]

log = logging.getLogger("agent.mqtt.iotcore")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of messages, since the start."""

    refused: int
    """Published against IoT Core's rules."""
    postponed: int
    """Times that a message had to wait for the next second."""
    dropped: int
    """Received with QoS 0 while there was no room for them."""


class IotCoreTransport(MqttTransport):
    """A ``Transport`` over AWS IoT Core; ``will`` is published by the broker when the link breaks.

    Raises ``ConfigError`` for certificates and modules that cannot be used.
    """

    def __init__(self, name: str, options: IotCoreOptions, *, will: Message | None = None) -> None:
        accounts = MqttOptions(
            host=options.endpoint,
            port=options.port_used,
            max_queued_messages=options.max_queued_messages,
            max_queued_bytes=options.max_queued_bytes,
        )
        super().__init__(name, accounts, will=will)
        self.limits = IotCoreBroker(rules=options.limits)
        if will is not None:
            self.limits.check(will)
        self._told = options
        self._link = Link(options, will, self)  # type: ignore[assignment]  # the same methods over another client
        self._batcher = Batcher(options.batch) if options.batch else None
        self._batch_timer: asyncio.TimerHandle | None = None
        self._refused = 0

    @property
    def counts(self) -> Counts:
        """What became of messages."""
        link: Link = self._link  # type: ignore[assignment]
        return Counts(self._refused, link.sending.postponed, link.handover.dropped if link.handover else 0)

    async def __aexit__(self, *exc_info: object) -> None:
        if self._batcher and not self._closed:
            self._send(self._batcher.flush_all())
            self._wait_for_batch()
        await super().__aexit__(*exc_info)

    def publish(self, message: Message, on_delivered: Delivered | None = None) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken."""
        try:
            self._publish(message, on_delivered)
        except PublishError:
            self._refused += 1
            raise

    def _publish(self, message: Message, on_delivered: Delivered | None) -> None:
        batcher = self._batcher
        if batcher is None or self._closed or not valid_topic(message.topic):
            super().publish(ingested(message, self._told.basic_ingest), on_delivered)
            return
        if batcher.wants(message):
            self.limits.check(message)
            self._check_room(message, batcher)
            self._send(batcher.add(OutgoingMessage(message, on_delivered), self._loop.time()))
        else:
            self._send(batcher.flush(message.topic))  # it was published before
            super().publish(ingested(message, self._told.basic_ingest), on_delivered)
        self._wait_for_batch()

    def _check_room(self, message: Message, batcher: Batcher) -> None:
        many = len(self._outstanding) + batcher.messages >= self._told.max_queued_messages
        if many or self._outstanding_bytes + batcher.bytes + len(message.payload) > self._told.max_queued_bytes:
            raise NotConnectedError(
                f"no room for {message.topic!r}: {len(self._outstanding)} messages wait for the broker,"
                f" {batcher.messages} for their batch",
                code="queue-full",
                hint="raise max_queued_messages or max_queued_bytes, or publish less",
            )

    def _send(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            message = ingested(batch.message, self._told.basic_ingest)
            try:
                super().publish(message, partial(_tell, batch.messages))
            except VergeError as error:
                self._loop.call_soon(_tell, batch.messages, error)

    def _wait_for_batch(self) -> None:
        if self._batch_timer:
            self._batch_timer.cancel()
            self._batch_timer = None
        due = self._batcher.due if self._batcher else None
        if due is not None:
            self._batch_timer = self._loop.call_at(due, self._batch_is_due)

    def _batch_is_due(self) -> None:
        if self._batcher:
            self._send(self._batcher.ripe(self._loop.time()))
        self._wait_for_batch()


def _tell(messages: tuple[OutgoingMessage, ...], error: VergeError | None) -> None:
    for outgoing in messages:
        if outgoing.on_delivered is None:
            continue
        try:
            outgoing.on_delivered(error)
        except Exception:
            log.exception("who waited for %r failed", outgoing.message.topic)
