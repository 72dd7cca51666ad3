"""What a component is to be, and what follows for a running one when that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from agent.greengrass.components.states import State
from agent.greengrass.recipes.lifecycle import Lifecycle, StepName
from agent.users import RunAs

__all__ = ["Change", "ComponentSpec", "Limits", "RunAs", "change"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a component may use: ``memory_kb`` kibibytes, ``cpus`` processors (0.5 is half of one); None is no limit."""

    memory_kb: int | None = None
    cpus: float | None = None


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A component as it is to run.

    ``hard`` and ``soft`` name the components it depends on.  ``work`` is its working folder.  Files below ``owned``
    are given to the run user.  ``env`` lies between what the agent provides and the lifecycle's own variables.
    ``privileged`` lets steps that require privilege run as root; without it they run as everything else does.
    ``run_as`` None is the supervisor's default.
    """

    name: str
    version: str
    lifecycle: Lifecycle
    work: Path
    hard: frozenset[str] = frozenset()
    soft: frozenset[str] = frozenset()
    run_as: RunAs | None = None
    limits: Limits = Limits()
    owned: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = True
    shell: str = ""
    """What runs the scripts; empty is the supervisor's own."""


class Change(IntEnum):
    """How far a change reaches, the furthest last."""

    NOTHING = 0
    LIMITS = 1
    RESTART = 2
    REINSTALL = 3


def change(old: ComponentSpec, new: ComponentSpec, state: State) -> Change:
    """What a component in ``state`` needs so that it is what ``new`` says."""
    if state is State.BROKEN:
        return Change.REINSTALL
    return max(change for differs, change in _differences(old, new) if differs)


def _differences(old: ComponentSpec, new: ComponentSpec) -> list[tuple[bool, Change]]:
    before, after = dict(old.lifecycle.steps), dict(new.lifecycle.steps)
    install = before.pop(StepName.INSTALL, None) != after.pop(StepName.INSTALL, None)
    # Shutdown is read when it is needed; the others that do not run now are Greengrass's own rule.
    before.pop(StepName.SHUTDOWN, None)
    after.pop(StepName.SHUTDOWN, None)
    return [
        (True, Change.NOTHING),
        (old.limits != new.limits, Change.LIMITS),
        (before != after or old.lifecycle.setenv != new.lifecycle.setenv, Change.RESTART),
        (old.env != new.env or bool((new.hard | new.soft) - (old.hard | old.soft)), Change.RESTART),
        ((old.work, old.owned, old.privileged) != (new.work, new.owned, new.privileged), Change.REINSTALL),
        (install or old.version != new.version or old.run_as != new.run_as, Change.REINSTALL),
        (old.shell != new.shell, Change.REINSTALL),
    ]
