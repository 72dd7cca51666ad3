"""The sending half of a link: from the outbox, through what IoT Core takes in a second, to the client.

The client keeps what it sent until it is acknowledged, and sends it again when the broker kept the session; all else
waits here.  What waits is sent in the order in which it was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.config.transports import IotCoreLimits
from agent.errors import NotConnectedError, PublishError, UnreachableError, VergeError
from agent.mqtt.iotcore.awscrt import Client
from agent.mqtt.iotcore.quotas import Bucket
from agent.mqtt.limits import BrokerLimits, publish_bytes
from agent.mqtt.sending import OutgoingMessage, SendQueue

__all__ = ["Sending"]

_PAUSE_S = 1.0
"""How long nothing is sent after the broker, or the client, could not take what was."""


class Sending:
    """What is on its way to the broker; ``ended`` hears of each parcel's end, once."""

    def __init__(self, limits: IotCoreLimits, ended: Callable[[OutgoingMessage, VergeError | None], None]) -> None:
        self.queue = SendQueue()
        self.postponed = 0
        """How often a message had to wait for the next second."""
        self._in_flight = limits.in_flight
        self._ended = ended
        self._limits = BrokerLimits()
        self._messages = Bucket(limits.publishes_per_s)
        self._bytes = Bucket(limits.bytes_per_s)
        self._client: Client | None = None
        self._ticket = 0
        self._returned: dict[int, OutgoingMessage] = {}
        """Ticket → what is to be sent again."""
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self.queue and not self._returned

    def up(self, client: Client, limits: BrokerLimits, *, session_kept: bool) -> None:
        """Send what waits through ``client``, which by itself sends again what it has in a session that was kept."""
        self._client = client
        self._limits = limits
        self._not_before = 0.0
        self._take_back()
        if not session_kept:
            self.queue.requeue_in_flight()
        now = asyncio.get_running_loop().time()
        for outgoing in self.queue.in_flight:
            self._spend(publish_bytes(outgoing.message), now)
        self.flush()

    def down(self) -> None:
        """The link is lost: QoS 0 messages with it, the others wait for the next."""
        self._client = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for outgoing in self.queue.unsendable():
            self._ended(outgoing, _lost(outgoing))

    def publish(self, outgoing: OutgoingMessage) -> None:
        """Send ``outgoing`` in its turn."""
        if self._client is None and not outgoing.message.qos:
            self._ended(outgoing, _lost(outgoing))
        else:
            self.queue.add(outgoing)
            self.flush()

    def published(self, ticket: int, error: VergeError | None) -> None:
        """The client is done with what has ``ticket``."""
        flight = self.queue.ended(ticket)
        if flight is not None:
            outgoing, qos = flight
            if qos and isinstance(error, UnreachableError):
                self._returned[ticket] = outgoing
                self._not_before = asyncio.get_running_loop().time() + _PAUSE_S
            else:
                self._ended(outgoing, error)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window and the second go."""
        if self._client is None or self._timer is not None:
            return
        self._take_back()
        while outgoing := self.queue.next(min(self._limits.receive_maximum, self._in_flight)):
            if not self._send(self._client, outgoing):
                return

    def _send(self, client: Client, outgoing: OutgoingMessage) -> bool:
        message = self._limits.fitted(outgoing.message)
        size = publish_bytes(message)
        try:
            self._limits.check(message)
        except PublishError as error:
            self._ended(outgoing, error)
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait_s = max(self._messages.wait_s(1, now), self._bytes.wait_s(size, now), self._not_before - now)
        if wait_s > 0:
            self.postponed += 1
            self.queue.put_back(outgoing)
            self._timer = loop.call_later(wait_s, self._again)
            return False
        self._spend(size, now)
        self._ticket += 1
        self.queue.sent(self._ticket, outgoing, message.qos)
        client.publish(self._ticket, message)
        return True

    def _again(self) -> None:
        self._timer = None
        self.flush()

    def _spend(self, size: int, now: float) -> None:
        self._messages.take(1, now)
        self._bytes.take(size, now)

    def _take_back(self) -> None:
        for ticket in sorted(self._returned, reverse=True):
            self.queue.put_back(self._returned.pop(ticket))


def _lost(outgoing: OutgoingMessage) -> NotConnectedError:
    return NotConnectedError(
        f"a QoS 0 message for {outgoing.message.topic!r} was lost with the link",
        hint="publish with QoS 1 what must arrive",
    )
