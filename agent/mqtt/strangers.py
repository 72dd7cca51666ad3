"""Whether a broker keeps strangers out: clients that cannot prove who they are try to reach topics of the agent.

Where a broker is says nothing of who writes to it: one on this machine may listen on a network for cameras, and take
documents from whoever finds it.  So it is tried, as a stranger would:

- without a name, and with a name and password that nobody has, at the agent's own door, at MQTT's usual one, and where
  else the broker listens (``doors``);
- at other doors in every way that MQTT is spoken: plainly, over TLS, over WebSockets, in both versions;
- a connection that is refused is proof enough; one that is hung up on before a word was said is not: a door that is
  full for the moment looks like that;
- whoever is let in publishes a *canary* on each topic, and a second client with the agent's own rights sees whether it
  is delivered.  A broker that drops a message says so on MQTT 5, and otherwise acknowledges it all the same: there a
  canary of the agent's own is sent after it.  When that one comes and the stranger's does not, it was dropped.

A canary is a document that nobody carries out: ``canary`` makes one, ``is_canary`` knows it.  Everything here blocks;
``tried`` does it in a thread.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

from msgspec.structs import replace

from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import BrokerUnreachableError, VergeError
from agent.mqtt.doors import other_doors
from agent.mqtt.paho import tls_context
from agent.mqtt.probe import Visitor
from agent.mqtt.reasons import BAD_PROTOCOL, CLOSED

__all__ = ["UNTRIED", "StrangerReport", "Strangers", "canary", "is_canary", "tried", "try_door"]

_USUAL_PORT = 1883
_WEBSOCKET_PATH = "/mqtt"
_UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "mqtt",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
"""RFC 6455, section 4.1, with the key of its example."""
_HERE_S = 2.0
"""How long a message may take through a broker on this machine."""
_LATE_S = 0.2
"""How much later than ours a stranger's message, which was sent before, may still come."""
_REFUSED = frozenset(("bad-credentials", "not-authorized", "bad-authentication", "banned", "client-id"))
_BUSY = frozenset(("server-unavailable", "server-busy", "quota-exceeded", "rate-exceeded"))
_HUNG_UP = frozenset((CLOSED, "closed", "tls", "disconnected"))
_CANARY = re.compile(rb'\{"canary": "[0-9a-f]{32}"\}')


class Strangers(StrEnum):
    """What became of clients that could not prove who they are."""

    UNTRIED = "untried"
    KEPT_OUT = "kept-out"
    LET_IN = "let-in"
    UNCLEAR = "unclear"
    """It was tried, and cannot be told."""


@dataclass(frozen=True, slots=True)
class StrangerReport:
    """What was found, and how, in a sentence."""

    strangers: Strangers
    finding: str


UNTRIED: Final = StrangerReport(Strangers.UNTRIED, "")


def canary() -> bytes:
    """A document that no agent carries out, like no other."""
    return f'{{"canary": "{secrets.token_hex(16)}"}}'.encode()


def is_canary(payload: bytes) -> bool:
    """Whether a document only tries whether it arrives."""
    return _CANARY.fullmatch(payload) is not None


