"""A link to one broker: connects, serves, reconnects, as one task of the event loop.

paho-mqtt is the field's client and speaks 3.1.1 and 5 over TCP, TLS and WebSockets.  Only connecting blocks, and
only that has a thread (``connecting``).  A connection is served by the loop itself (``serving``): a thread beside it
would cost two wake-ups and hand-overs of the interpreter for each message, more than reading and writing it.  While
the loop is behind nothing is read, so a flood waits in TCP and in the broker, not in our memory.

On each connection paho first sends again what was in flight; then the subscriptions are reconciled with what the
broker's session still holds, then what waited goes out, then the link is said to be up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.config.transports import MqttOptions
from agent.errors import BrokerUnreachableError, VergeError
from agent.mqtt.backoff import Backoff
from agent.mqtt.connecting import connect
from agent.mqtt.inflight import Parcel
from agent.mqtt.limits import MQTT_5, MQTT_311, BrokerLimits
from agent.mqtt.paho import new_client
from agent.mqtt.properties import connack_limits
from agent.mqtt.reasons import BAD_PROTOCOL, CLOSED, TOO_LARGE, connect_failed, connection_lost, connection_refused
from agent.mqtt.receiving import Receiving
from agent.mqtt.sending import Sending
from agent.mqtt.serving import Serving
from agent.mqtt.tls import tls_context
from agent.mqtt.transport import LinkState, Message

__all__ = ["Link", "LinkEvents"]

log = logging.getLogger("agent.mqtt.client")

P = ParamSpec("P")

_STABLE_S = 5.0
"""A connection that held so long ends the backing off."""
_UNSPECIFIED = 128
_NEEDS_A_PERSON = {"bad-credentials", "not-authorized", "bad-authentication", "banned", "client-id", BAD_PROTOCOL}


class LinkEvents(Protocol):
    """Where the link tells what happens.

    ``changed`` and ``received`` may call the link; ``ended`` and ``subscribed`` come from inside paho and may not.
    """

    def changed(self, state: LinkState, limits: BrokerLimits | None) -> None:
        """The link went up, with what the broker takes, or down or failed for a new reason."""

    def received(self, message: Message, filters: tuple[str, ...]) -> None:
        """A message came, for ``filters`` if the broker told."""

    def ended(self, parcel: Parcel, error: VergeError | None) -> None:
        """The broker has the message, or ``error`` lost it."""

    def subscribed(self, refused: dict[str, str]) -> None:
        """The filters that the broker refuses, as of now."""


class Link:
    """One broker's connection, from ``start`` to ``leave``; what is wanted of its halves is asked through ``do``."""

    def __init__(self, name: str, options: MqttOptions, will: Message | None, events: LinkEvents) -> None:
        self.sending = Sending(options.address, events.ended)
        self.receiving = Receiving(options.address, events.received, events.subscribed)
        self.trouble: BrokerUnreachableError | None = None
        """Why the last connection or attempt ended."""
        self._name = name
        self._options = options
        self._will = will
        self._changed = events.changed
        self._tls = tls_context(options.tls) if options.tls else None
        self._version = MQTT_311 if options.version == "3.1.1" else MQTT_5
        self._backoff = Backoff(options.backoff_base_s, options.backoff_cap_s)
        self._client: Client | None = None
        self._serving: Serving | None = None
        self._connecting = False
        self._connack: tuple[ConnectFlags, Properties | None] | None = None
        self._told: BrokerUnreachableError | None = None
        self._session_forgotten = False
        self._up_since: float | None = None
        self._said: LinkState | None = None
        self._leaving = self._parted = False

    def start(self) -> None:
        """Connect, and serve until told to leave."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"agent.mqtt.{self._name}")

    async def leave(self, within_s: float) -> None:
        """Send what waits, within ``within_s``, say goodbye and end."""
        self._leaving = True
        if self._serving:
            self._serving.do(lambda: None)
        elif not (self._connecting and self.sending.outbox):
            self._task.cancel()
        try:
            await asyncio.wait({self._task}, timeout=within_s)
        finally:
            self._task.cancel()
        await asyncio.wait({self._task})

    def do(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of ``sending`` or ``receiving``, and see to what follows from it."""
        if self._serving:
            self._serving.do(call, *args, **kwargs)
        else:
            call(*args, **kwargs)

    async def _run(self) -> None:
        while not self._leaving:
            self._told = self._connack = self._up_since = None
            self._session_forgotten = False
            try:
                await self._connect_and_serve()
            except (OSError, ValueError) as error:
                self._told = self._told or connect_failed(error, self._options.address)
            except asyncio.CancelledError:
                self._leaving = True
                raise
            except Exception as error:
                log.exception("the link to %s failed unexpectedly; it is made anew", self._options.address)
                self._told = connect_failed(error, self._options.address)
            finally:
                delay_s = self._after()
            await asyncio.sleep(delay_s)

    async def _connect_and_serve(self) -> None:
        client = self._client = self._client or self._new_client()
        self._connecting = True
        try:
            await connect(client)
        except asyncio.CancelledError:
            self._client = None  # it is still the thread's
            raise
        finally:
            self._connecting = False
        if client.socket() is None:  # the peer hung up on the CONNECT
            return
        self._serving = Serving(client, delivered=self.receiving.deliver, attend=self._attend)
        answer = self._loop.call_later(self._options.connect_timeout_s, self._unanswered)
        try:
            await self._serving.over
        finally:
            answer.cancel()
            self._serving.close()
            self._serving = None

    def _unanswered(self) -> None:
        if self._serving and self._connack is None:
            self._serving.fail(TimeoutError())

    def _attend(self) -> None:
        """The client did something: go up if it is connected now, send what may be sent, leave if that is all."""
        client = self._client
        if client is None or client.socket() is None:
            return
        if self._connack and self._up_since is None:
            self._go_up(client, *self._connack)
        self.sending.flush()
        if self._leaving and not self.sending.outbox:
            self._part(client)

    def _part(self, client: Client) -> None:
        if not self._parted:
            self._parted = True
            client.disconnect()

    def _go_up(self, client: Client, flags: ConnectFlags, properties: Properties | None) -> None:
        self._up_since = self._loop.time()
        limits = BrokerLimits.from_connack(connack_limits(properties), version=self._version)
        limits = limits.capped(self._options.max_packet_bytes, "max_packet_bytes of the configuration")
        self.receiving.up(client, limits)
        limits = self.sending.up(client, limits)
        self._say(LinkState(connected=True, session_present=flags.session_present), limits)

    def _after(self) -> float:
        """Account for the end of a connection, or of an attempt; seconds until the next."""
        trouble = self.trouble = self._told or connection_lost(_UNSPECIFIED, "", self._options.address)
        hung_up = self._connack is not None and trouble.code in {CLOSED, TOO_LARGE}
        proven = hung_up and self.sending.suspect_size(told=trouble.code == TOO_LARGE)
        fall_back = self._options.version == "auto" and self._version == MQTT_5 and trouble.code == BAD_PROTOCOL
        self.sending.down()
        # paho sends again by itself what it has in flight, and goes on with the session: right only if the
        # broker kept that, and wrong for a packet that the broker cannot take.
        anew = proven or fall_back or self._session_forgotten or not self._keeps_session()
        self.receiving.down(session_kept=not anew)
        self._hang_up(forget=anew)
        if fall_back:
            self._version = MQTT_311
        if fall_back or self._session_forgotten or self._leaving:
            return 0.0
        delay_s = self._delay_s(trouble)
        self._say(LinkState(connected=False, reason=str(trouble)), None)
        return delay_s

    def _delay_s(self, trouble: BrokerUnreachableError) -> float:
        if trouble.code in _NEEDS_A_PERSON:
            return self._backoff.slow_s()
        if self._up_since is not None and self._loop.time() - self._up_since >= _STABLE_S:
            self._backoff.reset()
        return self._backoff.next_s()

    def _hang_up(self, *, forget: bool) -> None:
        client = self._client
        if client is not None and self._leaving:
            self._part(client)
        if client is not None and (connection := client.socket()):  # nobody said goodbye, or it could not be written
            connection.close()
        if forget:
            self._client = None
            self.sending.outbox.grounded()

    def _say(self, state: LinkState, limits: BrokerLimits | None) -> None:
        if state == self._said:
            return
        self._said = state
        if state.connected:
            spoken = "5" if self._version == MQTT_5 else "3.1.1"
            kept = "session kept" if state.session_present else "new session"
            log.info("connected to %s (MQTT %s, %s)", self._options.address, spoken, kept)
        else:
            log.warning("%s", state.reason)
        self._changed(state, limits)

    def _keeps_session(self) -> bool:
        options = self._options
        return options.session_expiry_s > 0 if self._version == MQTT_5 else not options.clean_start

    def _new_client(self) -> Client:
        client = new_client(self._options, self._version, self._will, self._tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        self.sending.attach(client)
        self.receiving.attach(client)
        return client

    def _on_connect(
        self, client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._told = connection_refused(reason.value, str(reason), self._options.address)
        elif self.sending.outbox.flying and not flags.session_present:
            # paho would go on with a session that the broker forgot, and lose QoS 2 messages.
            self._session_forgotten = True
            client.disconnect()
        else:
            self._connack = (flags, properties)
            self.receiving.connected(session_present=flags.session_present)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._told = self._told or connection_lost(reason.value, str(reason), self._options.address)
