"""The sending half of a connection: what is published and has not ended, and its way to the client.

Who owns a message on its way:

======================  ==============================================================================================
owner                   what it knows
======================  ==============================================================================================
``Outbox``              where one is configured: the message on disk until its end is reported here, and which
                        messages are handed over to the transport
``SendQueue``           the message from the moment it is accepted: whether it waits or is in flight, and in which
                        order; no other place says what is in flight
the client's library    the bytes of what is in flight, to send them again in a session that the broker kept; it is
                        never asked what that is
======================  ==============================================================================================

``Sending`` moves messages through the queue, through any client.  The window of unacknowledged messages is kept here
and not by paho, which forgets it when it sends again after an outage and is then cut off by brokers that count.  What
the broker takes is checked once, when a message is accepted; only what still waits when a connection comes up with
other limits is checked against those.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from agent.errors import NotConnectedError, PublishError, UnreachableError, VergeError
from agent.mqtt.limits import BrokerLimits, SizeSuspicion
from agent.mqtt.transport import Delivered, Message

__all__ = ["ClientBusyError", "OutgoingMessage", "Pacing", "PublishClient", "SendQueue", "Sending"]

log = logging.getLogger("agent.mqtt.client")

_RECENT_S = 1.0
"""How long after it was written a QoS 0 message may be what the broker hung up on."""


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingMessage:
    """A message that was accepted, and the callback for its end."""

    message: Message
    on_delivered: Delivered | None = None
    size: int = 0
    """Bytes of its packet, as ``BrokerLimits.check`` measured it."""
    order: int = field(default_factory=count().__next__)
    """Its place in the order of publication."""


class SendQueue:
    """Messages that wait or are in flight, in the order of publication, within bounds.

    Pure.  A message waits, is in flight under the client's ticket, and ends.  Messages of QoS 0 end with the
    connection; the others wait for the next one, and what was in flight goes first then.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.bytes = 0
        """Of all payloads."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[OutgoingMessage] = deque()
        self._in_flight: dict[int, tuple[OutgoingMessage, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        yield from (outgoing for outgoing, _ in self._in_flight.values())
        yield from self._waiting

    @property
    def in_flight(self) -> list[OutgoingMessage]:
        """What is sent and not acknowledged."""
        return [outgoing for outgoing, _ in self._in_flight.values()]

    def check_room(self, message: Message, *, batched_messages: int = 0, batched_bytes: int = 0) -> None:
        """Raise ``NotConnectedError`` when there is no room for one more, beside what waits in batches."""
        size = self.bytes + batched_bytes
        if len(self) + batched_messages >= self._max_messages or size + len(message.payload) > self._max_bytes:
            batched = f", {batched_messages} for their batch" if batched_messages else ""
            raise NotConnectedError(
                f"no room for {message.topic!r}: {len(self)} messages of {self.bytes} bytes wait for the broker"
                f"{batched}",
                code="queue-full",
                hint="raise max_queued_messages or max_queued_bytes, or publish less",
            )

    def add(self, outgoing: OutgoingMessage) -> None:
        """Have a message wait behind all others."""
        self._waiting.append(outgoing)
        self.bytes += len(outgoing.message.payload)

    def next(self, window: int) -> OutgoingMessage | None:
        """Take the first that waits, or None when none does or ``window`` are in flight."""
        if not self._waiting or len(self._in_flight) >= window:
            return None
        outgoing = self._waiting.popleft()
        self.bytes -= len(outgoing.message.payload)
        return outgoing

    def put_back(self, outgoing: OutgoingMessage) -> None:
        """Have a message wait again in its place: it could not be sent, or was sent in vain."""
        place = 0
        while place < len(self._waiting) and self._waiting[place].order < outgoing.order:
            place += 1
        self._waiting.insert(place, outgoing)
        self.bytes += len(outgoing.message.payload)

    def sent(self, ticket: int, outgoing: OutgoingMessage, qos: int) -> None:
        """The message is in flight under ``ticket``, with the QoS that the broker takes."""
        self._in_flight[ticket] = (outgoing, qos)
        self.bytes += len(outgoing.message.payload)

    def ended(self, ticket: int) -> tuple[OutgoingMessage, int] | None:
        """Take what was in flight under ``ticket``, and its QoS; None when the ticket is not known."""
        ended = self._in_flight.pop(ticket, None)
        if ended is not None:
            self.bytes -= len(ended[0].message.payload)
        return ended

    def topic_of(self, ticket: int) -> str:
        """The topic of what is in flight under ``ticket``; empty when the ticket is not known."""
        sent = self._in_flight.get(ticket)
        return sent[0].message.topic if sent else ""

    def requeue_in_flight(self) -> None:
        """Have what is in flight wait again, first: its tickets mean nothing any more."""
        for ticket in tuple(self._in_flight):
            sent = self.ended(ticket)
            if sent is not None:
                self.put_back(sent[0])

    def take_waiting(self, condition: Callable[[OutgoingMessage], bool]) -> list[OutgoingMessage]:
        """Take those of the waiting messages for which the condition holds."""
        taken = [outgoing for outgoing in self._waiting if condition(outgoing)]
        if taken:
            gone = set(taken)
            self._waiting = deque(outgoing for outgoing in self._waiting if outgoing not in gone)
            self.bytes -= sum(len(outgoing.message.payload) for outgoing in taken)
        return taken

    def take_qos_0(self) -> list[OutgoingMessage]:
        """Take what is of QoS 0: the connection is lost, and they with it."""
        tickets = [ticket for ticket, (_, qos) in self._in_flight.items() if not qos]
        lost = [sent[0] for ticket in tickets if (sent := self.ended(ticket)) is not None]
        return lost + self.take_waiting(lambda outgoing: not outgoing.message.qos)

    def take_all(self) -> list[OutgoingMessage]:
        """Take everything."""
        everything = list(self)
        self._waiting.clear()
        self._in_flight.clear()
        self.bytes = 0
        return everything


class ClientBusyError(Exception):
    """The client cannot take a message at this moment; it is asked again after the next acknowledgement."""


class PublishClient(Protocol):
    """What the sending half needs of a client."""

    @property
    def ready(self) -> bool:
        """Whether there is a connection to write to."""

    def publish(self, message: Message) -> int | None:
        """Send a message; its ticket, under which its end is reported, or None when it has ended: QoS 0, written.

        Raises ``PublishError`` for what cannot be sent, ``NotConnectedError`` for what was lost, ``ClientBusyError``.
        """


class Pacing(Protocol):
    """How fast a broker lets messages pass; times are the event loop's, in seconds."""

    def wait_s(self, size: int, now: float) -> float:
        """How long until a packet of ``size`` bytes may be sent."""

    def spend(self, size: int, now: float) -> None:
        """Such a packet is sent."""

    def pause(self, now: float) -> None:
        """The broker, or the client, could not take what was sent."""

    def resume(self) -> None:
        """There is a new connection: no pause holds any more."""


