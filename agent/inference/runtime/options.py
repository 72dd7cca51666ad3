"""A task's options, read strictly: each key has one type and one range, and no key goes unread.

A reader asks for the keys it knows, one call each, and says ``done()`` when it has asked for all of
them.  What is then left over is a mistake of the manifest's author, answered with the nearest key that
is known; an option that another decoder would understand is thereby refused too, instead of ignored.
"""

from __future__ import annotations

import difflib
from typing import Any, Callable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple, TypeVar, Union, overload

from agent.inference.runtime.errors import ModelError

__all__ = ["Options"]

Item = TypeVar("Item")

_MAX_SIZE = 512
_LARGEST = 1e300  # comparing refuses NaN, infinity and whole numbers that no float can hold


class Options:
    """A table of options under the dotted name ``where``; wrong types and ranges raise ``ModelError``."""

    def __init__(self, given: Mapping[str, Any], where: str = "options") -> None:
        self.where = where
        self._given = given
        self._tables: List[Options] = []
        self._asked: List[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._given

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def flag(self, key: str) -> Optional[bool]:
        """True or false; None where the manifest leaves it open."""
        value = self._take(key)
        if value is None or isinstance(value, bool):
            return value
        self._wrong(key, "true or false")

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self._take(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self._wrong(key, f"a whole number from {low} to {high}")

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number in [low, high]."""
        value = self._take(key, default)
        if _is_number(value) and low <= value <= high:
            return float(value)
        self._wrong(key, f"a number from {low:g} to {high:g}")

    @overload
    def numbers(
        self, key: str, default: Sequence[float], low: float, length: Optional[int] = None
    ) -> Tuple[float, ...]: ...

    @overload
    def numbers(
        self, key: str, default: None, low: float, length: Optional[int] = None
    ) -> Optional[Tuple[float, ...]]: ...

    def numbers(
        self, key: str, default: Optional[Sequence[float]], low: float, length: Optional[int] = None
    ) -> Optional[Tuple[float, ...]]:
        """Numbers above ``low``, as many as ``length`` says (any count from 1 on for None)."""
        values = self._take(key, default)
        if values is None:
            return None
        if (
            isinstance(values, (list, tuple))
            and (len(values) == length if length else values)
            and all(_is_number(value) and value > low for value in values)
        ):
            return tuple(float(value) for value in values)
        self._wrong(key, f"a list of {length or 'one or more'} numbers above {low:g}")

    def sizes(self, key: str, default: Sequence[Any]) -> Tuple[Tuple[int, int], ...]:
        """Sizes as (height, width), each given as one whole number or as a pair."""
        values = self._take(key, default)
        if isinstance(values, (list, tuple)) and values:
            pairs = [value if isinstance(value, (list, tuple)) else (value, value) for value in values]
            if all(len(pair) == 2 and all(_is_size(side) for side in pair) for pair in pairs):  # noqa: PLR2004 - a pair
                return tuple((pair[0], pair[1]) for pair in pairs)
        self._wrong(key, f"a list of sizes from 1 to {_MAX_SIZE}, or of [height, width] pairs")

    def choice(self, key: str, default: str, among: Sequence[str]) -> str:
        """One of the words of ``among``."""
        value = self._take(key, default)
        if isinstance(value, str) and value in among:
            return value
        self._wrong(key, "one of " + ", ".join(among))

    def items(
        self, key: str, read: Callable[[Any], Optional[Item]], wanted: str, most: int
    ) -> Optional[Tuple[Item, ...]]:
        """One to ``most`` things, each as ``read`` makes of it, None where it is none; None where there is no key."""
        value = self._take(key)
        if key not in self:
            return None
        listed = value if isinstance(value, (list, tuple)) else [value]
        items = [item for item in map(read, listed) if item is not None]
        if len(items) == len(listed) and 1 <= len(items) <= most:
            return tuple(items)
        self._wrong(key, f"{wanted}, at most {most}")

    def words(self, key: str, default: Sequence[str]) -> Tuple[str, ...]:
        """A list of texts."""
        values = self._take(key, default)
        if isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values):
            return tuple(values)
        self._wrong(key, "a list of texts")

    def tensor(self, key: str) -> Union[int, str, None]:
        """An output's index or name; None where the manifest leaves it open."""
        value = self._take(key)
        if value is None or isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        self._wrong(key, "the index or the name of an output")

    def table(self, key: str) -> Options:
        """The options below ``key``; an empty table where there are none."""
        value = self._take(key, {})
        if not isinstance(value, Mapping):
            self._wrong(key, "a table")
        table = Options(value, f"{self.where}.{key}")
        self._tables.append(table)
        return table

    def done(self) -> None:
        """Everything known has been asked for; raises ``ModelError`` for the first key that is left."""
        for table in self._tables:
            table.done()
        for key in self._given:
            if key not in self._asked:
                self._unknown(str(key))

    def _take(self, key: str, default: Any = None) -> Any:
        if key not in self._asked:
            self._asked.append(key)
        return self._given.get(key, default)

    def _unknown(self, key: str) -> NoReturn:
        near = difflib.get_close_matches(key, self._asked, n=1, cutoff=0.6)
        guess = f"did you mean {self.where}.{near[0]}? " if near else ""
        known = ", ".join(self._asked) or "none"
        raise ModelError("options-wrong", f"unknown key {self.where}.{key}", hint=f"{guess}known here: {known}")

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        value = repr(self._given.get(key))
        shown = value if len(value) <= 80 else value[:79] + "…"  # noqa: PLR2004 - a line of a terminal
        raise ModelError("options-wrong", f"{self.where}.{key} is {shown}", hint=f"give {wanted}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SIZE
