"""A value of a deployment's document together with its path, so that whatever is wrong with it is said with both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from agent.greengrass.deployments.errors import DeploymentError

__all__ = ["MAX_DEPTH", "Field", "deeper_than", "whole"]

MAX_DEPTH: Final = 64

_SHOWN = 80
_KINDS = {dict: "an object", list: "a list", type(None): "nothing"}
_LARGEST = 2**63 - 1

Words = TypeVar("Words", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Field:
    """``value`` stands at ``path`` of the document; None is absent."""

    path: str
    value: Any

    def get(self, *keys: str) -> Field:
        """The entry under the first of the keys that is there and not null; absent where there is none."""
        entries = self.object()
        key = next((key for key in keys if entries.get(key) is not None), keys[0])
        return Field(f"{self.path}.{key}" if self.path else key, entries.get(key))

    def entries(self) -> Iterator[tuple[str, Field]]:
        """The entries of an object; none of an absent one."""
        for key, value in self.object().items():
            shown = key if len(key) <= _SHOWN else key[: _SHOWN - 1] + "…"
            yield key, Field(f"{self.path}.{shown}" if self.path else shown, value)

    def object(self) -> Mapping[str, Any]:
        """An object as it is; empty where it is absent."""
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return self.value

    def items(self) -> Iterator[Field]:
        """The items of a list; none of an absent one."""
        if self.value is None:
            return
        if not isinstance(self.value, list | tuple):
            raise self.wrong("a list")
        for number, value in enumerate(self.value):
            yield Field(f"{self.path}[{number}]", value)

    def text(self) -> str | None:
        """A text, or None where it is absent."""
        if self.value is None or isinstance(self.value, str):
            return self.value
        raise self.wrong("a text")

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(item.required() for item in self.items())

    def required(self) -> str:
        """A text that has to be there."""
        if isinstance(self.value, str):
            return self.value
        raise self.wrong("a text")

    def number(self, low: float = 0) -> float | None:
        """A number of at least ``low``, or None where it is absent."""
        value = self.value
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= _LARGEST:
            raise self.wrong(f"a number, {low:g} or more")
        return value

    def whole(self, low: int = 0) -> int | None:
        """A whole number of at least ``low``, perhaps written as a float; None where it is absent."""
        value = self.number(low)
        return None if value is None else math.floor(value)

    def word(self, words: type[Words]) -> Words | None:
        """One of the words of an enumeration, in any case; None where it is absent."""
        if self.value is None:
            return None
        known = {word.value.upper(): word for word in words}
        found = known.get(self.value.upper()) if isinstance(self.value, str) else None
        if found is None:
            raise self.wrong("one of " + ", ".join(words))
        return found

    def wrong(self, expected: str, *, hint: str | None = None, code: str | None = None) -> DeploymentError:
        """The error that names the path, the value and what was expected."""
        return DeploymentError(f"{self.path} is {_shown(self.value)}: expected {expected}", hint=hint, code=code)


def deeper_than(value: Any, depth: int) -> bool:
    """Whether plain data nests deeper; nothing here recurses."""
    level = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def whole(value: Any) -> Any:
    """Plain data with whole floats as the whole numbers that they were before a cloud wrote them."""
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _shown(value: Any) -> str:
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
