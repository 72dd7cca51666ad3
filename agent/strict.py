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

from agent.errors import ConfigWrong

__all__ = ["build", "convert", "nearest"]

Value = TypeVar("Value")

_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_PLACE = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)


def build(kind: type[Value], text: bytes, name: str) -> Value:
    """Read TOML as ``kind``; ``name`` is the file's, for the error.  Raises ``ConfigWrong``."""
    try:
        parsed = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigWrong(f"{name} is not TOML: {error}", code="config-unreadable") from error
    return convert(kind, parsed, name)


def convert(kind: type[Value], parsed: object, name: str) -> Value:
    """Convert parsed data to ``kind``.  Raises ``ConfigWrong`` that names the place and what was expected."""
    try:
        return msgspec.convert(parsed, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), kind, name) from error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """``did you mean …?`` when one of the known words is close."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def _wrong(text: str, kind: Any, name: str) -> ConfigWrong:
    unknown = _UNKNOWN.match(text)
    if unknown:
        key, place = unknown.group(1), unknown.group(2) or ""
        known = _fields_at(kind, place)
        full = f"{place}.{key}" if place else key
        guess = nearest(key, known)
        return ConfigWrong(
            f"unknown key {full} in {name}",
            code="unknown-key",
            hint=guess or (f"known here: {', '.join(known)}" if known else None),
        )
    told = _PLACE.match(text)
    problem, place = (told.group(1), told.group(2)) if told else (text, None)
    where = f"{place} in {name}" if place else name
    return ConfigWrong(f"{where}: {problem[:1].lower()}{problem[1:]}", code="wrong-value")


def _fields_at(kind: Any, place: str) -> list[str]:
    """The keys known where ``place`` (msgspec's path, ``[...]`` for a mapping's value) points."""
    found: list[Any] = [msgspec.inspect.type_info(kind)]
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", place):
        found = [inner for info in found for inner in _step(info, step)]
    return [field.encode_name for info in found for field in getattr(info, "fields", ())]


def _step(info: Any, step: str) -> list[Any]:
    """What lies one step further in: a field, an item or a mapping's value; unions are looked through."""
    if isinstance(info, msgspec.inspect.UnionType):
        return [inner for option in info.types for inner in _step(option, step)]
    if step.startswith("["):
        inner = getattr(info, "value_type", None) or getattr(info, "item_type", None)
    else:
        fields = {field.encode_name: field.type for field in getattr(info, "fields", ())}
        inner = fields.get(step)
    if isinstance(inner, msgspec.inspect.UnionType):
        return list(inner.types)
    return [inner] if inner is not None else []
