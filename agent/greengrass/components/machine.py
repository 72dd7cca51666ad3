"""The values of a component's life: what happens to it, what is done about it, where it stands.

*Tickets.*  Every ``Perform`` and ``Kill`` has a number and so have the events they cause; an event of anything but the
latest is stale and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.greengrass.components.states import Goals, Problem, State
from agent.greengrass.recipes.lifecycle import StepName

__all__ = ["Became", "Effect", "Effects", "Errors", "Event", "Kill", "Kind", "Machine", "Perform"]


class Kind(StrEnum):
    """What can happen to a component."""

    WISH = "wish"
    READY = "HARD dependencies ready"
    UNREADY = "HARD dependency lost"
    INSTALL_OK = "Install done"
    STARTUP_OK = "Startup done"
    STARTUP_NOTHING = "no Startup"
    STARTUP_LATE = "not RUNNING in time"
    RUN_SPAWNED = "Run spawned"
    RUN_OK = "Run exited 0"
    RUN_NOTHING = "no Run"
    SHUTDOWN_OK = "Shutdown done"
    CLEARED = "every process gone"
    RECOVERED = "Recover done"
    FAILED = "step failed"
    REPORTED_RUNNING = "reported RUNNING"
    REPORTED_ERRORED = "reported ERRORED"


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened; ``ticket`` is the effect's that caused it, None for what comes from outside."""

    kind: Kind
    ticket: int | None = None
    goals: Goals = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Perform:
    """Start a step; its end is told by an event with the ticket."""

    step: StepName
    ticket: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End every process of the component and wait until they are gone, then tell ``CLEARED``."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Became:
    """The state changed; ``problem`` is the error it goes with."""

    state: State
    problem: Problem | None


Effect = Perform | Kill | Became
Effects = tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Errors:
    """How many errors came quickly one after the other, and when the last was."""

    count: int
    last: float


@dataclass(frozen=True, slots=True)
class Machine:
    """One component: ``origin`` is the state that the error it recovers from happened in, ``step`` what runs in NEW."""

    state: State = State.NEW
    goals: Goals = ()
    ready: bool = True
    problem: Problem | None = None
    origin: State | None = None
    installing: bool = False
    ticket: int = 0
    errors: Mapping[State, Errors] = field(default_factory=dict)
    error_reset_s: float = 3600.0

    @property
    def satisfies(self) -> bool:
        """Whether what depends on this component may run: a component that stops because of an error does not."""
        return self.state in {State.RUNNING, State.FINISHED} or (self.state is State.STOPPING and self.origin is None)
