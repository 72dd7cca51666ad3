"""``verge rollback``: back to the set before the last deployment that succeeded."""

from __future__ import annotations

import json

import click

from agent.cli import loop, remote
from agent.cli.broker import broker_options, thing_option
from agent.cli.sending import Ending, SendingOptions, finish, new_id, send, sending_options
from agent.config.load import Config
from agent.errors import ConfigError

__all__ = ["command"]


@click.command("rollback")
@click.option("--thing", "--to", default="", metavar="THING", help="Whose.  [default: the only agent that is online]")
@sending_options
@broker_options
def command(config: Config, thing: str, sending: SendingOptions) -> None:
    """Go back to the components, versions and configuration that were live before the last successful deployment.

    A rollback is a deployment: it goes between two frames, its models answer their golden frames first, and who may
    deploy may roll back.  A second one goes forward again.  The exit status is that of verge deploy.

    \b
    Examples:
      verge rollback
      verge rollback --thing line-3 --broker mqtt://127.0.0.1:1883 --json
    """  # noqa: D301 click reads the backspace
    finish(loop.run(_rolled_back(config, thing_option(config, thing), sending)), as_json=sending.as_json)


async def _rolled_back(config: Config, thing: str, sending: SendingOptions) -> Ending | None:
    """Its end; None when that is not waited for."""
    async with remote.reached(config, thing) as agent:
        if (await agent.sets()).previous is None:
            raise ConfigError(
                f"{agent.thing} has nothing to roll back to: no set was live before the one that is",
                code="nothing-to-roll-back-to",
                hint="deploy what is wanted: verge deploy",
            )
        identity = new_id()
        document = json.dumps({"deploymentId": identity, "rollback": True}).encode()
        return await send(agent, document, identity, sending)