class Sending:
    """What is on its way to the broker at ``address``; who published is called back once for each message."""

    def __init__(self, address: str, queue: SendQueue, pacing: Pacing | None = None) -> None:
        self.queue = queue
        self.postponed = 0
        """How often a message had to wait for its turn in ``pacing``."""
        self._address = address
        self._pacing = pacing
        self._suspicion = SizeSuspicion()
        self._limits: BrokerLimits | None = None
        self._client: PublishClient | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_qos_0 = (0.0, 0)
        """When the last QoS 0 message was written, and its size."""

    def up(self, client: PublishClient, limits: BrokerLimits) -> BrokerLimits:
        """Send what waits through ``client``; returns the limits that hold, with what was found out about them."""
        proven = self._suspicion.limit(time.monotonic())
        limits = limits.capped(proven, "the broker (it hung up twice on larger ones)")
        if limits != self._limits:
            self._limits = limits
            self._refuse_waiting(limits)
        self._client = client
        if self._pacing:
            self._pacing.resume()
            now = asyncio.get_running_loop().time()
            for outgoing in self.queue.in_flight:  # which the client sends again by itself
                self._pacing.spend(outgoing.size, now)
        self.flush()
        return limits

    def down(self) -> None:
        """The connection is lost: QoS 0 messages with it, the others wait for the next."""
        self._client = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for outgoing in self.queue.take_qos_0():
            _end(outgoing, _lost(outgoing))

    def close(self, reason: str) -> None:
        """End everything that has not ended."""
        for outgoing in self.queue.take_all():
            _end(outgoing, NotConnectedError(f"{reason} before {outgoing.message.topic!r} was delivered"))

    def publish(self, outgoing: OutgoingMessage) -> None:
        """Send a message in its turn."""
        if self._client is None and not outgoing.message.qos:
            _end(outgoing, _lost(outgoing))
        else:
            self.queue.add(outgoing)
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window and the pacing go."""
        client, limits = self._client, self._limits
        while client and limits and self._timer is None and client.ready:
            outgoing = self.queue.next(limits.window)
            if outgoing is None or not self._send(client, outgoing, limits):
                return

    def ended(self, ticket: int, error: VergeError | None) -> None:
        """The client is done with a message: the broker has it, or ``error`` lost it.

        What the broker could not take now is sent again later, where there is a pacing to say when.
        """
        sent = self.queue.ended(ticket)
        if sent is None:  # QoS 0, written before the ticket was known
            return
        outgoing, qos = sent
        if error is None and not qos:
            self._wrote(outgoing)
        elif self._pacing and qos and isinstance(error, UnreachableError):
            self.queue.put_back(outgoing)
            self._pacing.pause(asyncio.get_running_loop().time())
        else:
            if error is None:
                self._suspicion.taken(outgoing.size)
            _end(outgoing, error)

    def suspect_size(self, *, said: bool) -> bool:
        """The broker hung up: whether it is proven now that a packet was too large; ``said``: the broker said so."""
        now = time.monotonic()
        written_at, size = self._last_qos_0
        sizes = [outgoing.size for outgoing in self.queue.in_flight] + ([size] if now - written_at < _RECENT_S else [])
        if not self._suspicion.dropped(max(sizes, default=0), now, said=said):
            return False
        log.warning(
            "%s hangs up on packets of %d bytes; such are refused for now"
            " (hint: raise its maximum packet size, or set max_packet_bytes)",
            self._address,
            max(sizes),
        )
        return True

    def _send(self, client: PublishClient, outgoing: OutgoingMessage, limits: BrokerLimits) -> bool:
        """Whether the next one may be tried."""
        if self._pacing and not self._paced(self._pacing, outgoing):
            return False
        message = limits.fitted(outgoing.message)
        try:
            ticket = client.publish(message)
        except ClientBusyError:
            self.queue.put_back(outgoing)
            return False
        except VergeError as error:
            _end(outgoing, error)
            return True
        if ticket is None:
            self._wrote(outgoing)
        else:
            self.queue.sent(ticket, outgoing, message.qos)
        return True

    def _paced(self, pacing: Pacing, outgoing: OutgoingMessage) -> bool:
        """Whether it is this message's turn; if not, a timer is set for it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait_s = pacing.wait_s(outgoing.size, now)
        if wait_s <= 0:
            pacing.spend(outgoing.size, now)
            return True
        self.postponed += 1
        self.queue.put_back(outgoing)
        self._timer = loop.call_later(wait_s, self._turn)
        return False

    def _turn(self) -> None:
        self._timer = None
        self.flush()

    def _refuse_waiting(self, limits: BrokerLimits) -> None:
        refusals: dict[OutgoingMessage, PublishError] = {}
        for outgoing in self.queue:
            try:
                limits.check(outgoing.message)
            except PublishError as error:
                refusals[outgoing] = error
        for outgoing in self.queue.take_waiting(refusals.__contains__):
            _end(outgoing, refusals[outgoing])

    def _wrote(self, outgoing: OutgoingMessage) -> None:
        self._last_qos_0 = (time.monotonic(), outgoing.size)
        _end(outgoing, None)


def _end(outgoing: OutgoingMessage, error: VergeError | None) -> None:
    if outgoing.on_delivered is not None:
        # In a later turn: never from inside ``publish``, nor from inside the client's library.
        asyncio.get_running_loop().call_soon(outgoing.on_delivered, error)


def _lost(outgoing: OutgoingMessage) -> NotConnectedError:
    return NotConnectedError(
        f"a QoS 0 message for {outgoing.message.topic!r} was lost with the link",
        hint="publish with QoS 1 what must arrive",
    )
