"""The strict reader: text from outside becomes frozen values, or errors that name the place.

One builder reads the configuration, model manifests and (by conversion) anything else that a person writes:
unknown keys are refused with the key that was probably meant, wrong types with the path and what was expected.  An
error's ``path`` is spelled as the keys are, ``streams.line.outputs[1].topic``.

The key that was meant may stand elsewhere: ``threshold`` beside a model's ``options``, ``topic`` beside a stream's
``input``.  So it is looked for in the whole neighbourhood: here, further in, and further out; tables whose keys are not
fields may tell them (``KEYS`` in the ``extra_json_schema`` of their type).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from agent.errors import ConfigError

__all__ = ["KEYS", "Origin", "build", "check_keys", "convert", "convert_all", "nearest", "spelled", "wrong"]

Value = TypeVar("Value")
Steps: TypeAlias = tuple[str | int, ...]
Origin: TypeAlias = str | Callable[[str], str]
"""The name of the file that values come from, or what names the origin of the value at a path."""

Spell: TypeAlias = Callable[[str], str]
"""A key as it is written where the values come from."""
KEYS = "keys"
"""What a type's ``extra_json_schema`` calls the keys of a table that has no fields."""

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
        parsed = tomllib.loads(text.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not TOML: {error}", code="config-unreadable") from error
    return convert(kind, parsed, name)


def convert(kind: type[Value], parsed: object, origin: Origin, spell: Spell = str) -> Value:
    """Convert parsed data to ``kind``.  Raises ``ConfigError`` that names the place and what was expected.

    The sentences have keys as ``spell`` writes them; the error's ``path`` has them as they are.
    """
    misfit = _misfit(kind, parsed)
    if isinstance(misfit, _Misfit):
        raise misfit.error(origin, spell)
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
            raise _unknown((key,), [_Key((name,)) for name in known], origin)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """``did you mean …?`` when one of the known words is close."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def wrong(
    path: str, problem: str, origin: Origin, *, code: str = "wrong-value", hint: str | None = None
) -> ConfigError:
    """The error about the value at ``path``; empty is the whole."""
    return _wrong(path, path, problem, origin, code=code, hint=hint)


def spelled(steps: Iterable[str | int]) -> str:
    """A path as errors have it.

    >>> spelled(("streams", "line", "outputs", 1, "topic"))
    'streams.line.outputs[1].topic'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


class _Key(NamedTuple):
    """A key that is known: the way to it, and how many tables away it is from the place that is looked at."""

    steps: Steps
    distance: int = 0

    @property
    def name(self) -> str:
        return str(self.steps[-1])


class _Misfit(NamedTuple):
    """What msgspec has against a value, and where."""

    steps: Steps
    problem: str
    unknown: str = ""
    missing: str = ""
    known: tuple[_Key, ...] = ()
    """The keys that are known around one that is not, the nearest first."""

    def error(self, origin: Origin, spell: Spell = str) -> ConfigError:
        if self.unknown:
            return _unknown((*self.steps, self.unknown), self.known, origin, spell)
        problem = f"{self.problem[:1].lower()}{self.problem[1:]}"
        return _wrong(spelled(self.steps), _written(self.steps, spell), problem, origin)


def _named(origin: Origin, path: str) -> str:
    return origin if isinstance(origin, str) else origin(path)


def _written(steps: Steps, spell: Spell) -> str:
    return spelled(step if isinstance(step, int) else spell(step) for step in steps)


def _wrong(
    path: str, shown: str, problem: str, origin: Origin, *, code: str = "wrong-value", hint: str | None = None
) -> ConfigError:
    name = _named(origin, path)
    message = f"{shown} in {name}: {problem}" if path else f"{name}: {problem}"
    return ConfigError(message, code=code, hint=hint, path=path)


def _unknown(steps: Steps, known: Collection[_Key], origin: Origin, spell: Spell = str) -> ConfigError:
    path = spelled(steps)
    here = ", ".join(spell(key.name) for key in known if not key.distance)
    meant = _meant(str(steps[-1]), known)
    hint = f"did you mean {' or '.join(_written(key.steps, spell) for key in meant)}?" if meant else None
    return ConfigError(
        f"unknown key {_written(steps, spell)} in {_named(origin, path)}",
        code="unknown-key",
        hint=hint or (f"known here: {here}" if here else None),
        path=path,
    )


_LIKE_HERE, _LIKE_ELSEWHERE = 0.6, 0.8
_AWAY = 0.1
"""How much more like the word a key in another table has to be than one here."""
_MANY = 3


def _meant(word: str, known: Iterable[_Key]) -> list[_Key]:
    """The key that is written most like the word, of equals the nearest; several that are it and equally near."""
    like: list[tuple[float, int, _Key]] = []
    matcher = difflib.SequenceMatcher(b=word.lower())
    for key in dict.fromkeys(known):
        matcher.set_seq1(key.name.lower())
        least = _LIKE_ELSEWHERE if key.distance else _LIKE_HERE
        if matcher.real_quick_ratio() >= least and (ratio := matcher.ratio()) >= least:
            like.append((ratio - _AWAY * bool(key.distance), -key.distance, key))
    if not like:
        return []
    *best, first = max(like, key=lambda each: each[:2])
    same = [key for *score, key in like if score == best and key.name == first.name]
    return same[:_MANY]


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
        tuple(_around(kind, parsed, steps)) if unknown else (),
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


_NAME = "NAME"
"""Stands for a key that a person makes up."""
_DEPTH = 4


def _around(kind: Any, parsed: Any, steps: Steps) -> Iterator[_Key]:
    """The keys that are known here and further in, as they are written from here; then those around, from the top."""
    for inner in _below(_types_at(kind, parsed, steps), _DEPTH):
        yield _Key(inner, _tables(inner))
    for up in range(1, len(steps) + 1):
        table = steps[:-up]
        for inner in _below(_types_at(kind, parsed, table), _DEPTH):
            yield _Key((*table, *inner), up + _tables(inner))


def _tables(way: Steps) -> int:
    return sum(isinstance(step, str) for step in way) - 1


def _below(types: Iterable[Any], depth: int) -> Iterator[Steps]:
    """The ways to the keys of tables, to those of the tables in them, and so on."""
    if not depth:
        return
    for info in types:
        yield from ((key,) for key in (getattr(info, "extra_json_schema", None) or {}).get(KEYS, ()))
        for name, inner in _entries(info):
            if name != _NAME and isinstance(name, str):
                yield (name,)
            # The items of a list are no further away than the list.
            ways = _below(_alternatives(inner, None), depth if isinstance(name, int) else depth - 1)
            yield from ((name, *way) for way in ways)


def _entries(info: Any) -> Iterator[tuple[str | int, Any]]:
    """A table's fields with their types, a list's first item, or what a person's own keys lead to."""
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if hasattr(info, "item_type"):
        yield 0, info.item_type
    elif isinstance(info, msgspec.inspect.DictType):
        yield _NAME, info.value_type
    for field in getattr(info, "fields", ()):
        # What no file can hold is nobody's key.
        if not isinstance(field.type, msgspec.inspect.CustomType):
            yield field.encode_name, field.type


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
