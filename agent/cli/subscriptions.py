"""Which topics hold the results, and what is said of the streams: from a configuration or from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.config.load import Config
from agent.config.strict import nearest
from agent.errors import ConfigError
from agent.topics import RESULTS, Topics, level

__all__ = ["Subscriptions", "configured", "usual"]

_ANY = "+"


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Topic filters of one broker."""

    results: tuple[str, ...]
    status: tuple[str, ...]


def usual(stream: str = "") -> Subscriptions:
    """Those of every agent that was told nothing else.

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
    topics, told_by = Topics(config.thing, config.status.prefix), config.status.transport or config.first_transport
    status = (topics.status, *(topics.stream(name) for name in names))
    return {
        transport: Subscriptions(tuple(results.get(transport, ())), status if transport == told_by else ())
        for transport in {**results, told_by: None}
    }


def _filter(template: str, thing: str, stream: str) -> str:
    """The filter of an output's topic: what differs from result to result is any level."""
    known = {"thing": level(thing), "stream": level(stream)}
    levels = template.split("/")
    return "/".join(_ANY if "{camera}" in part or "{label}" in part else part.format_map(known) for part in levels)
