"""The strict reader: text from outside becomes frozen values, or errors that name the place.

One builder reads the configuration, model manifests and (by conversion) anything else that a person writes:
unknown keys are refused with the nearest known one, wrong types with the path and what was expected.  An error's
``path`` is spelled as the keys are, ``streams.line.outputs[1].topic``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from agent.errors import ConfigError

__all__ = ["Origin", "build", "check_keys", "convert", "convert_all", "nearest", "spelled", "wrong"]

Value = TypeVar("Value")
Steps: TypeAlias = tuple[str | int, ...]
Origin: TypeAlias = str | Callable[[str], str]
"""The name of the file that values come from, or what names the origin of the value at a path."""

_PLACE = re.compile(r"(.*?)(?: - at (`key` in )?`\$\.?([^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_PATTERN = "matching regex"
_STEPS = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_ANY_KEY = "[...]"
"""What msgspec calls the value of some key of a mapping."""


def build(kind: type[Value], text: bytes, name: str) -> Value:
    """Read TOML as ``kind``; ``name`` is the file's, for the error.  Raises ``ConfigError``."""
    try:
        parsed = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not TOML: {error}", code="config-unreadable") from error
    return convert(kind, parsed, name)


def convert(kind: type[Value], parsed: object, origin: Origin) -> Value:
    """Convert parsed data to ``kind``.  Raises ``ConfigError`` that names the place and what was expected."""
    misfit = _misfit(kind, parsed)
    if isinstance(misfit, _Misfit):
        raise misfit.error(origin)
    return misfit


def convert_all(kind: type[Value], parsed: object, origin: Origin) -> tuple[Value | None, tuple[ConfigError, ...]]:
    """What is right of parsed data as ``kind``, and every error in the rest; None where nothing can be made of it.

    A wrong value is left out, and so is the table or list that needs it.
    """
    errors: list[ConfigError] = []
    left_out: set[Steps] = set()
    while isinstance(misfit := _misfit(kind, parsed), _Misfit):
        if (*misfit.steps, misfit.missing) not in left_out:
            errors.append(misfit.error(origin))
        steps = (*misfit.steps, misfit.unknown) if misfit.unknown else misfit.steps
        while steps and isinstance(steps[-1], int):
            # To leave out one item would give another number to those behind it.
            steps = steps[:-1]
        if not steps:
            return None, tuple(errors)
        left_out.add(steps)
        parsed = _without(parsed, steps)
    return misfit, tuple(errors)


def check_keys(table: Mapping[str, Any], known: Collection[str], origin: Origin) -> None:
    """Raise ``ConfigError`` for a key that is none of the known ones."""
    for key in table:
        if key not in known:
            raise _unknown((key,), known, origin)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """``did you mean …?`` when one of the known words is close."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def wrong(
    path: str, problem: str, origin: Origin, *, code: str = "wrong-value", hint: str | None = None
) -> ConfigError:
    """The error about the value at ``path``; empty is the whole."""
    name = _named(origin, path)
    return ConfigError(
        f"{path} in {name}: {problem}" if path else f"{name}: {problem}", code=code, hint=hint, path=path
    )


def spelled(steps: Iterable[str | int]) -> str:
    """A path as errors have it.

    >>> spelled(("streams", "line", "outputs", 1, "topic"))
    'streams.line.outputs[1].topic'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


class _Misfit(NamedTuple):
    """What msgspec has against a value, and where."""

    steps: Steps
    problem: str
    unknown: str = ""
    missing: str = ""
    known: tuple[str, ...] = ()
    """The keys that are known where one is not."""

    def error(self, origin: Origin) -> ConfigError:
        if self.unknown:
            return _unknown((*self.steps, self.unknown), self.known, origin)
        return wrong(spelled(self.steps), f"{self.problem[:1].lower()}{self.problem[1:]}", origin)


def _named(origin: Origin, path: str) -> str:
    return origin if isinstance(origin, str) else origin(path)


def _unknown(steps: Steps, known: Collection[str], origin: Origin) -> ConfigError:
    path, key = spelled(steps), str(steps[-1])
    return ConfigError(
        f"unknown key {path} in {_named(origin, path)}",
        code="unknown-key",
        hint=nearest(key, known) or (f"known here: {', '.join(known)}" if known else None),
        path=path,
    )


