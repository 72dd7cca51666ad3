"""The options that say how a picture becomes a network's input: the words of a manifest's ``[input]``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import click
from click.decorators import FC

from agent.config.models import Table, tile
from agent.errors import ConfigError

__all__ = ["as_options", "input_options", "input_table"]

_KEY: Final = re.compile(r"\binput\.(width|height|mean|std|color|resize|crop|place|tile)\b")
_ASSIGNED: Final = re.compile(r"\b(backend|labels) = …")
_NAMES: Final = {"width": "size", "height": "size"}
_SIZE: Final = re.compile(r"(\d{1,5})(?:[x×](\d{1,5}))?", re.ASCII | re.IGNORECASE)


class _Word(click.ParamType[Any]):
    """A word of the command line that ``read`` makes a value of; raises ``ValueError`` for what it cannot read."""

    def __init__(self, name: str, read: Callable[[str], Any], wanted: str) -> None:
        self.name = name
        self._read = read
        self._wanted = wanted

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._read(value)
        except ValueError:
            self.fail(f"{value!r} is not {self._wanted}", param, ctx)
        except ConfigError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


def _size(text: str) -> Table:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    width, height = found.groups()
    return {"width": int(width), "height": int(height or width)}


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


_OPTIONS: Final = (
    click.option(
        "--size", type=_Word("SIZE", _size, "a side, or width x height: 640, 640x480"), metavar="SIDE|WxH",
        help="The network's picture, where the file leaves it open.",
    ),
    click.option(
        "--mean", type=_Word("NUMBERS", _numbers, "a number, or one for each channel: 123.7,116.3,103.5"),
        metavar="X[,X,X]", help="The network reads (pixel - mean) / std; a pixel is 0 to 255.",
    ),
    click.option(
        "--std", type=_Word("NUMBERS", _numbers, "a number, or one for each channel: 58.4,57.1,57.4"),
        metavar="X[,X,X]", help="See --mean.",
    ),
    click.option(
        "--color", type=click.Choice(["RGB", "BGR", "GRAY"], case_sensitive=False), help="The network's colours.",
    ),
    click.option(
        "--resize", metavar="WORD",
        help="stretch, crop, letterbox; for open sizes also shortest, longest, height.",
    ),
    click.option(
        "--crop", type=click.FloatRange(0.05, 1), metavar="SHARE", help="The middle of the frame: 0.875 is 256 → 224."
    ),
    click.option("--place", type=click.Choice(["center", "top-left"]), help="Where a letterbox has the picture."),
    click.option(
        "--tile", type=_Word("TILES", tile, ""), metavar="CxR|SIDE",
        help="Look at the frame in tiles: 3x2, 640, 3x2,overlap=0.3,whole.",
    ),
)  # fmt: skip


def input_options(command: FC) -> FC:
    """Give a command the options; what they say is in its arguments by the same names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def as_options(text: str) -> str:
    """What speaks of a manifest's keys, for those who have options.

    >>> as_options("say input.mean and input.std")
    'say --mean and --std'
    >>> as_options("choose one: backend = …")
    'choose one: --backend'
    """
    text = _ASSIGNED.sub(r"--\1", text)
    return _KEY.sub(lambda found: f"--{_NAMES.get(found[1], found[1])}", text)


def input_table(*, size: Table | None, tile: Table | None, **said: Any) -> Table:
    """The ``[input]`` that the options say; what they leave open is left out."""
    table = {**(size or {}), **said, "tile": tile}
    return {key: value for key, value in table.items() if value is not None}
