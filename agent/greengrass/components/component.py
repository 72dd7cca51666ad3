"""One component's shell: hears events, steps the machine, performs the effects in order.

Steps run beside the loop, one task each, and answer with an event.  ``Kill`` is awaited in the loop: whatever follows
it starts with nothing of the component running.  A new spec holds from the next Install or Startup on, so that what
runs is stopped by the scripts it was started with; limits and Shutdown alone hold at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace

from agent.errors import VergeError
from agent.greengrass.components import lifecycle
from agent.greengrass.components.errors import NotRunningError
from agent.greengrass.components.lifecycle import Became, Effect, Event, EventKind, Kill, Machine, Perform
from agent.greengrass.components.runner import Runner, StepOutcome, StepResult, failed
from agent.greengrass.components.spec import Change, ComponentSpec
from agent.greengrass.components.states import ComponentStatus, Goals, Problem, State, StatusCode
from agent.greengrass.recipes.lifecycle import DEFAULT_TIMEOUT_S, StepName

__all__ = ["Component"]

log = logging.getLogger(__name__)

_REPORTS = 16
_PAUSED = "paused: its processes stand still until it is resumed"
_AT_REST = frozenset({State.NEW, State.FINISHED, State.BROKEN})
_HELD_BACK = "stopped by command: verge components restart starts it again"
_EXPECTED: dict[tuple[StepName, StepResult], EventKind] = {
    (StepName.INSTALL, StepResult.OK): EventKind.INSTALL_OK,
    (StepName.INSTALL, StepResult.NOTHING): EventKind.INSTALL_OK,
    (StepName.STARTUP, StepResult.OK): EventKind.STARTUP_OK,
    (StepName.STARTUP, StepResult.NOTHING): EventKind.STARTUP_NOTHING,
    (StepName.RUN, StepResult.OK): EventKind.RUN_OK,
    (StepName.RUN, StepResult.NOTHING): EventKind.RUN_NOTHING,
    (StepName.SHUTDOWN, StepResult.OK): EventKind.SHUTDOWN_OK,
    (StepName.SHUTDOWN, StepResult.NOTHING): EventKind.SHUTDOWN_OK,
    (StepName.RECOVER, StepResult.OK): EventKind.RECOVERED,
    (StepName.RECOVER, StepResult.NOTHING): EventKind.RECOVERED,
    (StepName.RECOVER, StepResult.FAILED): EventKind.RECOVERED,
}
"""The event that the end of a step is; every other failure is ``FAILED``."""


OnChange = Callable[["Component"], None]


class Component:
    """A component under supervision; ``run`` is its life, and is cancelled when it is at rest or has to go.

    ``became`` is called at every change of its state, ``rested`` whenever everything that happened has been dealt with.
    """

    def __init__(self, spec: ComponentSpec, runner: Runner, *, became: OnChange, rested: OnChange) -> None:
        self.spec = spec
        self.machine = Machine(error_reset_s=spec.lifecycle.error_reset_s)
        self._runner = runner
        self._held = spec
        self._next: ComponentSpec | None = None
        self._became, self._rested = became, rested
        self._inbox: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._reports = 0
        self._steps: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._limited: tuple[int, StepName, float] | None = None
        """The step that runs with a time limit: its ticket, its name, and when it ends at the latest."""
        self._loop = asyncio.get_running_loop()
        self._shown = State.NEW
        self._since = time.time()
        self._errors = 0
        self._note = runner.update(spec)
        self._held_back = False
        """Whether a person wants it stopped."""
        self._paused = False
        self._pausing = asyncio.Lock()
        self._asked = set[asyncio.Task[None]]()
        """What is paused or resumed now; it ends also where whoever asked has gone."""
        self._busy = False
        self.changed_at = self._loop.time()

    # -- asked from outside -------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do, and nothing is on its way."""
        return not (self._inbox or self._busy or self.machine.goals)

    @property
    def active(self) -> bool:
        """Whether something goes on that has an end: a step with a time limit, what its machine asked for, or Run."""
        return bool(self._inbox) or self._busy or self.under_way is not None or self.machine.state is State.RUNNING

    @property
    def under_way(self) -> tuple[StepName, float] | None:
        """The step that has a time limit and runs now, and when it ends at the latest, on the loop's clock."""
        if self._timer is not None:
            return StepName.STARTUP, self._timer.when()
        return self._limited[1:] if self._limited is not None else None

    @property
    def at_rest(self) -> bool:
        """Whether it is settled and nothing of it runs."""
        return self.settled and not self._steps and self.machine.state in _AT_REST

    @property
    def status(self) -> ComponentStatus:
        """The component at a glance."""
        return ComponentStatus(
            name=self.spec.name,
            version=self._held.version,
            state=self._shown,
            problem=self.machine.problem,
            since=self._since,
            errors=self._errors,
            settled=self.settled,
            note="; ".join(filter(None, self._notes)),
        )

    @property
    def _notes(self) -> tuple[str, ...]:
        return _HELD_BACK if self._held_back else "", _PAUSED if self._paused else "", self._note

    async def pause(self) -> None:
        """Have its processes stand still until it is resumed, or has to stop.

        Raises ``NotRunningError`` where it does not run, and ``OSError`` where the system cannot.
        """
        await self._to_the_end(self._pause())

    async def resume(self) -> None:
        """Have them go on; raises as ``pause``."""
        await self._to_the_end(self._resume())

    async def _to_the_end(self, doing: Coroutine[None, None, None]) -> None:
        """What is half done when its caller is cancelled would leave processes frozen that nobody knows to be."""
        task = asyncio.create_task(doing, name=f"agent.component.{self.spec.name}.pausing")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        await asyncio.shield(task)

    async def _pause(self) -> None:
        async with self._pausing:
            self._check_running()
            await self._runner.freeze()
            self._paused = True
            if self.machine.state is not State.RUNNING or self._inbox:  # it ended meanwhile, or has to
                await self._thaw()
                self._check_running()
        self._became(self)

    async def _resume(self) -> None:
        async with self._pausing:
            self._check_running()
            await self._runner.thaw()
            self._paused = False
        self._became(self)

    def _check_running(self) -> None:
        if self.machine.state is not State.RUNNING:
            raise NotRunningError(f"{self.spec.name} is {self.machine.state} and not RUNNING")

    async def _thaw(self) -> None:
        """What is to be ended, or to be spoken with by a script, has to be able to answer."""
        if not self._paused:
            return
        self._paused = False
        try:
            await self._runner.thaw()
        except OSError as error:
            log.warning("component %s cannot be resumed: %s", self.spec.name, error)

    def pursue(self, goals: Goals, *, hold: bool = False) -> None:
        """Bring it to these states, one after the other; ``hold``: a person wants it to stay there."""
        self._held_back = hold
        self._post(Event(EventKind.GOALS, goals=goals))

    def depend(self, *, ready: bool) -> None:
        """Its HARD dependencies are ready, or are no longer."""
        self._post(Event(EventKind.READY if ready else EventKind.UNREADY))

    def report(self, state: State) -> bool:
        """The component says itself that it is RUNNING or ERRORED; False when it says so too often."""
        if self._reports >= _REPORTS:
            log.warning("component %s: a report of %s was dropped: too many wait", self.spec.name, state)
            return False
        self._reports += 1
        self._post(Event(EventKind.REPORTED_RUNNING if state is State.RUNNING else EventKind.REPORTED_ERRORED))
        return True

    def update(self, spec: ComponentSpec, reach: Change) -> None:
        """Be this: at once where nothing has to stop for it, else from the next Install or Startup on."""
        self.spec = spec
        if reach <= Change.LIMITS and self._next is None:
            self._take(spec)
        else:
            self._next = spec

    async def uninstall(self) -> Problem | None:
        """Run Uninstall on a component that was stopped; the result is what went wrong."""
        outcome = await self._outcome(StepName.UNINSTALL, lambda: None)
        await self._runner.kill()
        return outcome.problem

    # -- its life -----------------------------------------------------------------------------------------------------

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Live until cancelled; nothing of the component is left then."""
        try:
            while True:
                while self._inbox:
                    await self._hear(self._inbox.popleft(), tasks)
                self._arrived.clear()
                self._rested(self)
                await self._arrived.wait()
        finally:
            self._unwatch()
            await asyncio.shield(self._kill())

    async def _hear(self, event: Event, tasks: asyncio.TaskGroup) -> None:
        if event.kind in {EventKind.REPORTED_RUNNING, EventKind.REPORTED_ERRORED}:
            self._reports -= 1
        self.machine, effects = lifecycle.step(self.machine, event, self._loop.time())
        self._busy = True
        try:
            for effect in effects:
                await self._perform(effect, tasks)
        finally:
            self._busy = False

    async def _perform(self, effect: Effect, tasks: asyncio.TaskGroup) -> None:
        match effect:
            case Became(state, problem):
                self._become(state, problem)
            case Perform(step, ticket):
                await self._thaw()
                if self._next is not None and step in {StepName.INSTALL, StepName.STARTUP}:
                    self._take(self._next)
                limits = self._held.lifecycle.steps.get(step)
                if limits is not None and limits.timeout_s is not None and step is not StepName.RUN:
                    self._limited = ticket, step, self._loop.time() + limits.timeout_s
                task = tasks.create_task(self._step(step, ticket), name=f"agent.component.{self.spec.name}.{step}")
                self._steps.add(task)
                task.add_done_callback(self._ended)
            case Kill(ticket):
                await self._kill()
                self._post(Event(EventKind.CLEARED, ticket))

    async def _step(self, step: StepName, ticket: int) -> None:
        def spawned() -> None:
            if step is StepName.RUN:
                self._post(Event(EventKind.RUN_SPAWNED, ticket))

        try:
            outcome = await self._outcome(step, spawned)
        finally:
            if self._limited is not None and self._limited[0] == ticket:
                self._limited = None
        kind = _EXPECTED.get((step, outcome.result), EventKind.FAILED)
        self._post(Event(kind, ticket, problem=outcome.problem))

    async def _outcome(self, step: StepName, spawned: Callable[[], None]) -> StepOutcome:
        try:
            return await self._runner.perform(step, spawned)
        except VergeError as error:
            return failed(step, "ERROR", str(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._steps.discard(task)
        # Its event was handled already or will be; without it running, the component may be at rest.
        self._arrived.set()

    async def _kill(self) -> None:
        await self._thaw()
        steps = tuple(self._steps)
        for task in steps:
            task.cancel()
        if steps:
            await asyncio.wait(steps)
        await self._runner.kill()

    def _become(self, state: State, problem: Problem | None) -> None:
        if state in {State.ERRORED, State.BROKEN} and problem is not None:
            self._errors += 1
            log.warning("component %s is %s: %s %s", self.spec.name, state, problem.code, problem.reason)
        else:
            log.info("component %s is %s", self.spec.name, state)
        self._shown, self._since, self.changed_at = state, time.time(), self._loop.time()
        self._unwatch()
        if state is State.STARTING:
            self._watch()
        self._became(self)

    def _watch(self) -> None:
        """STARTING lasts for as long as Startup may take, whichever step it is that starts."""
        startup = (self._next or self.spec).lifecycle.steps.get(StepName.STARTUP)
        timeout_s = startup.timeout_s if startup else DEFAULT_TIMEOUT_S[StepName.STARTUP]
        if timeout_s is not None:
            problem = Problem(StatusCode.STARTUP_TIMEOUT, f"The component was not RUNNING within {timeout_s:g} s.")
            self._timer = self._loop.call_later(timeout_s, self._post, Event(EventKind.STARTUP_LATE, problem=problem))

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, spec: ComponentSpec) -> None:
        self._held, self._next = spec, None
        self.machine = replace(self.machine, error_reset_s=spec.lifecycle.error_reset_s)
        self._note = self._runner.update(spec)

    def _post(self, event: Event) -> None:
        self._inbox.append(event)
        self._arrived.set()
