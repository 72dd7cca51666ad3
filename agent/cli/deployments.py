"""``verge deployments``: how deployments went, from what agents retain on the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec
from rich.markup import escape

from agent.cli import loop, remote
from agent.cli.endings import COLOURS
from agent.cli.jobs_broker import broker_options
from agent.cli.retained import retained
from agent.cli.sending import thing_option
from agent.cli.tables import console, table
from agent.cli.times import local
from agent.config.load import Config

__all__ = ["command"]

Told = Mapping[str, Any]


@click.command("deployments", short_help="How deployments went.")
@click.option("--thing", "--to", default="", metavar="THING", help="Only of this one.  [default: of all on the broker]")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="The latest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@broker_options
def command(config: Config, thing: str, limit: int, as_json: bool) -> None:
    """Show the latest deployments: when they ended, how, and why so.

    \b
    Examples:
      verge deployments
      verge deployments --thing line-3 --limit 5 --json
    """  # noqa: D301 click reads the backspace
    told = loop.run(_collected(config, thing_option(config, thing)))[:limit]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
    else:
        _show(told)


async def _collected(config: Config, thing: str) -> list[Told]:
    """The latest first."""
    async with remote.link(config) as visit:
        found = await retained(visit, [f"{remote.base_of(thing or '+', config.status.prefix)}/deployments/+"])
    before, _, after = config.status.prefix.partition("{thing}")
    told = [
        {"thing": topic.removeprefix(before).removesuffix(f"{after}/deployments/{topic.rpartition('/')[2]}"), **each}
        for topic, each in found.items()
        if "id" in each
    ]
    return sorted(told, key=lambda each: str(each.get("at", "")), reverse=True)


def _show(deployments: Sequence[Told]) -> None:
    if not deployments:
        click.echo("no deployments")
        return
    one = len({each["thing"] for each in deployments}) == 1
    columns = ["time", *([] if one else ["thing"]), "deployment", "status"]
    made = table(*columns, whole=("time", "status"))
    reasons = []
    for each in deployments:
        status = str(each.get("detailedStatus") or each.get("status", ""))
        step = f" {each['step']}" if "step" in each else ""
        shown = f"[{COLOURS.get(status, 'default')}]{escape(status + step)}[/]"
        thing = [] if one else [escape(each["thing"])]
        made.add_row(local(str(each.get("at", "-"))), *thing, escape(str(each["id"])), shown)
        if cause := each.get("cause") or each.get("failureCause"):
            reasons.append((str(each["id"]), str(cause)))
    out = console()
    if one:
        out.print(f"{escape(deployments[0]['thing'])}\n", soft_wrap=True)
    out.print(made)
    if reasons:
        out.print()
    for identity, cause in reasons:
        out.print(f"[bold]{escape(identity)}[/]: {escape(cause)}", soft_wrap=True)
