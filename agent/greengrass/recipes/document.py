"""Text → plain data: JSON and YAML into dictionaries, lists and scalars, within bounds.

JSON is read as JSON (tabs and surrogate pairs are legal there and not in YAML), everything else as YAML.  PyYAML
serves as the scanner only: it is the one that is everywhere and kept, and its events, unlike its constructors,
leave every choice to us:

- scalars are typed as Greengrass's reader types them: ``true``/``false``, ``null``, numbers; so ``2020-01-25``,
  ``on``, ``yes`` and ``10:30`` stay texts, and keys are always texts, as written;
- a number with a fraction remembers its spelling (``Written``), because ``VersionRequirement: 1.10`` is a text;
- nothing recurses, depth is bounded, and an alias costs what it expands to, so that a bomb is refused early.

A key that stands twice is legal to Greengrass (the last one counts); it is reported.

A ``Place`` is a value of a document together with its path, so that whatever is wrong with it is said with both.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

import yaml

from agent.greengrass.recipes.errors import RecipeError
from agent.greengrass.recipes.templates import HINT, placeholder

__all__ = ["MAX_BYTES", "Document", "Place", "Written", "load", "plain", "shown"]

MAX_BYTES = 1024 * 1024
"""A recipe in the cloud has at most 64 kB; one larger than this is none."""

_MAX_DEPTH = 64
_MAX_NODES = 100_000
_QUOTED = 200
_TOO_DEEP = f"it nests deeper than {_MAX_DEPTH} levels"

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS: Mapping[str, bool | None] = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
) | dict.fromkeys(("", "~", "null", "Null", "NULL"))  # fmt: skip
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})|0x[0-9a-fA-F]{1,99}")
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_SCALAR_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
_TEXT_TAGS = frozenset(("!", "tag:yaml.org,2002:str"))
_CONTAINER_TAGS = frozenset(("!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"))
Words = TypeVar("Words", bound=StrEnum)
_SHOWN = 80
_KINDS = {dict: "a mapping", list: "a list", type(None): "nothing"}


class Written(float):
    """A number with a fraction or an exponent, and how it was written."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read the number."""
        made = super().__new__(cls, text)
        made.text = text
        return made


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data, and the keys that stand more than once in one mapping."""

    value: Any
    repeated: tuple[str, ...] = ()


def load(text: bytes | str, name: str) -> Document:
    """Read JSON or YAML; ``name`` is the document's, for the error.  Raises ``RecipeError``."""
    decoded = _decoded(text, name)
    if decoded.lstrip().startswith("{"):
        try:
            return _json(decoded, name)
        except json.JSONDecodeError as error:
            try:
                return _yaml(decoded, name)
            except RecipeError:
                raise RecipeError(f"{name} is not JSON: {error}") from error
    return _yaml(decoded, name)


def _decoded(text: bytes | str, name: str) -> str:
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{name} has more than {MAX_BYTES} bytes: this is no recipe")
    try:
        # A text makes the round trip too: a lone surrogate can be neither stored nor sent.
        return (text.encode() if isinstance(text, str) else text).decode("utf-8-sig")
    except UnicodeError as error:
        raise RecipeError(f"{name} is not UTF-8 text: {error}") from error


def _json(text: str, name: str) -> Document:
    repeated: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return made

    try:
        value = json.loads(text, object_pairs_hook=mapping, parse_float=_fraction, parse_constant=_constant)
        _bounded(value, _MAX_DEPTH)
        return Document(value, tuple(repeated))
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise RecipeError(f"{name} cannot be used: {_TOO_DEEP}") from error
    except ValueError as error:
        raise RecipeError(f"{name} cannot be used: {error}") from error


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _fraction(text: str) -> Written:
    if not math.isfinite(number := Written(text)):
        raise ValueError(f"{text[:_QUOTED]} is out of range")
    return number


