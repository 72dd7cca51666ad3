"""A connection to one broker by paho: connects, is served, connects again, as one task of the event loop.

paho-mqtt is the field's client and speaks 3.1.1 and 5 over TCP, TLS and WebSockets.  Only connecting blocks, and only
that has a thread (``connect``).  A connection is served by the loop itself (``SocketDriver``): a thread beside it would
cost two wake-ups and hand-overs of the interpreter for each message, more than reading and writing it.  While the loop
is behind nothing is read, so a flood waits in TCP and in the broker, not in our memory.

On each connection paho first sends again what was in flight; then the subscriptions are reconciled with what the
broker's session still holds, then what waited goes out, then the link is said to be up.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from typing import Any, ParamSpec

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.config.transports import MqttOptions
from agent.errors import BrokerUnreachableError
from agent.mqtt.backoff import Backoff
from agent.mqtt.limits import MQTT_5, BrokerLimits
from agent.mqtt.paho import PahoClient, connack_limits, new_client, tls_context
from agent.mqtt.reasons import BAD_PROTOCOL, CLOSED, TOO_LARGE, connect_failed, connection_lost, connection_refused
from agent.mqtt.receiving import Receiving
from agent.mqtt.sending import Sending
from agent.mqtt.transport import LinkState, Message
from agent.mqtt.versions import VersionChoice

__all__ = ["PahoConnection", "SocketDriver", "connect"]

log = logging.getLogger("agent.mqtt.client")

P = ParamSpec("P")

_STABLE_S = 5.0
"""A connection that held so long ends the backing off."""
_UNSPECIFIED = 128
_NEEDS_A_PERSON = {"bad-credentials", "not-authorized", "bad-authentication", "banned", "client-id", BAD_PROTOCOL}
_READS_A_TURN = 32
"""Then others have their turn, also while TLS has more in hand."""
_LONGEST_TICK_S = 5.0
_SHORTEST_TICK_S = 0.25
_STANDSTILL_S = 0.5
_MOMENT_S = 0.1


class PahoConnection:
    """One broker's connection, from ``start`` to ``leave``; methods of its halves are called through ``do``."""

    def __init__(
        self,
        name: str,
        options: MqttOptions,
        will: Message | None,
        sending: Sending,
        receiving: Receiving,
        on_change: Callable[[LinkState, BrokerLimits | None], None],
    ) -> None:
        self.trouble: BrokerUnreachableError | None = None
        """Why the last connection or attempt ended."""
        self._name = name
        self._address = receiving.address
        self._options = options
        self._will = will
        self._sending = sending
        self._receiving = receiving
        self._on_change = on_change
        self._tls = tls_context(options.tls) if options.tls else None
        self._choice = VersionChoice(options.version)
        self._version = self._choice.version
        """Of the attempt or connection that is."""
        self._backoff = Backoff(options.backoff_base_s, options.backoff_cap_s)
        self._client: PahoClient | None = None
        self._driver: SocketDriver | None = None
        self._connecting = False
        self._connack: tuple[ConnectFlags, Properties | None] | None = None
        self._reason: BrokerUnreachableError | None = None
        """Why this connection or attempt ended, where the broker or paho said so."""
        self._session_forgotten = False
        self._checking = False
        """This connection was made to see whether it can be made."""
        self._asked = False
        """This attempt got as far as to ask the broker for a session."""
        self._up_since: float | None = None
        self._reported: LinkState | None = None
        self._leaving = self._parted = False

    def start(self) -> None:
        """Connect, and serve until ``leave``."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"agent.mqtt.{self._name}")

    async def leave(self, within_s: float) -> None:
        """Send what waits, within ``within_s``, say goodbye and end."""
        self._leaving = True
        if self._driver:
            self._driver.do(lambda: None)
        elif not (self._connecting and self._sending.queue):
            self._task.cancel()
        try:
            await asyncio.wait({self._task}, timeout=within_s)
        finally:
            self._task.cancel()
        await asyncio.wait({self._task})

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of one of the halves, and see to what follows from it."""
        if self._driver:
            self._driver.do(call, *args, **kwargs)
        else:
            call(*args, **kwargs)

    async def _run(self) -> None:
        while not self._leaving:
            self._reason = self._connack = self._up_since = None
            self._session_forgotten = self._checking = self._asked = False
            self._version = self._choice.version
            try:
                await self._connect_and_serve()
            except (OSError, ValueError) as error:
                self._reason = self._reason or connect_failed(error, self._address)
            except asyncio.CancelledError:
                self._leaving = True
                raise
            except Exception as error:
                log.exception("the link to %s failed unexpectedly; it is made anew", self._address)
                self._reason = connect_failed(error, self._address)
            finally:
                delay_s = self._after()
            await asyncio.sleep(delay_s)

    async def _connect_and_serve(self) -> None:
        client = self._client = self._client or self._new_client()
        self._connecting = True
        try:
            await connect(client.paho)
        except asyncio.CancelledError:
            self._client = None  # it is still the thread's
            raise
        finally:
            self._connecting = False
        self._asked = True
        if not client.ready:  # the peer hung up on the CONNECT
            return
        self._driver = SocketDriver(client.paho, on_read=client.take_received, attend=self._attend)
        answer = self._loop.call_later(self._options.connect_timeout_s, self._unanswered)
        try:
            await self._driver.over
        finally:
            answer.cancel()
            self._driver.close()
            self._driver = None

    def _unanswered(self) -> None:
        if self._driver and self._connack is None:
            self._driver.fail(TimeoutError())

    def _attend(self) -> None:
        """The client did something: go up if it is connected now, send what may be sent, leave if that is all."""
        client = self._client
        if client is None or not client.ready:
            return
        if self._connack and self._up_since is None:
            self._go_up(client, *self._connack)
        self._sending.flush()
        if self._leaving and not self._sending.queue:
            self._part(client.paho)

    def _part(self, client: Client) -> None:
        if not self._parted:
            self._parted = True
            client.disconnect()

    def _go_up(self, client: PahoClient, flags: ConnectFlags, properties: Properties | None) -> None:
        self._up_since = self._loop.time()
        limits = BrokerLimits.from_connack(connack_limits(properties), version=self._version)
        limits = limits.capped(self._options.max_packet_bytes, "max_packet_bytes of the configuration")
        self._receiving.up(client, limits)
        limits = self._sending.up(client, limits)
        self._report(LinkState(connected=True, session_present=flags.session_present), limits)

    def _after(self) -> float:
        """Account for the end of a connection, or of an attempt; seconds until the next."""
        trouble = self._reason or connection_lost(_UNSPECIFIED, "", self._address)
        if not self._checking:  # that one was ended here
            self.trouble = trouble
        if self._client is not None:
            self._client.take_received()
        hung_up = self._connack is not None and trouble.code in {CLOSED, TOO_LARGE}
        proven = hung_up and self._sending.suspect_size(said=trouble.code == TOO_LARGE)
        at_once = self._checking or self._chooses_anew(trouble)
        self._sending.down()
        # paho sends again by itself what it has in flight, and goes on with the session: right only if the
        # broker kept that, and wrong for a packet that the broker cannot take.
        other_version = self._version != self._choice.version
        anew = proven or other_version or self._session_forgotten or not self._keeps_session()
        self._receiving.down(session_kept=not anew)
        self._hang_up(forget=anew)
        if at_once or self._session_forgotten or self._leaving:
            return 0.0
        delay_s = self._delay_s(trouble)
        self._report(LinkState(connected=False, reason=str(trouble)), None)
        return delay_s

    def _chooses_anew(self, trouble: BrokerUnreachableError) -> bool:
        """Whether the end of an attempt says that another version is to be tried at once."""
        if self._connack is not None or self._session_forgotten or self._leaving:
            return False
        if trouble.code == BAD_PROTOCOL:
            return self._choice.refused()
        return self._asked and trouble.code == CLOSED and self._choice.met_silence()

    def _delay_s(self, trouble: BrokerUnreachableError) -> float:
        if trouble.code in _NEEDS_A_PERSON:
            return self._backoff.slow_s()
        if self._up_since is not None and self._loop.time() - self._up_since >= _STABLE_S:
            self._backoff.reset()
        return self._backoff.next_s()

    def _hang_up(self, *, forget: bool) -> None:
        client = self._client
        if client is not None:
            if self._leaving:
                self._part(client.paho)
            if connection := client.paho.socket():  # nobody said goodbye, or it could not be written
                connection.close()
        if forget:
            self._client = None
            self._sending.queue.requeue_in_flight()

    def _report(self, state: LinkState, limits: BrokerLimits | None) -> None:
        if state == self._reported:
            return
        self._reported = state
        if state.connected:
            spoken = "5" if self._version == MQTT_5 else "3.1.1"
            kept = "session kept" if state.session_present else "new session"
            log.info("connected to %s (MQTT %s, %s)", self._address, spoken, kept)
        else:
            log.warning("%s", state.reason)
        self._on_change(state, limits)

    def _keeps_session(self) -> bool:
        options = self._options
        return options.session_expiry_s > 0 if self._version == MQTT_5 else not options.clean_start

    def _new_client(self) -> PahoClient:
        paho = new_client(self._options, self._version, self._will, self._tls)
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        return PahoClient(paho, self._sending, self._receiving)

    def _on_connect(
        self, client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._reason = connection_refused(reason.value, str(reason), self._address)
        elif not self._choice.answered():
            self._checking = True
            client.disconnect()
        elif self._sending.queue.in_flight and not flags.session_present:
            # paho would go on with a session that the broker forgot, and lose QoS 2 messages.
            self._session_forgotten = True
            client.disconnect()
        else:
            self._connack = (flags, properties)
            self._receiving.begin(session_present=flags.session_present)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._reason = self._reason or connection_lost(reason.value, str(reason), self._address)


class SocketDriver:
    """One connection of a paho client, served by the event loop: when to read, to write and to look at the clock.

    While it is served, everything that touches the client goes through here, on the loop's thread: ``do`` calls, then
    ``attend`` sees to what follows from the call.  paho writes at once as long as it is not inside one of its own
    callbacks; what the socket does not take, and what was published inside a callback, goes out when it is writable.
    ``on_read`` is called after each read, ``attend`` after everything, both outside of paho's callbacks.  ``over`` is
    done when the connection has ended, or with the exception that ended it.
    """

    def __init__(self, client: Client, *, on_read: Callable[[], None], attend: Callable[[], None]) -> None:
        self._client = client
        self._on_read = on_read
        self._attend = attend
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        connection = client.socket()
        assert connection is not None  # noqa: S101 the client is connected
        self._pending: Callable[[], int] = getattr(connection, "pending", lambda: 0)
        self._descriptor = connection.fileno()
        self._open = True
        self._writing = False
        client.on_socket_close = lambda *_: self._closing()
        self._loop.add_reader(self._descriptor, self._readable)
        self._arm()
        self.do(lambda: None)

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call something that may touch the client."""
        try:
            call(*args, **kwargs)
            if self._open:
                self._attend()
            if self._open and self._client.want_write() is not self._writing:
                self._watch_writable()
        except Exception as error:
            if self.over.done():
                raise
            self.over.set_exception(error)

    def fail(self, error: Exception) -> None:
        """End the connection for this reason."""
        if not self.over.done():
            self.over.set_exception(error)

    def close(self) -> None:
        """Leave the client alone: the loop will not touch it any more."""
        self._closing()
        self._client.on_socket_close = None

    def _closing(self) -> None:
        # Called by paho right before it closes the socket, whose number may be another's a moment later.
        if not self._open:
            return
        self._open = False
        self._tick.cancel()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        if not self.over.done():
            self.over.set_result(None)

    def _readable(self) -> None:
        if self._open:
            self.do(self._read)

    def _read(self) -> None:
        for _ in range(_READS_A_TURN):
            self._client.loop_read()
            self._on_read()
            if not self._open or not self._pending():
                return
        self._loop.call_soon(self._readable)  # what is decrypted already, no selector sees

    def _watch_writable(self) -> None:
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(self._descriptor, self.do, self._client.loop_write)
        else:
            self._loop.remove_writer(self._descriptor)

    # -- the clock: keepalive ---------------------------------------------------------------------------

    def _arm(self) -> None:
        tick_s = min(max(self._client.keepalive / 4, _SHORTEST_TICK_S), _LONGEST_TICK_S)
        self._tick = self._loop.call_later(tick_s, self._look, self._loop.time() + tick_s + _STANDSTILL_S)

    def _look(self, late: float) -> None:
        if self._loop.time() > late:
            # The loop stood still, and the broker's answers wait to be read: first they get a moment for that.
            self._tick = self._loop.call_later(_MOMENT_S, self._look, math.inf)
            return
        self.do(self._client.loop_misc)
        if self._open:
            self._arm()


async def connect(client: Client) -> None:
    """Return when ``client`` has a connection and the CONNECT is sent; raises what kept it from that.

    Looking up the name, TCP, the handshakes of TLS and WebSocket block in paho, in a thread that lives for one attempt
    and has the client to itself.  It is a daemon and none of the loop's executor, for those are waited for when the
    program ends, and a resolver that hangs would keep it from ending.  After a cancellation the client still belongs
    to the thread, which says goodbye should it get through.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    thread = threading.Thread(target=_attempt, args=(client, loop, done), name="agent.mqtt.connect", daemon=True)
    thread.start()
    await done


def _attempt(client: Client, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    failure: Exception | None = None
    try:
        client.reconnect()
    except Exception as error:  # noqa: BLE001 it is raised where the attempt is waited for
        failure = error
    try:
        loop.call_soon_threadsafe(_settle, client, done, failure)
    except RuntimeError:  # the loop is closed: nobody waits
        _part(client)


def _settle(client: Client, done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.cancelled():
        _part(client)
    elif failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(None)


def _part(client: Client) -> None:
    client.disconnect()
    connection = client.socket()
    if connection is not None:
        connection.close()
