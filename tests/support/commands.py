"""A command in this process: quicker than one of its own, with the same sentences and exit statuses."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import click
from click.testing import CliRunner

from agent.cli import Commands


class _Any(Commands):
    """The command line with every module that is a command."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return importlib.import_module(f"agent.cli.{cmd_name}").command


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """How a command sets up logging ends with it: its handler writes to a stream that is gone then."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level


def invoke(folder: Path, *arguments: object) -> CompletedProcess[str]:
    """Run ``verge`` with these arguments in a folder; an error that is not ours is raised."""
    with contextlib.chdir(folder), own_logging():
        done = CliRunner(env={"COLUMNS": "100"}).invoke(_Any("verge"), [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
