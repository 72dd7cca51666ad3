"""``verge watch``: results as they come, and what agents say of their streams.

Messages wait in one bounded queue between the connections and the terminal; when results come faster than they are
shown, some are lost and counted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click

from agent.cli import loop
from agent.cli.lines import Lines, as_json
from agent.cli.output import echo
from agent.config.load import Config, load, parse
from agent.config.strict import nearest
from agent.config.transports import TransportOptions
from agent.errors import ConfigError
from agent.mqtt.transport import LinkState, Message
from agent.mqtt.visit import Visit
from agent.text import as_json_text
from agent.topics import RESULTS, Topics, level

__all__ = ["Subscriptions", "command", "configured", "usual"]

_ANY = "+"
_WAITING = 10_000
_LOOK_S = 1.0
_SILENCE_S = 10.0
_RECEIVED = math.inf
"""A message came: silence is no trouble any more."""


@click.command("watch")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The agent's TOML file: its brokers and topics.",
)
@click.option("--host", metavar="HOST", help="The broker, where no file is named.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The broker's port.  [default: 1883, with --ca-file 8883]",
)
@click.option("--username", metavar="NAME", help="For the broker.")
@click.option("--password-file", type=click.Path(path_type=Path), metavar="FILE", help="Where the password is.")
@click.option("--ca-file", metavar="FILE", help="Speak TLS; whom to trust, as PEM.")
@click.option("--stream", default="", metavar="NAME", help="Only this stream.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Leave after so many results.")
@click.option("--json", "as_lines", is_flag=True, help="Print each result as one line of JSON, and nothing else.")
def command(
    config: Path | None, host: str | None, port: int | None, username: str | None, password_file: Path | None,
    ca_file: str | None, stream: str, count: int | None, as_lines: bool,
) -> None:  # fmt: skip
    """Show results, and what agents say of their streams, until Ctrl-C.

    Without -c, every agent on the broker is watched that publishes under verge/.

    \b
    Examples:
      verge watch
      verge watch -c configs/local.toml --stream front
      verge watch --host broker.local --json --count 10
    """  # noqa: D301 click wants the character itself
    brokers: Brokers
    if config is not None:
        if host or port or username or password_file or ca_file:
            raise click.UsageError("-c FILE names the broker: leave out --host, --port and what belongs to them")
        loaded = load(config)
        brokers = {name: (loaded.transports[name], topics) for name, topics in configured(loaded, stream).items()}
    else:
        brokers = {"broker": (_options(host, port, username, password_file, ca_file), usual(stream))}
    account = _Account()
    try:
        loop.run(_watch(brokers, count, account, as_lines=as_lines))
    finally:
        account.print()


def _options(
    host: str | None, port: int | None, username: str | None, password_file: Path | None, ca_file: str | None
) -> TransportOptions:
    """The transport that a configuration with these values has, read as strictly."""
    table: dict[str, Any] = {"host": host or "127.0.0.1", "port": port or (8883 if ca_file else 1883)}
    table |= {"version": "auto"}
    table |= {"username": username} if username else {}
    table |= {"password_file": str(password_file)} if password_file else {}
    table |= {"tls": {"ca_file": ca_file}} if ca_file else {}
    return parse({"transports": {"broker": table}}, "the command line", Path.cwd(), {}).transports["broker"]


class _Account:
    """How many results were shown and lost, and since when."""

    def __init__(self) -> None:
        self.results = 0
        self.lost = 0
        self.began = 0.0

    def print(self) -> None:
        if self.began:
            seconds = time.monotonic() - self.began
            lost = f", {self.lost} more came too fast to be shown" if self.lost else ""
            echo(f"{self.results} {'result' if self.results == 1 else 'results'} in {seconds:.1f} s{lost}", err=True)


async def _watch(brokers: Brokers, count: int | None, account: _Account, *, as_lines: bool) -> None:
    async with _watching(brokers) as watch:
        for options, subscriptions in brokers.values():
            filters = ", ".join(subscriptions.results) or "no results: the streams write to files only"
            echo(f"watching {options.address}: {filters}; Ctrl-C ends", err=True)
        account.began = time.monotonic()
        lines = Lines()
        while count is None or account.results < count:
            received = await watch.next()
            if isinstance(received, _Notice):
                echo(f"verge: {received.text}", fg="yellow", err=True)
            else:
                account.results += received.is_result
                _show(received, lines, as_lines=as_lines)
            account.lost = watch.lost


def _show(received: _Received, lines: Lines, *, as_lines: bool) -> None:
    clock = time.strftime("%H:%M:%S")
    if as_lines:
        if received.is_result:
            echo(as_json_text(as_json(received.topic, received.payload).decode()))
    elif received.is_result:
        echo(lines.result(received.topic, received.payload, clock))
    elif line := lines.status(received.topic, received.payload, clock):
        echo(line, dim=True)


# -- which topics ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Topic filters of one broker: those of results, and those of the states of agents and streams."""

    results: tuple[str, ...]
    status: tuple[str, ...]


