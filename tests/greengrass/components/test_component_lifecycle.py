"""The lifecycle: the table is total, and every row of Greengrass's description holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.components import lifecycle
from agent.greengrass.components.lifecycle import (
    MOVES,
    TABLE,
    Became,
    Event,
    EventKind,
    Kill,
    Machine,
    Perform,
    edges,
    mermaid,
)
from agent.greengrass.components.states import REINSTALL, RESTART, START, STOP, Problem, State, StatusCode
from agent.greengrass.recipes.lifecycle import StepName

ERROR = Problem(StatusCode.RUN_ERROR, "The Run script exited with code 1.")
DONE = {
    StepName.INSTALL: (EventKind.INSTALL_OK,),
    StepName.STARTUP: (EventKind.STARTUP_OK, EventKind.STARTUP_NOTHING),
    StepName.SHUTDOWN: (EventKind.SHUTDOWN_OK,),
    StepName.RECOVER: (EventKind.RECOVERED,),
}


class Life:
    """A machine with its history: events in, what they led to out."""

    def __init__(self, *, ready: bool = True) -> None:
        self.machine = Machine(ready=ready)
        self.now = 0.0
        self.states = [State.NEW]
        self.effects: list[object] = []

    def handle(self, kind: EventKind, **facts) -> Life:
        self.machine, effects = lifecycle.step(self.machine, Event(kind, **facts), self.now)
        self.effects = list(effects)
        self.states += [effect.state for effect in effects if isinstance(effect, Became)]
        return self

    def all(self, *kinds: EventKind) -> Life:
        for kind in kinds:
            self.handle(kind)
        return self

    def pursue(self, goals) -> Life:
        return self.handle(EventKind.GOALS, goals=goals)

    def fail(self, code: StatusCode = StatusCode.RUN_ERROR) -> Life:
        return self.handle(EventKind.FAILED, problem=Problem(code, "It failed."))

    def stop(self) -> Life:
        return self.all(EventKind.SHUTDOWN_OK, EventKind.CLEARED)

    @property
    def state(self) -> State:
        return self.machine.state

    @property
    def doing(self) -> list[object]:
        return [
            each.step if isinstance(each, Perform) else Kill for each in self.effects if not isinstance(each, Became)
        ]


def installed(**facts) -> Life:
    return Life(**facts).pursue(START).handle(EventKind.INSTALL_OK)


def running() -> Life:
    return installed().all(EventKind.STARTUP_NOTHING, EventKind.RUN_SPAWNED)


def test_every_event_has_a_rule_in_every_state_and_every_state_a_move_to_every_goal():
    assert {kind: set(row) for kind, row in TABLE.items()} == {kind: set(State) for kind in EventKind}
    goals = {State.NEW, State.INSTALLED, State.RUNNING, State.FINISHED}
    assert {state: set(moves) for state, moves in MOVES.items()} == dict.fromkeys(State, goals)


def test_the_diagram_draws_every_state_and_every_change():
    drawn = mermaid()
    assert all(f"    {state} --> {to}: " in drawn for state, to, _ in edges())
    assert all(state in drawn for state in State)


# -- the states -----------------------------------------------------------------------------------------------------


def test_a_new_component_runs_install_and_is_installed_when_it_succeeds():
    life = Life().pursue(START)
    assert (life.state, life.doing) == (State.NEW, [StepName.INSTALL])
    life = Life(ready=False).pursue(START).handle(EventKind.INSTALL_OK)
    assert life.state is State.INSTALLED


@pytest.mark.parametrize("code", [StatusCode.INSTALL_ERROR, StatusCode.INSTALL_TIMEOUT])
def test_an_install_that_fails_leads_to_errored_and_after_recover_to_another_install(code):
    life = Life().pursue(START).fail(code)
    assert (life.state, life.doing) == (State.ERRORED, [Kill, StepName.RECOVER])
    assert life.machine.problem.code is code
    assert life.handle(EventKind.RECOVERED).doing == [StepName.INSTALL]
    assert life.state is State.NEW


def test_an_installed_component_waits_for_its_hard_dependencies():
    life = installed(ready=False)
    assert (life.state, life.doing) == (State.INSTALLED, [])
    assert life.handle(EventKind.READY).doing == [StepName.STARTUP]
    assert life.state is State.STARTING


def test_startup_that_exits_0_is_running():
    assert installed().handle(EventKind.STARTUP_OK).state is State.RUNNING


def test_startup_that_reports_running_is_running_and_its_later_exit_0_changes_nothing():
    life = installed().handle(EventKind.REPORTED_RUNNING)
    assert life.state is State.RUNNING
    assert life.handle(EventKind.STARTUP_OK, ticket=life.machine.ticket).state is State.RUNNING


def test_startup_that_reported_running_and_fails_later_is_errored():
    life = installed().handle(EventKind.REPORTED_RUNNING).fail(StatusCode.STARTUP_ERROR)
    assert (life.state, life.machine.problem.code) == (State.ERRORED, StatusCode.STARTUP_ERROR)


def test_what_is_not_running_in_time_is_killed_and_errored_with_startup_timeout():
    life = installed().handle(EventKind.STARTUP_LATE)
    assert (life.state, life.doing) == (State.ERRORED, [Kill, StepName.RECOVER])
    assert life.machine.problem.code is StatusCode.STARTUP_TIMEOUT
    assert running().handle(EventKind.STARTUP_LATE).state is State.RUNNING


def test_run_follows_when_there_is_no_startup_and_is_running_once_spawned():
    life = installed().handle(EventKind.STARTUP_NOTHING)
    assert (life.state, life.doing) == (State.STARTING, [StepName.RUN])
    assert life.handle(EventKind.RUN_SPAWNED).state is State.RUNNING
    assert life.machine.goals == ()


def test_nothing_to_run_is_finished():
    life = installed().all(EventKind.STARTUP_NOTHING, EventKind.RUN_NOTHING)
    assert (life.state, life.machine.goals) == (State.FINISHED, ())


def test_run_that_exits_0_is_shut_down_and_finished():
    life = running().handle(EventKind.RUN_OK)
    assert (life.state, life.doing) == (State.STOPPING, [StepName.SHUTDOWN])
    assert life.handle(EventKind.SHUTDOWN_OK).doing == [Kill]
    assert life.handle(EventKind.CLEARED).state is State.FINISHED


def test_run_that_fails_recovers_stops_and_starts_again_at_once():
    life = running().fail()
    assert (life.state, life.doing) == (State.ERRORED, [StepName.RECOVER])
    life.handle(EventKind.RECOVERED).stop()
    assert life.states[-4:] == [State.ERRORED, State.STOPPING, State.INSTALLED, State.STARTING]


@pytest.mark.parametrize(
    ("goals", "path"),
    [
        (STOP, [State.STOPPING, State.FINISHED]),
        (RESTART, [State.STOPPING, State.INSTALLED, State.STARTING]),
        (REINSTALL, [State.STOPPING, State.NEW]),
    ],
)
def test_a_wish_leads_a_running_component_through_stopping(goals, path):
    life = running().pursue(goals).stop()
    assert life.states[-len(path) :] == path


def test_a_reinstall_runs_install_again():
    assert running().pursue(REINSTALL).stop().doing == [StepName.INSTALL]


def test_a_shutdown_that_fails_still_ends_everything_and_goes_on_to_the_goal():
    life = running().pursue(STOP).fail(StatusCode.SHUTDOWN_TIMEOUT)
    assert (life.state, life.doing) == (State.ERRORED, [Kill, StepName.RECOVER])
    assert life.handle(EventKind.RECOVERED).state is State.FINISHED


def test_a_finished_component_goes_back_through_installed():
    life = installed().all(EventKind.STARTUP_NOTHING, EventKind.RUN_NOTHING).pursue(START)
    assert life.states[-2:] == [State.INSTALLED, State.STARTING]


def test_a_stop_during_install_ends_it_and_rests_in_new():
    life = Life().pursue(START).pursue(STOP)
    assert (life.state, life.doing, life.machine.goals) == (State.NEW, [Kill], ())
    assert life.pursue(START).doing == [StepName.INSTALL]


def test_a_reinstall_during_install_ends_it_before_the_next():
    assert Life().pursue(START).pursue(REINSTALL).doing == [Kill, StepName.INSTALL]


def test_what_a_component_reports_counts_only_where_it_may():
    assert running().handle(EventKind.REPORTED_ERRORED).machine.problem.code is StatusCode.RUN_ERROR
    assert installed().handle(EventKind.REPORTED_ERRORED).machine.problem.code is StatusCode.STARTUP_ERROR
    for state in (State.INSTALLED, State.FINISHED, State.BROKEN, State.ERRORED):
        life = Life()
        life.machine = Machine(state=state)
        assert life.all(EventKind.REPORTED_ERRORED, EventKind.REPORTED_RUNNING).state is state


def test_an_event_of_an_earlier_step_is_stale():
    life = installed()
    assert life.handle(EventKind.FAILED, ticket=life.machine.ticket - 1, problem=ERROR).state is State.STARTING


# -- counting errors ------------------------------------------------------------------------------------------------


def _crash(life: Life) -> Life:
    life.fail()
    if life.state is State.ERRORED:
        life.handle(EventKind.RECOVERED).stop().all(EventKind.STARTUP_NOTHING, EventKind.RUN_SPAWNED)
    return life


def test_the_third_quick_crash_breaks_the_component_and_the_starts_between_do_not_reset_it():
    life = _crash(_crash(running()))
    assert life.state is State.RUNNING
    assert _crash(life).state is State.BROKEN
    assert (life.doing, life.machine.goals) == ([StepName.SHUTDOWN], ())
    assert life.handle(EventKind.SHUTDOWN_OK).doing == [Kill]
    assert life.machine.problem.code is StatusCode.RUN_ERROR


def test_errors_further_apart_than_the_reset_time_never_break():
    life = running()
    for _ in range(6):
        life.now += 3600.0
        assert _crash(life).state is State.RUNNING


def test_errors_are_counted_by_the_state_they_happen_in():
    life = installed()
    for _ in range(2):
        life.fail(StatusCode.STARTUP_ERROR).handle(EventKind.RECOVERED).stop()
    life.all(EventKind.STARTUP_NOTHING, EventKind.RUN_SPAWNED)
    assert _crash(_crash(life)).state is State.RUNNING


def test_leaving_a_state_without_an_error_clears_its_count():
    life = _crash(_crash(running()))
    life.pursue(RESTART).stop().all(EventKind.STARTUP_NOTHING, EventKind.RUN_SPAWNED)
    assert _crash(_crash(life)).state is State.RUNNING


def test_what_trying_again_cannot_mend_breaks_at_once():
    life = Life().pursue(START).fail(StatusCode.INSTALL_MISSING_DEFAULT_RUNWITH)
    assert (life.state, life.doing) == (State.BROKEN, [Kill])


def test_only_a_reinstall_leaves_broken_and_it_counts_anew():
    life = _crash(_crash(_crash(running())))
    for goals in (START, RESTART, STOP):
        assert life.pursue(goals).state is State.BROKEN
        assert life.machine.goals == ()
    assert life.pursue(REINSTALL).doing == [Kill, StepName.INSTALL]
    life.all(EventKind.INSTALL_OK, EventKind.STARTUP_NOTHING, EventKind.RUN_SPAWNED)
    assert _crash(_crash(life)).state is State.RUNNING


# -- dependencies ---------------------------------------------------------------------------------------------------


def test_a_component_satisfies_its_dependers_when_running_finished_or_stopping_in_order():
    assert running().machine.satisfies
    assert running().handle(EventKind.RUN_OK).machine.satisfies
    assert running().handle(EventKind.RUN_OK).stop().machine.satisfies
    for life in (Life(), installed(), running().fail(), _crash(_crash(_crash(running())))):
        assert not life.machine.satisfies


def test_a_component_that_stops_because_of_an_error_does_not_satisfy():
    life = installed().fail(StatusCode.STARTUP_ERROR).handle(EventKind.RECOVERED)
    assert (life.state, life.machine.satisfies) == (State.STOPPING, False)


@pytest.mark.parametrize("life", [running(), installed()], ids=["running", "starting"])
def test_a_lost_hard_dependency_stops_a_component_until_it_is_back(life):
    life.handle(EventKind.UNREADY)
    assert life.state is State.STOPPING
    assert life.stop().state is State.INSTALLED
    assert life.handle(EventKind.READY).state is State.STARTING


# -- laws -----------------------------------------------------------------------------------------------------------


class World:
    """A machine and the processes its effects would have made."""

    def __init__(self) -> None:
        self.life = Life()
        self.alive: dict[int, StepName] = {}
        self.spawned: set[int] = set()
        self.killed: list[int] = []
        self.errors: list[tuple[State, float]] = []
        self.arrows = {(state, to) for state, to, _ in edges()}

    def handle(self, kind: EventKind, **facts) -> None:
        before = self.life.machine
        length = len(self.life.states)
        self.life.handle(kind, **facts)
        for left, entered in zip(self.life.states[length - 1 :], self.life.states[length:], strict=False):
            assert (left, entered) in self.arrows
            if entered in {State.ERRORED, State.BROKEN}:
                self._count(before.state, self.life.machine.problem)
                assert entered is not State.BROKEN or self._broken()
        for effect in self.life.effects:
            self._perform(effect)

    def _count(self, origin: State, problem: Problem) -> None:
        self.errors.append((origin, self.life.now))
        self.hopeless = problem.code is StatusCode.RUN_CONFIG_NOT_VALID

    def _broken(self) -> bool:
        origin = self.errors[-1][0]
        times = [time for state, time in self.errors if state is origin][-3:]
        quick = len(times) == 3 and times[1] - times[0] < 3600 and times[2] - times[1] < 3600
        return (quick or self.hopeless) and origin in {State.NEW, State.STARTING, State.RUNNING}

    def _perform(self, effect: object) -> None:
        if isinstance(effect, Kill):
            self.alive.clear()
            self.killed.append(effect.ticket)
        elif isinstance(effect, Perform):
            if effect.step in {StepName.INSTALL, StepName.STARTUP, StepName.RUN}:
                assert not self.alive, f"{effect.step} starts beside {self.alive}"
            self.alive[effect.ticket] = effect.step

    def ends(self, ticket: int) -> tuple[EventKind, ...]:
        """How a step can go on; that Run is spawned before it ends is the runner's promise."""
        if self.alive[ticket] is not StepName.RUN:
            return DONE[self.alive[ticket]]
        return (EventKind.RUN_OK,) if ticket in self.spawned else (EventKind.RUN_SPAWNED, EventKind.RUN_NOTHING)

    def finish(self, ticket: int, kind: EventKind, **facts) -> None:
        if kind is EventKind.RUN_SPAWNED:
            self.spawned.add(ticket)
        else:
            del self.alive[ticket]
        self.handle(kind, ticket=ticket, **facts)

    def drain(self) -> None:
        """Let everything that can go well go well."""
        for _ in range(60):
            self.handle(EventKind.READY)
            while self.killed:
                self.handle(EventKind.CLEARED, ticket=self.killed.pop())
            for ticket in list(self.alive):
                if self.life.state is not State.RUNNING and ticket in self.alive:
                    self.finish(ticket, self.ends(ticket)[0])


