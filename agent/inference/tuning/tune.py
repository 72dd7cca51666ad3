"""A model tuned: found out what can run it here, measured, chosen and kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.errors import ModelRefusedError
from agent.inference.manifest import ModelSpec
from agent.inference.tuning import device, store
from agent.inference.tuning.candidates import candidates
from agent.inference.tuning.choice import choose, ranked
from agent.inference.tuning.measure import Tell, measure, room
from agent.inference.tuning.pictures import samples
from agent.inference.tuning.store import Store
from agent.inference.tuning.values import Ability, Combination, Measured, Tuning, Wish
from agent.results.result import utc

__all__ = ["BUDGET_S", "find", "tune"]

log = logging.getLogger(__name__)

BUDGET_S: Final = 20.0
"""How long measuring may take where nobody says otherwise."""


async def tune(spec: ModelSpec, *, budget_s: float = BUDGET_S, tell: Tell = log.info) -> Tuning:
    """Measure a model in every combination that can run it here, within about ``budget_s`` seconds.

    ``tell`` hears what is done.  What keeps a combination from running is in the result; raises ``VergeError`` for a
    model that is not there or an interpreter that cannot be run.
    """
    began = time.monotonic()
    digest = await digest_of(spec)
    machine, abilities = await asyncio.gather(device.machine(spec), device.abilities(spec))
    wish = Wish.of(spec)
    wanted = candidates(wish, abilities, machine.cpus)
    pictures = await asyncio.to_thread(samples, spec)
    at_once = room(device.free_bytes(), _size(Path(spec.manifest.file)))
    left_s = max(0.0, budget_s - (time.monotonic() - began))
    measured = await measure(spec, wanted, pictures, budget_s=left_s, at_once=at_once, tell=tell)
    measured = (*measured, *(_absent(each, wish) for each in abilities if each.problem is not None))
    return Tuning(
        model=spec.name,
        digest=digest,
        wish=wish,
        machine=machine,
        measured_at=utc(time.time()),
        took_s=round(time.monotonic() - began, 1),
        pictures=tuple(each.name for each in pictures),
        measured=ranked(measured),
        reason=choose(measured)[1],
    )


async def find(spec: ModelSpec, kept: Store, tell: Callable[[str], None] = log.info) -> Tuning | None:
    """What is kept of a model and still holds on this machine; why it does not is told.  Raises as ``tune``."""
    digest = await digest_of(spec)
    tuning = await asyncio.to_thread(kept.find, digest, Wish.of(spec))
    if tuning is None:
        return None
    changed = store.stale(tuning, await device.machine(spec))
    if changed:
        tell(f"the tuning of {spec.name} is stale: {changed}")
        return None
    return tuning


async def digest_of(spec: ModelSpec) -> str:
    """The digest of a model's file or folder; raises ``ModelRefusedError`` where it cannot be read."""
    path = Path(spec.manifest.file)
    try:
        return await asyncio.to_thread(store.digest, path)
    except OSError as error:
        raise ModelRefusedError(
            f"the model file {path} cannot be read: {error.strerror}",
            code="model-missing",
            hint="check file = … in its manifest.toml",
        ) from error


def _absent(ability: Ability, wish: Wish) -> Measured:
    """A backend that reads the file, and does not run here."""
    return Measured(combination=Combination(ability.backend, wish.accelerator, wish.threads), problem=ability.problem)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(each.stat().st_size for each in files if each.is_file())
