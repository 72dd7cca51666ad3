"""A value of a document together with its path, so that whatever is wrong with it is said with both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from agent.greengrass.recipes.document import Written
from agent.greengrass.recipes.errors import RecipeError

__all__ = ["Place", "plain", "shown"]

Words = TypeVar("Words", bound=StrEnum)

_SHOWN = 80
_KINDS = {dict: "a mapping", list: "a list", type(None): "nothing"}


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
        found = known.get(self.text().lower())
        if found is None:
            raise self.wrong("one of " + ", ".join(words))
        return found

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
