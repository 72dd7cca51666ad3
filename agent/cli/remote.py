"""An agent as its broker shows it: asked what is live, given a document, followed to the end.

Before a document is sent, the agent is asked what is live (``deployments.inquiry``): a broker drops what nobody
subscribed to, and an answer proves that documents are heard.  How a deployment goes is heard on its retained topic;
its end also on a response topic, which is the only way for a document that is refused unread.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from agent.cli.retained import retained
from agent.config.load import Config
from agent.errors import ConfigError, UnreachableError
from agent.greengrass.deployments.requesters import QUERY
from agent.mqtt.transport import Message
from agent.mqtt.visit import Visit
from agent.topics import Topics, level

__all__ = ["UNDER_WAY", "Remote", "Sets", "base_of", "link", "reached", "thing_of"]

UNDER_WAY = "IN_PROGRESS"
"""The status of a deployment that has not ended."""

_PATIENCE_S = 5.0
_AGAIN_S = 0.5

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sets:
    """Component → version of what is live, and of what was before it: None where there was nothing."""

    components: Mapping[str, str]
    previous: Mapping[str, str] | None


@asynccontextmanager
async def link(config: Config) -> AsyncIterator[Visit]:
    """The broker that deployments come by; raises ``BrokerUnreachableError``."""
    name = (config.deployments.transport if config.deployments else "") or config.first_transport
    async with Visit("deploy", replace(config.transports[name].visiting(name), version="5"), "deploy") as visit:
        await visit.reach()
        yield visit


async def thing_of(visit: Visit, prefix: str) -> str:
    """The one agent that is online; raises ``UnreachableError`` where there is none, ``ConfigError`` for more."""
    found = await retained(visit, [f"{base_of('+', prefix)}/status"])
    things = sorted({str(told.get("thing")) for told in found.values() if told.get("state") == "online"})
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
    async with link(config) as visit:
        remote = Remote(visit, thing or await thing_of(visit, config.status.prefix), config.status.prefix)
        visit.subscribe(remote.answers, remote.hear, qos=1)
        visit.subscribe(f"{remote.base}/deployments/+", remote.hear_progress, qos=1)
        yield remote


class Remote:
    """One agent; made by ``reached``."""

    def __init__(self, visit: Visit, thing: str, prefix: str) -> None:
        self.thing = thing
        self.base = base_of(thing, prefix)
        self.answers = f"{self.base}/answers/{uuid.uuid4().hex}"
        self._visit = visit
        self._open: dict[bytes, asyncio.Future[Told]] = {}
        self._progress: Callable[[str, Told], None] = _nobody

    async def sets(self) -> Sets:
        """What is live; raises ``UnreachableError`` when the agent does not answer."""
        give_up = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            with suppress(TimeoutError):
                told = await self._ask(f"deployments/{QUERY}", b"", _AGAIN_S)
                return Sets(told["components"], told["previous"])
            # One that is online may still be starting, or far away.
            state = await self._state()
            if state != "online" or asyncio.get_running_loop().time() > give_up:
                raise self._silent(state)

    async def send(self, document: bytes) -> None:
        """Hand a document over and do not wait for its end."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def delivered(error: Exception | None) -> None:
            if not given.done():
                given.set_exception(error) if error else given.set_result(None)

        self._visit.publish(Message(f"{self.base}/deployments", document, qos=1), delivered)
        try:
            await asyncio.wait_for(given, _PATIENCE_S)
        except TimeoutError:
            raise UnreachableError("the broker did not take the document in time", code="not-sent") from None

    async def deploy(
        self, document: bytes, identity: str | None, told: Callable[[Told], None], *, timeout_s: float
    ) -> Told:
        """How the deployment ended; ``told`` hears how far it is, where its ``identity`` is known.

        Raises ``UnreachableError`` when it has not ended in time: it may still.
        """
        ended: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        own = None if identity is None else f"{self.base}/deployments/{level(identity)}"

        def progress(topic: str, payload: Told) -> None:
            if topic != own:
                return
            if payload.get("status") == UNDER_WAY:
                told(payload)
            elif not ended.done():
                ended.set_result(payload)

        self._progress = progress
        answered = asyncio.ensure_future(self._ask("deployments", document, timeout_s))
        try:
            await asyncio.wait({answered, ended}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else answered.result()
        except TimeoutError:
            hint = "it may still end: verge deployments tells; --timeout waits longer"
            raise UnreachableError(
                f"{self.thing} did not finish within {timeout_s:g} s", code="no-end", hint=hint
            ) from None
        finally:
            self._progress = _nobody
            answered.cancel()
            await asyncio.gather(answered, return_exceptions=True)

    def hear(self, message: Message) -> None:
        """Take an answer; one that nobody waits for is ignored."""
        waiting = self._open.get(message.correlation_data or b"")
        told = _decoded(message)
        if waiting is not None and not waiting.done() and told is not None:
            waiting.set_result(told)

    def hear_progress(self, message: Message) -> None:
        """Hear of a deployment; what is retained is of an earlier one, unless the link was away."""
        if (told := _decoded(message)) is not None:
            self._progress(message.topic, told)

    async def _ask(self, rest: str, payload: bytes, timeout_s: float) -> Told:
        token = uuid.uuid4().bytes
        answered = self._open[token] = asyncio.get_running_loop().create_future()
        asked = Message(
            f"{self.base}/{rest}", payload, qos=1, response_topic=self.answers, correlation_data=token,
        )  # fmt: skip
        try:
            self._visit.publish(asked)
            return await asyncio.wait_for(answered, timeout_s)
        finally:
            del self._open[token]

    async def _state(self) -> str:
        found = await retained(self._visit, [f"{self.base}/status"])
        return str(next(iter(found.values()), {}).get("state", ""))

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


def base_of(thing: str, prefix: str) -> str:
    """What an agent's topics begin with; the thing ``+`` is any."""
    return prefix.format(thing="+") if thing == "+" else Topics(thing, prefix).base


def _decoded(message: Message) -> Told | None:
    try:
        told = msgspec.json.decode(message.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _nobody(_topic: str, _told: Told) -> None:
    """Nobody follows a deployment now."""
