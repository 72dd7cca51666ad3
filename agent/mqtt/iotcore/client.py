"""AWS IoT Core behind the ``Transport`` seam.

Subscribers, the send queue and both halves are those of every broker's transport; the connection below is awscrt's.
What is published is checked against what IoT Core takes, goes to a rule or into a batch where the configuration says
so, and is published then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from agent.config.transports import IotCoreOptions
from agent.errors import PublishError, VergeError
from agent.mqtt.client import BrokerTransport
from agent.mqtt.iotcore.batching import Batch, Batcher
from agent.mqtt.iotcore.connection import IotCoreConnection
from agent.mqtt.iotcore.quotas import IotCoreBroker, Pace, ingested
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.receiving import Receiving
from agent.mqtt.sending import OutgoingMessage, Sending
from agent.mqtt.transport import Checked, Counts, Delivered, LinkState, Message

__all__ = ["IotCoreTransport"]

log = logging.getLogger("agent.mqtt.iotcore")


class IotCoreTransport(BrokerTransport):
    """A ``Transport`` over AWS IoT Core; ``will`` is published by the broker when the link breaks.

    Raises ``ConfigError`` for certificates and modules that cannot be used.
    """

    def __init__(self, name: str, options: IotCoreOptions, *, will: Message | None = None) -> None:
        self.options = options
        limits = IotCoreBroker(rules=options.limits)
        if will is not None:
            limits.check(will)
        super().__init__(
            name, options, partial(self._connect, will), limits=limits, pacing=Pace(options.limits),
            keeps_session=not options.clean_start, client_id=options.client_id,
        )  # fmt: skip
        self._batcher = Batcher(options.batch) if options.batch else None
        self._batch_timer: asyncio.TimerHandle | None = None
        self._refused = 0

    def _connect(
        self,
        will: Message | None,
        sending: Sending,
        receiving: Receiving,
        on_change: Callable[[LinkState, BrokerLimits | None], None],
    ) -> IotCoreConnection:
        self._crt = IotCoreConnection(self.options, will, sending, receiving, on_change)
        return self._crt

    @property
    def counts(self) -> Counts:
        """Messages refused (against IoT Core's rules), postponed (to the next second), dropped (QoS 0, no room).

        And what every link does.
        """
        postponed, dropped = self._sending.postponed, self._crt.dropped
        return {
            "messages": {"refused": self._refused, "postponed": postponed, "dropped": dropped},
            **super().counts,
        }

    async def __aexit__(self, *exc_info: object) -> None:
        if self._batcher and not self._closed:
            self._send(self._batcher.flush_all())
            self._wait_for_batch()
        await super().__aexit__(*exc_info)

    def publish(
        self, message: Message, on_delivered: Delivered | None = None, *, checked: Checked | None = None
    ) -> None:
        """Queue a message; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken."""
        try:
            self._publish(message, on_delivered, checked)
        except PublishError:
            self._refused += 1
            raise

    def _publish(self, message: Message, on_delivered: Delivered | None, checked: Checked | None) -> None:
        batcher = self._batcher
        if batcher is None or self._closed or not batcher.wants(message):
            if batcher is not None and not self._closed:
                self._send(batcher.flush(message.topic))  # it was published before
            sent = ingested(message, self.options.basic_ingest)
            super().publish(sent, on_delivered, checked=checked if sent is message else None)
        else:
            self.limits.check(message)
            self._sending.queue.check_room(message, batched_messages=batcher.messages, batched_bytes=batcher.bytes)
            self._send(batcher.add(OutgoingMessage(message, on_delivered), asyncio.get_running_loop().time()))
        self._wait_for_batch()

    def _send(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            message = ingested(batch.message, self.options.basic_ingest)
            try:
                super().publish(message, partial(_end, batch.messages))
            except VergeError as error:
                asyncio.get_running_loop().call_soon(_end, batch.messages, error)

    def _wait_for_batch(self) -> None:
        if self._batch_timer:
            self._batch_timer.cancel()
            self._batch_timer = None
        due = self._batcher.due if self._batcher else None
        if due is not None:
            self._batch_timer = asyncio.get_running_loop().call_at(due, self._batch_is_due)

    def _batch_is_due(self) -> None:
        if self._batcher:
            self._send(self._batcher.ripe(asyncio.get_running_loop().time()))
        self._wait_for_batch()


def _end(messages: tuple[OutgoingMessage, ...], error: VergeError | None) -> None:
    for outgoing in messages:
        if outgoing.on_delivered is None:
            continue
        try:
            outgoing.on_delivered(error)
        except Exception:
            log.exception("who waited for %r failed", outgoing.message.topic)
