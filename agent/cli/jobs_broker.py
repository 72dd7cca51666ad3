"""Which broker ``verge jobs`` speaks to: from the agent's file or from the command line, read as strictly."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from agent.config.load import Config, load, parse

__all__ = ["broker_options"]

_SCHEMES = {"mqtt": False, "mqtts": True}
_FILES = ("ca_file", "cert_file", "key_file")


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a broker; it gets what they say as ``config``."""

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
        said = {name: others.pop(name) for name in ("username", "password_file", *_FILES)}
        return function(config=load(path) if path else _config(broker, said), **others)

    return wrapped


def _config(broker: str, said: dict[str, str | None]) -> Config:
    """What a configuration with these values would say."""
    url = urlsplit(broker if "://" in broker else f"mqtt://{broker}")
    try:
        host, port = url.hostname, url.port
    except ValueError as error:
        raise click.BadParameter(f"{broker}: {error}", param_hint="--broker") from error
    if url.scheme not in _SCHEMES or not host:
        raise click.BadParameter(f"{broker!r} is not mqtt://host:port or mqtts://host:port", param_hint="--broker")
    tls = _SCHEMES[url.scheme]
    told: dict[str, Any] = {"host": host, "port": port or (8883 if tls else 1883)}
    told |= {"username": unquote(url.username)} if url.username else {}
    told |= {name: said[name] for name in ("username", "password_file") if said[name]}
    if tls:
        told["tls"] = {name: said[name] for name in _FILES if said[name]}
    return parse({"transports": {"broker": told}}, "the command line", Path.cwd(), {})
