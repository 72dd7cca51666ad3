"""A connection to the nucleus's socket: connects, is served by the event loop, connects again, as one task of it.

On each connection every filter is asked for again, then what waited goes out, what had been in flight first, then the
link is said to be up.  A nucleus that does not know the token will not learn it: the agent goes on asking, slowly, as
long as it is let live.

What is published on a topic of a filter that has just been asked for waits until the nucleus has answered that, so that
who subscribes and publishes gets his own message, as from a broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, ParamSpec, TypeAlias, cast

from agent.errors import BrokerUnreachableError, PublishError, VergeError
from agent.eventstream.frames import EventStreamError
from agent.mqtt.backoff import Backoff
from agent.mqtt.greengrass import operations, reasons
from agent.mqtt.greengrass.operations import Request, UnreadableEventError
from agent.mqtt.greengrass.places import NucleusLimits
from agent.mqtt.greengrass.streams import (
    Accepted,
    Broken,
    Ended,
    Event,
    Failure,
    NucleusEvent,
    NucleusStreams,
    Refused,
    Response,
)
from agent.mqtt.greengrass.subscriptions import NucleusSubscriptions
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.receiving import Received, Receiving
from agent.mqtt.sending import ClientBusyError, Sending
from agent.mqtt.transport import LinkState, Message

__all__ = ["Access", "NucleusConnection"]

log = logging.getLogger("agent.mqtt.greengrass")

P = ParamSpec("P")

_STABLE_S: Final = 5.0
"""A connection that held so long ends the backing off."""
_WRITE_AHEAD_BYTES: Final = 1 << 20
"""What may wait for the socket; then the next message does."""


class Access(NamedTuple):
    """Where the nucleus is, who we are there, and how patient we are."""

    socket: str
    token: str
    connect_timeout_s: float = 10.0
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 30.0

    def backoff(self) -> Backoff:
        """How long to wait between attempts."""
        return Backoff(self.backoff_base_s, self.backoff_cap_s)


class Taken(NamedTuple):
    """The nucleus answered a publish."""

    ticket: int
    error: VergeError | None


class Unblocked(NamedTuple):
    """What kept messages waiting does so no more."""


NucleusNews: TypeAlias = Received | UnreadableEventError | Taken | Unblocked
"""What a client tells of its connection."""


class NucleusConnection:
    """The nucleus's connection, from ``start`` to ``leave``; methods of its halves are called through ``do``."""

    def __init__(
        self,
        access: Access,
        limits: NucleusLimits,
        sending: Sending,
        receiving: Receiving,
        on_change: Callable[[LinkState, BrokerLimits | None], None],
    ) -> None:
        self.trouble: BrokerUnreachableError | None = None
        """Why the last connection or attempt ended."""
        self.unreadable = 0
        """Events that held no message."""
        self._access = access
        self._limits = limits
        self._sending = sending
        self._receiving = receiving
        self._on_change = on_change
        self._backoff = access.backoff()
        self._client: NucleusClient | None = None
        self._reported: LinkState | None = None
        self._leaving = False
        self._quiet = asyncio.Event()

    def start(self) -> None:
        """Connect, and serve until ``leave``."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="agent.mqtt.greengrass")

    async def leave(self, within_s: float) -> None:
        """Send what waits, within ``within_s``, and end."""
        self._leaving = True
        try:
            if self._sending.queue and (self._client is not None or self.trouble is None):
                self._quiet.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._quiet.wait(), within_s)
        finally:
            self._task.cancel()
        await asyncio.wait({self._task})

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of one of the halves, and write what follows from it."""
        call(*args, **kwargs)
        if self._client is not None:
            self._client.flush()

    async def _run(self) -> None:
        while not self._leaving:
            up_since = self._loop.time()
            try:
                trouble = await self._connect_and_serve()
            except OSError as error:
                trouble = reasons.connect_failed(error, self._access.socket)
            except Exception as error:
                log.exception("the link to %s failed unexpectedly; it is made anew", self._access.socket)
                trouble = reasons.connect_failed(error, self._access.socket)
            except BaseException:
                self._down()
                raise
            if self._client is not None:  # a nucleus hangs up on a message that it finds too long, too
                self._sending.suspect_size(said=False)
            self._down()
            self.trouble = trouble
            self._report(LinkState(connected=False, reason=str(trouble)), None)
            await asyncio.sleep(self._delay_s(trouble, self._loop.time() - up_since))

    async def _connect_and_serve(self) -> BrokerUnreachableError:
        """Serve a connection to its end; the result is why it ended."""
        access = self._access
        client = NucleusClient(access, self._limits, self._receiving, self._on_event)
        async with asyncio.timeout(access.connect_timeout_s):
            await self._loop.create_unix_connection(lambda: client, access.socket)
            try:
                accepted = await client.accepted
            except BaseException:
                client.end()
                raise
        if not accepted:
            client.end()
            return await client.over
        self._go_up(client)
        try:
            return await client.over
        finally:
            client.end()

    def _go_up(self, client: NucleusClient) -> None:
        self._client = client
        self._receiving.begin(session_present=False)
        self._receiving.up(client, self._limits)
        limits = self._sending.up(client, self._limits)
        client.flush()
        self._report(LinkState(connected=True), limits)

    def _down(self) -> None:
        self._client = None
        self._receiving.down(session_kept=False)
        self._sending.down()
        self._sending.queue.requeue_in_flight()

    def _delay_s(self, trouble: BrokerUnreachableError, held_s: float) -> float:
        if trouble.code == reasons.NOT_AUTHORIZED:
            return self._backoff.slow_s()
        if held_s >= _STABLE_S:
            self._backoff.reset()
        return self._backoff.next_s()

    def _report(self, state: LinkState, limits: BrokerLimits | None) -> None:
        if state == self._reported or (self._leaving and not state.connected):
            return
        self._reported = state
        if state.connected:
            log.info("connected to the Greengrass nucleus at %s", self._access.socket)
        else:
            log.warning("%s", state.reason)
        self._on_change(state, limits)

    def _on_event(self, event: NucleusNews) -> None:
        match event:
            case Received():
                self._receiving.received(event)
            case Taken(ticket, error):
                self._sending.ended(ticket, error)
                self._sending.flush()
            case Unblocked():
                self._sending.flush()
            case UnreadableEventError():
                if not self.unreadable:
                    log.warning("%s", event.message)
                self.unreadable += 1
        if not self._sending.queue:
            self._quiet.set()


