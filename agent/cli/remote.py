"""An agent behind its broker: what it retains there, what is live on it, a document sent and followed to the end.

Before a document is sent, the agent is asked which components are live: a broker drops what nobody subscribed to, and
an answer proves that the agent takes documents.  The progress of a deployment comes on its retained topic; its end also
on a response topic, which is the only way for a document that is refused unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from agent.cli.broker import deployment_transport, visiting
from agent.cli.output import local_time
from agent.config.load import Config
from agent.errors import ConfigError, UnreachableError, VergeError
from agent.greengrass.deployments.outcome import UNDER_WAY
from agent.greengrass.deployments.requesters import QUERY
from agent.mqtt.rpc import RpcClient, rpc_client
from agent.mqtt.transport import Message, Transport
from agent.mqtt.visit import Visit
from agent.topics import Topics, level

__all__ = ["Payload", "Remote", "Sets", "base_of", "link", "reached", "retained", "thing_of", "waits"]

_TIMEOUT_S = 5.0
_AGAIN_S = 0.5
_FIRST_S = 1.0
_QUIET_S = 0.25
_MOST = 10_000

Payload: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sets:
    """Component → version of the live set, and of the one before it: None where there was none."""

    components: Mapping[str, str]
    previous: Mapping[str, str] | None


@asynccontextmanager
async def link(config: Config) -> AsyncIterator[Visit]:
    """The broker that deployments come by; raises ``BrokerUnreachableError``."""
    async with visiting(config, deployment_transport(config), "deploy") as visit:
        yield visit


async def retained(transport: Transport, filters: Iterable[str]) -> dict[str, Payload]:
    """Topic → the JSON object that is retained there; anything else is left out.

    A broker sends retained messages at once and does not say which is the last: silence does.
    """
    filters = tuple(filters)
    payloads: dict[str, Payload] = {}
    arrived = asyncio.Event()

    def on_message(message: Message) -> None:
        payload = _decoded(message)
        if payload is not None and len(payloads) < _MOST:
            payloads[message.topic] = payload
        arrived.set()

    for topic_filter in filters:
        transport.subscribe(topic_filter, on_message, qos=1)
    try:
        while await _within(arrived, _QUIET_S if payloads else _FIRST_S):
            arrived.clear()
    finally:
        for topic_filter in filters:
            transport.unsubscribe(topic_filter, on_message)
    return payloads


async def thing_of(visit: Visit, prefix: str) -> str:
    """The one agent that is online; raises ``UnreachableError`` where there is none, ``ConfigError`` for more."""
    statuses = await retained(visit, [f"{base_of('+', prefix)}/status"])
    things = sorted({str(status.get("thing")) for status in statuses.values() if status.get("state") == "online"})
    if not things:
        raise UnreachableError(
            f"no agent is online on {visit.options.address}", code="no-agent", hint="start it: verge run"
        )
    if len(things) > 1:
        shown = ", ".join(things[:8]) + (", …" if len(things) > 8 else "")  # noqa: PLR2004 a line of them
        raise ConfigError(f"{len(things)} agents are online: {shown}", code="which-thing", hint="name one of them")
    return things[0]


@asynccontextmanager
async def reached(config: Config, thing: str) -> AsyncIterator[Remote]:
    """The agent called ``thing``, or without a name the only one there is."""
    prefix = config.status.prefix
    async with link(config) as visit:
        name = thing or await thing_of(visit, prefix)
        async with rpc_client(visit, Topics(name, prefix).answers) as rpc:
            remote = Remote(visit, rpc, name, prefix)
            visit.subscribe(f"{remote.base}/deployments/+", remote.on_progress, qos=1)
            yield remote


class Remote:
    """One agent; made by ``reached``."""

    def __init__(self, visit: Visit, rpc: RpcClient, thing: str, prefix: str) -> None:
        self.thing = thing
        self.base = base_of(thing, prefix)
        self._visit = visit
        self._rpc = rpc
        self._progress: Callable[[str, Payload], None] = _ignore

    async def sets(self) -> Sets:
        """The live components and those before them; raises ``UnreachableError`` when the agent does not answer."""
        give_up = asyncio.get_running_loop().time() + _TIMEOUT_S
        while True:
            with suppress(TimeoutError):
                answer = await self._ask(f"deployments/{QUERY}", b"", _AGAIN_S)
                return self._sets(answer)
            # One that is online may still be starting, or far away.
            state = await self._state()
            if state != "online" or asyncio.get_running_loop().time() > give_up:
                raise self._silent(state)

    def _sets(self, answer: Payload) -> Sets:
        try:
            return msgspec.convert(answer, Sets)
        except msgspec.ValidationError as error:
            hint = "see to it that nobody else may answer there"
            raise UnreachableError(
                f"what answered for {self.thing} is no set of components: {error}", code="bad-answer", hint=hint
            ) from error

    async def send(self, document: bytes) -> None:
        """Hand a document over and do not wait for its end."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def delivered(error: VergeError | None) -> None:
            if not given.done():
                given.set_exception(error) if error else given.set_result(None)

        self._visit.publish(Message(f"{self.base}/deployments", document, qos=1), delivered)
        try:
            await asyncio.wait_for(given, _TIMEOUT_S)
        except TimeoutError:
            raise UnreachableError("the broker did not take the document in time", code="not-sent") from None

    async def deploy(
        self, document: bytes, identity: str | None, on_progress: Callable[[Payload], None], *, timeout_s: float
    ) -> Payload:
        """The end of the deployment; ``on_progress`` gets its progress, where its ``identity`` is known.

        Raises ``UnreachableError`` when it has not ended in time: it may still.
        """
        ended: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        last = ""
        own = None if identity is None else f"{self.base}/deployments/{level(identity)}"

        def progress(topic: str, payload: Payload) -> None:
            if topic != own:
                return
            if payload.get("status") in UNDER_WAY:
                nonlocal last
                last = waits(payload)
                on_progress(payload)
            elif not ended.done():
                ended.set_result(payload)

        self._progress = progress
        answered = asyncio.ensure_future(self._ask("deployments", document, timeout_s))
        try:
            await asyncio.wait({answered, ended}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else answered.result()
        except TimeoutError:
            hint = "it may still end: verge deployments tells; --timeout waits longer"
            hint += f"; verge deployments cancel {identity} gives it up" if last else ""
            message = f"{self.thing} did not finish within {timeout_s:g} s" + (f": it {last}" if last else "")
            raise UnreachableError(message, code="no-end", hint=hint) from None
        finally:
            self._progress = _ignore
            answered.cancel()
            await asyncio.gather(answered, return_exceptions=True)

    async def command(self, document: bytes, *, timeout_s: float) -> Payload:
        """The answer to a command (``commands``); raises ``UnreachableError`` when none comes in time."""
        try:
            return await self._ask("deployments", document, timeout_s)
        except TimeoutError:
            raise self._silent(await self._state()) from None

    def on_progress(self, message: Message) -> None:
        """Take the progress of a deployment; a retained one is of an earlier one, unless the link was down."""
        if (payload := _decoded(message)) is not None:
            self._progress(message.topic, payload)

    async def _ask(self, rest: str, payload: bytes, timeout_s: float) -> Payload:
        answer = _decoded(await self._rpc.request(f"{self.base}/{rest}", payload, timeout_s=timeout_s))
        if answer is None:
            raise UnreachableError(f"the answer of {self.thing} is no JSON object", code="bad-answer")
        return answer

    async def _state(self) -> str:
        statuses = await retained(self._visit, [f"{self.base}/status"])
        return str(next(iter(statuses.values()), {}).get("state", ""))

    def _silent(self, state: str) -> UnreachableError:
        if state == "online":
            hint = "its configuration needs a table [deployments], and may name another broker there"
            return UnreachableError(
                f"{self.thing} is online and takes no deployments here", code="no-deployments", hint=hint
            )
        words = f"{self.thing} is {state}" if state else f"there is no agent called {self.thing}"
        return UnreachableError(
            f"{words} on {self._visit.options.address}", code="no-agent", hint="start it: verge run"
        )


def waits(payload: Payload) -> str:
    """What a deployment waits for, as a sentence goes on after its name; empty where it does not.

    >>> waits({"waiting": {"kind": "deployment", "for": "deployment a", "reason": "waits behind a"}})
    'waits behind a'
    >>> waits({"waiting": {"for": "artifact s3://b/c", "reason": "no answer"}})
    'waits for artifact s3://b/c: no answer'
    """
    waiting = payload.get("waiting")
    if not isinstance(waiting, dict):
        return ""
    if waiting.get("kind") == "deployment":
        return str(waiting.get("reason", ""))
    times = {"next_attempt": "next attempt at", "until": "given up at"}
    told = (f"{word} {local_time(str(waiting[key]))}" for key, word in times.items() if key in waiting)
    return "; ".join((f"waits for {waiting.get('for', '')}: {waiting.get('reason', '')}", *told))


def base_of(thing: str, prefix: str) -> str:
    """The beginning of an agent's topics; the thing ``+`` is any."""
    return prefix.format(thing="+") if thing == "+" else Topics(thing, prefix).base


async def _within(arrived: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await arrived.wait()
    except TimeoutError:
        return False


def _decoded(message: Message) -> Payload | None:
    try:
        payload = msgspec.json.decode(message.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _ignore(_topic: str, _payload: Payload) -> None:
    """No deployment is followed now."""