def _bounded(value: Any, depth: int) -> None:
    """Refuse what is too deep to walk or cannot be written again."""
    if not depth:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict):
        for key, inner in value.items():
            key.encode()
            _bounded(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _bounded(inner, depth - 1)
    elif isinstance(value, str):
        value.encode()


def _yaml(text: str, name: str) -> Document:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _not_yaml(name, f"{str(error.problem)[:_QUOTED]}{line}", text) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _not_yaml(name, str(error)[:_QUOTED], text) from error
    return Document(builder.root, tuple(builder.repeated))


def _not_yaml(name: str, why: str, text: str) -> RecipeError:
    waits = placeholder(text)
    if waits is None:
        return RecipeError(f"{name} is not YAML: {why}")
    return RecipeError(f"{name} is not YAML: {why}; it may be a template, whose {waits} is not filled in", hint=HINT)


@dataclass(slots=True)
class _Open:
    """A mapping or list that has not ended; ``key`` waits for its value."""

    into: dict[str, Any] | list[Any]
    anchor: str | None
    began: int
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    """Events in, one tree out."""

    root: Any = None
    repeated: list[str] = field(default_factory=list)
    _documents: int = 0
    _nodes: int = 0
    _open: list[_Open] = field(default_factory=list)
    _anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)

    def take(self, event: yaml.Event) -> None:
        """The next event.  Raises ``ValueError`` with the line where it is."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        try:
            self._take(event)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self._open.pop()
            self._remember(ended.anchor, ended.into, self._nodes - ended.began)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise ValueError("a second document begins: a recipe is one")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        parent = self._open[-1] if self._open else None
        if parent and isinstance(parent.into, dict) and parent.key is None:
            if event.value in parent.into:
                self.repeated.append(event.value)
            parent.key = event.value
            self._count(1)
            return
        value = _typed(event)
        self._add(value, 1)
        self._remember(event.anchor, value, 1)

    def _alias(self, anchor: str | None) -> None:
        if anchor is None or anchor not in self._anchors:
            raise ValueError(f"the alias *{anchor} has no anchor before it")
        self._add(*self._anchors[anchor])

    def _begin(self, event: Any) -> None:
        if event.tag is not None and event.tag not in _CONTAINER_TAGS:
            raise ValueError(f"the tag {event.tag} means nothing in a recipe")
        if len(self._open) >= _MAX_DEPTH - 1:
            raise ValueError(_TOO_DEEP)
        into: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        began = self._nodes
        self._add(into, 1)
        self._open.append(_Open(into, event.anchor, began))

    def _add(self, value: Any, nodes: int) -> None:
        self._count(nodes)
        if not self._open:
            self.root = value
            return
        parent = self._open[-1]
        if isinstance(parent.into, list):
            parent.into.append(value)
        elif parent.key is None:
            raise ValueError("a key has to be a text")
        else:
            parent.into[parent.key] = value
            parent.key = None

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > _MAX_NODES:
            raise ValueError(f"it expands to more than {_MAX_NODES} values")

    def _remember(self, anchor: str | None, value: Any, nodes: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = value, nodes


def _typed(event: yaml.ScalarEvent) -> Any:
    if event.tag is None:
        return _resolved(event.value) if event.implicit[0] else event.value
    if event.tag in _TEXT_TAGS:
        return event.value
    if event.tag in _SCALAR_TAGS:
        return _resolved(event.value)
    raise ValueError(f"the tag {event.tag} means nothing in a recipe")


def _resolved(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 16 if text.startswith("0x") else 10)
    return _fraction(text) if _FRACTION.fullmatch(text) else text


@dataclass(frozen=True, slots=True)
class Place:
    """``value`` stands at ``path`` of the document ``source``."""

    source: str
    path: str
    value: Any

    def at(self, key: str, value: Any) -> Place:
        """The place of a mapping's entry."""
        key = key if len(key) <= _SHOWN else key[: _SHOWN - 1] + "…"
        return Place(self.source, f"{self.path}.{key}" if self.path else key, value)

    def wrong(
        self, expected: str, *, kind: type[RecipeError] = RecipeError, hint: str | None = None, code: str | None = None
    ) -> RecipeError:
        """The error that names the path, the value and what was expected."""
        where = f"{self.source}: {self.path}" if self.path else self.source
        return kind(f"{where} is {shown(self.value)}: expected {expected}", path=self.path, hint=hint, code=code)

    def missing(self, key: str, expected: str, *, code: str | None = None) -> RecipeError:
        """The error about an entry that has to be there."""
        path = self.at(key, None).path
        return RecipeError(f"{self.source}: {path} is missing: expected {expected}", path=path, code=code)

    def entries(self) -> Iterator[tuple[str, Place]]:
        """A mapping's entries, keys in the author's spelling."""
        if not isinstance(self.value, dict):
            raise self.wrong("a mapping")
        return ((key, self.at(key, value)) for key, value in self.value.items())

    def items(self) -> Iterator[Place]:
        """A list's items; none of them may be null."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        for number, value in enumerate(self.value):
            place = Place(self.source, f"{self.path}[{number}]", value)
            if value is None:
                raise place.wrong("no empty item in this list")
            yield place

    def text(self) -> str:
        """A text; other scalars become one, spelled as they were written."""
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, Written):
            return self.value.text
        if isinstance(self.value, bool | int):
            return json.dumps(self.value)
        raise self.wrong("a text")

    def word(self, words: type[Words]) -> Words:
        """One of the words of an enumeration, in any case."""
        known = {word.lower(): word for word in words}
        word = known.get(self.text().lower())
        if word is None:
            raise self.wrong("one of " + ", ".join(words))
        return word

    def data(self) -> dict[str, Any]:
        """A mapping as plain data, copied."""
        return {key: plain(place.value) for key, place in self.entries()}


def plain(value: Any) -> Any:
    """A copy of plain data whose numbers have forgotten their spelling."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return float(value) if isinstance(value, Written) else value


def shown(value: Any) -> str:
    """A value for an error's sentence: short, and a container by its kind."""
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    if isinstance(value, Written):
        return value.text[:_SHOWN]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
