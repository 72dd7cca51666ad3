"""The strict reader: text from outside becomes frozen values, or an error that names the place.

One builder reads the configuration, model manifests and (by conversion) anything else that a person writes:
unknown keys are refused with the nearest known one, wrong types with the path and what was expected.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from agent.errors import ConfigError

__all__ = ["build", "convert", "nearest"]

Value = TypeVar("Value")

_PLACE = re.compile(r"(.*?)(?: - at `\$\.?([^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")
_STEPS = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


def build(kind: type[Value], text: bytes, name: str) -> Value:
    """Read TOML as ``kind``; ``name`` is the file's, for the error.  Raises ``ConfigError``."""
    try:
        parsed = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not TOML: {error}", code="config-unreadable") from error
    return convert(kind, parsed, name)


def convert(kind: type[Value], parsed: object, name: str) -> Value:
    """Convert parsed data to ``kind``.  Raises ``ConfigError`` that names the place and what was expected."""
    try:
        return msgspec.convert(parsed, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), kind, parsed, name) from error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """``did you mean …?`` when one of the known words is close."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def _wrong(text: str, kind: Any, parsed: object, name: str) -> ConfigError:
    problem, place = _PLACE.fullmatch(text).groups()  # type: ignore[union-attr]
    where = _spelled(place or "", text, kind, parsed)
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown is None:
        told = f"{where} in {name}" if where else name
        return ConfigError(f"{told}: {problem[:1].lower()}{problem[1:]}", code="wrong-value")
    key = unknown.group(1)
    known = _fields_at(kind, place or "")
    return ConfigError(
        f"unknown key {where}.{key} in {name}" if where else f"unknown key {key} in {name}",
        code="unknown-key",
        hint=nearest(key, known) or (f"known here: {', '.join(known)}" if known else None),
    )


def _spelled(place: str, text: str, kind: Any, parsed: object) -> str:
    """The place with each ``[...]``, msgspec's word for "some key of a mapping", replaced by the key that it is."""
    steps = _STEPS.findall(place)
    for number, step in enumerate(steps):
        if step == "[...]":
            steps[number] = next(
                (
                    key
                    for key in _at(parsed, steps[:number])
                    if _still_wrong(parsed, [*steps[:number], key], text, kind)
                ),
                step,
            )
    return ".".join(steps).replace(".[", "[")


def _at(parsed: Any, steps: list[str]) -> Any:
    for step in steps:
        parsed = parsed[int(step[1:-1])] if step.startswith("[") else parsed[step]
    return parsed


def _still_wrong(parsed: Any, steps: list[str], text: str, kind: Any) -> bool:
    """Whether the same is wrong when, of the mapping the last step goes into, only that key is left."""
    try:
        msgspec.convert(_pruned(parsed, steps), kind)
    except msgspec.ValidationError as error:
        return str(error) == text
    return False


def _pruned(parsed: Any, steps: list[str]) -> Any:
    first, *rest = steps
    if first.startswith("["):
        index = int(first[1:-1])
        return [_pruned(item, rest) if position == index else item for position, item in enumerate(parsed)]
    inner = _pruned(parsed[first], rest) if rest else parsed[first]
    return {first: inner} if not rest else {**parsed, first: inner}


def _fields_at(kind: Any, place: str) -> list[str]:
    """The keys known where ``place`` (msgspec's path, ``[...]`` for a mapping's value) points."""
    found: list[Any] = [msgspec.inspect.type_info(kind)]
    for step in _STEPS.findall(place):
        found = [inner for info in found for inner in _step(info, step)]
    return [field.encode_name for info in found for field in getattr(info, "fields", ())]


def _step(info: Any, step: str) -> list[Any]:
    """What lies one step further in: a field, an item or a mapping's value; unions are looked through."""
    if isinstance(info, msgspec.inspect.UnionType):
        return [inner for option in info.types for inner in _step(option, step)]
    if step.startswith("["):
        inner = getattr(info, "value_type", None) or getattr(info, "item_type", None)
    else:
        inner = next((field.type for field in getattr(info, "fields", ()) if field.encode_name == step), None)
    if isinstance(inner, msgspec.inspect.UnionType):
        return list(inner.types)
    return [inner] if inner is not None else []
