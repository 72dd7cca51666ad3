"""``verge rollback``: back to the set before the last deployment that succeeded."""

from __future__ import annotations

import json
from pathlib import Path

import click

from agent.cli import endings, loop, remote
from agent.cli.endings import Ending
from agent.cli.jobs_broker import broker_options
from agent.cli.sending import TIMEOUT_S, followed, new_id, sealed, thing_option
from agent.config.load import Config
from agent.errors import ConfigError

__all__ = ["command"]

_PATH = click.Path(path_type=Path)


@click.command("rollback", short_help="Go back to the set before the last deployment.")
@click.option("--thing", "--to", default="", metavar="THING", help="Whose.  [default: the only agent that is online]")
@click.option("--sign", "key", type=_PATH, metavar="KEY", help="Sign it; see verge trust.")
@click.option("--passphrase-file", "secret", type=_PATH, metavar="FILE", help="Of the key.")
@click.option("--wait/--no-wait", default=True, help="Until it ends, or until it is sent.  [default: --wait]")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=TIMEOUT_S, show_default=True, metavar="S")
@click.option("--json", "as_json", is_flag=True, help="Print the end as one JSON object.")
@broker_options
def command(
    config: Config, thing: str, key: Path | None, secret: Path | None, wait: bool, timeout: float, as_json: bool
) -> None:
    """Go back to the components, versions and configuration that were live before the last successful deployment.

    A rollback is a deployment: it goes between two frames, its models answer their golden frames first, and who may
    deploy may roll back.  A second one goes forward again.  The exit status is that of verge deploy.

    \b
    Examples:
      verge rollback
      verge rollback --thing line-3 --broker mqtt://127.0.0.1:1883 --json
    """  # noqa: D301 click reads the backspace
    sign = key, secret
    ending = loop.run(_rolled_back(config, thing_option(config, thing), sign, timeout if wait else None))
    if ending is None:
        click.echo("sent", err=True)
        return
    endings.show(ending, as_json=as_json)
    raise click.exceptions.Exit(ending.exit_status)


async def _rolled_back(
    config: Config, thing: str, sign: tuple[Path | None, Path | None], timeout_s: float | None
) -> Ending | None:
    """How it ended; None when that is not waited for."""
    async with remote.reached(config, thing) as agent:
        if (await agent.sets()).previous is None:
            raise ConfigError(
                f"{agent.thing} has nothing to roll back to: no set was live before the one that is",
                code="nothing-to-roll-back-to",
                hint="deploy what is wanted: verge deploy",
            )
        identity = new_id()
        content = sealed(json.dumps({"deploymentId": identity, "rollback": True}).encode(), *sign, agent.thing)
        if timeout_s is None:
            await agent.send(content)
            return None
        return await followed(agent, content, identity, timeout_s)
