"""Making a target live beside what is live now, so that nothing has to stop for it, and the way back.

::

    load new models → golden frames → canary beside the old │ scripts → switch streams between two frames
                         nothing of the old set has changed │

Until ``Activation.commit`` the old models stay loaded: ``Activation.rollback`` switches the streams back at once.  Then
what the new set does not need is unloaded; a worker is a process, so its memory goes back to the system.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from agent.errors import VergeError
from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Settled, Supervisor
from agent.greengrass.deployments import golden
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.target import DeploymentTarget, ModelTarget
from agent.inference.plane import InferencePlane
from agent.results.formats import Context
from agent.streams.streams import Streams, Switched

__all__ = ["Activation", "Activator", "RollbackFailedError", "RunCanary"]

_STEADY_S = 1.0
"""What crashes right after its start was never healthy."""

RunCanary = Callable[[str, str], Awaitable[None]]
"""Has a stream's frames answered by a new model too (stream, model key); raises what speaks against it."""


class RollbackFailedError(DeploymentError):
    """What was live before could not be put back."""

    default_code = "COMPONENT_BROKEN"


@dataclass
class Activator:
    """The parts of the agent that run a deployed set, and what of it is live; one activation at a time."""

    plane: InferencePlane
    streams: Streams
    supervisor: Supervisor
    settle_s: float = 600.0
    target: DeploymentTarget = field(default_factory=DeploymentTarget)
    """What is live."""

    async def start(self, target: DeploymentTarget) -> None:
        """Make a target live where nothing is: streams do not wait for scripts, nor scripts for models.

        Raises what kept the streams from running; the scripts are under way even then.
        """
        self.target = DeploymentTarget(components=target.components)
        await self.supervisor.apply(target.components)
        await Activation(self, target).serve()
        self.target = target

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
    """One target on its way to being live; ``commit`` or ``rollback`` ends it."""

    def __init__(self, activator: Activator, target: DeploymentTarget) -> None:
        self.touched = False
        """Whether it got as far as changing anything that was live."""
        self.problem: VergeError | None = None
        """What is wrong with the new set, where that was to be tolerated."""
        self._live = activator
        self._target = target
        self._undo = AsyncExitStack()
        self._switched: list[Switched] = []

    async def apply(self, run_canary: RunCanary | None = None, *, tolerant: bool = False) -> None:
        """Make the target live; with ``tolerant``, even if its scripts do not get healthy.

        Raises what kept it from being so, with everything as it was before, or ``RollbackFailedError`` when it is not.
        """
        try:
            await self._load()
            if run_canary is not None:
                await self._try(run_canary)
            await self._supervise(tolerant=tolerant)
            await self._switch()
        except BaseException:
            await self.rollback()
            raise

    async def serve(self) -> None:
        """Make the models and streams live, and leave the scripts alone."""
        async with self._undo:
            await self._load()
            await self._switch()
            self._undo.pop_all()

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
        new = {key: model for key, model in self._target.models.items() if key not in self._live.plane.models}
        outcomes = await asyncio.gather(
            *(self._load_one(key, model) for key, model in new.items()), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _load_one(self, key: str, model: ModelTarget) -> None:
        plane = self._live.plane
        await plane.load(key, model.spec)
        self._undo.push_async_callback(plane.unload, key)
        await golden.check(lambda picture: plane.infer(key, picture), model.golden)

    async def _try(self, run_canary: RunCanary) -> None:
        for name, options in self._target.streams.items():
            old = self._live.target.streams.get(name)
            if old is not None and old.model != options.model:
                await run_canary(name, options.model)

    # -- scripts ---------------------------------------------------------------------------------------------

    async def _supervise(self, *, tolerant: bool) -> None:
        old, new = self._live.target.components, self._target.components
        if dict(old) == dict(new) and not self._live.broken:
            return
        self.touched = True
        self._undo.push_async_callback(self._restore)
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
        settled = await supervisor.settled(watched, self._live.settle_s, _STEADY_S)
        unhealthy = sorted(name for name, outcome in settled.items() if outcome is not Settled.HEALTHY)
        if not unhealthy:
            return None
        states = supervisor.states()
        sentences = []
        for name in unhealthy:
            problem = states[name].problem
            sentences.append(f"{name} is {states[name].state}" + (f": {problem.reason}" if problem else ""))
        hint = f"the log of {unhealthy[0]} tells what its scripts wrote"
        return DeploymentError("; ".join(sentences), code="COMPONENT_BROKEN", hint=hint)

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
