"""The command line: one module per command, imported when it is called.

click reads the arguments: well kept, small, and quick to import.  Commands hold no logic; an error of ours
becomes two lines (what happened, what to do) and exit status 2 for what was given wrong, 3 for what could not
be reached.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from agent import __version__
from agent.config.strict import nearest
from agent.errors import UnreachableError, VergeError

__all__ = ["exit_status", "main", "show"]

COMMANDS = {
    "demo": "A broker, cameras and the agent on this machine, with a live table.",
    "run": "Run the agent.",
    "infer": "Answer pictures from files, without a broker.",
    "models": "What models are, and what can run them here.",
    "tune": "Find the fastest way to run a model on this device.",
    "watch": "Show results as they come.",
    "recipe": "Check component recipes.",
    "component": "Make and pack components.",
    "deploy": "Deploy components to agents.",
    "components": "What runs on an agent.",
    "deployments": "How deployments went.",
    "rollback": "Go back to the set before the last deployment.",
    "jobs": "AWS IoT Jobs on any broker.",
    "provision": "An identity at AWS IoT Core, and its renewal.",
    "trust": "Keys and signatures of deployments.",
    "doctor": "Check what the agent needs, and say how to mend what is missing.",
}

_INTERRUPTED = 130
"""What a shell calls a program that Ctrl-C ended."""


def exit_status(*errors: VergeError) -> int:
    """2 for what was given wrong, 3 where the only trouble is what could not be reached."""
    return 3 if all(isinstance(error, UnreachableError) for error in errors) else 2


def show(error: VergeError) -> None:
    """Print what happened and what to do, for people, on standard error."""
    click.secho(f"verge: {error.message}", fg="red", err=True)
    if error.hint:
        click.echo(f"       {error.hint}", err=True)


class Commands(click.Group):
    """Commands by name; their modules are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"agent.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 each module's convention
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; an unknown one is refused with a guess."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            guess = nearest(args[0], COMMANDS)
            raise click.UsageError(f"{error.message} {guess}" if guess else error.message, ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run; our errors become sentences."""
        try:
            return super().invoke(ctx)
        except VergeError as error:
            show(error)
            raise click.exceptions.Exit(exit_status(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="verge")
def verge() -> None:
    """Verge: camera frames in over MQTT, results out.

    Start with `verge demo`; then `verge run -c FILE` with a copy of configs/local.toml.
    """


def main() -> None:
    """The entry point of the ``verge`` command."""
    try:
        verge(prog_name="verge")
    except BrokenPipeError:
        # A reader such as `head` left: there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
