"""``verge run``: the agent as a service."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import click

from agent import logs
from agent.app import running
from agent.config.load import load
from agent.service import serve

__all__ = ["command"]

log = logging.getLogger("agent")


@click.command("run", short_help="Run the agent.")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The TOML file to run.")
@click.option("--check", is_flag=True, help="Read the configuration, say what it means, and leave.")
def command(path: Path, check: bool) -> None:
    """Run the agent until SIGTERM or Ctrl-C.

    \b
    Example:
      verge run -c configs/local.toml
    """  # noqa: D301 click reads the backspace
    config = load(path)
    logs.configure(config.log_level)
    if check:
        click.echo(
            f"{path} is fine: thing {config.thing}, {_count(config.streams, 'stream')}, data in {config.data_dir}"
        )
        return
    log.info("thing %s: %s, %s", config.thing, _count(config.models, "model"), _count(config.streams, "stream"))
    received = asyncio.run(serve(running(config), lambda: log.info("running")))
    signal.signal(received, signal.SIG_DFL)
    os.kill(os.getpid(), received)


def _count(things: object, word: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {word}" + ("" if number == 1 else "s")
