"""Many components: brought to a target, kept in the order of their HARD dependencies, stopped in the reverse.

Entering ends what an agent that was killed left running.  ``apply`` starts, changes and removes what has to be, and
nothing else; ``settled`` waits for what came of it.  Leaving stops dependers before their dependencies; each Shutdown
has its own timeout (``stopping_s`` is what that comes to), and what is still there after that is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias
from weakref import WeakSet

from agent.files import make_folder
from agent.greengrass.components import environment, freezer, order
from agent.greengrass.components.component import Component
from agent.greengrass.components.freezer import Freezer, SignalFreezer
from agent.greengrass.components.limits import Enforcer, Rlimits, claim
from agent.greengrass.components.logs import FILE_BYTES, TOTAL_BYTES, ComponentLog
from agent.greengrass.components.process_tree import KILL_S, TERM_S
from agent.greengrass.components.record import Record, end_survivors
from agent.greengrass.components.runner import Runner, StepOutcome
from agent.greengrass.components.scripts import Guard, ScriptContext, ScriptRunner, unguarded
from agent.greengrass.components.spec import Change, ComponentSpec, RunAs, change
from agent.greengrass.components.states import (
    MISSING_USER,
    REINSTALL,
    RESTART,
    STOP,
    ComponentStatus,
    Goals,
    Problem,
    State,
)
from agent.greengrass.recipes.lifecycle import DEFAULT_TIMEOUT_S, StepName

__all__ = ["PendingComponent", "Settled", "Supervisor"]

log = logging.getLogger(__name__)

_SAID_AFTER_S = 3.0
_BOOTSTRAP = ".bootstrap"
_GOALS: Mapping[Change, Goals] = {Change.RESTART: RESTART, Change.REINSTALL: REINSTALL}

Listener = Callable[[ComponentStatus], None]


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def _stop_s(spec: ComponentSpec) -> float:
    """How long a component may take to stop: its Shutdown, and what ends the processes that it leaves."""
    shutdown = spec.lifecycle.steps.get(StepName.SHUTDOWN)
    usual = DEFAULT_TIMEOUT_S[StepName.SHUTDOWN] or 0.0
    return (0.0 if shutdown is None else shutdown.timeout_s or usual) + TERM_S + KILL_S


_HOPELESS = 9
"""Errors: three of each state that they are counted in.  Without it a short ``errorResetTime`` would retry for ever."""


@dataclass(frozen=True, slots=True)
class PendingComponent:
    """A component that is not healthy yet, and its step with a time limit, with the end of that on the loop's clock."""

    status: ComponentStatus
    under_way: tuple[StepName, float] | None


OnPending: TypeAlias = Callable[[Mapping[str, PendingComponent]], None]


class Settled(StrEnum):
    """What came of a component."""

    HEALTHY = "healthy"
    BROKEN = "broken"
    PENDING = "pending"


