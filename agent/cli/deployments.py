"""``verge deployments``: how deployments went, from what agents retain on the broker."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.markup import escape

from agent.cli import loop, remote
from agent.cli.broker import broker_options, thing_option
from agent.cli.output import json_option, local_time, print_json
from agent.cli.remote import Payload, retained
from agent.cli.tables import DEPLOYMENT_COLOURS, console, table
from agent.config.load import Config

__all__ = ["command"]


@click.command("deployments")
@click.option("--thing", "--to", default="", metavar="THING", help="Only of this one.  [default: of all on the broker]")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="The latest.")
@json_option
@broker_options
def command(config: Config, thing: str, limit: int, as_json: bool) -> None:
    """Show the latest deployments: when they ended, how, and why so.

    \b
    Examples:
      verge deployments
      verge deployments --thing line-3 --limit 5 --json
    """  # noqa: D301 click reads the backspace
    deployments = loop.run(_collected(config, thing_option(config, thing)))[:limit]
    if as_json:
        print_json(deployments)
    else:
        _show(deployments)


async def _collected(config: Config, thing: str) -> list[Payload]:
    """The latest first."""
    async with remote.link(config) as visit:
        payloads = await retained(visit, [f"{remote.base_of(thing or '+', config.status.prefix)}/deployments/+"])
    before, _, after = config.status.prefix.partition("{thing}")
    deployments = [
        {"thing": topic.removeprefix(before).removesuffix(f"{after}/deployments/{topic.rpartition('/')[2]}"), **payload}
        for topic, payload in payloads.items()
        if "id" in payload
    ]
    return sorted(deployments, key=lambda deployment: str(deployment.get("at", "")), reverse=True)


def _show(deployments: Sequence[Payload]) -> None:
    if not deployments:
        click.echo("no deployments")
        return
    one = len({deployment["thing"] for deployment in deployments}) == 1
    columns = ["time", *([] if one else ["thing"]), "deployment", "status"]
    made = table(*columns, whole=("time", "status"))
    reasons = []
    for deployment in deployments:
        identity, status = str(deployment["id"]), str(deployment.get("detailedStatus") or deployment.get("status", ""))
        step = f" {deployment['step']}" if "step" in deployment else ""
        shown = f"[{DEPLOYMENT_COLOURS.get(status, 'default')}]{escape(status + step)}[/]"
        thing = [] if one else [escape(deployment["thing"])]
        made.add_row(local_time(str(deployment.get("at", "-"))), *thing, escape(identity), shown)
        if cause := deployment.get("cause") or deployment.get("failureCause"):
            reasons.append((identity, str(cause)))
    out = console()
    if one:
        out.print(f"{escape(deployments[0]['thing'])}\n", soft_wrap=True)
    out.print(made)
    if reasons:
        out.print()
    for identity, cause in reasons:
        out.print(f"[bold]{escape(identity)}[/]: {escape(cause)}", soft_wrap=True)
