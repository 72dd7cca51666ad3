"""The sending half of a link: from the outbox, through what IoT Core takes in a second, to the client.

The client keeps what it sent until it is acknowledged, and sends it again when the broker kept the session; all else
waits here.  What waits is sent in the order in which it was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.config.iotcore import IotCoreLimits
from agent.errors import NotConnectedError, PublishError, UnreachableError, VergeError
from agent.mqtt.inflight import Outbox, Parcel
from agent.mqtt.iotcore.awscrt import Client
from agent.mqtt.iotcore.bucket import Bucket
from agent.mqtt.limits import BrokerLimits, publish_bytes

__all__ = ["Sending"]

_PAUSE_S = 1.0
"""How long nothing is sent after the broker, or the client, could not take what was."""


class Sending:
    """What is on its way to the broker; ``ended`` hears of each parcel's end, once."""

    def __init__(self, limits: IotCoreLimits, ended: Callable[[Parcel, VergeError | None], None]) -> None:
        self.outbox = Outbox()
        self.postponed = 0
        """How often a message had to wait for the next second."""
        self._in_flight = limits.in_flight
        self._ended = ended
        self._limits = BrokerLimits()
        self._messages = Bucket(limits.publishes_per_s)
        self._bytes = Bucket(limits.bytes_per_s)
        self._client: Client | None = None
        self._ticket = 0
        self._returned: dict[int, Parcel] = {}
        """Ticket → what is to be sent again."""
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self.outbox and not self._returned

    def up(self, client: Client, limits: BrokerLimits, *, session_kept: bool) -> None:
        """Send what waits through ``client``, which by itself sends again what it has in a session that was kept."""
        self._client = client
        self._limits = limits
        self._not_before = 0.0
        self._take_back()
        if not session_kept:
            self.outbox.grounded()
        now = asyncio.get_running_loop().time()
        for parcel in self.outbox.flying:
            self._spend(publish_bytes(parcel.message), now)
        self.flush()

    def down(self) -> None:
        """The link is lost: QoS 0 messages with it, the others wait for the next."""
        self._client = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for parcel in self.outbox.unsendable():
            self._ended(parcel, _lost(parcel))

    def publish(self, parcel: Parcel) -> None:
        """Send ``parcel`` in its turn."""
        if self._client is None and not parcel.message.qos:
            self._ended(parcel, _lost(parcel))
        else:
            self.outbox.add(parcel)
            self.flush()

    def published(self, ticket: int, error: VergeError | None) -> None:
        """The client is done with what has ``ticket``."""
        flight = self.outbox.ended(ticket)
        if flight is not None:
            parcel, qos = flight
            if qos and isinstance(error, UnreachableError):
                self._returned[ticket] = parcel
                self._not_before = asyncio.get_running_loop().time() + _PAUSE_S
            else:
                self._ended(parcel, error)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window and the second go."""
        if self._client is None or self._timer is not None:
            return
        self._take_back()
        while parcel := self.outbox.next(min(self._limits.receive_maximum, self._in_flight)):
            if not self._send(self._client, parcel):
                return

    def _send(self, client: Client, parcel: Parcel) -> bool:
        message = self._limits.fitted(parcel.message)
        size = publish_bytes(message)
        try:
            self._limits.check(message)
        except PublishError as error:
            self._ended(parcel, error)
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait_s = max(self._messages.wait_s(1, now), self._bytes.wait_s(size, now), self._not_before - now)
        if wait_s > 0:
            self.postponed += 1
            self.outbox.put_back(parcel)
            self._timer = loop.call_later(wait_s, self._again)
            return False
        self._spend(size, now)
        self._ticket += 1
        self.outbox.sent(self._ticket, parcel, message.qos)
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
            self.outbox.put_back(self._returned.pop(ticket))


def _lost(parcel: Parcel) -> NotConnectedError:
    return NotConnectedError(
        f"a QoS 0 message for {parcel.message.topic!r} was lost with the link",
        hint="publish with QoS 1 what must arrive",
    )