Brokers: TypeAlias = Mapping[str, tuple[TransportOptions, Subscriptions]]


def usual(stream: str = "") -> Subscriptions:
    """Those of every agent that keeps the default topics.

    >>> usual().results
    ('verge/+/results/+',)
    """
    name = level(stream) if stream else _ANY
    topics = Topics("")
    base = topics.prefix.format(thing=_ANY)
    status = (f"{base}/status", f"{base}/streams/{name}")
    return Subscriptions((RESULTS.format(thing=_ANY, stream=name),), status)


def configured(config: Config, stream: str = "") -> Mapping[str, Subscriptions]:
    """By transport, those of the configuration's streams; raises ``ConfigError`` for a stream it does not have."""
    if stream and stream not in config.streams:
        raise ConfigError(
            f"there is no stream {stream!r}",
            code="unknown-stream",
            hint=nearest(stream, config.streams) or f"known: {', '.join(config.streams) or 'none'}",
        )
    names = [stream] if stream else list(config.streams)
    results: dict[str, dict[str, None]] = {}
    for name in names:
        options = config.streams[name]
        for output in options.outputs:
            if output.file is None:
                transport = output.transport or options.input.transport or config.first_transport
                results.setdefault(transport, {})[_filter(output.topic, config.thing, name)] = None
    topics = Topics(config.thing, config.status.prefix)
    status_transport = config.status.transport or config.first_transport
    status = (topics.status, *(topics.stream(name) for name in names))
    return {
        transport: Subscriptions(tuple(results.get(transport, ())), status if transport == status_transport else ())
        for transport in {**results, status_transport: None}
    }


def _filter(template: str, thing: str, stream: str) -> str:
    """The filter of an output's topic: a part that differs from result to result is any level."""
    known = {"thing": level(thing), "stream": level(stream)}
    levels = template.split("/")
    return "/".join(_ANY if "{camera}" in part or "{label}" in part else part.format_map(known) for part in levels)


# -- what comes on them ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Received:
    """A message: a result, or the state of an agent or stream."""

    topic: str
    payload: bytes
    is_result: bool


@dataclass(frozen=True, slots=True)
class _Notice:
    """A change of the connection, or a refusal, that the reader should know of."""

    text: str


class _Watch:
    """The messages and notices, in order; ``lost`` counts those that a slow reader did not get."""

    def __init__(self, visits: Mapping[str, Visit]) -> None:
        self.lost = 0
        self._visits = visits
        self._waiting: asyncio.Queue[_Received | _Notice] = asyncio.Queue(_WAITING)
        self._refused: set[str] = set()
        self._silent_s = 0.0

    def subscribe(self, name: str, subscriptions: Subscriptions) -> None:
        """Subscribe to these filters on the broker called ``name``, and watch its connection."""
        visit = self._visits[name]
        for topic_filter in subscriptions.results:
            visit.subscribe(topic_filter, partial(self._on_message, is_result=True))
        for topic_filter in subscriptions.status:
            visit.subscribe(topic_filter, partial(self._on_message, is_result=False))
        visit.watch(partial(self._on_link, visit.options.address))

    async def next(self) -> _Received | _Notice:
        """The next message or notice, however long it takes; a long silence at the start is one notice."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    received = await self._waiting.get()
            except TimeoutError:
                self._notice_refusals()
                self._silent_s += _LOOK_S
                if self._silent_s == _SILENCE_S:
                    return _Notice(f"nothing came for {_SILENCE_S:g} s: is an agent running, and on this broker?")
            else:
                self._silent_s = _RECEIVED
                return received

    def _on_message(self, message: Message, *, is_result: bool) -> None:
        self._put(_Received(message.topic, message.payload, is_result))

    def _on_link(self, address: str, state: LinkState) -> None:
        self._put(_Notice(f"connected to {address} again" if state.connected else state.reason))

    def _notice_refusals(self) -> None:
        for visit in self._visits.values():
            for topic_filter, reason in visit.refused.items():
                if topic_filter not in self._refused:
                    self._refused.add(topic_filter)
                    self._put(_Notice(f"{visit.options.address} refuses {topic_filter}: {reason}"))

    def _put(self, received: _Received | _Notice) -> None:
        try:
            self._waiting.put_nowait(received)
        except asyncio.QueueFull:
            self.lost += 1


@asynccontextmanager
async def _watching(brokers: Brokers) -> AsyncIterator[_Watch]:
    """Connect to every broker and subscribe; raises ``BrokerUnreachableError`` when one is not there."""
    visits = {name: Visit(name, options, "watch") for name, (options, _) in brokers.items()}
    async with AsyncExitStack() as stack:
        for visit in visits.values():
            await stack.enter_async_context(visit)
        await asyncio.gather(*(visit.reach() for visit in visits.values()))
        watch = _Watch(visits)
        for name, (_, subscriptions) in brokers.items():
            watch.subscribe(name, subscriptions)
        yield watch