class Supervisor:
    """The components of the device.

    ``run`` is the folder of what must outlive the agent, ``logs`` that of the components' logs, ``env`` what
    every script finds beside the environment that the agent inherited, and ``run_as`` the default user when the
    agent is root.  ``grace_s`` bounds leaving more tightly than the components' own timeouts do.
    """

    def __init__(
        self, *, run: Path, logs: Path, env: Mapping[str, str], run_as: RunAs | None = None,
        grace_s: float | None = None,
    ) -> None:  # fmt: skip
        self._run = run
        self._logs = logs
        self._env = environment.inherited(os.environ) | dict(env)
        self._run_as = run_as
        self._grace_s = grace_s
        self._components: dict[str, Component] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._tokens: dict[str, str] = {}
        self._bootstrapping: dict[str, ComponentSpec] = {}
        """By token: whose Bootstrap runs now."""
        self._satisfied: dict[str, bool] = {}
        self._listeners: list[Listener] = []
        self._pulse = asyncio.Event()
        self._applying = asyncio.Lock()
        self._enforcer: Enforcer = Rlimits()
        self._freezer: Freezer = SignalFreezer()
        self._stack = AsyncExitStack()
        self._log_bounds = (FILE_BYTES, TOTAL_BYTES)
        self._written: WeakSet[ComponentLog] = WeakSet()
        self.guard: Guard = unguarded
        """Asked before each script whether its component's files are what came."""

    async def __aenter__(self) -> Self:
        for folder in (self._run, self._logs):
            try:
                make_folder(folder, ours=True)
            except OSError as error:  # what needs it says so; the rest runs
                log.warning("%s cannot be made: %s", folder, error.strerror)
        await asyncio.to_thread(freezer.let_go, str(self._run))
        await end_survivors(self._run)
        self._enforcer = claim()
        self._freezer = freezer.choose(self._enforcer, str(self._run))
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grace_s = self.stopping_s if self._grace_s is None else self._grace_s
        late = self._say_later(_SAID_AFTER_S, grace_s)
        try:
            async with asyncio.timeout(grace_s):
                await self._stop(set(self._components))
        except TimeoutError:
            log.warning("not stopped within %g s, killed: %s", grace_s, ", ".join(self._running))
        finally:
            late.cancel()
            for life in self._lives.values():
                life.cancel()
            await self._stack.__aexit__(kind, error, trace)

    @property
    def stopping_s(self) -> float:
        """How long leaving may take: the timeouts of the Shutdown steps that have to wait for one another."""
        return order.longest(self._graph(), {name: _stop_s(one.spec) for name, one in self._components.items()})

    @property
    def _running(self) -> list[str]:
        return sorted(name for name, component in self._components.items() if not component.at_rest)

    def _say_later(self, after_s: float, grace_s: float) -> asyncio.TimerHandle:
        """Say what the agent waits for, if it still does after a while."""

        def say() -> None:
            log.info("waiting for the Shutdown of %s, for up to %.0f s", ", ".join(self._running), grace_s - after_s)

        return asyncio.get_running_loop().call_later(after_s, say)

    # -- what is wanted -------------------------------------------------------------------------------------------

    async def apply(self, target: Mapping[str, ComponentSpec]) -> dict[str, Change]:
        """Bring the set to ``target``, and say how far each change reached; a new component's is ``REINSTALL``.

        Returns when what is not in the target is gone; the rest is on its way, see ``settled``.
        Raises ``ComponentError`` when the target's dependencies go in a circle; nothing has changed then.
        """
        starts = order.start_order({name: spec.hard for name, spec in target.items()})
        async with self._applying:
            await self._remove({name for name in self._components if name not in target})
            changes = {name: self._change(spec) for name, spec in target.items()}
            for name in starts:
                self._adopt(target[name], changes[name])
            for name in starts:
                self._tell_dependencies(name)
                if changes[name] in _GOALS:
                    self._components[name].pursue(_GOALS[changes[name]])
            return changes

    async def settled(
        self, names: Collection[str], idle_s: float | None = None, steady_s: float = 0.0,
        on_pending: OnPending = lambda _pending: None,
    ) -> dict[str, Settled]:  # fmt: skip
        """Wait until each is RUNNING or FINISHED and has been for ``steady_s``, or one is BROKEN, or nothing happens.

        Steps have their own time limits, and none is cut short: what is pending is given up when nothing of it with an
        end has gone on for ``idle_s``, or when it has failed more often than any component that gets healthy.
        ``on_pending`` is called with what is waited for.
        """
        loop = asyncio.get_running_loop()
        active_at = loop.time()
        before = {name: self._components[name].status.errors for name in names}
        while True:
            outcomes = {name: self._outcome(name, steady_s) for name in names}
            if Settled.BROKEN in outcomes.values() or Settled.PENDING not in outcomes.values():
                return outcomes
            pending = [self._components[name] for name, outcome in outcomes.items() if outcome is Settled.PENDING]
            if any(each.status.errors - before[each.spec.name] >= _HOPELESS for each in pending):
                return outcomes
            if any(component.active for component in pending):
                active_at = loop.time()
            deadline = None if idle_s is None else active_at + idle_s
            if deadline is not None and loop.time() >= deadline:
                return outcomes
            on_pending({each.spec.name: PendingComponent(each.status, each.under_way) for each in pending})
            await self._next_change(deadline, steady_s)

    async def quiet(self) -> None:
        """Wait until no component has anything left to do."""
        while not all(component.settled for component in self._components.values()):
            await self._next_change(None, 0.0)

    def pursue(self, name: str, goals: Goals) -> None:
        """Start, restart, reinstall or stop one component (``states``); raises ``KeyError``."""
        self._components[name].pursue(goals)

    async def restart(self, names: Collection[str], idle_s: float, steady_s: float) -> dict[str, Settled]:
        """Take components through Shutdown and Startup, broken ones through Install, and wait as ``settled`` does.

        Raises ``KeyError``.
        """
        for name in names:
            self.pursue(name, REINSTALL if self._components[name].machine.state is State.BROKEN else RESTART)
        return await self.settled(names, idle_s, steady_s)

    async def stop(self, names: Collection[str]) -> set[str]:
        """Stop components, and wait until nothing of them runs; the result is those of which that is so.

        They stay so until they are restarted or changed.  Raises ``KeyError``.
        """
        try:
            async with asyncio.timeout(self.stopping_s):
                await self._stop(names, hold=True)
        except TimeoutError:
            log.warning("not stopped in time: %s", ", ".join(sorted(names)))
        return {name for name in names if self._components[name].at_rest}

    async def pause(self, name: str) -> None:
        """Have a component's processes stand still; raises ``KeyError``, and as ``Component.pause``."""
        await self._components[name].pause()

    async def resume(self, name: str) -> None:
        """Have them go on; raises as ``pause``."""
        await self._components[name].resume()

    def report(self, name: str, state: State) -> bool:
        """A component says of itself that it is RUNNING or ERRORED; raises ``KeyError``."""
        return self._components[name].report(state)

    async def bootstrap(self, spec: ComponentSpec) -> StepOutcome:
        """Run a component's Bootstrap beside whatever of it runs now, and end what the script leaves behind."""
        name, token = f"{spec.name}{_BOOTSTRAP}", secrets.token_hex(16).upper()
        around = self._around()
        runner = ScriptRunner(spec, token, around, self._log(spec.name), Record(self._run, name, token))
        self._bootstrapping[token] = spec
        try:
            return await runner.perform(StepName.BOOTSTRAP, lambda: None)
        finally:
            await asyncio.shield(runner.kill())
            del self._bootstrapping[token]

    def bound_logs(self, file_bytes: int, total_bytes: int) -> None:
        """Have no log file of a component, and not all of one together, grow larger than that."""
        self._log_bounds = (file_bytes, total_bytes)
        for log_ in self._written:
            log_.bound(file_bytes, total_bytes)

    # -- what is --------------------------------------------------------------------------------------------------

    def states(self) -> dict[str, ComponentStatus]:
        """Every component at a glance."""
        return {name: component.status for name, component in self._components.items()}

    def watch(self, listener: Listener) -> None:
        """Be called at every change of a state, and when a component is gone."""
        self._listeners.append(listener)

    def token(self, name: str) -> str:
        """What a component proves itself with (``SVCUID``): the same for as long as the agent runs."""
        return self._tokens.setdefault(name, secrets.token_hex(16).upper())

    def holder(self, token: str) -> ComponentSpec | None:
        """The component that proves itself with a token; None where nobody does."""
        for name, known in self._tokens.items():
            if _same(known, token) and name in self._components:
                return self._components[name].spec
        return next((spec for known, spec in self._bootstrapping.items() if _same(known, token)), None)

    def advice(self, name: str, problem: Problem | None = None) -> str:
        """What to do about a component that does not get healthy, or whose script failed: blocks for a moment."""
        if problem is None and name in self._components:
            problem = self._components[name].status.problem
        if problem is not None and problem.code in MISSING_USER:
            return (
                f"name a user that exists: run_as in [deployments] of the agent's configuration, or for {name} alone "
                f"verge deploy --run-with {name}=USER (runWith.posixUser in a document)"
            )
        path = self._logs / f"{name}.log"
        if path.exists():
            return f"{path} has what its scripts printed"
        return f"{name} printed nothing: have its scripts say why they fail"

    # -- bringing it there ----------------------------------------------------------------------------------------

    def _change(self, spec: ComponentSpec) -> Change:
        known = self._components.get(spec.name)
        return Change.REINSTALL if known is None else change(known.spec, spec, known.machine.state)

    def _adopt(self, spec: ComponentSpec, reach: Change) -> None:
        known = self._components.get(spec.name)
        if known is not None:
            known.update(spec, reach)
            return
        component = Component(spec, self._runner(spec), became=self._became, rested=self._rested)
        self._components[spec.name] = component
        self._lives[spec.name] = self._tasks.create_task(
            component.run(self._tasks), name=f"agent.component.{spec.name}"
        )
        self._publish(component.status)  # what stands on its topic is of before the agent started

    def _runner(self, spec: ComponentSpec) -> Runner:
        token = self.token(spec.name)
        around = self._around()
        return ScriptRunner(spec, token, around, self._log(spec.name), Record(self._run, spec.name, token))

    def _log(self, name: str) -> ComponentLog:
        file_bytes, total_bytes = self._log_bounds
        log_ = ComponentLog(self._logs, name, file_bytes=file_bytes, total_bytes=total_bytes)
        self._written.add(log_)
        return log_

    def _around(self) -> ScriptContext:
        return ScriptContext(self._env, self._run_as, self._enforcer, self._tasks, self._check, self._freezer)

    async def _check(self, spec: ComponentSpec, thorough: bool) -> Sequence[str]:
        return await self.guard(spec, thorough)

    async def _remove(self, names: Collection[str]) -> None:
        await self._stop(names)
        for name in names:
            component = self._components[name]
            problem = await component.uninstall()
            if problem is not None:
                log.warning("component %s: %s", name, problem.reason)
            life = self._lives.pop(name)
            life.cancel()
            await asyncio.wait({life})
            del self._components[name]
            self._satisfied.pop(name, None)
            self._publish(replace(component.status, problem=problem, settled=True, removed=True))

    async def _stop(self, names: Collection[str], *, hold: bool = False) -> None:
        """Stop each once its dependers among ``names`` are at rest."""
        graph = self._graph()
        waiting = set(names)
        while waiting or not all(self._components[name].at_rest for name in names):
            for name in sorted(waiting):
                above = order.dependers(graph, name) & set(names)
                if above.isdisjoint(waiting) and all(self._components[depender].at_rest for depender in above):
                    self._components[name].pursue(STOP, hold=hold)
                    waiting.discard(name)
            if waiting or not all(self._components[name].at_rest for name in names):
                await self._next_change(None, 0.0)

    # -- dependencies ---------------------------------------------------------------------------------------------

    def _graph(self) -> dict[str, frozenset[str]]:
        return {name: component.spec.hard for name, component in self._components.items()}

    def _tell_dependencies(self, name: str) -> None:
        satisfied = {other for other, component in self._components.items() if component.machine.satisfies}
        ready = order.ready(self._graph(), name, satisfied)
        if ready is not self._satisfied.get(name):
            self._satisfied[name] = ready
            self._components[name].depend(ready=ready)

    def _became(self, component: Component) -> None:
        for name in order.dependers(self._graph(), component.spec.name):
            self._tell_dependencies(name)
        self._publish(component.status)

    def _rested(self, component: Component) -> None:
        del component
        self._pulse.set()
        self._pulse = asyncio.Event()

    def _publish(self, status: ComponentStatus) -> None:
        for listener in self._listeners:
            listener(status)

    # -- waiting --------------------------------------------------------------------------------------------------

    def _outcome(self, name: str, steady_s: float) -> Settled:
        component = self._components[name]
        if not component.settled:
            return Settled.PENDING
        if component.status.state is State.BROKEN:
            return Settled.BROKEN
        if component.status.state not in {State.RUNNING, State.FINISHED}:
            return Settled.PENDING
        lived_s = asyncio.get_running_loop().time() - component.changed_at
        return Settled.HEALTHY if component.status.state is State.FINISHED or lived_s >= steady_s else Settled.PENDING

    async def _next_change(self, deadline: float | None, look_s: float) -> None:
        """Wait for a change; with ``look_s``, also for that long at most, because being steady changes nothing."""
        loop = asyncio.get_running_loop()
        pulse = self._pulse
        moments = [moment for moment in (deadline, loop.time() + look_s if look_s else None) if moment is not None]
        try:
            async with asyncio.timeout_at(min(moments, default=None)):
                await pulse.wait()
        except TimeoutError:
            return
