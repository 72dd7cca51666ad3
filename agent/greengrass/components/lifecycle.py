"""A component's life as a table: state × event → rule.

*Goals.*  What a component is to reach is a list of states (``states.START``, ``RESTART``, …).  ``MOVES`` says how a
resting state goes on towards the nearest goal; a goal that is reached is dropped, and an empty list means settled.

*Effects* are performed by the shell strictly in order.  ``Perform`` only starts a step and its end comes back as an
event; ``Kill`` is awaited, so that a step which follows it never meets a process of its predecessor.

*Tickets.*  Every ``Perform`` and ``Kill`` has a number and so have the events they cause; an event of anything but the
latest is stale and changes nothing.

*Errors* are counted by the state they happened in.  The count of a state is forgotten when the state is left without an
error or when ``error_reset_s`` passed since the last one; the third one breaks the component.  Recover runs after every
other one, and then the component tries again at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from agent.greengrass.components.states import RESTART, UNRECOVERABLE, Goals, Problem, State, StatusCode
from agent.greengrass.recipes.lifecycle import StepName

__all__ = [
    "MOVES",
    "TABLE",
    "Became",
    "Effect",
    "Effects",
    "Errors",
    "Event",
    "EventKind",
    "Kill",
    "Machine",
    "Move",
    "Perform",
    "Rule",
    "edges",
    "mermaid",
    "step",
]

_QUICK_ERRORS = 3


class EventKind(StrEnum):
    """What can happen to a component."""

    GOALS = "goals"
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

    kind: EventKind
    ticket: int | None = None
    goals: Goals = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Perform:
    """Start a step; its end comes back as an event with the ticket."""

    step: StepName
    ticket: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End every process of the component and wait until they are gone; ``CLEARED`` is the event."""

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


class Move(StrEnum):
    """How a state goes on towards a goal, other than by entering a state."""

    REACHED = "the goal is reached, or out of reach: drop it"
    WAIT = "an event will come"
    INSTALL = "run Install, unless it runs"
    ABANDON = "end Install if it runs, and drop the goal"
    START = "enter STARTING when the HARD dependencies are ready, else wait"


_Moves = tuple[State | Move, State | Move, State | Move, State | Move]
_WAYS: Final[Mapping[State, _Moves]] = {
    # goal            NEW             INSTALLED        RUNNING          FINISHED
    State.NEW: (Move.ABANDON, Move.INSTALL, Move.INSTALL, Move.ABANDON),
    State.INSTALLED: (State.NEW, Move.REACHED, Move.START, State.FINISHED),
    State.STARTING: (State.STOPPING, State.STOPPING, Move.WAIT, State.STOPPING),
    State.RUNNING: (State.STOPPING, State.STOPPING, Move.REACHED, State.STOPPING),
    State.STOPPING: (Move.WAIT, Move.WAIT, Move.WAIT, Move.WAIT),
    State.ERRORED: (Move.WAIT, Move.WAIT, Move.WAIT, Move.WAIT),
    State.BROKEN: (State.NEW, Move.REACHED, Move.REACHED, Move.REACHED),
    State.FINISHED: (State.NEW, State.INSTALLED, State.INSTALLED, Move.REACHED),
}
MOVES: Final[Mapping[State, Mapping[State, State | Move]]] = {
    state: dict(zip((State.NEW, State.INSTALLED, State.RUNNING, State.FINISHED), moves, strict=True))
    for state, moves in _WAYS.items()
}
"""How each state goes on towards each goal."""
_AFTER_STOP: Final[Mapping[State | None, State]] = {
    State.NEW: State.NEW,
    State.INSTALLED: State.INSTALLED,
    State.RUNNING: State.INSTALLED,
    State.FINISHED: State.FINISHED,
    None: State.FINISHED,
}
"""Where a component goes from STOPPING by its nearest goal."""
_REPORTED: Final = {
    State.NEW: StatusCode.INSTALL_ERROR,
    State.STARTING: StatusCode.STARTUP_ERROR,
    State.RUNNING: StatusCode.RUN_ERROR,
    State.STOPPING: StatusCode.SHUTDOWN_ERROR,
}


def step(machine: Machine, event: Event, now: float) -> tuple[Machine, Effects]:
    """What follows from an event; ``now`` is of a clock that never goes back, in seconds."""
    if event.ticket not in {None, machine.ticket}:
        return machine, ()
    return TABLE[event.kind][machine.state].apply(machine, event, now)


def edges() -> set[tuple[State, State, str]]:
    """Every change of state that there can be, with what causes it: the arrows of the diagram."""
    arrows = {(state, to, kind.value) for kind, row in TABLE.items() for state, rule in row.items() for to in rule.to}
    for state, moves in MOVES.items():
        for goal, move in moves.items():
            to = State.STARTING if move is Move.START else move
            if isinstance(to, State):
                arrows.add((state, to, f"goal {goal}"))
    return arrows


# -- the ways a state is entered ------------------------------------------------------------------------------------