class NucleusClient(asyncio.Protocol):
    """One connection as the two halves use it; ``accepted`` is done when the nucleus knows the token or does not.

    ``over`` is done when the connection has ended, with why.
    """

    def __init__(
        self, access: Access, limits: NucleusLimits, receiving: Receiving, on_event: Callable[[NucleusNews], None]
    ) -> None:
        self._access = access
        self._places = limits.places
        self._receiving = receiving
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[bool] = self._loop.create_future()
        self.over: asyncio.Future[BrokerUnreachableError] = self._loop.create_future()
        self._streams = NucleusStreams(access.token)
        self._subscriptions = NucleusSubscriptions(limits.places, self, access.backoff)
        self._published: dict[int, tuple[Request, str]] = {}
        """Stream → what was asked there, and the message's topic."""
        self._transport: asyncio.Transport | None = None
        self._full = self._flushing = False
        self._complaint = ""

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self._streams.receive(data):
            self._on_nucleus(event)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whichever way it ended
        self._finish(reasons.lost(self._access.socket))

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._on_event(Unblocked())

    def _flush_soon(self) -> None:
        """Have what is to be sent handed on at the end of this turn, if not before."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand on what is to be sent."""
        self._flushing = False
        output = self._streams.take()
        if output and self._transport is not None and not self._transport.is_closing():
            self._transport.write(output)

    def end(self) -> None:
        """Close the connection, once what was sent before has gone out."""
        self._subscriptions.close()
        if self._transport is not None:
            self._transport.close()

    def _finish(self, trouble: BrokerUnreachableError) -> None:
        if not self.over.done():
            self.over.set_result(trouble)
        if not self.accepted.done():
            self.accepted.set_result(False)

    # -- what the halves want of it ------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is a connection to write to."""
        return self._streams.ready and not self.over.done()

    def publish(self, message: Message) -> int:
        """Send a message; its ticket, under which its end is reported.  Raises as ``PublishClient``."""
        if self._streams.used_up and not self._published:
            self._finish(reasons.broken(self._access.socket, "all of its streams are used"))
        if self._full or self._streams.used_up or not self.ready or self._subscriptions.awaits(message.topic):
            raise ClientBusyError
        request = operations.publishing(message, self._places.of_topic(message.topic))
        try:
            stream = self.open(request, has_events=False)
        except EventStreamError as error:
            raise PublishError(f"the nucleus takes no message for {message.topic!r}: {error.message}") from error
        self._published[stream] = request, message.topic
        return stream

    def subscribe(self, filters: Sequence[tuple[str, int]], identifier: int | None) -> int:
        """Subscribe to filters with their QoS; the ticket of the answer."""
        return self._subscriptions.subscribe(filters, identifier)

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Leave filters."""
        self._subscriptions.unsubscribe(filters)

    def acknowledge(self, acknowledgement: object) -> None:
        """Acknowledge a message, of which there are none to be acknowledged: a nucleus delivers with QoS 0."""

    # -- what the subscriptions want of it -----------------------------------------------------------------------------

    def open(self, request: Request, *, has_events: bool) -> int:
        """Ask for an operation; the result is its stream."""
        stream = self._streams.open(request.operation, request.payload, has_events=has_events)
        self._flush_soon()
        return stream

    def close(self, stream: int) -> None:
        """Have no more interest in a stream."""
        self._streams.close(stream)
        self._flush_soon()

    def later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Have something called after a while."""
        return self._loop.call_later(delay_s, call)

    def settled(self, ticket: int, failures: Sequence[str | None]) -> None:
        """All filters of a ticket are answered."""
        self._receiving.subscribed(ticket, failures)
        self._on_event(Unblocked())

    # -- what came -----------------------------------------------------------------------------------------------------

    def _on_nucleus(self, event: NucleusEvent) -> None:
        match event:
            case Accepted():
                self.accepted.set_result(True)
            case Refused():
                self._finish(reasons.refused(self._access.socket))
            case Broken(reason):
                self._finish(reasons.broken(self._access.socket, reason))
            case Event(stream, payload):
                self._on_message(stream, payload)
            case Response(stream):
                self._on_response(stream)
            case Failure():
                self._on_failure(event)
            case Ended(stream):
                if stream in self._subscriptions:
                    self._subscriptions.ended(stream)

    def _on_message(self, stream: int, payload: bytes) -> None:
        subscribed = self._subscriptions.events_on(stream)
        if subscribed is None:
            return
        try:
            message = operations.received(payload, subscribed.place, subscribed.topic_filter)
        except UnreadableEventError as error:
            self._on_event(error)
            return
        # What others publish under the same name in the other place is another topic.
        if self._places.of_topic(message.topic) is subscribed.place:
            identifiers = () if subscribed.number is None else (subscribed.number,)
            self._on_event(Received(message, identifiers, None))

    def _on_response(self, stream: int) -> None:
        if stream in self._subscriptions:
            self._subscriptions.answered(stream)
        elif self._published.pop(stream, None) is not None:
            self._on_event(Taken(stream, None))

    def _on_failure(self, failure: Failure) -> None:
        if failure.stream in self._subscriptions:
            self._subscriptions.failed(failure.stream, failure)
        elif published := self._published.pop(failure.stream, None):
            error = reasons.publish_failed(failure, *published)
            if error.message != self._complaint:
                self._complaint = error.message
                log.warning("%s", error)
            self._on_event(Taken(failure.stream, error))
