"""Pictures through a model that is loaded for them alone: one answer or one error a picture, in order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import msgspec

from agent.cli.pictures import Source
from agent.errors import VergeError, WorkerLost
from agent.frames.frame import Limits
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer, Description, PoolState, Snapshot

__all__ = ["LIMITING", "MODEL", "Answered", "answer", "loaded"]

MODEL = "model"
"""The one name in a plane that holds one model."""

LIMITING = {"image-classification": "top_k", "object-detection": "max_detections"}
"""The option with which a task limits how many predictions it gives."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one picture."""

    source: Source
    outcome: Answer | VergeError
    total_ms: float = 0.0
    """From handing it over to its answer."""
    annotated: Path | None = None
    """Where the annotated picture was written."""


@asynccontextmanager
async def loaded(spec: ModelSpec, top_k: int | None = None) -> AsyncIterator[tuple[InferencePlane, Description]]:
    """A plane with the model in it, called ``MODEL``; raises what kept it from loading.

    ``top_k`` limits the predictions; which option does that shows when the task is known.
    """
    error: VergeError | None = None
    with tempfile.TemporaryDirectory(prefix="verge-") as folder:
        async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, Path(folder)) as plane:
            try:
                description = await _load(plane, spec, top_k)
            except VergeError as refused:
                error = refused  # raised below: a task group would wrap it
            else:
                yield plane, description
    if error is not None:
        raise error


async def answer(plane: InferencePlane, source: Source, snapshot: Snapshot | None = None) -> Answered:
    """Have one picture answered; what is wrong with it, or went wrong, is the outcome."""
    try:
        picture = source.read(Limits())
        status = plane.describe(MODEL)
        if status.state is PoolState.BROKEN:
            raise WorkerLost(f"the model lost every worker: {status.reason}", code="model-broken")
        began = perf_counter()
        told = await plane.infer(MODEL, picture, snapshot=snapshot, label=source.stem)
        return Answered(source, told, (perf_counter() - began) * 1e3)
    except VergeError as error:
        return Answered(source, error)


async def _load(plane: InferencePlane, spec: ModelSpec, top_k: int | None) -> Description:
    task = spec.manifest.task
    if top_k is not None and task == "auto":
        task = (await plane.load(MODEL, spec)).task
        await plane.unload(MODEL)
    return await plane.load(MODEL, spec if top_k is None else _limited(spec, task, top_k))


def _limited(spec: ModelSpec, task: str, top_k: int) -> ModelSpec:
    options = spec.manifest.options | {LIMITING.get(task, "top_k"): top_k}
    return msgspec.structs.replace(spec, manifest=msgspec.structs.replace(spec.manifest, options=options))