def _enter(machine: Machine, state: State, *, failed: bool = False) -> tuple[Machine, Effects]:
    """Enter a state with what it always brings, then go on towards the goals."""
    errors = {key: value for key, value in machine.errors.items() if failed or key is not machine.state}
    recovering = state is State.STOPPING and machine.state is State.ERRORED
    entered = replace(
        machine,
        state=state,
        errors=errors,
        installing=False,
        origin=machine.origin if failed or recovering else None,
        problem=None if state in {State.RUNNING, State.FINISHED} else machine.problem,
    )
    effects: Effects = (Became(state, entered.problem),)
    if state is State.STARTING:
        entered, more = _perform(entered, StepName.STARTUP)
        effects += more
    elif state is State.STOPPING:
        entered, more = _perform(entered, StepName.SHUTDOWN)
        effects += more
    entered, more = _go_on(entered)
    return entered, effects + more


def _go_on(machine: Machine) -> tuple[Machine, Effects]:
    """Take the next move towards the nearest goal, if there is one to take."""
    if not machine.goals:
        return machine, ()
    move = MOVES[machine.state][machine.goals[0]]
    if isinstance(move, Move):
        return _MOVED[move](machine)
    if machine.state is not State.BROKEN:
        return _enter(machine, move)
    fresh, killed = _kill(replace(machine, errors={}, problem=None))
    return _then(killed, _enter(fresh, move))


def _reach(machine: Machine) -> tuple[Machine, Effects]:
    return _go_on(replace(machine, goals=machine.goals[1:]))


def _abandon(machine: Machine) -> tuple[Machine, Effects]:
    if not machine.installing:
        return _reach(machine)
    ended, killed = _kill(replace(machine, installing=False))
    return _then(killed, _reach(ended))


def _install(machine: Machine) -> tuple[Machine, Effects]:
    return (machine, ()) if machine.installing else _perform(replace(machine, installing=True), StepName.INSTALL)


def _start(machine: Machine) -> tuple[Machine, Effects]:
    return _enter(machine, State.STARTING) if machine.ready else (machine, ())


_MOVED: Final[Mapping[Move, Callable[[Machine], tuple[Machine, Effects]]]] = {
    Move.REACHED: _reach,
    Move.WAIT: lambda machine: (machine, ()),
    Move.INSTALL: _install,
    Move.ABANDON: _abandon,
    Move.START: _start,
}


def _perform(machine: Machine, name: StepName) -> tuple[Machine, Effects]:
    machine = replace(machine, ticket=machine.ticket + 1)
    return machine, (Perform(name, machine.ticket),)


def _kill(machine: Machine) -> tuple[Machine, Effects]:
    machine = replace(machine, ticket=machine.ticket + 1)
    return machine, (Kill(machine.ticket),)


def _then(first: Effects, rest: tuple[Machine, Effects]) -> tuple[Machine, Effects]:
    return rest[0], first + rest[1]


def _fail(machine: Machine, problem: Problem, now: float, *, late: bool = False) -> tuple[Machine, Effects]:
    """ERRORED with Recover, or BROKEN; what a failed Install, Shutdown or late Startup left running is ended first."""
    origin = machine.state
    before = machine.errors.get(origin)
    quick = before.count if before and now - before.last < machine.error_reset_s else 0
    errors = {**machine.errors, origin: Errors(quick + 1, now)}
    broken = origin is not State.STOPPING and (quick + 1 >= _QUICK_ERRORS or problem.code in UNRECOVERABLE)
    goals = machine.goals or ((State.RUNNING,) if origin in {State.STARTING, State.RUNNING} else ())
    failed = replace(machine, errors=errors, problem=problem, origin=origin, goals=() if broken else goals)
    failed, effects = _enter(failed, State.BROKEN if broken else State.ERRORED, failed=True)
    if late or origin in {State.NEW, State.STOPPING}:
        failed, killed = _kill(failed)
        effects += killed
    if not broken:
        failed, more = _perform(failed, StepName.RECOVER)
        effects += more
    elif origin is not State.NEW:
        failed, more = _perform(failed, StepName.SHUTDOWN)
        effects += more
    return failed, effects


# -- the rules of the table -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event does in a state; ``to`` names the states it can enter itself, before the goals lead on."""

    apply: Callable[[Machine, Event, float], tuple[Machine, Effects]]
    to: tuple[State, ...] = ()


def _to(state: State) -> Rule:
    return Rule(lambda machine, _event, _now: _enter(machine, state), (state,))


def _wished(machine: Machine, event: Event, _now: float) -> tuple[Machine, Effects]:
    return _go_on(replace(machine, goals=event.goals))


def _noted(machine: Machine, event: Event, _now: float) -> tuple[Machine, Effects]:
    return _go_on(replace(machine, ready=event.kind is EventKind.READY))


def _restarted(machine: Machine, _event: Event, _now: float) -> tuple[Machine, Effects]:
    return _go_on(replace(machine, ready=False, goals=RESTART))


