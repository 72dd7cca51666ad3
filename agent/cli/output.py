"""What commands print alike: JSON for programs, local times for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec

__all__ = ["json_option", "local_time", "print_json"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print a value on standard output, as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2))


def local_time(text: str) -> str:
    """A time of a payload on this machine's clock, to the second; a text that is no time stays as it is.

    >>> local_time("soon")
    'soon'
    """
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text
