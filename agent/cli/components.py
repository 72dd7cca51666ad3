"""``verge components``: what runs on an agent, from what it retains on the broker."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich.markup import escape

from agent.cli import loop, remote
from agent.cli.broker import broker_options, thing_option
from agent.cli.output import json_option, local_time, print_json
from agent.cli.remote import Payload, retained
from agent.cli.tables import coloured, console, table
from agent.config.load import Config
from agent.errors import UnreachableError
from agent.topics import Topics

__all__ = ["command"]

_COLOURS = {"RUNNING": "green", "FINISHED": "dim", "BROKEN": "red", "ERRORED": "yellow", "STARTING": "cyan"}
_STREAMS = {"running": "green", "broken": "red", "backoff": "yellow", "starting": "cyan", "stopped": "dim"}


@click.command("components")
@click.option("--thing", "--to", default="", metavar="THING", help="Whose.  [default: the only agent that is online]")
@json_option
@broker_options
def command(config: Config, thing: str, as_json: bool) -> None:
    """Show an agent's components and streams as it last reported them, also of one that is offline.

    \b
    Examples:
      verge components
      verge components --thing line-3 --broker mqtt://127.0.0.1:1883 --json
    """  # noqa: D301 click reads the backspace
    collected = loop.run(_collected(config, thing_option(config, thing)))
    if as_json:
        print_json(collected)
    else:
        _show(collected)


async def _collected(config: Config, thing: str) -> Payload:
    prefix = config.status.prefix
    async with remote.link(config) as visit:
        name = thing or await remote.thing_of(visit, prefix)
        base = Topics(name, prefix).base
        payloads = await retained(visit, (f"{base}/status", f"{base}/components/+", f"{base}/streams/+"))
        address = visit.options.address
    agent = payloads.pop(f"{base}/status", None)
    if agent is None and not payloads:
        raise UnreachableError(
            f"there is no agent called {name} on {address}", code="no-agent", hint="start it: verge run"
        )
    components = [payload for topic, payload in sorted(payloads.items()) if topic.startswith(f"{base}/components/")]
    streams = [payload for topic, payload in sorted(payloads.items()) if topic.startswith(f"{base}/streams/")]
    return {"thing": name, "agent": agent, "components": components, "streams": streams}


def _show(collected: Payload) -> None:
    agent, out = collected["agent"] or {}, console()
    state = str(agent.get("state", "unknown"))
    colour = "green" if state == "online" else "yellow"
    since = f" since {local_time(agent['since'])}" if agent.get("since") else ""
    out.print(f"{escape(collected['thing'])}: [{colour}]{escape(state)}[/]{since}", soft_wrap=True)
    if not collected["components"]:
        out.print("no components", style="dim")
        return
    out.print()
    _show_components(collected["components"])
    if collected["streams"]:
        out.print()
        _show_streams(collected["streams"])


def _show_components(components: Iterable[Payload]) -> None:
    made = table("component", "state", "version", "since", whole=("state", "version", "since"))
    reasons = []
    for component in components:
        name = str(component.get("component", ""))
        since = local_time(component["since"]) if component.get("since") else ""
        version = escape(str(component.get("version") or "-"))
        made.add_row(escape(name), coloured(component, _COLOURS), version, since)
        if component.get("reason"):
            reasons.append(f"{name}: {component['reason']}")
    console().print(made)
    for reason in reasons:
        # Sentences are too long for a column.
        click.secho(reason, fg="yellow")


def _show_streams(streams: Iterable[Payload]) -> None:
    made = table(
        "stream", "state", "model", "fps", "p95 ms", "frames", "lost", right=("fps", "p95 ms", "frames", "lost")
    )
    for stream in streams:
        model, latency = stream.get("model") or {}, stream.get("latency_ms") or {}
        lost = sum(stream.get("dropped", {}).values()) + sum(stream.get("failed", {}).values())
        made.add_row(
            escape(str(stream.get("stream", ""))),
            coloured(stream, _STREAMS),
            escape(str(model.get("component", "-"))),
            f"{stream.get('fps') or 0:.1f}",
            f"{latency['p95']:.1f}" if latency.get("p95") is not None else "-",
            str(stream.get("received", 0)),
            str(lost),
        )
    console().print(made)
