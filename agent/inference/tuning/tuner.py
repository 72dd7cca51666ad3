"""Tuning as a whole: what can run the model here is found out, measured, chosen and kept.

``Tuner`` stands behind the door of the inference plane and answers for each model that asks for it with the
placements that were measured, best first.  A model is measured once: what is kept and still holds is used, a second
load of it waits for the first one's figures, and a tuning without a result is kept too.  One model is measured at a
time.  Tuning never keeps a model from being loaded: whatever goes wrong with it is logged, and the model runs as its
manifest says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from agent.errors import VergeError
from agent.inference import manifest
from agent.inference.manifest import ModelSpec
from agent.inference.placement import Placement
from agent.inference.tuning import device, store
from agent.inference.tuning.choice import candidates, choose, ranked
from agent.inference.tuning.measure import Report, measure, room, samples
from agent.inference.tuning.store import TuningStore
from agent.inference.tuning.values import Ability, Measured, Requirements, Tuning
from agent.results.result import utc

__all__ = ["BUDGET_S", "Tuner", "digest_of", "find", "tune"]

log = logging.getLogger(__name__)

BUDGET_S: Final = 20.0
"""How long measuring may take where nobody says otherwise."""


class Tuner:
    """The plane's ``Placer``: ``data_dir`` is where tunings are kept, ``budget_s`` bounds each measurement."""

    def __init__(self, data_dir: Path, *, budget_s: float = BUDGET_S) -> None:
        self._store = TuningStore(data_dir)
        self._budget_s = budget_s
        self._measuring = asyncio.Lock()

    async def placements(self, name: str, spec: ModelSpec) -> tuple[Placement, ...]:
        """The ways to run a model, best first, measured now unless they are known; none for one that is not to be."""
        if not spec.manifest.autotune:
            return ()
        try:
            async with self._measuring:
                tuning = await find(spec, self._store) or await self._measure(name, spec)
        except VergeError as error:
            log.warning("model %s cannot be tuned: %s", name, error)
            return ()
        if not tuning.ranked:
            log.warning("model %s: tuning found nothing: %s", name, tuning.reason)
        return tuning.ranked

    async def _measure(self, name: str, spec: ModelSpec) -> Tuning:
        log.info("model %s is measured, for up to %g s", name, self._budget_s)
        tuning = await tune(spec, budget_s=self._budget_s)
        for measured in tuning.measured:
            if measured.problem is not None:
                log.warning("model %s: %s is out: %s", name, measured.placement, measured.problem.message)
        if tuning.ranked:
            log.info("model %s runs with %s: %s", name, tuning.ranked[0], tuning.reason)
        await asyncio.to_thread(self._store.keep, tuning)
        return tuning


async def tune(spec: ModelSpec, *, budget_s: float = BUDGET_S, report: Report = log.info) -> Tuning:
    """Measure a model at every placement that can run it here, within about ``budget_s`` seconds.

    ``report`` is called with each step.  What keeps a placement from running is in the result; raises ``VergeError``
    for a model that is not there or an interpreter that cannot be run.
    """
    began = time.monotonic()
    digest = await digest_of(spec)
    machine, abilities = await asyncio.gather(device.machine(spec), device.abilities(spec))
    requirements = Requirements.of(spec)
    placements = candidates(requirements, abilities, machine.cpus)
    pictures = await asyncio.to_thread(samples, spec)
    at_once = room(device.free_bytes(), sum(path.stat().st_size for path in manifest.parts(spec)))
    left_s = max(0.0, budget_s - (time.monotonic() - began))
    measured = await measure(spec, placements, pictures, budget_s=left_s, at_once=at_once, report=report)
    absent = (_absent(ability, requirements) for ability in abilities if ability.problem is not None)
    measured = (*measured, *absent)
    return Tuning(
        model=spec.name,
        digest=digest,
        requirements=requirements,
        machine=machine,
        measured_at=utc(time.time()),
        took_s=round(time.monotonic() - began, 1),
        pictures=tuple(picture.name for picture in pictures),
        measured=ranked(measured),
        reason=choose(measured)[1],
    )


async def find(spec: ModelSpec, kept: TuningStore, report: Report = log.info) -> Tuning | None:
    """What is kept of a model and still holds on this machine; what makes it stale is reported.  Raises as ``tune``."""
    digest = await digest_of(spec)
    tuning = await asyncio.to_thread(kept.find, digest, Requirements.of(spec))
    if tuning is None:
        return None
    changed = store.stale(tuning, await device.machine(spec))
    if changed:
        report(f"the tuning of {spec.name} is stale: {changed}")
        return None
    return tuning


async def digest_of(spec: ModelSpec) -> str:
    """The digest of a model, as its worker describes it too; raises ``ModelRefusedError`` where it cannot be read."""
    return await asyncio.to_thread(manifest.digest, spec)


def _absent(ability: Ability, requirements: Requirements) -> Measured:
    """A backend that reads the file, and does not run here."""
    placement = Placement(ability.backend, requirements.accelerator, requirements.threads)
    return Measured(placement=placement, problem=ability.problem)
