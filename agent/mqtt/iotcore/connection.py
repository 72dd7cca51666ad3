"""A connection to IoT Core, from ``start`` to ``leave``: the client's events are handled here, on the event loop.

The client connects and reconnects by itself, backing off with jitter.  On each connection the subscriptions are
reconciled with what the broker's session still holds, then what waited goes out, then the link is said to be up.

A client keeps the certificate that it began with.  Where the files have changed when a connection ends (the device has
a new certificate), another client takes over with what they hold now; the old one's unacknowledged messages are sent
again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec

from agent.config.transports import IotCoreOptions
from agent.errors import BrokerUnreachableError, ConfigError
from agent.mqtt.iotcore.awscrt import Attempting, CrtClient, Down, Event, Published, Stopped, Subscribed, Up
from agent.mqtt.iotcore.awscrt_options import tls_context
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.receiving import Received, Receiving
from agent.mqtt.sending import Sending
from agent.mqtt.transport import LinkState, Message

__all__ = ["Handover", "IotCoreConnection"]

log = logging.getLogger("agent.mqtt.iotcore")

P = ParamSpec("P")

_STOP_S = 5.0
"""How long the client may take to come to rest."""
_PER_TURN = 100


class IotCoreConnection:
    """IoT Core's connection, from ``start`` to ``leave``; methods of its halves are called through ``do``."""

    def __init__(
        self,
        options: IotCoreOptions,
        will: Message | None,
        sending: Sending,
        receiving: Receiving,
        on_change: Callable[[LinkState, BrokerLimits | None], None],
    ) -> None:
        self.trouble: BrokerUnreachableError | None = None
        """Why the last connection or attempt ended."""
        self._options = options
        self._will = will
        self._sending = sending
        self._receiving = receiving
        self._on_change = on_change
        self._files = _files(options)
        self._tls = tls_context(options)
        self._client: CrtClient | None = None
        self._handover: Handover | None = None
        self._renewing = False
        self._fresh = True
        """The client has had no connection yet."""
        self._up = self._leaving = False
        self._reported: LinkState | None = None
        self._began = asyncio.Event()
        self._quiet = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def dropped(self) -> int:
        """Messages of QoS 0 that were received while there was no room for them."""
        return self._handover.dropped if self._handover else 0

    def start(self) -> None:
        """Connect, and serve until ``leave``."""
        options = self._options
        self._handover = Handover(
            self._on_event, max_messages=options.max_queued_messages, max_bytes=options.max_queued_bytes
        )
        self._begin(self._handover)

    def _begin(self, handover: Handover) -> None:
        self._fresh = True
        self._began.clear()
        self._client = CrtClient(self._options, self._tls, self._will, handover.put)
        self._client.start()

    async def leave(self, within_s: float) -> None:
        """Send what waits, within ``within_s``, say goodbye and end."""
        client = self._client
        if client is None:
            return
        self._leaving = True
        try:
            if self._sending.queue and (self._up or self.trouble is None):
                self._quiet.clear()
                await _within(within_s, self._quiet)
        finally:
            # The client is let go only when nothing of it runs any more, and only one that began reports its end.
            await _within(_STOP_S, self._began)
            client.stop()
            if not await _within(_STOP_S, self._stopped):
                log.warning("the client of %s did not come to rest in %g s", self._options.address, _STOP_S)
            self._client = None

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of one of the halves."""
        call(*args, **kwargs)

    def _on_event(self, event: Event) -> None:
        match event:
            case Received():
                self._receiving.received(event)
            case Published(ticket, error):
                self._sending.ended(ticket, error)
                self._sending.flush()
            case Subscribed(ticket, failures):
                self._receiving.subscribed(ticket, failures)
            case Up(session_present, limits):
                self._go_up(limits, session_present=session_present)
            case Down(trouble):
                self._go_down(trouble)
            case Attempting():
                self._began.set()
            case Stopped():
                self._at_rest()
        if not self._sending.queue:
            self._quiet.set()

    def _go_up(self, limits: BrokerLimits, *, session_present: bool) -> None:
        if self._client is None or self._renewing:
            return
        self._up = True
        self._receiving.begin(session_present=session_present)
        self._receiving.up(self._client, limits)
        if self._fresh or not session_present:  # of what an earlier client had sent, this one knows nothing
            self._sending.queue.requeue_in_flight()
        self._sending.up(self._client, limits)
        self._fresh = False
        self._report(LinkState(connected=True, session_present=session_present), limits)

    def _go_down(self, trouble: BrokerUnreachableError) -> None:
        self._up = False
        self.trouble = trouble
        self._receiving.down()
        self._sending.down()
        if not self._leaving:
            self._report(LinkState(connected=False, reason=str(trouble)), None)
            self._renew()

    def _renew(self) -> None:
        """Have another client take over where the files are not those that this one began with."""
        files = _files(self._options)
        if self._client is None or self._renewing or files == self._files:
            return
        try:
            self._tls = tls_context(self._options)
        except ConfigError as error:
            log.warning("the new certificate of %s is not used: %s", self._options.address, error)
            return
        self._files, self._renewing = files, True
        self._client.stop()

    def _at_rest(self) -> None:
        if not self._renewing or self._leaving or self._handover is None:
            self._stopped.set()
            return
        self._renewing = False
        log.info("connecting to %s with the new certificate", self._options.address)
        self._begin(self._handover)

    def _report(self, state: LinkState, limits: BrokerLimits | None) -> None:
        if state == self._reported:
            return
        self._reported = state
        if state.connected:
            kept = "session kept" if state.session_present else "new session"
            log.info("connected to %s (IoT Core, %s)", self._options.address, kept)
        else:
            log.warning("%s", state.reason)
        self._on_change(state, limits)


class Handover:
    """From the client's threads to the event loop, in order, bounded, with one wake-up for what comes meanwhile.

    The loop is woken when the first event comes and then takes all there are, some hundred a turn so that others have
    theirs.  Only messages of QoS 0 can be too many: the others are bounded by what the broker may send ahead of their
    acknowledgement, which follows their handling, and all else by what was asked for.  A message of QoS 0 that finds no
    room is dropped and counted.
    """

    def __init__(self, take: Callable[[Event], None], *, max_messages: int, max_bytes: int) -> None:
        self.dropped = 0
        """Messages of QoS 0 that found no room."""
        self._take = take
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._messages = 0
        self._woken = False

    def put(self, event: Event) -> None:
        """Pass an event on; from any thread."""
        with self._lock:
            if isinstance(event, Received) and not self._room(event):
                self.dropped += 1
                return
            self._events.append(event)
            wake, self._woken = not self._woken, True
        if wake:
            self._hand_over()

    def _hand_over(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to take it
            self._loop.call_soon_threadsafe(self._turn)

    def _room(self, event: Received) -> bool:
        size = len(event.message.payload)
        full = self._messages >= self._max_messages or self._bytes + size > self._max_bytes
        if event.acknowledgement is None and full:
            return False
        self._messages += 1
        self._bytes += size
        return True

    def _turn(self) -> None:
        try:
            for _ in range(_PER_TURN):
                event = self._next()
                if event is None:
                    return
                self._take(event)
        except BaseException:
            self._loop.call_soon(self._turn)
            raise
        self._loop.call_soon(self._turn)

    def _next(self) -> Event | None:
        with self._lock:
            if not self._events:
                self._woken = False
                return None
            event = self._events.popleft()
            if isinstance(event, Received):
                self._messages -= 1
                self._bytes -= len(event.message.payload)
            return event


def _files(options: IotCoreOptions) -> tuple[tuple[int, int] | None, ...]:
    """Which files prove who the agent is, as they are on disk now."""
    return tuple(_identity(Path(name)) for name in (options.cert_file, options.key_file) if name)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):  # not wait_for: in Python 3.11 that may drop a cancellation
            await event.wait()
    except TimeoutError:
        return False
    return True
