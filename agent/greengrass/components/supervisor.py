"""Many components: brought to a target, kept in the order of their HARD dependencies, stopped in the reverse.

Entering ends what an agent that was killed left running.  ``apply`` starts, changes and removes what has to be, and
nothing else; ``settled`` waits for what came of it.  Leaving stops dependers before their dependencies, within
``grace_s``; what is still there after that is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.greengrass.components import environment, order
from agent.greengrass.components.component import Component
from agent.greengrass.components.limits import Enforcer, Rlimits, claim
from agent.greengrass.components.logs import ComponentLog
from agent.greengrass.components.record import Record, end_survivors
from agent.greengrass.components.runner import Runner
from agent.greengrass.components.scripts import ScriptContext, ScriptRunner
from agent.greengrass.components.spec import Change, ComponentSpec, RunAs, change
from agent.greengrass.components.states import REINSTALL, RESTART, STOP, ComponentStatus, Goals, State

__all__ = ["Settled", "Supervisor"]

log = logging.getLogger(__name__)

_GOALS: Mapping[Change, Goals] = {Change.RESTART: RESTART, Change.REINSTALL: REINSTALL}

Listener = Callable[[ComponentStatus], None]


class Settled(StrEnum):
    """What came of a component."""

    HEALTHY = "healthy"
    BROKEN = "broken"
    PENDING = "pending"


class Supervisor:
    """The components of the device.

    ``run`` is the folder of what must outlive the agent, ``logs`` that of the components' logs, ``env`` what
    every script finds beside the environment that the agent inherited, and ``run_as`` the default user when the
    agent is root.
    """

    def __init__(
        self, *, run: Path, logs: Path, env: Mapping[str, str], run_as: RunAs | None = None,
        grace_s: float = 10.0,
    ) -> None:  # fmt: skip
        self._run = run
        self._logs = logs
        self._env = environment.inherited(os.environ) | dict(env)
        self._run_as = run_as
        self._grace_s = grace_s
        self._components: dict[str, Component] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._tokens: dict[str, str] = {}
        self._satisfied: dict[str, bool] = {}
        self._listeners: list[Listener] = []
        self._pulse = asyncio.Event()
        self._applying = asyncio.Lock()
        self._enforcer: Enforcer = Rlimits()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for folder in (self._run, self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        await end_survivors(self._run)
        self._enforcer = claim()
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with asyncio.timeout(self._grace_s):
                await self._stop(set(self._components))
        except TimeoutError:
            late = sorted(name for name, component in self._components.items() if not component.at_rest)
            log.warning("not stopped within %g s, killed: %s", self._grace_s, ", ".join(late))
        finally:
            for life in self._lives.values():
                life.cancel()
            await self._stack.__aexit__(kind, error, trace)

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
        self, names: Collection[str], timeout_s: float | None = None, steady_s: float = 0.0
    ) -> dict[str, Settled]:
        """Wait until each is RUNNING or FINISHED and has been for ``steady_s``, or one is BROKEN, or time is up."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while True:
            outcomes = {name: self._outcome(name, steady_s) for name in names}
            if Settled.BROKEN in outcomes.values() or Settled.PENDING not in outcomes.values():
                return outcomes
            if deadline is not None and loop.time() >= deadline:
                return outcomes
            await self._next_change(deadline, steady_s)

    async def quiet(self) -> None:
        """Wait until no component has anything left to do."""
        while not all(component.settled for component in self._components.values()):
            await self._next_change(None, 0.0)

    def pursue(self, name: str, goals: Goals) -> None:
        """Start, restart, reinstall or stop one component (``states``); raises ``KeyError``."""
        self._components[name].pursue(goals)

    def report(self, name: str, state: State) -> bool:
        """A component says of itself that it is RUNNING or ERRORED; raises ``KeyError``."""
        return self._components[name].report(state)

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
            if secrets.compare_digest(known.encode(), token.encode()) and name in self._components:
                return self._components[name].spec
        return None

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

    def _runner(self, spec: ComponentSpec) -> Runner:
        token = self.token(spec.name)
        around = ScriptContext(self._env, self._run_as, self._enforcer, self._tasks)
        log_ = ComponentLog(self._logs, spec.name)
        return ScriptRunner(spec, token, around, log_, Record(self._run, spec.name, token))

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

    async def _stop(self, names: Collection[str]) -> None:
        """Stop each once its dependers among ``names`` are at rest."""
        graph = self._graph()
        waiting = set(names)
        while waiting or not all(self._components[name].at_rest for name in names):
            for name in sorted(waiting):
                above = order.dependers(graph, name) & set(names)
                if above.isdisjoint(waiting) and all(self._components[depender].at_rest for depender in above):
                    self._components[name].pursue(STOP)
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