async def tried(options: MqttOptions, topics: Sequence[str]) -> StrangerReport:
    """Try the broker of ``options``, which are the agent's own, and whether a stranger reaches one of ``topics``.

    In a thread of its own, which nobody waits for when the agent ends meanwhile.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[StrangerReport] = loop.create_future()

    def settle(report: StrangerReport) -> None:
        if not done.done():
            done.set_result(report)

    def work() -> None:
        try:
            report = try_door(options, topics)
        except Exception as error:  # noqa: BLE001 what cannot be told is no trust
            report = StrangerReport(Strangers.UNCLEAR, f"it could not be tried: {error}")
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, report)

    threading.Thread(target=work, name="agent.mqtt.strangers", daemon=True).start()
    return await done


def try_door(options: MqttOptions, topics: Sequence[str]) -> StrangerReport:
    """What becomes of strangers at the agent's own door, the usual one of this machine and the broker's others."""
    kept_out = "a client without a name and one with a made-up name were refused"
    for stranger, who in _strangers(options):
        report = _tried_as(stranger, who, options, topics)
        if report.strangers is not Strangers.KEPT_OUT:
            return report
        if report.finding:
            kept_out = report.finding
    unclear: StrangerReport | None = None
    for host, port in _other_doors(options):
        other = _tried_at(replace(options, host=host, port=port, connect_timeout_s=_HERE_S), options, topics)
        if other.strangers is Strangers.LET_IN:
            return other
        unclear = unclear or (other if other.strangers is Strangers.UNCLEAR else None)
    return unclear or StrangerReport(Strangers.KEPT_OUT, kept_out)


def _other_doors(options: MqttOptions) -> Iterable[tuple[str, int]]:
    if not options.security.loopback:
        return ()
    usual = [(options.host, _USUAL_PORT)] if options.port != _USUAL_PORT else []
    return dict.fromkeys((*usual, *other_doors(options.port)))


def _strangers(door: MqttOptions) -> list[tuple[MqttOptions, str]]:
    tls = None if door.tls is None else TlsOptions(ca_file=door.tls.ca_file, insecure=True, alpn=door.tls.alpn)
    nameless = replace(
        door, client_id="", username=None, password=None, password_file=None, tls=tls, clean_start=True,
        session_expiry_s=0,
    )  # fmt: skip
    made_up = replace(nameless, username=f"stranger-{secrets.token_hex(4)}", password=secrets.token_hex(8))
    return [(nameless, "a client without a name"), (made_up, "a client with a made-up name")]


def _tried_at(door: MqttOptions, ours: MqttOptions, topics: Sequence[str]) -> StrangerReport:
    """What becomes of strangers at another door; it may be no door of MQTT's, or somebody else's."""
    hung_up = _hangs_up(door)
    for way in _ways(door):
        for stranger, who in _strangers(way):
            try:
                with _entered(stranger) as visitor:
                    report = _delivered(visitor, f"{who} at {door.address}", ours, topics)
            except BrokerUnreachableError as error:
                if error.code in _REFUSED:
                    continue
                if error.code in _BUSY:
                    return StrangerReport(Strangers.UNCLEAR, f"{who} could not be tried: {error.message}")
                break  # not spoken in this way
            if report.strangers is not Strangers.KEPT_OUT:
                return report
        else:
            return StrangerReport(Strangers.KEPT_OUT, "")
    if hung_up or _hangs_up(door):
        why = f"the broker hangs up at {door.address} before a word was said: has it too many connections there?"
        return StrangerReport(Strangers.UNCLEAR, why)
    return StrangerReport(Strangers.KEPT_OUT, "")


def _ways(door: MqttOptions) -> Iterator[MqttOptions]:
    """The ways in which MQTT is spoken, the likeliest first."""
    ways = [replace(door, tls=tls, websocket_path=None) for tls in (None, TlsOptions(insecure=True))]
    yield from ways
    for way in ways:
        if _upgrades(way):
            yield replace(way, websocket_path=_WEBSOCKET_PATH)


def _upgrades(door: MqttOptions) -> bool:
    """Whether a door speaks HTTP and goes over to WebSockets for MQTT."""
    where = (door.host, door.port)
    if door.tls is None:
        connection = HTTPConnection(*where, timeout=_HERE_S)
    else:
        connection = HTTPSConnection(*where, timeout=_HERE_S, context=tls_context(door.tls))
    try:
        connection.request("GET", _WEBSOCKET_PATH, headers=_UPGRADE)
        return connection.getresponse().status == HTTPStatus.SWITCHING_PROTOCOLS
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _hangs_up(door: MqttOptions) -> bool:
    """Whether a connection ends by itself before anything was said."""
    try:
        with socket.create_connection((door.host, door.port), _HERE_S) as connection:
            connection.settimeout(_LATE_S)
            return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except OSError:  # it waits for us, or nobody is there
        return False


@contextmanager
def _entered(options: MqttOptions) -> Iterator[Visitor]:
    """A visitor, on MQTT 3.1.1 where the door takes nothing else, whatever the agent speaks at its own."""
    with ExitStack() as stack:
        try:
            visitor = stack.enter_context(Visitor(options))
        except BrokerUnreachableError as error:
            if error.code != BAD_PROTOCOL or options.version == "3.1.1":
                raise
            visitor = stack.enter_context(Visitor(replace(options, version="3.1.1")))
        yield visitor


def _tried_as(stranger: MqttOptions, who: str, ours: MqttOptions, topics: Sequence[str]) -> StrangerReport:
    try:
        with _entered(stranger) as visitor:
            return _delivered(visitor, who, ours, topics)
    except BrokerUnreachableError as error:
        if error.code in _REFUSED or (error.code in _HUNG_UP and _there(ours)):
            return StrangerReport(Strangers.KEPT_OUT, "")
        return StrangerReport(Strangers.UNCLEAR, f"{who} could not be tried: {error.message}")


def _there(ours: MqttOptions) -> bool:
    """Whether the broker that hung up on a stranger takes the agent at the same time."""
    try:
        with _entered(_beside(ours)):
            return True
    except VergeError:
        return False


def _beside(ours: MqttOptions) -> MqttOptions:
    name = f"{ours.client_id}-canary" if ours.client_id else ""
    return replace(ours, client_id=name, clean_start=True, session_expiry_s=0)


def _delivered(stranger: Visitor, who: str, ours: MqttOptions, topics: Sequence[str]) -> StrangerReport:
    """Whether one of the stranger's canaries comes to a client with the agent's rights."""
    unclear = ""
    with _entered(_beside(ours)) as agent:
        for topic in topics:
            agent.subscribe(topic)
            sent, own = canary(), canary()
            if stranger.publish(topic, sent) is not None:
                continue
            agent.publish(topic, own)
            seen = agent.receives(topic, _HERE_S, own)
            if agent.receives(topic, _LATE_S, sent):
                return StrangerReport(Strangers.LET_IN, f"{who} published on {topic}, and it came through")
            if not seen and not unclear:
                unclear = f"{who} was let in and published on {topic}; whether it comes through could not be seen"
    if unclear:
        return StrangerReport(Strangers.UNCLEAR, unclear)
    return StrangerReport(Strangers.KEPT_OUT, f"{who} was let in, and could not publish on {topics[0]}")
