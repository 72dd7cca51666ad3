"""``verge deploy``: send a deployment to an agent, or to a group of them by a job, and wait for its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import click
import msgspec

from agent.aws.jobs.service.caller import calling
from agent.cli import documents, loop, remote
from agent.cli.broker import broker_options, deployment_transport, thing_option
from agent.cli.output import echo, print_json
from agent.cli.sending import Ending, SendingOptions, finish, new_id, send, sending_options
from agent.cli.tables import DEPLOYMENT_COLOURS, cell, console, table
from agent.config.load import Config
from agent.errors import ConfigError, UnreachableError
from agent.greengrass.deployments.folders import recipes_of
from agent.greengrass.trust.policy import Link

__all__ = ["command"]

_GROUP = "group:"
_PATH = click.Path(path_type=Path)
_LOOK_S = 0.5
_OPEN = ("WAITING", "QUEUED", "IN_PROGRESS")

Document: TypeAlias = tuple[bytes, str | None]
"""The bytes that are sent, and their id; None where the agent will make one up."""
Payload: TypeAlias = Mapping[str, Any]


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VERSION``, each name once."""
    pairs: dict[str, str] = {}
    for value in values:
        name, _, version = value.partition("=")
        if not name or not version:
            raise click.BadParameter(f"{value!r} is not NAME=VERSION, such as com.acme.Detect=1.2.0 or =^1.2.0")
        pairs[name] = version
    return pairs


@click.command("deploy")
@click.argument("file", required=False, type=_PATH)
@click.option("--component", "components", multiple=True, callback=_pairs, metavar="NAME=VERSION", help="Have this.")
@click.option("--remove", multiple=True, metavar="NAME", help="Have this no more.")
@click.option(
    "--config",
    "update",
    metavar="JSON|FILE",
    help='{"NAME": {"MERGE": {…}, "RESET": ["/key"]}}; of one component just {"key": …}.',
)
@click.option(
    "--run-with", multiple=True, metavar="NAME=USER[:GROUP]", help="Run its scripts as this user; NAME= resets."
)
@click.option(
    "--limits", multiple=True, metavar="NAME=memory=512M,cpus=1.5", help="Bound its scripts; NAME=none resets."
)
@click.option("--recipes", type=_PATH, metavar="DIR", help="Recipes to send along.")
@click.option("--artifacts", type=_PATH, metavar="DIR", help="Their files, as NAME/VERSION/file.")
@click.option("--to", metavar="THING|group:G", default="", help="Whom.  [default: the only agent that is online]")
@click.option("--canary", type=click.IntRange(1), metavar="FRAMES", help="Try new models beside the old on so many.")
@click.option(
    "--canary-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Give the canary up after so long.  [default: 600]",
)
@click.option("--no-rollback", is_flag=True, help="Leave a set live whose scripts do not get healthy.")
@sending_options
@broker_options
def command(config: Config, to: str, canary: int | None, sending: SendingOptions, **options: Any) -> None:
    """Deploy a document, or components by name.

    A model is swapped between two frames, after it answered its golden frames; what fails leaves the old set live.
    Artifacts of a folder are read by an agent on this machine only; others fetch theirs from https or s3.

    The exit status is 0 when it is live, 1 when it failed, 2 when it was rejected or cancelled, and 3 when the agent
    cannot be reached or has not finished in time.  Progress goes to standard error.

    \b
    Examples:
      verge deploy --component com.example.Inspect=1.0.0 \\
          --recipes build/recipes --artifacts build/artifacts
      verge deploy --component com.example.Inspect=1.1.0 --canary 200 --to line-3
      verge deploy deployment.json --to group:hall-7 --broker mqtts://broker.local
      verge deploy --component aws.greengrass.TensorFlowLiteImageClassification=2.1.4 \\
          --config '{"InferenceInterval": "2"}'
      verge deploy --component com.example.Hello=1.0.0 --run-with com.example.Hello=www-data \\
          --limits com.example.Hello=memory=512M,cpus=1.5
      verge deploy --remove com.example.Inspect --sign deployer.key
    """  # noqa: D301 click reads the backspace
    group = to.removeprefix(_GROUP) if to.startswith(_GROUP) else ""
    local = not group and Link.of(config.transports[deployment_transport(config)]).on_this_machine
    document = _document(group=group, canary=canary, local=local, **options)
    if group:
        _to_group(config, group, document, sending)
        return
    ending = loop.run(_to_thing(config, thing_option(config, to), document, sending, canary))
    finish(ending, as_json=sending.as_json)


# -- the document ---------------------------------------------------------------------------------------------


def _document(
    *, file: Path | None, components: Mapping[str, str], remove: tuple[str, ...], update: str | None,
    run_with: tuple[str, ...], limits: tuple[str, ...], recipes: Path | None, artifacts: Path | None,
    canary: int | None, canary_timeout: float | None, no_rollback: bool, group: str, local: bool,
) -> Document:  # fmt: skip
    """The document that the options make; ``local``: the agent reads this machine's files."""
    users = documents.run_with_of(run_with, limits)
    if file and (update or users):
        raise click.UsageError("--config, --run-with and --limits go with --component; a FILE says it itself")
    if bool(file) == bool(components or remove or users):
        raise click.UsageError("name a FILE, or components with --component and --remove")
    if artifacts and not recipes:
        raise click.UsageError("--artifacts goes with --recipes")
    if canary_timeout and not canary:
        raise click.UsageError("--canary-timeout goes with --canary")
    more: dict[str, Any] = {}
    if recipes:
        asked = documents.asked_in(file) if file else components
        more["recipes"] = recipes_of(recipes, artifacts, local=local, asked=asked)
    limit = {"timeout_s": canary_timeout} if canary_timeout else {}
    more |= {"canary": {"frames": canary, **limit}} if canary else {}
    more |= {"failureHandlingPolicy": "DO_NOTHING"} if no_rollback else {}
    if file:
        return _of_file(file, more)
    identity, changed = new_id(), documents.update_of(update, components) if update else {}
    document = documents.local_document(
        identity, components=components, remove=remove, update=changed, group=group, run_with=users
    )
    return json.dumps(document | more).encode(), identity


