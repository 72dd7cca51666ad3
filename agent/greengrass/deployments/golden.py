"""Golden frames: pictures that a model brings along, with the answers that it has to give before it goes live.

A model's folder may hold ``golden/`` with pictures and ``expected.json`` (or ``.toml``)::

    {"pictures": [{"picture": "cat.jpg", "expect": {"label": "Egyptian cat", "score": 0.81}}]}

What can be expected is in ``agent.results.comparison``.  A model without golden frames has to answer a blank one, with
finite numbers.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias

import msgspec

from agent.config.streams import FrameLimits
from agent.config.strict import build, convert
from agent.errors import ConfigError, FrameError, InvalidInputError, VergeError
from agent.frames.frame import Picture
from agent.frames.recognise import recognise
from agent.inference.values import Answer, ModelMetadata
from agent.results.comparison.expected import Expected, compare, parse
from agent.results.comparison.finite import unfinite

__all__ = ["FOLDER", "NAME", "Ask", "Golden", "GoldenLimits", "GoldenMismatchError", "blank", "check", "load"]

FOLDER = "golden"
NAME = "expected.json"
_NAMES = (NAME, "expected.toml")
_SHOWN = 3
_SLOWEST: Final = 20
"""How many times as long as its warm-up lets expect a model may take, beside others that are loaded."""

Ask: TypeAlias = Callable[[Picture], Awaitable[Answer]]
"""Has the model answer a picture; raises what it or its workers have against it."""


class GoldenMismatchError(InvalidInputError):
    """A model does not answer its golden frames as it has to."""

    default_code = "MODEL_DISAGREES"
    error_type: ClassVar[str] = "USER_COMPONENT_ERROR"


@dataclass(frozen=True, slots=True)
class GoldenLimits:
    """What golden frames may cost."""

    max_pictures: int = 64
    max_expected_bytes: int = 16 * 1024 * 1024
    answer_timeout_s: float = 60.0
    """At least; of a model that is slow, as long as it may take (``of``)."""
    pictures: FrameLimits = field(default_factory=FrameLimits)

    @classmethod
    def of(cls, model: ModelMetadata) -> Self:
        """The limits for a loaded model."""
        return cls(answer_timeout_s=max(cls().answer_timeout_s, _SLOWEST * model.longest_ms / 1e3))


@dataclass(frozen=True, slots=True)
class Golden:
    """A picture's name below the model's folder, its file, and what is expected of it."""

    name: str
    path: Path
    expected: Expected


async def check(ask: Ask, folder: Path | None, limits: GoldenLimits | None = None) -> None:
    """Have a model answer the golden frames in ``folder``, or a blank one where there is no such folder.

    Raises:
        GoldenMismatchError: it answers something else, or nothing.
        ConfigError: the folder cannot be used.
    """
    limits = limits or GoldenLimits()
    frames = await asyncio.to_thread(load, folder, limits) if folder else ()
    differences = [await _difference(ask, frame, limits) for frame in frames] or [await _blank_difference(ask, limits)]
    mismatches = [difference for difference in differences if difference]
    if mismatches:
        more = f"; and {len(mismatches) - _SHOWN} more" if len(mismatches) > _SHOWN else ""
        raise GoldenMismatchError(
            f"the model does not answer as it has to: {'; '.join(mismatches[:_SHOWN])}{more}",
            hint="if the new answers are right, record them: verge component pack --record-golden",
        )


def load(folder: Path, limits: GoldenLimits) -> tuple[Golden, ...]:
    """The golden frames of a folder, none where it is not there; blocks while it reads.  Raises ``ConfigError``."""
    if not folder.is_dir():
        return ()
    written = [path for name in _NAMES if (path := folder / name).is_file()]
    if len(written) != 1:
        raise _wrong(f"{folder} needs one of {' and '.join(_NAMES)} beside its pictures, and has {len(written)}")
    if written[0].stat().st_size > limits.max_expected_bytes:
        raise _wrong(f"{written[0]} is larger than {limits.max_expected_bytes} bytes")
    file = _read(written[0])
    if len(file.pictures) > limits.max_pictures:
        raise _wrong(f"{written[0]} has {len(file.pictures)} pictures, the limit is {limits.max_pictures}")
    return tuple(_golden(folder, written[0], entry) for entry in file.pictures)


def blank(side: int = 64) -> Picture:
    """A grey square: a bitmap needs no library to be made."""
    row = b"\x80" * (side * 3 + -side * 3 % 4)
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + len(row) * side, 0, 0, 54, 40, side, side, 1, 24, *[0] * 6)
    return Picture(header + row * side, "bmp", side, side)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    picture: str
    expect: dict[str, Any]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pictures: Annotated[tuple[_Entry, ...], msgspec.Meta(min_length=1)]


def _read(path: Path) -> _File:
    text = path.read_bytes()
    if path.suffix == ".toml":
        return build(_File, text, str(path))
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"{path} is not JSON: {error}") from error
    return convert(_File, parsed, str(path))


def _golden(folder: Path, file: Path, entry: _Entry) -> Golden:
    path = (folder / entry.picture).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise _wrong(f"{file}: there is no picture {entry.picture!r} in the folder")
    return Golden(f"{folder.name}/{entry.picture}", path, parse(entry.expect, f"{file}: {entry.picture}"))


def _wrong(message: str) -> ConfigError:
    hint = "have it written by `verge component pack --record-golden`"
    return ConfigError(message, code="golden-wrong", hint=hint)


async def _difference(ask: Ask, frame: Golden, limits: GoldenLimits) -> str:
    """What the model says otherwise than expected; empty when it agrees."""
    try:
        picture = await asyncio.to_thread(_picture, frame.path, limits.pictures)
    except FrameError as error:
        raise _wrong(f"{frame.name} is no picture: {error.message}") from error
    answer = await _asked(ask, picture, frame.name, limits)
    verdict = await asyncio.to_thread(compare, frame.expected, answer.predictions, aspect=answer.aspect)
    return "" if verdict.agrees else f"{frame.name}: {verdict.difference}"


async def _blank_difference(ask: Ask, limits: GoldenLimits) -> str:
    answer = await _asked(ask, blank(), "a blank frame", limits)
    where = await asyncio.to_thread(unfinite, answer.predictions)
    return f"a blank frame: expected finite numbers, {where}" if where else ""


async def _asked(ask: Ask, picture: Picture, name: str, limits: GoldenLimits) -> Answer:
    try:
        async with asyncio.timeout(limits.answer_timeout_s):
            return await ask(picture)
    except TimeoutError as error:
        raise GoldenMismatchError(f"{name}: no answer within {limits.answer_timeout_s:g} s") from error
    except VergeError as error:
        raise GoldenMismatchError(f"{name}: the model could not answer: {error.message}", hint=error.hint) from error


def _picture(path: Path, limits: FrameLimits) -> Picture:
    with path.open("rb") as file:
        return recognise(file.read(limits.max_bytes + 1), None, limits)
