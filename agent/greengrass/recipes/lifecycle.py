"""What a component runs: from a recipe's lifecycle sections to steps with their defaults.

``select`` chooses the section for a manifest (its own, or the global one filtered by its selections); variables are
put in after that (``variables``), and ``parse`` reads the result.  Keys of steps match in any case; scalars may be
texts (``"true"``, ``"900"``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agent.greengrass.recipes.document import Place, shown
from agent.greengrass.recipes.errors import LifecycleError
from agent.greengrass.recipes.recipe import Manifest, Recipe

__all__ = [
    "CODES",
    "DEFAULT_TIMEOUT_S",
    "ERROR_RESET",
    "ON_ROLLBACK",
    "SETENV",
    "STEP_KEYS",
    "Condition",
    "Lifecycle",
    "LifecycleStep",
    "Skip",
    "StepName",
    "parse",
    "select",
]


class StepName(StrEnum):
    """The steps of a component's life."""

    BOOTSTRAP = "Bootstrap"
    INSTALL = "Install"
    STARTUP = "Startup"
    RUN = "Run"
    SHUTDOWN = "Shutdown"
    RECOVER = "Recover"
    UNINSTALL = "Uninstall"


DEFAULT_TIMEOUT_S: Final[Mapping[StepName, float | None]] = {
    StepName.BOOTSTRAP: 120.0,
    StepName.INSTALL: 120.0,
    StepName.STARTUP: 120.0,
    StepName.RUN: None,
    StepName.SHUTDOWN: 15.0,
    StepName.RECOVER: 60.0,
    StepName.UNINSTALL: 120.0,
}

CODES: Final[Mapping[StepName, str]] = {
    StepName.BOOTSTRAP: "COMPONENT_BOOTSTRAP_ERROR",
    StepName.INSTALL: "INSTALL_CONFIG_NOT_VALID",
    StepName.STARTUP: "STARTUP_CONFIG_NOT_VALID",
    StepName.RUN: "RUN_CONFIG_NOT_VALID",
    StepName.SHUTDOWN: "SHUTDOWN_ERROR",
    StepName.RECOVER: "RUN_CONFIG_NOT_VALID",
    StepName.UNINSTALL: "UNINSTALL_ERROR",
}
"""The component status code of a step that cannot be read; only three steps have a ``…_CONFIG_NOT_VALID``."""

STEP_KEYS: Final = ("Script", "Setenv", "RequiresPrivilege", "Skipif", "Timeout")
ON_ROLLBACK: Final = "BootstrapOnRollback"
"""A key of Bootstrap alone."""
SETENV: Final = "Setenv"
ERROR_RESET: Final = "errorResetTime"

_ERROR_RESET_S = 3600.0
_ALL = "all"
_SKIP = re.compile(r"(!?)\s*(onpath|exists)\s+(\S.*)")
_SWITCH = dict.fromkeys(("true", "yes", "on", "t", "y", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "f", "n", "0", ""), False
)
_STEPS = {name.lower(): name for name in StepName}


class Condition(StrEnum):
    """What a step's ``Skipif`` asks of the machine."""

    ON_PATH = "onpath"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Skip:
    """The step counts as nothing to do when the condition holds, or with ``unless`` when it does not."""

    condition: Condition
    argument: str
    unless: bool = False


@dataclass(frozen=True, slots=True)
class LifecycleStep:
    """A script for the shell and how it is run; no ``timeout_s`` is no limit."""

    script: str
    setenv: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = False
    skip_if: Skip | None = None
    timeout_s: float | None = None
    on_rollback: bool = False
    """Of Bootstrap: it is run too when a deployment that replaced this version is rolled back."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The steps that there are, the environment of all of them, and after how long errors are forgotten."""

    steps: Mapping[StepName, LifecycleStep] = field(default_factory=dict)
    setenv: Mapping[str, str] = field(default_factory=dict)
    error_reset_s: float = _ERROR_RESET_S


def select(recipe: Recipe, manifest: Manifest) -> Mapping[str, Any]:
    """The lifecycle of a manifest: its own as it is, else what its selections leave of the global one."""
    if manifest.lifecycle:
        return manifest.lifecycle
    selections = manifest.selections or (_ALL,)
    keywords = {keyword for manifest in recipe.manifests for keyword in manifest.selections} | {_ALL}
    chosen = _filtered(recipe.lifecycle, selections, keywords)
    return chosen if isinstance(chosen, dict) else {}


