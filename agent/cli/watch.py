"""``verge watch``: results as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli import loop
from agent.cli.lines import Lines, as_json
from agent.cli.subscriptions import Subscriptions, configured, usual
from agent.cli.watching import Heard, Notice, watching
from agent.config.load import load, parse
from agent.config.transports import TransportOptions

__all__ = ["command"]

Brokers = Mapping[str, tuple[TransportOptions, Subscriptions]]


@click.command("watch", short_help="Show results as they come.")
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
        told = load(config)
        brokers = {name: (told.transports[name], each) for name, each in configured(told, stream).items()}
    else:
        brokers = {"broker": (_options(host, port, username, password_file, ca_file), usual(stream))}
    shown = _Shown()
    try:
        loop.run(_watch(brokers, count, shown, as_lines=as_lines))
    finally:
        shown.say()


def _options(
    host: str | None, port: int | None, username: str | None, password_file: Path | None, ca_file: str | None
) -> TransportOptions:
    """What a configuration with these values would say, read as strictly."""
    told: dict[str, Any] = {"host": host or "127.0.0.1", "port": port or (8883 if ca_file else 1883), "version": "auto"}
    told |= {"username": username} if username else {}
    told |= {"password_file": str(password_file)} if password_file else {}
    told |= {"tls": {"ca_file": ca_file}} if ca_file else {}
    return parse({"transports": {"broker": told}}, "the command line", Path.cwd(), {}).transports["broker"]


class _Shown:
    """The account of a watch."""

    def __init__(self) -> None:
        self.results = 0
        self.lost = 0
        self.began = 0.0

    def say(self) -> None:
        if self.began:
            seconds = time.monotonic() - self.began
            lost = f", {self.lost} more came too fast to be shown" if self.lost else ""
            click.echo(
                f"{self.results} {'result' if self.results == 1 else 'results'} in {seconds:.1f} s{lost}", err=True
            )


async def _watch(brokers: Brokers, count: int | None, shown: _Shown, *, as_lines: bool) -> None:
    async with watching(brokers) as watch:
        for options, subscriptions in brokers.values():
            filters = ", ".join(subscriptions.results) or "no results: the streams write to files only"
            click.echo(f"watching {options.address}: {filters}; Ctrl-C ends", err=True)
        shown.began = time.monotonic()
        lines = Lines()
        while count is None or shown.results < count:
            heard = await watch.next()
            if isinstance(heard, Notice):
                click.secho(f"verge: {heard.text}", fg="yellow", err=True)
            else:
                shown.results += heard.is_result
                _show(heard, lines, as_lines=as_lines)
            shown.lost = watch.lost


def _show(heard: Heard, lines: Lines, *, as_lines: bool) -> None:
    clock = time.strftime("%H:%M:%S")
    if as_lines:
        if heard.is_result:
            click.echo(as_json(heard.topic, heard.payload))
    elif heard.is_result:
        click.echo(lines.result(heard.topic, heard.payload, clock))
    elif line := lines.status(heard.topic, heard.payload, clock):
        click.secho(line, dim=True)
