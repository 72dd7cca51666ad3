"""Pictures through a loaded model: one answer or one error a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from msgspec.structs import replace

from agent.cli.pictures import Source
from agent.config.streams import FrameLimits
from agent.errors import VergeError, WorkerLostError
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer, PoolState, Snapshot

__all__ = ["LIMITING", "Answered", "answer", "limited"]

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


async def answer(plane: InferencePlane, source: Source, snapshot: Snapshot | None = None) -> Answered:
    """Have one picture answered; what is wrong with it, or went wrong, is the outcome."""
    try:
        picture = source.read(FrameLimits())
        status = plane.describe(MODEL)
        if status.state is PoolState.BROKEN:
            raise WorkerLostError(f"the model lost every worker: {status.reason}", code="model-broken")
        began = perf_counter()
        told = await plane.infer(MODEL, picture, snapshot=snapshot, label=source.stem)
        return Answered(source, told, (perf_counter() - began) * 1e3)
    except VergeError as error:
        return Answered(source, error)


async def limited(spec: ModelSpec, top_k: int) -> ModelSpec:
    """The same model with at most ``top_k`` predictions; where only the file tells its task, it is loaded for that."""
    task = spec.manifest.task
    if task == "auto":
        async with loaded(spec) as (_, description):
            task = description.task
    options = spec.manifest.options | {LIMITING.get(task, "top_k"): top_k}
    return replace(spec, manifest=replace(spec.manifest, options=options))
