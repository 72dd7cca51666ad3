"""A file's values with those of environment variables over them.

``VERGE_TRANSPORTS__LOCAL__HOST`` stands for ``transports.local.host``; its value is TOML if it can be, text otherwise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeAlias

from agent.config.strict import Origin
from agent.errors import ConfigError

__all__ = ["Overlay", "overlaid"]

_PREFIX = "VERGE_"

Check: TypeAlias = Callable[[Mapping[str, Any], Origin], Iterable[ConfigError]]
"""What is wrong with values, each error with its path."""


class Overlay:
    """The values of ``file`` with those of variables over them; ``texts`` are paths whose variable is taken as text."""

    def __init__(
        self, parsed: Mapping[str, Any], file: str, environment: Mapping[str, str], texts: frozenset[str] = frozenset()
    ) -> None:
        self._parsed, self._file, self._environment, self._texts = parsed, file, environment, texts
        self._variables = {
            key.removeprefix(_PREFIX).lower().replace("__", "."): key
            for key in sorted(environment)
            if key.startswith(_PREFIX)
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """What variables set."""
        return tuple(self._variables)

    @property
    def values(self) -> dict[str, Any]:
        """The values of both."""
        made = dict(self._parsed)
        for path, variable in self._variables.items():
            *steps, last = path.split(".")
            table = made
            for step in steps:
                inner = table.get(step)
                table[step] = dict(inner) if isinstance(inner, Mapping) else {}
                table = table[step]
            text = self._environment[variable]
            table[last] = text if path in self._texts else _value(text)
        return made

    def with_text(self, path: str) -> Self:
        """The same with the variable at ``path`` taken as the text that it is."""
        return type(self)(self._parsed, self._file, self._environment, self._texts | {path})

    def origin(self, path: str) -> str:
        """The name of the variable that the value at a path comes from, or of the file."""
        setting = self.setting(path)
        return self._file if setting is None else self._variables[setting]

    def setting(self, path: str) -> str | None:
        """The path set by a variable that a path lies in; a table that only variables made is theirs too."""
        for place in self._variables:
            if path == place or path.startswith((f"{place}.", f"{place}[")):
                return place
            if place.startswith(f"{path}.") and not _holds(self._parsed, path):
                return place
        return None


def overlaid(parsed: Mapping[str, Any], file: str, environment: Mapping[str, str], check: Check) -> Overlay:
    """The values with each variable read as TOML, or as text where only that is right.

    A password of digits and a name like a date are TOML by chance.
    """

    def wrong(overlay: Overlay, path: str) -> bool:
        return any(overlay.setting(error.path) == path for error in check(overlay.values, overlay.origin))

    overlay = Overlay(parsed, file, environment)
    for path in overlay.paths:
        if wrong(overlay, path) and not wrong(other := overlay.with_text(path), path):
            overlay = other
    return overlay


def _holds(parsed: Any, path: str) -> bool:
    for step in path.split("."):
        if not isinstance(parsed, Mapping) or step not in parsed:
            return False
        parsed = parsed[step]
    return True


def _value(text: str) -> Any:
    """A value from the environment: TOML if it is, text otherwise."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