def _no_run(machine: Machine, _event: Event, _now: float) -> tuple[Machine, Effects]:
    # FINISHED is all the RUNNING that a component with nothing to run can reach.
    return _enter(replace(machine, goals=machine.goals[1:]), State.FINISHED)


def _after_recover(machine: Machine, _event: Event, _now: float) -> tuple[Machine, Effects]:
    if machine.origin is State.NEW:
        return _enter(machine, State.NEW)
    return _after_stop(machine, _event, _now) if machine.origin is State.STOPPING else _enter(machine, State.STOPPING)


def _after_stop(machine: Machine, _event: Event, _now: float) -> tuple[Machine, Effects]:
    return _enter(machine, _AFTER_STOP[machine.goals[0] if machine.goals else None])


def _failed(machine: Machine, event: Event, now: float) -> tuple[Machine, Effects]:
    assert event.problem is not None  # noqa: S101 what fails says why
    return _fail(machine, event.problem, now)


def _startup_late(machine: Machine, event: Event, now: float) -> tuple[Machine, Effects]:
    problem = event.problem or Problem(StatusCode.STARTUP_TIMEOUT, "The component was not RUNNING in time.")
    return _fail(machine, problem, now, late=True)


def _reported(machine: Machine, event: Event, now: float) -> tuple[Machine, Effects]:
    problem = event.problem or Problem(_REPORTED[machine.state], "The component reported ERRORED.")
    return _fail(machine, problem, now)


_STOPPED_AT = (State.NEW, State.INSTALLED, State.FINISHED)
_FAILS = (State.ERRORED, State.BROKEN)
__ = Rule(lambda machine, _event, _now: (machine, ()))
"""Ignored, on purpose."""
_goals = Rule(_wished)
_ready = Rule(_noted)
_restart = Rule(_restarted)
_run = Rule(lambda machine, _event, _now: _perform(machine, StepName.RUN))
_kill_all = Rule(lambda machine, _event, _now: _kill(machine))
_finish = Rule(_no_run, (State.FINISHED,))
_stopped = Rule(_after_stop, _STOPPED_AT)
_recover = Rule(_after_recover, (State.STOPPING, *_STOPPED_AT))
_error = Rule(_failed, _FAILS)
_error_s = Rule(_failed, (State.ERRORED,))
_late = Rule(_startup_late, _FAILS)
_report = Rule(_reported, _FAILS)
_report_s = Rule(_reported, (State.ERRORED,))
_installed = _to(State.INSTALLED)
_running = _to(State.RUNNING)
_stopping = _to(State.STOPPING)


# fmt: off
_ROWS: Final = {
    #                            NEW         INSTALLED  STARTING   RUNNING    STOPPING   ERRORED    BROKEN     FINISHED
    EventKind.GOALS:            (_goals,     _goals,    _goals,    _goals,    _goals,    _goals,    _goals,    _goals),
    EventKind.READY:            (_ready,     _ready,    _ready,    _ready,    _ready,    _ready,    _ready,    _ready),
    EventKind.UNREADY:          (_ready,     _ready,    _restart,  _restart,  _ready,    _ready,    _ready,    _ready),
    EventKind.INSTALL_OK:       (_installed, __,        __,        __,        __,        __,        __,        __),
    EventKind.STARTUP_OK:       (__,         __,        _running,  __,        __,        __,        __,        __),
    EventKind.STARTUP_NOTHING:  (__,         __,        _run,      __,        __,        __,        __,        __),
    EventKind.STARTUP_LATE:     (__,         __,        _late,     __,        __,        __,        __,        __),
    EventKind.RUN_SPAWNED:      (__,         __,        _running,  __,        __,        __,        __,        __),
    EventKind.RUN_OK:           (__,         __,        __,        _stopping, __,        __,        __,        __),
    EventKind.RUN_NOTHING:      (__,         __,        _finish,   __,        __,        __,        __,        __),
    EventKind.SHUTDOWN_OK:      (__,         __,        __,        __,        _kill_all, __,        _kill_all, __),
    EventKind.CLEARED:          (__,         __,        __,        __,        _stopped,  __,        __,        __),
    EventKind.RECOVERED:        (__,         __,        __,        __,        __,        _recover,  __,        __),
    EventKind.FAILED:           (_error,     __,        _error,    _error,    _error_s,  __,        _kill_all, __),
    EventKind.REPORTED_RUNNING: (__,         __,        _running,  __,        __,        __,        __,        __),
    EventKind.REPORTED_ERRORED: (_report,    __,        _report,   _report,   _report_s, __,        __,        __),
}
# fmt: on

TABLE: Final[Mapping[EventKind, Mapping[State, Rule]]] = {
    kind: dict(zip(State, row, strict=True)) for kind, row in _ROWS.items()
}
"""What every event does in every state."""


def mermaid() -> str:
    """A state diagram of every change that the table and the goals allow."""
    causes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for state, to, cause in sorted(edges()):
        causes[state, to].append(cause)
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    lines += [f"    {state} --> {to}: {', '.join(events)}" for (state, to), events in causes.items()]
    return "\n".join(lines) + "\n"
