"""The command line: one module a command, imported when it is called.

click reads the arguments: well kept, small, and quick to import.  A command is a module with ``command`` and a line in
``COMMANDS``.  An error of ours becomes two lines (what happened, what to do) and exit status 2 for invalid input, 3 for
something that cannot be reached.

===============  ==========================================================================================
module           what it holds
===============  ==========================================================================================
``demo``         ``verge demo``
``run``          ``verge run``
``infer``        ``verge infer``, and its annotated pictures
``models``       ``verge models``, and the trial of a model in a backend
``tune``         ``verge tune``
``watch``        ``verge watch``, and its subscriptions
``recipe``       ``verge recipe``
``component``    ``verge component``
``deploy``       ``verge deploy``, to a thing or by a job to a group
``components``   ``verge components``
``deployments``  ``verge deployments``
``rollback``     ``verge rollback``
``jobs``         ``verge jobs``
``provision``    ``verge provision``
``trust``        ``verge trust``
``edge_manager`` ``verge edge-manager``
``doctor``       ``verge doctor``
``loop``         runs a command's coroutine; Ctrl-C ends it in order
``output``       JSON and times
``tables``       tables for people; slow to import
``answers``      what a model says of pictures, as a table
``telling``      what is told of a prediction: its name, score and a few words (pure)
``arrays``       what a prediction holds, as arrays (pure)
``inputs``       the options that say how a picture becomes a network's input
``descriptions`` what a model is: its facts, what it was taken for and why, what runs it
``lines``        one line a result or status (pure)
``broker``       the options of a broker, and a visit to it
``remote``       an agent behind its broker: its retained state, requests, deployments
``documents``    the document that ``deploy`` sends
``sending``      the options of every deployment; signed, sent, followed to its end
``signing``      private keys, and what they sign
``keylists``     the key lists of ``trust``: made and changed
``keyrings``     what devices trust: shown, sent to them, reset
``forgetting``   the order of deployments on a device: shown, and healed
``pictures``     the pictures that arguments name, and their answers
``skeletons``    the components that ``component init`` writes
``goldens``      a component before it is packed: its golden frames recorded and answered
``inspections``  an export as the model of an anomaly component
``packing``      a component's folder → recipe and artifacts
===============  ==========================================================================================
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from agent import __version__
from agent.cli.output import echo
from agent.config.strict import nearest
from agent.errors import UnreachableError, VergeError

__all__ = ["COMMANDS", "INTERRUPTED", "Commands", "exit_status", "main", "show", "verge"]

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
    "edge-manager": "Serve SageMaker Edge Manager's clients, without a broker.",
    "doctor": "Check what the agent needs, and say how to mend what is missing.",
}

INTERRUPTED = 130
"""The exit status that shells report for a program that SIGINT ended."""


def exit_status(*errors: VergeError) -> int:
    """2 for invalid input, 3 where all the errors are of something that cannot be reached."""
    return 3 if all(isinstance(error, UnreachableError) for error in errors) else 2


def show(error: VergeError) -> None:
    """Print an error and what to do about it, for people, on standard error."""
    # Whoever wrote it, no line of it looks like one of ours.
    echo(f"verge: {_indented(error.message)}", fg="red", err=True)
    if error.hint:
        echo(f"       {_indented(error.hint)}", err=True)


def _indented(text: str) -> str:
    return text.replace("\n", "\n       ")


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
        command = importlib.import_module(f"agent.cli.{cmd_name.replace('-', '_')}").command
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
        """Run the command; our errors become sentences."""
        try:
            return super().invoke(ctx)
        except VergeError as error:
            show(error)
            raise click.exceptions.Exit(exit_status(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


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
        # A reader such as `head` left: nobody reads an error either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
