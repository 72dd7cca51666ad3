"""The broker that a command uses: from the agent's file or from the command line, read as strictly, and visited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from msgspec.structs import replace

from agent.config.load import Config, load, parse
from agent.mqtt.visit import Visit

__all__ = ["broker_options", "deployment_transport", "thing_option", "visiting"]

_SCHEMES = {"mqtt": False, "mqtts": True}
_FILES = ("ca_file", "cert_file", "key_file")


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a broker; it gets the configuration that they make as ``config``."""

    @click.option(
        "-c", "--config", "path", type=click.Path(path_type=Path), metavar="FILE", help="The agent's TOML file."
    )
    @click.option("--broker", default="mqtt://127.0.0.1", show_default=True, metavar="URL", help="Where no file is.")
    @click.option("--username", help="For the broker.")
    @click.option("--password-file", metavar="FILE", help="Where the password is.")
    @click.option("--ca-file", metavar="FILE", help="Whom to trust, as PEM; with mqtts://.")
    @click.option("--cert-file", metavar="FILE", help="Who we are, as PEM.")
    @click.option("--key-file", metavar="FILE", help="The key of that certificate.")
    @wraps(function)
    def wrapped(path: Path | None, broker: str, **others: Any) -> Any:
        options = {name: others.pop(name) for name in ("username", "password_file", *_FILES)}
        return function(config=load(path) if path else _config(broker, options), **others)

    return wrapped


def thing_option(config: Config, named: str) -> str:
    """The thing that is meant: named, or the one of the agent's own file; empty is the only one on the broker."""
    has_file = click.get_current_context().params.get("path") is not None
    return named or (config.thing if has_file else "")


def deployment_transport(config: Config) -> str:
    """The transport that deployments come by."""
    return (config.deployments.transport if config.deployments else "") or config.first_transport


@asynccontextmanager
async def visiting(config: Config, transport: str, word: str) -> AsyncIterator[Visit]:
    """A second client on the broker of a transport, over MQTT 5; raises ``BrokerUnreachableError``.

    ``word`` sets its client id apart from the agent's.
    """
    options = replace(config.transports[transport].visiting(transport), version="5")
    async with Visit(word, options, word) as visit:
        await visit.reach()
        yield visit


def _config(broker: str, options: dict[str, str | None]) -> Config:
    """The configuration that these options make."""
    url = urlsplit(broker if "://" in broker else f"mqtt://{broker}")
    try:
        host, port = url.hostname, url.port
    except ValueError as error:
        raise click.BadParameter(f"{broker}: {error}", param_hint="--broker") from error
    if url.scheme not in _SCHEMES or not host:
        raise click.BadParameter(f"{broker!r} is not mqtt://host:port or mqtts://host:port", param_hint="--broker")
    tls = _SCHEMES[url.scheme]
    table: dict[str, Any] = {"host": host, "port": port or (8883 if tls else 1883)}
    table |= {"username": unquote(url.username)} if url.username else {}
    table |= {name: options[name] for name in ("username", "password_file") if options[name]}
    if tls:
        table["tls"] = {name: options[name] for name in _FILES if options[name]}
    return parse({"transports": {"broker": table}}, "the command line", Path.cwd(), {})
