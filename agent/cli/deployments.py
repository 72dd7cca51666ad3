"""``verge deployments``: how deployments went, from what agents retain on the broker; and ``cancel``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from agent.cli import loop, remote
from agent.cli.broker import broker_options, thing_option
from agent.cli.output import echo, json_option, local_time, print_json, refuse_options
from agent.cli.remote import Payload, retained
from agent.cli.sending import SendingOptions, commanded, sending_options
from agent.cli.tables import DEPLOYMENT_COLOURS, cell, console, table
from agent.config.load import Config

__all__ = ["command"]


@click.group("deployments", invoke_without_command=True)
@click.option("--thing", "--to", default="", metavar="THING", help="Only of this one.  [default: of all on the broker]")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="The latest.")
@json_option
@broker_options
@click.pass_context
def command(context: click.Context, /, config: Config, thing: str, limit: int, as_json: bool) -> None:
    """Show the latest deployments: when they ended, how, and why so; what waits, for what and until when.

    \b
    Examples:
      verge deployments
      verge deployments --thing line-3 --limit 5 --json
      verge deployments cancel 01jb8
    """  # noqa: D301 click reads the backspace
    if context.invoked_subcommand:
        refuse_options(context)
        return
    deployments = loop.run(_collected(config, thing_option(config, thing)))[:limit]
    if as_json:
        print_json(deployments)
    else:
        _show(deployments)


@command.command("cancel")
@click.argument("identity", metavar="ID")
@click.option("--thing", "--to", default="", metavar="THING", help="Whose.  [default: the only agent that is online]")
@sending_options
@broker_options
def cancel(config: Config, identity: str, thing: str, sending: SendingOptions) -> None:
    """Give a deployment up, as long as it has changed nothing that is live.

    Who may deploy may cancel; where documents have to be signed, so does this.  The exit status is 0 when it is
    cancelled, 1 when it was too late, 2 when there is no such deployment or this is refused, and 3 when the agent
    cannot be reached.

    \b
    Examples:
      verge deployments cancel 01jb8
      verge deployments cancel 01jb8 --thing line-3 --sign deployer.key
    """  # noqa: D301 click reads the backspace
    answer = loop.run(commanded(config, thing_option(config, thing), {"cancel": identity}, sending))
    if answer is None:
        echo("sent", err=True)
        return
    if sending.as_json:
        print_json({"id": identity, **answer})
    else:
        console().print(cell(f"{identity}: {answer['result']}, {answer['reason']}"), soft_wrap=True)
    raise click.exceptions.Exit(_EXIT.get(str(answer["result"]), 2))


_EXIT = {"CANCELED": 0, "TOO_LATE": 1}


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
        echo("no deployments")
        return
    one = len({deployment["thing"] for deployment in deployments}) == 1
    columns = ["time", *([] if one else ["thing"]), "deployment", "status"]
    made = table(*columns, whole=("time", "status"))
    reasons = []
    for deployment in deployments:
        identity, status = str(deployment["id"]), str(deployment.get("detailedStatus") or deployment.get("status", ""))
        step = f" {deployment['step']}" if "step" in deployment else ""
        shown = f"[{DEPLOYMENT_COLOURS.get(status, 'default')}]{cell(status + step)}[/]"
        thing = [] if one else [cell(deployment["thing"])]
        made.add_row(cell(local_time(str(deployment.get("at", "-")))), *thing, cell(identity), shown)
        if reason := remote.waits(deployment) or deployment.get("cause") or deployment.get("failureCause"):
            reasons.append((identity, str(reason)))
        reasons += [(identity, f"note: {note}") for note in deployment.get("notes", ())]
    out = console()
    if one:
        out.print(f"{cell(deployments[0]['thing'])}\n", soft_wrap=True)
    out.print(made)
    if reasons:
        out.print()
    for identity, cause in reasons:
        out.print(f"[bold]{cell(identity)}[/]: {cell(cause)}", soft_wrap=True)