# -- msgspec's sentences: nobody else reads them -----------------------------------------------------------------


def _misfit(kind: type[Value], parsed: object) -> Value | _Misfit:
    try:
        return msgspec.convert(parsed, kind)
    except msgspec.ValidationError as error:
        text = str(error)
    problem, of_key, place = _PLACE.fullmatch(text).groups()  # type: ignore[union-attr]
    steps = _steps(place or "", text, kind, parsed)
    unknown, missing = _UNKNOWN.fullmatch(problem), _MISSING.fullmatch(problem)
    here = _types_at(kind, parsed, steps)
    bounded = [info.key_type for info in here if hasattr(info, "key_type")] if of_key else here
    if _PATTERN in problem and (meant := next(filter(None, map(_description, bounded)), "")):
        problem = f"Expected {meant}{' as key' if of_key else ''}"
    return _Misfit(
        steps, problem, unknown[1] if unknown else "", missing[1] if missing else "",
        tuple(field.encode_name for info in here for field in getattr(info, "fields", ())),
    )  # fmt: skip


def _steps(place: str, text: str, kind: Any, parsed: object) -> Steps:
    """The way to the place, with each ``[...]`` replaced by the key that it is."""
    steps: list[str | int] = []
    for step in _STEPS.findall(place):
        if step == _ANY_KEY:
            keys = _at(parsed, steps)
            steps.append(next((key for key in keys if _still_wrong(parsed, [*steps, key], text, kind)), step))
        else:
            steps.append(int(step[1:-1]) if step.startswith("[") else step)
    return tuple(steps)


def _at(parsed: Any, steps: Iterable[str | int]) -> Any:
    for step in steps:
        parsed = parsed[step]
    return parsed


def _still_wrong(parsed: Any, steps: list[str | int], text: str, kind: Any) -> bool:
    """Whether the same is wrong when, of the mapping the last step goes into, only that key is left."""
    try:
        msgspec.convert(_pruned(parsed, steps), kind)
    except msgspec.ValidationError as error:
        return str(error) == text
    return False


def _pruned(parsed: Any, steps: list[str | int]) -> Any:
    first, *rest = steps
    if isinstance(first, int):
        return [_pruned(item, rest) if position == first else item for position, item in enumerate(parsed)]
    inner = _pruned(parsed[first], rest) if rest else parsed[first]
    return {first: inner} if not rest else {**parsed, first: inner}


def _without(parsed: Any, steps: Steps) -> Any:
    first, rest = steps[0], steps[1:]
    if isinstance(first, int):
        return [_without(item, rest) if position == first else item for position, item in enumerate(parsed)]
    if rest:
        return {**parsed, first: _without(parsed[first], rest)}
    return {key: value for key, value in parsed.items() if key != first}


def _types_at(kind: Any, parsed: Any, steps: Steps) -> list[Any]:
    """The types that a value may have at a place, as msgspec describes them."""
    types, value = _alternatives(msgspec.inspect.type_info(kind), parsed), parsed
    for step in steps:
        value = value[step]
        types = [option for info in types for inner in _inside(info, step) for option in _alternatives(inner, value)]
    return types


def _alternatives(info: Any, value: Any) -> list[Any]:
    """What a union may be, of tagged tables the one that the value is; anything else as it is."""
    if isinstance(info, msgspec.inspect.Metadata) and isinstance(info.type, msgspec.inspect.UnionType):
        info = info.type
    if not isinstance(info, msgspec.inspect.UnionType):
        return [info]
    tag = next((field for one in info.types if (field := getattr(one, "tag_field", None))), None)
    named = value.get(tag) if tag and isinstance(value, Mapping) else None
    return [one for one in info.types if named is None or getattr(one, "tag", named) == named]


def _inside(info: Any, step: str | int) -> list[Any]:
    """What lies one step further in: a field, an item or a mapping's value."""
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(step, int):
        return [info.item_type] if hasattr(info, "item_type") else []
    if isinstance(info, msgspec.inspect.DictType):
        return [info.value_type]
    return [field.type for field in getattr(info, "fields", ()) if field.encode_name == step]


def _description(info: Any) -> str:
    """What the bounds of a type say of it (``agent.config.bounds``)."""
    schema = getattr(info, "extra_json_schema", None) if isinstance(info, msgspec.inspect.Metadata) else None
    return str((schema or {}).get("description", ""))