def _of_file(file: Path, more: dict[str, Any]) -> Document:
    """The file's document; bytes stay as they are where nothing is added."""
    content, document = documents.read_document(file)
    if "signatures" in document and more:
        raise ConfigError(f"{file} is signed: nothing can be added to it", code="not-deployable", hint="sign it last")
    identity = documents.identity_in(document)
    if "signatures" in document or (identity and not more):
        return content, identity
    identity = identity or new_id()
    return json.dumps({"deploymentId": identity, **document, **more}).encode(), identity


# -- to a thing -----------------------------------------------------------------------------------------------


async def _to_thing(
    config: Config, thing: str, document: Document, sending: SendingOptions, canary: int | None
) -> Ending | None:
    """Its end; None when that is not waited for."""
    async with remote.reached(config, thing) as agent:
        await agent.sets()
        content, identity = document
        return await send(agent, content, identity, sending, canary)


# -- to a group: a job of the Jobs service, followed until every thing is through -----------------------------


def _to_group(config: Config, group: str, document: Document, sending: SendingOptions) -> None:
    content, identity = document
    content = sending.sealed(content, None)
    job, executions = loop.run(
        _rolled_out(config, group, identity or new_id(), content, _print_changes(), timeout_s=sending.timeout_s)
    )
    if sending.as_json:
        print_json({**job, "executions": executions})
    else:
        _show_rollout(job, executions)
    if sending.timeout_s is not None:
        raise click.exceptions.Exit(_exit_status(job))


async def _rolled_out(
    config: Config, group: str, identity: str, document: bytes, say: Callable[[str], None], *, timeout_s: float | None
) -> tuple[Payload, list[Payload]]:
    """The job and its executions, once it ended; with ``timeout_s`` None as soon as it is made.

    Raises ``JobError``, and ``UnreachableError`` where there is no Jobs service or the time is over.
    """
    request = {"jobId": identity, "targets": [f"group:{group}"], "document": msgspec.Raw(document)}
    async with remote.link(config) as visit, calling(visit) as caller:
        job = await caller.ask("create", request)
        if timeout_s is None:
            return job, []
        try:
            async with asyncio.timeout(timeout_s):
                while job["status"] == "IN_PROGRESS":
                    say(_counted(job))
                    await asyncio.sleep(_LOOK_S)
                    with suppress(UnreachableError):  # a service or broker that restarts is waited for
                        job = await caller.ask("describe", {"jobId": identity})
        except TimeoutError:
            hint = f"it goes on: verge jobs describe {identity}"
            raise UnreachableError(
                f"job {identity}: {_counted(job)} after {timeout_s:g} s", code="no-end", hint=hint
            ) from None
        return job, await caller.ask("executions", {"jobId": identity})


def _exit_status(job: Payload) -> int:
    """0 when all succeeded, 2 when the worst is that things rejected it, 1 otherwise.

    A group without things is no success.

    >>> _exit_status({"processDetails": {"SUCCEEDED": 2, "FAILED": 0}}), _exit_status({"processDetails": {}})
    (0, 1)
    """
    counts = {key: count for key, count in job["processDetails"].items() if count}
    if counts.keys() == {"SUCCEEDED"}:
        return 0
    if not counts:
        return 1
    return 2 if not counts.keys() - {"SUCCEEDED", "REJECTED"} else 1


def _counted(job: Payload) -> str:
    """How many things are through.

    >>> _counted({"processDetails": {"WAITING": 0, "QUEUED": 1, "SUCCEEDED": 2}})
    '2 of 3 things are through'
    """
    counts = job["processDetails"]
    total, waiting = sum(counts.values()), sum(counts.get(key, 0) for key in _OPEN)
    return f"{total - waiting} of {total} things are through"


def _show_rollout(job: Payload, executions: Sequence[Payload]) -> None:
    """A row a thing with its status, then the reasons of those that failed."""
    out = console()
    out.print(f"job {cell(job['jobId'])}: {cell(job['status'])}", soft_wrap=True)
    made, reasons = table("thing", "status", "run", right=("run",)), []
    for execution in executions:
        details = execution["statusDetails"]
        status = details.get("detailed-deployment-status", execution["status"])
        shown = f"[{DEPLOYMENT_COLOURS.get(status, 'default')}]{cell(status)}[/]"
        made.add_row(cell(execution["thingName"]), shown, str(execution["executionNumber"]))
        if cause := details.get("deployment-failure-cause"):
            reasons.append(f"{execution['thingName']}: {cause}")
    if executions:
        out.print(made)
    for reason in reasons:
        out.print(cell(reason), soft_wrap=True)


def _print_changes() -> Callable[[str], None]:
    """Prints a line on standard error, unless it is the one before."""
    last = ""

    def say(line: str) -> None:
        nonlocal last
        if line != last:
            last = line
            echo(line, err=True)

    return say


for _option in command.params:
    if _option.name == "path":
        _option.opts.remove("--config")  # here that is the components' configuration; -c FILE stays the agent's
