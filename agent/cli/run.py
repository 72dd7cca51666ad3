"""``verge run``: the agent as a service."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from agent import app, logs
from agent.cli import exit_status, loop, show
from agent.cli.output import echo
from agent.config.load import read
from agent.errors import VergeError
from agent.service import raise_descriptor_limit, serve

__all__ = ["command"]

log = logging.getLogger("agent")

_AGAIN = 100
"""The exit status of an agent that wants to be started again; 101 is one whose device has to be."""


@click.command("run", short_help="Run the agent.")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The TOML file to run.")
@click.option("--check", is_flag=True, help="Name everything that would keep the agent from running, and leave.")
def command(path: Path, check: bool) -> None:
    """Run the agent until SIGTERM or Ctrl-C.

    SIGHUP reads the file again: streams, the log level and trusted keys change at once, and the log names what needs a
    restart.  With --check each model is loaded once and no broker is asked.

    \b
    Examples:
      verge run -c configs/local.toml --check
      verge run -c configs/local.toml
    """  # noqa: D301 click reads the backspace
    config, misread = read(path)
    errors: list[VergeError] = [*misread]
    if config is not None and check:
        errors += loop.run(app.check(config))
    _refuse(errors)
    assert config is not None  # noqa: S101 where nothing can be used there is an error
    if check:
        echo(f"{path} is fine: thing {config.thing}, {_count(config.streams, 'stream')}, data in {config.data_dir}")
        return
    logs.configure(config.log_level)
    raise_descriptor_limit()
    log.info("thing %s: %s, %s", config.thing, _count(config.models, "model"), _count(config.streams, "stream"))
    ended = asyncio.run(
        serve(
            app.running(config), lambda: log.info("running"), lambda agent: agent.stopping_s(),
            lambda agent: agent.leaving, lambda agent: agent.reload(lambda: read(path)),
        )
    )  # fmt: skip
    if isinstance(ended, signal.Signals):
        signal.signal(ended, signal.SIG_DFL)
        os.kill(os.getpid(), ended)
    if ended == _AGAIN:
        # In place, so that it needs nobody who starts it again.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 what was started before
    log.warning("the device has to be started again: exit status %d", ended)
    raise click.exceptions.Exit(ended)


def _refuse(errors: Sequence[VergeError]) -> None:
    """Print every error, if there are any, and leave."""
    for error in errors:
        # Not every message names the place.
        if error.path not in error.message:
            error.message = f"{error.path}: {error.message}"
        show(error)
    if errors:
        raise click.exceptions.Exit(exit_status(*errors))


def _count(things: object, word: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {word}" + ("" if number == 1 else "s")
