"""``verge components``: what runs on an agent, from what it retains on the broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click
import msgspec
from rich.markup import escape

from agent.cli import loop, remote
from agent.cli.jobs_broker import broker_options
from agent.cli.retained import retained
from agent.cli.sending import thing_option
from agent.cli.tables import console, table
from agent.cli.times import local
from agent.config.load import Config
from agent.errors import UnreachableError
from agent.topics import Topics

__all__ = ["command"]

_COLOURS = {"RUNNING": "green", "FINISHED": "dim", "BROKEN": "red", "ERRORED": "yellow", "STARTING": "cyan"}
_STREAMS = {"running": "green", "broken": "red", "backoff": "yellow", "starting": "cyan", "stopped": "dim"}

Told = Mapping[str, Any]


@click.command("components", short_help="What runs on an agent.")
@click.option("--thing", "--to", default="", metavar="THING", help="Whose.  [default: the only agent that is online]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@broker_options
def command(config: Config, thing: str, as_json: bool) -> None:
    """Show an agent's components and streams as it last told them, also of one that is offline.

    \b
    Examples:
      verge components
      verge components --thing line-3 --broker mqtt://127.0.0.1:1883 --json
    """  # noqa: D301 click reads the backspace
    told = loop.run(_collected(config, thing_option(config, thing)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
    else:
        _show(told)


async def _collected(config: Config, thing: str) -> Told:
    prefix = config.status.prefix
    async with remote.link(config) as visit:
        name = thing or await remote.thing_of(visit, prefix)
        base = Topics(name, prefix).base
        found = await retained(visit, (f"{base}/status", f"{base}/components/+", f"{base}/streams/+"))
        address = visit.options.address
    agent = found.pop(f"{base}/status", None)
    if agent is None and not found:
        raise UnreachableError(
            f"there is no agent called {name} on {address}", code="no-agent", hint="start it: verge run"
        )
    components = [each for topic, each in sorted(found.items()) if topic.startswith(f"{base}/components/")]
    streams = [each for topic, each in sorted(found.items()) if topic.startswith(f"{base}/streams/")]
    return {"thing": name, "agent": agent, "components": components, "streams": streams}


def _show(told: Told) -> None:
    agent, out = told["agent"] or {}, console()
    state = str(agent.get("state", "unknown"))
    colour = "green" if state == "online" else "yellow"
    since = f" since {local(agent['since'])}" if agent.get("since") else ""
    out.print(f"{escape(told['thing'])}: [{colour}]{escape(state)}[/]{since}", soft_wrap=True)
    if not told["components"]:
        out.print("no components", style="dim")
        return
    out.print()
    _show_components(told["components"])
    if told["streams"]:
        out.print()
        _show_streams(told["streams"])


def _show_components(components: Iterable[Told]) -> None:
    made = table("component", "state", "version", "since", whole=("state", "version", "since"))
    reasons = []
    for each in components:
        name = str(each.get("component", ""))
        since = local(each["since"]) if each.get("since") else ""
        made.add_row(escape(name), _coloured(each, _COLOURS), escape(str(each.get("version") or "-")), since)
        if each.get("reason"):
            reasons.append(f"{name}: {each['reason']}")
    console().print(made)
    for reason in reasons:
        # Sentences are too long for a column.
        click.secho(reason, fg="yellow")


def _show_streams(streams: Iterable[Told]) -> None:
    made = table(
        "stream", "state", "model", "fps", "p95 ms", "frames", "lost", right=("fps", "p95 ms", "frames", "lost")
    )
    for each in streams:
        model, latency = each.get("model") or {}, each.get("latency_ms") or {}
        lost = sum(each.get("dropped", {}).values()) + sum(each.get("failed", {}).values())
        made.add_row(
            escape(str(each.get("stream", ""))),
            _coloured(each, _STREAMS),
            escape(str(model.get("component", "-"))),
            f"{each.get('fps') or 0:.1f}",
            f"{latency['p95']:.1f}" if latency.get("p95") is not None else "-",
            str(each.get("received", 0)),
            str(lost),
        )
    console().print(made)


def _coloured(told: Told, colours: Mapping[str, str]) -> str:
    state = str(told.get("state", ""))
    return f"[{colours.get(state, 'default')}]{escape(state)}[/]"
