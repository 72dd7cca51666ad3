"""``verge deploy``: send a deployment to an agent, or to a group of them, and wait for its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli import endings, loop, remote, wishes
from agent.cli.endings import Ending
from agent.cli.jobs_broker import broker_options
from agent.cli.jobs_tables import show_json
from agent.cli.rollout import exit_status, rolled_out
from agent.cli.sending import TIMEOUT_S, followed, near, new_id, sealed, thing_option
from agent.config.load import Config
from agent.errors import ConfigError

__all__ = ["command"]

_GROUP = "group:"
_PATH = click.Path(path_type=Path)

Document = tuple[bytes, str | None]
"""What is sent, and its id; None where the agent will make one up."""


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VERSION``, each name once."""
    pairs: dict[str, str] = {}
    for value in values:
        name, _, version = value.partition("=")
        if not name or not version:
            raise click.BadParameter(f"{value!r} is not NAME=VERSION, such as com.acme.Detect=1.2.0 or =^1.2.0")
        pairs[name] = version
    return pairs


@click.command("deploy", short_help="Deploy components to an agent or to a group of them.")
@click.argument("file", required=False, type=_PATH)
@click.option("--component", "components", multiple=True, callback=_pairs, metavar="NAME=VERSION", help="Have this.")
@click.option("--remove", multiple=True, metavar="NAME", help="Have this no more.")
@click.option(
    "--config",
    "update",
    metavar="JSON|FILE",
    help='{"NAME": {"MERGE": {…}, "RESET": ["/key"]}}; of one component just {"key": …}.',
)
@click.option("--recipes", type=_PATH, metavar="DIR", help="Recipes to send along.")
@click.option("--artifacts", type=_PATH, metavar="DIR", help="Their files, as NAME/VERSION/file.")
@click.option("--to", metavar="THING|group:G", default="", help="Whom.  [default: the only agent that is online]")
@click.option("--canary", type=click.IntRange(1), metavar="FRAMES", help="Try new models beside the old on so many.")
@click.option("--no-rollback", is_flag=True, help="Leave a set live whose scripts do not get healthy.")
@click.option("--sign", "key", type=_PATH, metavar="KEY", help="Sign it; see verge trust.")
@click.option("--passphrase-file", "secret", type=_PATH, metavar="FILE", help="Of the key.")
@click.option("--wait/--no-wait", default=True, help="Until it ends, or until it is sent.  [default: --wait]")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=TIMEOUT_S, show_default=True, metavar="S")
@click.option("--json", "as_json", is_flag=True, help="Print the end as one JSON object.")
@broker_options
def command(
    config: Config, to: str, canary: int | None, key: Path | None, secret: Path | None, wait: bool, timeout: float,
    as_json: bool, **said: Any,
) -> None:  # fmt: skip
    """Deploy a document, or components by name.

    A model is swapped between two frames, after it answered its golden frames; what fails leaves the old set live.
    Artifacts of a folder are read by an agent on this machine only; others fetch theirs from https or s3.

    The exit status is 0 when it is live, 1 when it failed, 2 when it was rejected and 3 when the agent cannot be
    reached or has not finished in time.  Progress goes to standard error.

    \b
    Examples:
      verge deploy --component com.example.Inspect=1.0.0 \\
          --recipes build/recipes --artifacts build/artifacts
      verge deploy --component com.example.Inspect=1.1.0 --canary 200 --to line-3
      verge deploy deployment.json --to group:hall-7 --broker mqtts://broker.local
      verge deploy --component aws.greengrass.TensorFlowLiteImageClassification=2.1.4 \\
          --config '{"InferenceInterval": "2"}'
      verge deploy --remove com.example.Inspect --sign deployer.key
    """  # noqa: D301 click reads the backspace
    group = to.removeprefix(_GROUP) if to.startswith(_GROUP) else ""
    document = _document(group=group, canary=canary, near=not group and near(config), **said)
    timeout_s = timeout if wait else None
    if group:
        content = sealed(document[0], key, secret, None)
        _to_group(config, group, (content, document[1]), timeout_s, as_json=as_json)
        return
    ending = loop.run(_to_thing(config, thing_option(config, to), document, (key, secret), timeout_s, canary))
    if ending is None:
        click.echo("sent", err=True)
        return
    endings.show(ending, as_json=as_json)
    raise click.exceptions.Exit(ending.exit_status)


def _document(
    *, file: Path | None, components: Mapping[str, str], remove: tuple[str, ...], update: str | None,
    recipes: Path | None, artifacts: Path | None, canary: int | None, no_rollback: bool, group: str, near: bool,
) -> Document:  # fmt: skip
    """What the command line says; ``near`` is an agent that reads this machine's files."""
    if bool(file) == bool(components or remove):
        raise click.UsageError("name a FILE, or components with --component and --remove")
    if file and update:
        raise click.UsageError("--config goes with --component; a FILE says it itself")
    if artifacts and not recipes:
        raise click.UsageError("--artifacts goes with --recipes")
    more: dict[str, Any] = {"recipes": wishes.recipes_of(recipes, artifacts, near=near)} if recipes else {}
    more |= {"canary": {"frames": canary}} if canary else {}
    more |= {"failureHandlingPolicy": "DO_NOTHING"} if no_rollback else {}
    if file:
        return _of_file(file, more)
    identity, changed = new_id(), wishes.update_of(update, components) if update else {}
    told = wishes.wish(identity, components=components, remove=remove, update=changed, group=group)
    return json.dumps(told | more).encode(), identity


async def _to_thing(
    config: Config, thing: str, document: Document, sign: tuple[Path | None, Path | None], timeout_s: float | None,
    canary: int | None,
) -> Ending | None:  # fmt: skip
    """How it ended; None when that is not waited for."""
    async with remote.reached(config, thing) as agent:
        await agent.sets()
        content, identity = document
        content = sealed(content, *sign, agent.thing)
        if timeout_s is None:
            await agent.send(content)
            return None
        return await followed(agent, content, identity, timeout_s, canary)


def _to_group(config: Config, group: str, document: Document, timeout_s: float | None, *, as_json: bool) -> None:
    content, identity = document

    def told(line: str) -> None:
        click.echo(line, err=True)

    job, executions = loop.run(
        rolled_out(config, group, identity or new_id(), content, _changes(told), timeout_s=timeout_s)
    )
    if as_json:
        show_json({**job, "executions": executions})
    else:
        endings.show_rollout(job, executions)
    if timeout_s is not None:
        raise click.exceptions.Exit(exit_status(job))


def _of_file(file: Path, more: dict[str, Any]) -> Document:
    """The file's document; bytes that are not added to stay as they are."""
    text, told = wishes.read_document(file)
    if "signatures" in told and more:
        raise ConfigError(f"{file} is signed: nothing can be added to it", code="not-deployable", hint="sign it last")
    identity = wishes.identity_in(told)
    if "signatures" in told or (identity and not more):
        return text, identity
    identity = identity or new_id()
    return json.dumps({"deploymentId": identity, **told, **more}).encode(), identity


def _changes(told: Callable[[str], None]) -> Callable[[str], None]:
    """Only what is not what was told last."""
    last = ""

    def changed(line: str) -> None:
        nonlocal last
        if line != last:
            last = line
            told(line)

    return changed


for _option in command.params:
    if _option.name == "path":
        _option.opts.remove("--config")  # here that is the components' configuration; -c FILE stays the agent's