EVENTS = st.one_of(
    # Most often something ends: only then does a component get anywhere.
    st.tuples(st.just("finish"), st.integers(0, 1)),
    st.tuples(st.just("finish"), st.integers(0, 1)),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("fail"), st.just(StatusCode.RUN_ERROR)),
    st.tuples(st.just("wish"), st.sampled_from([START, RESTART, REINSTALL, STOP])),
    st.tuples(
        st.just("tell"),
        st.sampled_from([EventKind.READY, EventKind.UNREADY, EventKind.REPORTED_RUNNING, EventKind.REPORTED_ERRORED]),
    ),
    st.tuples(st.just("tell"), st.just(EventKind.STARTUP_LATE)),
    st.tuples(st.just("fail"), st.sampled_from([StatusCode.RUN_ERROR, StatusCode.RUN_CONFIG_NOT_VALID])),
    st.tuples(st.just("stale"), st.sampled_from(list(EventKind))),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 3600.0])),
)


def _do(world: World, what: str, how) -> None:
    oldest = next(iter(world.alive), None)
    if what == "wish":
        world.handle(EventKind.GOALS, goals=how)
    elif what == "tell":
        world.handle(how)
    elif what == "finish" and oldest is not None:
        kinds = world.ends(oldest)
        world.finish(oldest, kinds[how % len(kinds)])
    elif what == "fail" and oldest is not None:
        kind = EventKind.RECOVERED if world.alive[oldest] is StepName.RECOVER else EventKind.FAILED
        world.finish(oldest, kind, problem=Problem(how, "It failed."))
    elif what == "stale":
        world.handle(how, ticket=world.life.machine.ticket - 1, goals=STOP, problem=ERROR)
    elif what == "clear" and world.killed:
        world.handle(EventKind.CLEARED, ticket=world.killed.pop())
    elif what == "wait":
        world.life.now += how


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=10, max_size=60))
def test_whatever_happens_nothing_runs_twice_breaks_too_early_or_stays_wished_for_ever(events):
    world = World()
    world.handle(EventKind.GOALS, goals=START)
    for what, how in events:
        _do(world, what, how)
    world.drain()
    assert world.life.machine.goals == ()
    assert world.life.state in {State.NEW, State.RUNNING, State.FINISHED, State.BROKEN}
