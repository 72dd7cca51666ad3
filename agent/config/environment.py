"""A file's values with those of the environment put over them.

``VERGE_TRANSPORTS__LOCAL__HOST`` stands for ``transports.local.host``; its value is TOML if it can be, text otherwise.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from agent.errors import ConfigError

__all__ = ["overridden"]

Checked = TypeVar("Checked")

_PREFIX = "VERGE_"


def overridden(
    parsed: Mapping[str, Any],
    name: str,
    environment: Mapping[str, str],
    check: Callable[[Mapping[str, Any], str], Checked],
) -> Checked:
    """What ``check`` makes of the values; raises its ``ConfigError``, and one about a variable names the variable."""
    variables = {
        key.removeprefix(_PREFIX).lower().replace("__", "."): key
        for key in sorted(environment)
        if key.startswith(_PREFIX)
    }
    values = {place: _value(environment[key]) for place, key in variables.items()}
    refused: dict[str, ConfigError] = {}
    while True:
        try:
            return check(_with(parsed, values), name)
        except ConfigError as error:
            place = _at_fault(error.message, name, variables, parsed)
            if place is None:
                raise
            if place in refused or values[place] == environment[variables[place]]:
                told = refused.get(place, error)
                message = told.message.replace(f" in {name}", f" in {variables[place]}", 1)
                raise ConfigError(message, code=told.code, hint=told.hint) from error
            # It is TOML by chance: a password of digits, a name like a date.
            refused[place], values[place] = error, environment[variables[place]]


def _with(parsed: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values with others at places like ``transports.local.host``."""
    made = dict(parsed)
    for place, value in values.items():
        *steps, last = place.split(".")
        table = made
        for step in steps:
            inner = table.get(step)
            table[step] = dict(inner) if isinstance(inner, Mapping) else {}
            table = table[step]
        table[last] = value
    return made


def _at_fault(message: str, name: str, places: Iterable[str], parsed: Mapping[str, Any]) -> str | None:
    """Which of the places that a variable set an error is about; a table that only variables made is theirs too."""
    found = re.match(rf"(?:unknown key )?(\S+) in {re.escape(name)}(?::|$)", message)
    if found is None:
        return None
    wrong = found[1]
    for place in places:
        if wrong == place or wrong.startswith((f"{place}.", f"{place}[")):
            return place
        if place.startswith(f"{wrong}.") and not _holds(parsed, wrong):
            return place
    return None


def _holds(parsed: Any, place: str) -> bool:
    for step in place.split("."):
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
