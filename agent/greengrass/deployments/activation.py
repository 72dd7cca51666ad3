"""Making a target live beside what is live now, so that nothing has to stop for it, and the way back.

::

    prepare                                                 │ apply
    load new models → golden frames → canary beside the old │ configurations → scripts → switch streams
                         nothing of the old set has changed │

A stream is switched between two frames.  Until ``Activation.commit`` the old models stay loaded:
``Activation.rollback`` switches the streams back at once.  Then what the new set does not need is unloaded; a worker is
a process, so its memory goes back to the system.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import BackendUnavailableError, VergeError
from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import PendingComponent, Settled, Supervisor
from agent.greengrass.deployments import golden
from agent.greengrass.deployments.configurations import Configurations
from agent.greengrass.deployments.target import DeploymentTarget, ModelTarget
from agent.greengrass.deployments.waiting import Waiting, WaitingKind
from agent.greengrass.errors import DeploymentError
from agent.inference.plane import InferencePlane
from agent.results.formats import Context
from agent.streams.streams import Streams, Switched

__all__ = ["STEADY_S", "Activation", "Activator", "RollbackFailedError", "RunCanary"]

log = logging.getLogger(__name__)

STEADY_S = 1.0
"""What crashes right after its start was never healthy."""
_AWS = "aws.greengrass."
"""What the names of Amazon's own components begin with."""
_REPORTED_AFTER_S = 0.5
"""What scripts do for a shorter time is not reported as waited for."""

RunCanary = Callable[[str, str], Awaitable[None]]
"""Has a stream's frames answered by a new model too (stream, model key); raises what speaks against it."""


class RollbackFailedError(DeploymentError):
    """What was live before could not be put back."""

    default_code = "COMPONENT_BROKEN"


class ComponentBrokenError(DeploymentError):
    """Scripts of the new set gave up; ``of_aws``: all of them are of components of Amazon's."""

    default_code = "COMPONENT_BROKEN"

    def __init__(self, message: str, *, hint: str, broken: Sequence[str]) -> None:
        super().__init__(message, hint=hint)
        self.of_aws = all(name.startswith(_AWS) for name in broken)


@dataclass
class Activator:
    """The parts of the agent that run a deployed set, and what of it is live; one activation at a time."""

    plane: InferencePlane
    streams: Streams
    supervisor: Supervisor
    configurations: Configurations = field(default_factory=Configurations)
    settle_s: float = 600.0
    """How long scripts may be on their way to being healthy while no step with a time limit of its own runs."""
    target: DeploymentTarget = field(default_factory=DeploymentTarget)
    """What is live."""

    async def start(self, target: DeploymentTarget) -> None:
        """Make a target live where nothing is: streams do not wait for scripts, nor scripts for models.

        One model or stream that cannot be brought back is logged, and keeps no other from running.
        """
        self.target = DeploymentTarget(components=target.components)
        self.configurations.adopt(target.configurations)
        await self.supervisor.apply(target.components)
        await asyncio.gather(*(self._bring_back(key, target) for key in target.models))

    async def _bring_back(self, key: str, target: DeploymentTarget) -> None:
        """A model that has served before, and its streams."""
        model, streams = target.models[key], {}
        try:
            if await self.plane.revive(key, model.spec):
                await _agree(self.plane, key, model.golden)
        except (VergeError, OSError) as error:
            log.error("model %s is not live: %s", model.component, error)  # noqa: TRY400 it is a sentence for people
            if key in self.plane.models:
                await self.plane.unload(key)
            return
        for name, options in target.streams.items():
            if options.model != key:
                continue
            try:
                await self.streams.add(name, options, Context.of(model.spec.manifest.options))
                streams[name] = options
            except (VergeError, OSError) as error:
                log.error("stream %s is not live: %s", name, error)  # noqa: TRY400 as above
        live = self.target
        self.target = replace(live, models={**live.models, key: model}, streams={**live.streams, **streams})

    async def settle(self, target: DeploymentTarget) -> None:
        """Unload and stop what the target, which is live now, has no use for."""
        before, self.target = self.target, target
        if before.components.keys() - target.components.keys():
            await self.supervisor.apply(target.components)
        for name in before.streams:
            if name not in target.streams:
                await self.streams.remove(name)
        await asyncio.gather(*(self.plane.unload(key) for key in before.models if key not in target.models))

    @property
    def broken(self) -> list[str]:
        """The components of scripts that gave up."""
        return [name for name, status in self.supervisor.states().items() if status.state is State.BROKEN]


