"""The words of a component's life: its states, what can be wished of it, what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "MISSING_USER",
    "REINSTALL",
    "RESTART",
    "START",
    "STOP",
    "UNRECOVERABLE",
    "ComponentStatus",
    "Goals",
    "Problem",
    "State",
    "StatusCode",
]


class State(StrEnum):
    """Where a component is in its life, in the words of Greengrass."""

    NEW = "NEW"
    INSTALLED = "INSTALLED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    ERRORED = "ERRORED"
    BROKEN = "BROKEN"
    FINISHED = "FINISHED"


Goals = tuple[State, ...]
"""The states that are wished for, the nearest first; empty when nothing is left to do."""

START: Final[Goals] = (State.RUNNING,)
RESTART: Final[Goals] = (State.INSTALLED, State.RUNNING)
REINSTALL: Final[Goals] = (State.NEW, State.RUNNING)
STOP: Final[Goals] = (State.FINISHED,)


class StatusCode(StrEnum):
    """What went wrong, in the words of the fleet status message."""

    NONE = "NONE"
    INSTALL_ERROR = "INSTALL_ERROR"
    INSTALL_CONFIG_NOT_VALID = "INSTALL_CONFIG_NOT_VALID"
    INSTALL_IO_ERROR = "INSTALL_IO_ERROR"
    INSTALL_MISSING_DEFAULT_RUNWITH = "INSTALL_MISSING_DEFAULT_RUNWITH"
    INSTALL_TIMEOUT = "INSTALL_TIMEOUT"
    STARTUP_ERROR = "STARTUP_ERROR"
    STARTUP_CONFIG_NOT_VALID = "STARTUP_CONFIG_NOT_VALID"
    STARTUP_IO_ERROR = "STARTUP_IO_ERROR"
    STARTUP_MISSING_DEFAULT_RUNWITH = "STARTUP_MISSING_DEFAULT_RUNWITH"
    STARTUP_TIMEOUT = "STARTUP_TIMEOUT"
    RUN_ERROR = "RUN_ERROR"
    RUN_MISSING_DEFAULT_RUNWITH = "RUN_MISSING_DEFAULT_RUNWITH"
    RUN_CONFIG_NOT_VALID = "RUN_CONFIG_NOT_VALID"
    RUN_IO_ERROR = "RUN_IO_ERROR"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    SHUTDOWN_ERROR = "SHUTDOWN_ERROR"
    SHUTDOWN_TIMEOUT = "SHUTDOWN_TIMEOUT"
    UNINSTALL_TIMEOUT = "UNINSTALL_TIMEOUT"
    UNINSTALL_ERROR = "UNINSTALL_ERROR"


MISSING_USER: Final = frozenset(code for code in StatusCode if code.endswith("_MISSING_DEFAULT_RUNWITH"))
"""There is nobody to run a script as: no user is named, or none of that name exists."""
UNRECOVERABLE: Final = MISSING_USER | {code for code in StatusCode if code.endswith("_CONFIG_NOT_VALID")}
"""What trying again cannot mend: such an error breaks a component the first time."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong: a code for programs and a sentence for a person."""

    code: StatusCode
    reason: str


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """A component at a glance; ``since`` is the Unix time of the last change, ``note`` what is not possible here."""

    name: str
    version: str
    state: State
    problem: Problem | None = None
    since: float = 0.0
    errors: int = 0
    settled: bool = False
    note: str = ""
    removed: bool = False
