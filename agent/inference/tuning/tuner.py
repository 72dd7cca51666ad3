"""The agent's door: models are loaded as the plane loads them, those that ask for it in their fastest way.

A model is measured once: what is kept and still holds is used, a second load of it waits for the first one's figures,
and a tuning that found nothing is kept too.  One model is measured at a time.  Tuning never keeps a model from being
loaded: whatever goes wrong with it is logged, and the model runs as its manifest says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from agent.errors import BackendUnavailableError, VergeError
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.tuning.measure import load_placed
from agent.inference.tuning.store import Store
from agent.inference.tuning.tune import BUDGET_S, find, tune
from agent.inference.tuning.values import Combination, Tuning
from agent.inference.values import Description

__all__ = ["Fell", "Tuner"]

log = logging.getLogger(__name__)

Fell = Callable[[str, str], None]
"""Hears the name of a model that is not run in the way that was measured as the fastest, and why."""


class Tuner:
    """Loads models into a plane; ``data_dir`` is where tunings are kept, ``budget_s`` bounds each measurement."""

    def __init__(
        self,
        plane: InferencePlane,
        data_dir: Path,
        *,
        budget_s: float = BUDGET_S,
        fell: Fell = lambda _name, _why: None,
    ) -> None:
        self._plane = plane
        self._store = Store(data_dir)
        self._budget_s = budget_s
        self._fell = fell
        self._measuring = asyncio.Lock()

    async def load(self, name: str, spec: ModelSpec) -> Description:
        """Load a model under a name, in its fastest way where it asks for that; raises as ``InferencePlane.load``."""
        if not spec.manifest.autotune:
            return await self._plane.load(name, spec)
        fallen: list[str] = []
        for combination in await self._ranked(name, spec):
            try:
                description = await load_placed(self._plane, name, combination.applied(spec))
            except VergeError as error:
                # On the processor there is nothing that could be gone but the backend.
                if combination.accelerator == "cpu" and not isinstance(error, BackendUnavailableError):
                    raise
                fallen.append(f"{combination} cannot be had: {error.message}")
                log.warning("model %s: %s", name, fallen[-1])
            else:
                self._told(name, fallen, str(combination))
                return description
        description = await self._plane.load(name, spec)
        self._told(name, fallen, "what its manifest says")
        return description

    def _told(self, name: str, fallen: list[str], instead: str) -> None:
        if fallen:
            reason = f"{'; '.join(fallen)}; it runs with {instead}"
            log.warning("model %s: not the fastest way: %s", name, reason)
            self._fell(name, reason)

    async def _ranked(self, name: str, spec: ModelSpec) -> tuple[Combination, ...]:
        """The ways to run the model, best first; measured now unless they are known."""
        try:
            async with self._measuring:
                tuning = await find(spec, self._store)
                if tuning is None:
                    tuning = await self._measured(name, spec)
        except VergeError as error:
            log.warning("model %s cannot be tuned: %s", name, error)
            return ()
        if not tuning.ranked:
            log.warning("model %s: tuning found nothing: %s", name, tuning.reason)
        return tuning.ranked

    async def _measured(self, name: str, spec: ModelSpec) -> Tuning:
        log.info("model %s is measured, for up to %g s", name, self._budget_s)
        tuning = await tune(spec, budget_s=self._budget_s)
        for each in tuning.measured:
            if each.problem is not None:
                log.warning("model %s: %s is out: %s", name, each.combination, each.problem.message)
        if tuning.ranked:
            log.info("model %s runs with %s: %s", name, tuning.ranked[0], tuning.reason)
        await asyncio.to_thread(self._store.keep, tuning)
        return tuning