def parse(lifecycle: Mapping[str, Any], source: str = "the recipe", path: str = "Lifecycle") -> Lifecycle:
    """Read a chosen lifecycle; ``source`` and ``path`` are named in the error.  Raises ``LifecycleError``."""
    steps: dict[StepName, LifecycleStep] = {}
    setenv: Mapping[str, str] = {}
    error_reset_s = _ERROR_RESET_S
    for key, value in lifecycle.items():
        place = Place(source, f"{path}.{key}", value)
        if (name := _STEPS.get(key.lower())) and (step := _step(place, name)):
            steps[name] = step
        elif key.lower() == SETENV.lower():
            setenv = _setenv(place, CODES[StepName.RUN])
        elif key.lower() == ERROR_RESET.lower() and value is not None:
            error_reset_s = _seconds(place, CODES[StepName.RUN])
    return Lifecycle(steps, setenv, error_reset_s)


def _filtered(section: Any, selections: tuple[str, ...], keywords: set[str]) -> Any:
    """What the selections leave of a section; None when nothing is left."""
    if not isinstance(section, Mapping):
        return section
    if not keywords.isdisjoint(section):
        present = (section[name] for name in (*selections, _ALL) if section.get(name) is not None)
        return _filtered(next(present, None), selections, keywords)
    entries = ((key, _filtered(value, selections, keywords)) for key, value in section.items())
    return {key: value for key, value in entries if value is not None}


def _step(place: Place, name: StepName) -> LifecycleStep | None:
    """A step in either form; an empty one is none."""
    code = CODES[name]
    if not isinstance(place.value, Mapping):
        script = _scalar(place, "a script, or a mapping with one", code)
        return LifecycleStep(script, timeout_s=DEFAULT_TIMEOUT_S[name]) if script else None
    fields = {key.lower(): place.at(key, value) for key, value in place.value.items() if value is not None}
    script = _scalar(fields["script"], "a script", code) if "script" in fields else ""
    if not script:
        raise _wrong(fields.get("script", place.at("Script", None)), "a script", code)
    return LifecycleStep(
        script=script,
        setenv=_setenv(fields["setenv"], code) if "setenv" in fields else {},
        privileged=_switch(fields["requiresprivilege"], code) if "requiresprivilege" in fields else False,
        skip_if=_skip(fields["skipif"], code) if "skipif" in fields else None,
        timeout_s=_seconds(fields["timeout"], code) if "timeout" in fields else DEFAULT_TIMEOUT_S[name],
        on_rollback=_switch(fields[ON_ROLLBACK.lower()], code) if ON_ROLLBACK.lower() in fields else False,
    )


def _setenv(place: Place, code: str) -> dict[str, str]:
    if place.value is None:
        return {}
    if not isinstance(place.value, Mapping):
        raise _wrong(place, "a mapping of names to texts", code)
    return {key: _scalar(place.at(key, value), "a text", code) for key, value in place.value.items()}


def _scalar(place: Place, expected: str, code: str) -> str:
    """A scalar as the text that the shell will see."""
    match place.value:
        case None:
            return ""
        case bool():
            return "true" if place.value else "false"
        case str() | int() | float():
            return str(place.value)
        case _:
            raise _wrong(place, expected, code)


def _switch(place: Place, code: str) -> bool:
    switched = _SWITCH.get(_scalar(place, "true or false", code).strip().lower())
    if switched is None:
        raise _wrong(place, "true or false", code)
    return switched


def _skip(place: Place, code: str) -> Skip | None:
    text = _scalar(place, "a text", code).strip()
    if not text:
        return None
    match = _SKIP.fullmatch(text)
    if not match:
        raise _wrong(place, "onpath PROGRAM or exists FILE, with ! before it for the opposite", code)
    return Skip(Condition(match.group(2)), match.group(3), unless=bool(match.group(1)))


def _seconds(place: Place, code: str) -> float:
    try:
        seconds = float(_scalar(place, "a number of seconds", code))
    except ValueError as error:
        raise _wrong(place, "a number of seconds", code) from error
    if not math.isfinite(seconds) or seconds < 0:
        raise _wrong(place, "a number of seconds, 0 or more", code)
    return seconds


def _wrong(place: Place, expected: str, code: str) -> LifecycleError:
    where = f"{place.source}: {place.path}"
    return LifecycleError(f"{where} is {shown(place.value)}: expected {expected}", path=place.path, code=code)
