"""Making a target live beside what is live now, so that nothing has to stop for it, and the way back.

::

    load new models → golden frames → trial beside the old │ scripts → switch streams between two frames
                        nothing of the old set has changed │

Until ``Change.keep`` the old models stay loaded: ``Change.undo`` switches the streams back at once.  Then what the new
set does not need is unloaded; a worker is a process, so its memory goes back to the system.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from agent.errors import VergeError
from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Settled, Supervisor
from agent.greengrass.deployments import golden
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.model_target import ModelTarget
from agent.greengrass.deployments.target import Target
from agent.inference.plane import InferencePlane
from agent.inference.tuning.tuner import Tuner
from agent.results.formats import Context
from agent.streams.streams import Streams, Switched

__all__ = ["Change", "Live", "RollbackFailedError", "Trial"]

log = logging.getLogger(__name__)

_STEADY_S = 1.0
"""What crashes right after its start was never healthy."""

Trial = Callable[[str, str], Awaitable[None]]
"""Have a stream's frames answered by a new model too (stream, model key); raises what speaks against it."""


class RollbackFailedError(DeploymentError):
    """What was live before could not be put back."""

    default_code = "COMPONENT_BROKEN"


class Change:
    """A target made live and not yet kept."""

    def __init__(
        self, live: Live, target: Target, undo: AsyncExitStack, switched: list[Switched], complaint: VergeError | None
    ) -> None:
        self.complaint = complaint
        """What is wrong with it, where it was asked to be left so."""
        self._live = live
        self._target = target
        self._undo = undo
        self._switched = switched

    async def undo(self) -> None:
        """Put back what was live before."""
        await self._undo.aclose()

    async def keep(self) -> None:
        """Let go of what the new set does not need."""
        self._undo.pop_all()
        for switched in self._switched:
            switched.keep()
        await self._live.settle(self._target)


class Live:
    """What of the deployed set is live.  One change at a time."""

    def __init__(
        self, plane: InferencePlane, tuner: Tuner, streams: Streams, supervisor: Supervisor, *, settle_s: float = 600.0
    ) -> None:
        self._plane = plane
        self._tuner = tuner
        self._streams = streams
        self._supervisor = supervisor
        self._settle_s = settle_s
        self.target = Target()
        self.touched = False
        """Whether the last change got as far as changing anything that was live."""

    async def replace(self, target: Target, trial: Trial | None = None, *, tolerant: bool = False) -> Change:
        """Make a target live; with ``tolerant``, even if its scripts do not get healthy.

        Raises what kept it from being so, with everything as it was before, or ``RollbackFailedError`` when it is not.
        """
        self.touched = False
        undo = AsyncExitStack()
        try:
            await self._load(target, undo)
            if trial is not None:
                await self._try(target, trial)
            complaint = await self._supervise(target, undo, tolerant=tolerant)
            switched = await self._switch(target, undo)
        except BaseException:
            await undo.aclose()
            raise
        return Change(self, target, undo, switched, complaint)

    async def start(self, target: Target) -> None:
        """Make a target live where nothing is: streams do not wait for scripts, nor scripts for models.

        Raises what kept the streams from running; the scripts are under way even then.
        """
        self.target = Target(components=target.components)
        await self._supervisor.apply(target.components)
        async with AsyncExitStack() as undo:
            await self._load(target, undo)
            await self._switch(target, undo)
            undo.pop_all()
        self.target = target

    async def settle(self, target: Target) -> None:
        """Unload and stop what the target, which is live now, has no use for."""
        before, self.target = self.target, target
        if before.components.keys() - target.components.keys():
            await self._supervisor.apply(target.components)
        for name in before.streams:
            if name not in target.streams:
                await self._streams.remove(name)
        await asyncio.gather(*(self._plane.unload(key) for key in before.models if key not in target.models))

    # -- models ----------------------------------------------------------------------------------------------

    async def _load(self, target: Target, undo: AsyncExitStack) -> None:
        fresh = {key: model for key, model in target.models.items() if key not in self._plane.models}
        outcomes = await asyncio.gather(
            *(self._load_one(key, model, undo) for key, model in fresh.items()), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _load_one(self, key: str, model: ModelTarget, undo: AsyncExitStack) -> None:
        await self._tuner.load(key, model.spec)
        undo.push_async_callback(self._plane.unload, key)
        await golden.check(lambda picture: self._plane.infer(key, picture), model.golden)

    # -- scripts ---------------------------------------------------------------------------------------------

    async def _supervise(self, target: Target, undo: AsyncExitStack, *, tolerant: bool) -> VergeError | None:
        if dict(self.target.components) == dict(target.components) and not self.broken():
            return None
        self.touched = True
        undo.push_async_callback(self._restore)
        # What nobody wants any more goes when the new set is kept.
        both = dict(self.target.components) | dict(target.components)
        complaint = await self._apply(both, target.components)
        if complaint is not None and not tolerant:
            raise complaint
        return complaint

    async def _restore(self) -> None:
        complaint = await self._apply(self.target.components, self.target.components)
        if complaint is not None:
            raise RollbackFailedError(
                f"the old set does not get healthy again: {complaint.message}", hint=complaint.hint
            )

    async def _apply(
        self, components: Mapping[str, ComponentSpec], watched: Mapping[str, ComponentSpec]
    ) -> VergeError | None:
        await self._supervisor.apply(components)
        settled = await self._supervisor.settled(watched, self._settle_s, _STEADY_S)
        failed = sorted(name for name, outcome in settled.items() if outcome is not Settled.HEALTHY)
        return self._unhealthy(failed) if failed else None

    def broken(self) -> list[str]:
        """The components of scripts that gave up."""
        return [name for name, status in self._supervisor.states().items() if status.state is State.BROKEN]

    def _unhealthy(self, names: list[str]) -> VergeError:
        states = self._supervisor.states()
        told = []
        for name in names:
            problem = states[name].problem
            told.append(f"{name} is {states[name].state}" + (f": {problem.reason}" if problem else ""))
        return DeploymentError(
            "; ".join(told), code="COMPONENT_BROKEN", hint=f"the log of {names[0]} tells what its scripts wrote"
        )

    # -- streams ---------------------------------------------------------------------------------------------

    async def _try(self, target: Target, trial: Trial) -> None:
        for name, options in target.streams.items():
            old = self.target.streams.get(name)
            if old is not None and old.model != options.model:
                await trial(name, options.model)

    async def _switch(self, target: Target, undo: AsyncExitStack) -> list[Switched]:
        switches = []
        for name, options in target.streams.items():
            if name in self.target.streams and self.target.streams[name] == options:
                continue
            self.touched = True
            context = Context.of(target.models[options.model].spec.manifest.options)
            if name in self._streams:
                switched = self._streams.switch(name, options, context)
                undo.callback(switched.back)
                switches.append(switched)
            else:
                await self._streams.add(name, options, context)
                undo.push_async_callback(self._streams.remove, name)
        return switches