class Activation:
    """One target on its way to being live: ``prepare``, ``apply``; ``commit`` or ``rollback`` ends it."""

    def __init__(
        self, activator: Activator, target: DeploymentTarget, report: Callable[[Waiting], None] = lambda _waiting: None
    ) -> None:
        self.touched = False
        """Whether it got as far as changing anything that was live."""
        self.problem: VergeError | None = None
        """What is wrong with the new set, where that was to be tolerated."""
        self._live = activator
        self._target = target
        self._report = report
        self._undo = AsyncExitStack()
        self._switched: list[Switched] = []

    async def prepare(self, run_canary: RunCanary | None = None) -> None:
        """Load the new models and try them; what is live stays as it is.  Raises what speaks against them."""
        await self._load()
        if run_canary is not None:
            await self._try(run_canary)

    async def apply(self, *, tolerant: bool = False) -> None:
        """Make the target live; with ``tolerant``, even if its scripts do not get healthy.

        Raises what kept it from being so; ``rollback`` is the way back.
        """
        await self._supervise(tolerant=tolerant)
        await self._switch()

    async def rollback(self) -> None:
        """Put back what was live before.  Raises ``RollbackFailedError``."""
        await self._undo.aclose()

    async def commit(self) -> None:
        """Let go of what the new set does not need."""
        self._undo.pop_all()
        for switched in self._switched:
            switched.keep()
        await self._live.settle(self._target)

    # -- models ----------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        known = self._live.plane.models
        outcomes = await asyncio.gather(
            *(self._load_one(key, model) for key, model in self._target.models.items() if key not in known),
            *(self._try_out(key, model) for key, model in self._target.tried.items() if key not in known),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _load_one(self, key: str, model: ModelTarget) -> None:
        plane = self._live.plane
        await plane.load(key, model.spec)
        self._undo.push_async_callback(plane.unload, key)
        await _agree(plane, key, model.golden)

    async def _try_out(self, key: str, model: ModelTarget) -> None:
        """Have a model that no stream uses answer too, and let it go."""
        plane = self._live.plane
        try:
            await plane.load(key, model.spec)
        except BackendUnavailableError as error:
            # The stream that is to use it may bring what runs it.
            log.warning("model %s was not tried out: %s", model.component, error)
            return
        try:
            await _agree(plane, key, model.golden)
        finally:
            await plane.unload(key)

    async def _try(self, run_canary: RunCanary) -> None:
        for name, options in self._target.streams.items():
            old = self._live.target.streams.get(name)
            if old is not None and old.model != options.model:
                await run_canary(name, options.model)

    # -- scripts ---------------------------------------------------------------------------------------------

    async def _supervise(self, *, tolerant: bool) -> None:
        old, new = self._live.target.components, self._target.components
        scripts = dict(old) != dict(new) or bool(self._live.broken)
        if scripts:
            self._undo.push_async_callback(self._restore)
        # A script that asks for its configuration gets the one that it is started with, here and on the way back.
        self._undo.push_async_callback(self._live.configurations.back)
        self.touched |= await self._live.configurations.switch(self._target.configurations)
        if not scripts:
            return
        self.touched = True
        # Components that leave the set go when it is committed.
        self.problem = await self._settle(dict(old) | dict(new), new)
        if self.problem is not None and not tolerant:
            raise self.problem

    async def _restore(self) -> None:
        old = self._live.target.components
        problem = await self._settle(old, old)
        if problem is not None:
            raise RollbackFailedError(f"the old set does not get healthy again: {problem.message}", hint=problem.hint)

    async def _settle(
        self, components: Mapping[str, ComponentSpec], watched: Mapping[str, ComponentSpec]
    ) -> VergeError | None:
        """Bring scripts to ``components``; the result is what is wrong with the ``watched`` ones."""
        supervisor = self._live.supervisor
        await supervisor.apply(components)
        settled = await supervisor.settled(watched, self._live.settle_s, STEADY_S, self._on_pending())
        broken = sorted(name for name, outcome in settled.items() if outcome is Settled.BROKEN)
        unhealthy = broken or sorted(name for name, outcome in settled.items() if outcome is not Settled.HEALTHY)
        if not unhealthy:
            return None
        states = supervisor.states()
        sentences = []
        for name in unhealthy:
            problem = states[name].problem
            sentences.append(f"{name} is {states[name].state}" + (f": {problem.reason}" if problem else ""))
        hint = await asyncio.to_thread(supervisor.advice, unhealthy[0])
        if broken:
            return ComponentBrokenError("; ".join(sentences), broken=broken, hint=hint)
        sentences[-1] += f", and nothing that has a time limit ran for {self._live.settle_s:g} s"
        return DeploymentError("; ".join(sentences), code="COMPONENT_UPDATE_ERROR", hint=hint)

    def _on_pending(self) -> Callable[[Mapping[str, PendingComponent]], None]:
        """Reports what scripts do that are not healthy yet, when they have been at it for a while."""
        loop = asyncio.get_running_loop()
        last: dict[str, object] = {}
        since, reported = loop.time(), True

        def on_pending(pending: Mapping[str, PendingComponent]) -> None:
            nonlocal last, since, reported
            now: dict[str, object] = {
                name: (one.status.state, one.under_way)
                for name, one in pending.items()
                if one.status.state is not State.RUNNING
            }
            if now != last:
                last, since, reported = now, loop.time(), not now
            if reported or loop.time() - since < _REPORTED_AFTER_S:
                return
            reported = True
            ends = [one.under_way[1] for one in pending.values() if one.under_way]
            until = max(ends) - loop.time() + time.time() if ends else None
            name, first = min(pending.items(), key=lambda item: (item[1].under_way is None, item[0]))
            others = f" and {len(pending) - 1} more" if len(pending) > 1 else ""
            self._report(Waiting(WaitingKind.SCRIPTS, f"component {name}{others}", _doing(first), until=until))

        return on_pending

    # -- streams ---------------------------------------------------------------------------------------------

    async def _switch(self) -> None:
        streams = self._live.streams
        for name, options in self._target.streams.items():
            if self._live.target.streams.get(name) == options:
                continue
            self.touched = True
            context = Context.of(self._target.models[options.model].spec.manifest.options)
            if name in streams:
                switched = streams.switch(name, options, context)
                self._undo.callback(switched.back)
                self._switched.append(switched)
            else:
                await streams.add(name, options, context)
                self._undo.push_async_callback(streams.remove, name)


def _doing(component: PendingComponent) -> str:
    """What a component does that is not healthy yet: ``its Install runs``."""
    state, problem = component.status.state, component.status.problem
    doing = f"its {component.under_way[0]} runs" if component.under_way else f"it is {state}"
    return f"{doing}; before that: {problem.reason}" if problem else doing


async def _agree(plane: InferencePlane, key: str, folder: Path | None) -> None:
    """Hold a loaded model to its golden frames, in the time that it needs."""
    await golden.check(lambda picture: plane.infer(key, picture), folder, golden.GoldenLimits.of(plane.metadata(key)))
