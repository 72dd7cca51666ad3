"""``verge components``: what runs on an agent, from what it retains on the broker; ``restart`` and ``stop``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from agent.cli import loop, remote
from agent.cli.broker import broker_options, thing_option
from agent.cli.output import echo, json_option, local_time, print_json, refuse_options
from agent.cli.remote import Payload, retained
from agent.cli.sending import SendingOptions, commanded, sending_options
from agent.cli.tables import cell, coloured, console, table
from agent.config.load import Config
from agent.errors import UnreachableError
from agent.text import shown
from agent.topics import Topics

__all__ = ["command"]

_COLOURS = {"RUNNING": "green", "FINISHED": "dim", "BROKEN": "red", "ERRORED": "yellow", "STARTING": "cyan"}
_STREAMS = {"running": "green", "broken": "red", "backoff": "yellow", "starting": "cyan", "stopped": "dim"}


_THING = click.option(
    "--thing", "--to", default="", metavar="THING", help="Whose.  [default: the only agent that is online]"
)


@click.group("components", invoke_without_command=True)
@_THING
@json_option
@broker_options
@click.pass_context
def command(context: click.Context, /, config: Config, thing: str, as_json: bool) -> None:
    """Show an agent's components and streams as it last reported them, also of one that is offline.

    \b
    Examples:
      verge components
      verge components --thing line-3 --broker mqtt://127.0.0.1:1883 --json
      verge components restart com.acme.detect
    """  # noqa: D301 click reads the backspace
    if context.invoked_subcommand:
        refuse_options(context)
        return
    collected = loop.run(_collected(config, thing_option(config, thing)))
    if as_json:
        print_json(collected)
    else:
        _show(collected)


@command.command("restart")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@_THING
@sending_options
@broker_options
def restart(config: Config, names: tuple[str, ...], thing: str, sending: SendingOptions) -> None:
    """Restart components: scripts go through Shutdown and Startup, a model is loaded anew beside the one that answers.

    What depends on a restarted component HARD is restarted, too.  One that is broken is installed again, and one that
    was stopped starts.

    Who may deploy a component may restart it; where documents have to be signed, so does this.  The exit status is 0
    when all of them are well again, 1 when one is not, 2 when one is unknown or this is refused, and 3 when the agent
    cannot be reached.

    \b
    Examples:
      verge components restart com.acme.detect
      verge components restart com.acme.detect com.acme.lamp --thing line-3 --sign deployer.key
    """  # noqa: D301 click reads the backspace
    _control(config, thing, {"restart": list(names)}, sending)


@command.command("stop")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@_THING
@sending_options
@broker_options
def stop(config: Config, names: tuple[str, ...], thing: str, sending: SendingOptions) -> None:
    """Stop components of scripts, until they are restarted, a deployment changes them, or the agent starts.

    What depends on a stopped component runs on.  Models and inference components have no scripts: a deployment
    removes them.  The exit status is as of restart.

    \b
    Examples:
      verge components stop com.acme.lamp
      verge components stop com.acme.lamp --thing line-3 --json
    """  # noqa: D301 click reads the backspace
    _control(config, thing, {"stop": list(names)}, sending)


_EXIT = {"RESTARTED": 0, "STOPPED": 0, "FAILED": 1}


def _control(config: Config, thing: str, asked: Payload, sending: SendingOptions) -> None:
    answer = loop.run(commanded(config, thing_option(config, thing), asked, sending))
    if answer is None:
        echo("sent", err=True)
        return
    if sending.as_json:
        print_json(answer)
    else:
        _show_control(answer)
    raise click.exceptions.Exit(_EXIT.get(str(answer.get("result")), 2))


def _show_control(answer: Mapping[str, Any]) -> None:
    out = console()
    for name, each in _mapping(answer.get("components")).items():
        one = _mapping(each)
        reason = f": {one['reason']}" if one.get("reason") else ""
        out.print(f"{cell(name)}: {coloured(one, _COLOURS)}{cell(reason)}", soft_wrap=True)
    if answer.get("reason"):
        out.print(cell(f"{answer.get('result')}: {answer['reason']}"), soft_wrap=True)
    if answer.get("hint"):
        out.print(f"  {cell(str(answer['hint']))}", style="dim", soft_wrap=True)


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
    since = f" since {cell(local_time(str(agent['since'])))}" if agent.get("since") else ""
    out.print(f"{cell(collected['thing'])}: [{colour}]{cell(state)}[/]{since}", soft_wrap=True)
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
        since = cell(local_time(str(component["since"]))) if component.get("since") else ""
        version = cell(str(component.get("version") or "-"))
        made.add_row(cell(name), coloured(component, _COLOURS), version, since)
        if component.get("reason"):
            reasons.append(f"{name}: {component['reason']}")
    console().print(made)
    for reason in reasons:
        # Sentences are too long for a column.
        echo(shown(reason), fg="yellow")


def _show_streams(streams: Iterable[Payload]) -> None:
    made = table(
        "stream", "state", "model", "fps", "p95 ms", "frames", "lost", right=("fps", "p95 ms", "frames", "lost")
    )
    for stream in streams:
        model, latency = _mapping(stream.get("model")), _mapping(stream.get("latency_ms"))
        counts = (*_mapping(stream.get("dropped")).values(), *_mapping(stream.get("failed")).values())
        made.add_row(
            cell(str(stream.get("stream", ""))),
            coloured(stream, _STREAMS),
            cell(str(model.get("component", "-"))),
            f"{_number(stream.get('fps')):.1f}",
            f"{_number(latency['p95']):.1f}" if latency.get("p95") is not None else "-",
            f"{_number(stream.get('received')):.0f}",
            f"{sum(map(_number, counts)):.0f}",
        )
    console().print(made)


def _mapping(value: Any) -> Mapping[str, Any]:
    """What should be an object; empty where somebody published something else."""
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    """What should be a number; 0 where somebody published something else."""
    return value if isinstance(value, int | float) else 0.0
