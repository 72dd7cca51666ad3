"""What commands print: the one way to the terminal, JSON for programs, local times for people.

Whatever came over the network is in here somewhere, so everything goes through ``shown`` on its way out: ``echo`` for
lines, ``cell`` of ``tables`` for what goes into rich's tables, ``print_json``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from agent.text import as_json_text, shown

__all__ = ["Styled", "echo", "json_option", "local_time", "print_json", "refuse_options", "styled"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Styled(str):
    """Text that ``styled`` made: its escape sequences are ours."""

    __slots__ = ()


def styled(text: str, **style: Any) -> Styled:
    """A part of a line in a style of ``click.style``."""
    return Styled(click.style(shown(text), **style))


def echo(*parts: str, err: bool = False, **style: Any) -> None:
    """Print parts of a line, or lines, in a style of ``click.style``; what a terminal would obey is shown."""
    text = "".join(part if isinstance(part, Styled) else shown(part, keep="\n\t") for part in parts)
    click.secho(text, err=err, **style)


def print_json(value: Any, *, indent: int = 2) -> None:
    """Print a value on standard output as JSON, indented, or with ``indent`` 0 in a line."""
    text = msgspec.json.encode(value, enc_hook=str)
    click.echo(as_json_text((msgspec.json.format(text, indent=indent) if indent else text).decode()))


def local_time(text: str) -> str:
    """A time of a payload on this machine's clock, to the second; a text that is no time stays as it is.

    >>> local_time("soon")
    'soon'
    """
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def refuse_options(context: click.Context) -> None:
    """Raise ``click.UsageError`` for options in front of a group's word: that would not get them."""
    if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
        word = context.invoked_subcommand
        raise click.UsageError(f"options go behind the word: verge {context.command.name} {word} …")
