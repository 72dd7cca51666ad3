"""The thread that owns the paho client: connects, reads, writes, reconnects.

paho-mqtt is the field's client and speaks 3.1.1 and 5 over TCP, TLS and WebSockets.  Its network loop is
driven from here and not by its own thread, for three reasons: the delay between attempts is ours (full
jitter), what waits for the link is ours to bound, and no other thread ever touches the client, so that
there is nothing to lock.  The event loop gives ``orders``; what happens goes back through ``LinkEvents``.

On each connection paho first sends again what was in flight; then the subscriptions are reconciled with
what the broker's session still holds, then what waited goes out, then the link is said to be up.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from typing import Any, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import BrokerUnreachable, VergeError
from agent.transport.backoff import Backoff
from agent.transport.base import LinkState, Message
from agent.transport.client import new_client
from agent.transport.limits import MQTT_5, MQTT_311, BrokerLimits
from agent.transport.options import MqttOptions
from agent.transport.orders import Orders
from agent.transport.outbox import Parcel
from agent.transport.properties import connack_limits
from agent.transport.reasons import BAD_PROTOCOL, CLOSED, TOO_LARGE, connect_failed, connection_lost, connection_refused
from agent.transport.receiving import Receiving
from agent.transport.sending import Sending
from agent.transport.tls import tls_context

__all__ = ["Link", "LinkEvents"]

log = logging.getLogger("agent.transport.mqtt")

_STABLE_S = 5.0
"""A connection that held so long ends the backing off."""
_TICK_S = 1.0
_UNSPECIFIED = 128
_NEEDS_A_PERSON = {"bad-credentials", "not-authorized", "bad-authentication", "banned", "client-id", BAD_PROTOCOL}


class LinkEvents(Protocol):
    """Where the link tells what happens; called in the link's thread."""

    def changed(self, state: LinkState, limits: BrokerLimits | None) -> None:
        """The link went up, with what the broker takes, or down or failed for a new reason."""

    def received(self, message: Message, filters: tuple[str, ...]) -> None:
        """A message came, for ``filters`` if the broker told; may block to make the broker wait."""

    def ended(self, parcel: Parcel, error: VergeError | None) -> None:
        """The broker has the message, or ``error`` lost it."""

    def subscribed(self, refused: dict[str, str]) -> None:
        """The filters that the broker refuses, as of now."""


class Link(threading.Thread):
    """One broker's connection; what its halves and ``leave`` do is ordered through ``orders``."""

    def __init__(self, name: str, options: MqttOptions, will: Message | None, events: LinkEvents) -> None:
        super().__init__(name=f"mqtt-{name}", daemon=True)
        self.orders = Orders()
        self.sending = Sending(options.address, events.ended)
        self.receiving = Receiving(options.address, events.received, events.subscribed)
        self._options = options
        self._will = will
        self._changed = events.changed
        self._tls = tls_context(options.tls) if options.tls else None
        self._version = MQTT_311 if options.version == "3.1.1" else MQTT_5
        self._backoff = Backoff(options.backoff_base_s, options.backoff_cap_s)
        self._client: Client | None = None
        self._connack: tuple[ConnectFlags, Properties | None] | None = None
        self._trouble: BrokerUnreachable | None = None
        self._session_forgotten = False
        self._up_since: float | None = None
        self._said: LinkState | None = None
        self._leave_by: float | None = None

    def leave(self, within_s: float) -> None:
        """Send what waits, within ``within_s``, say goodbye and end the thread."""
        self._leave_by = time.monotonic() + within_s

    def run(self) -> None:
        """Connect and serve until told to leave."""
        while self._leave_by is None:
            self._trouble = self._connack = self._up_since = None
            self._session_forgotten = False
            try:
                self._connect_and_serve()
            except (OSError, ValueError) as error:
                self._trouble = self._trouble or connect_failed(error, self._options.address)
            except Exception as error:
                log.exception("the link to %s failed unexpectedly; it is made anew", self._options.address)
                self._trouble = connect_failed(error, self._options.address)
            self._wait(self._after())

    def _connect_and_serve(self) -> None:
        client = self._client = self._client or self._new_client()
        client.reconnect()
        connection = client.socket()
        answer_by = time.monotonic() + self._options.connect_timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.orders.reader, selectors.EVENT_READ)
            selector.register(connection, selectors.EVENT_READ)  # type: ignore[arg-type]
            while client.socket() is connection:
                self._serve_once(client, selector, connection)
                if self._connack is None and time.monotonic() > answer_by:
                    raise TimeoutError
                if self._leave_by is not None and (not self.sending.outbox or time.monotonic() > self._leave_by):
                    client.disconnect()
                    return

    def _serve_once(self, client: Client, selector: selectors.BaseSelector, connection: Any) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.want_write() else 0)
        if selector.get_key(connection).events != wanted:
            selector.modify(connection, wanted)
        ready = {key.fileobj: events for key, events in selector.select(_TICK_S)}
        self.orders.run(readable=self.orders.reader in ready)
        events = ready.get(connection, 0)
        if events & selectors.EVENT_READ:
            client.loop_read()
            while client.socket() is connection and _pending(connection):
                client.loop_read()
        if self._connack and self._up_since is None and client.socket() is connection:
            self._go_up(client, *self._connack)
        if events & selectors.EVENT_WRITE and client.socket() is connection:
            client.loop_write()
        self.sending.flush()
        client.loop_misc()

    def _go_up(self, client: Client, flags: ConnectFlags, properties: Properties | None) -> None:
        self._up_since = time.monotonic()
        limits = BrokerLimits.from_connack(connack_limits(properties), version=self._version)
        limits = limits.capped(self._options.max_packet_bytes, "max_packet_bytes of the configuration")
        self.receiving.up(client, limits)
        limits = self.sending.up(client, limits)
        self._say(LinkState(connected=True, session_present=flags.session_present), limits)

    def _after(self) -> float:
        """Account for the end of a connection, or of an attempt; seconds until the next."""
        trouble = self._trouble or connection_lost(_UNSPECIFIED, "", self._options.address)
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
        if fall_back or self._session_forgotten or self._leave_by is not None:
            return 0.0
        delay_s = self._delay_s(trouble)
        self._say(LinkState(connected=False, reason=str(trouble)), None)
        return delay_s

    def _delay_s(self, trouble: BrokerUnreachable) -> float:
        if trouble.code in _NEEDS_A_PERSON:
            return self._backoff.slow_s()
        if self._up_since is not None and time.monotonic() - self._up_since >= _STABLE_S:
            self._backoff.reset()
        return self._backoff.next_s()

    def _hang_up(self, *, forget: bool) -> None:
        connection = self._client and self._client.socket()
        if connection:  # nobody said goodbye, or it could not be written
            connection.close()
        if forget:
            self._client = None
            self.sending.outbox.grounded()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.orders.reader, selectors.EVENT_READ)
            while self._leave_by is None and (left := until - time.monotonic()) > 0:
                self.orders.run(readable=bool(selector.select(left)))

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
            self._trouble = connection_refused(reason.value, str(reason), self._options.address)
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
        self._trouble = self._trouble or connection_lost(reason.value, str(reason), self._options.address)


def _pending(connection: Any) -> bool:
    """Whether TLS has decrypted bytes in hand that no selector sees."""
    pending = getattr(connection, "pending", None)
    return bool(pending and pending())
