"""A model tried in every backend, each in a process of its own: does it run here, how fast, and if not, why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from agent.cli.answering import answer
from agent.cli.pictures import Source
from agent.doctor import child
from agent.errors import BackendUnavailableError, VergeError
from agent.inference.alone import loaded
from agent.inference.manifest import SAMPLES, ModelSpec
from agent.inference.values import Answer, Description

__all__ = ["Trial", "attempt", "backends"]

_RUNS = 5
_PICTURE = Source(str(SAMPLES.parent / "images" / "chelsea.jpg"))


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the model in one backend: a description and a duration, or an error."""

    backend: str
    description: Description | None = None
    infer_ms: float = 0.0
    """The median of a few runs."""
    error: VergeError | None = None


async def backends() -> Sequence[str]:
    """Every backend that can be asked for by name, installed or not."""
    names: list[str] = (await child.ask("backends"))["backends"]
    return names


async def attempt(spec: ModelSpec, backend: str) -> Trial:
    """Load the model with this backend and have it answer a sample picture."""
    path = spec.manifest.file
    try:
        named = backend == spec.manifest.backend
        if not named and not (await child.ask("backend", backend, path))["accepts"]:
            suffix = Path(path).suffix or "such"
            raise BackendUnavailableError(f"it does not read {suffix} files", code="model-format-unknown")
        async with loaded(_with_backend(spec, backend)) as (plane, description):
            outcomes = [(await answer(plane, _PICTURE)).outcome for _ in range(_RUNS)]
    except VergeError as error:
        return Trial(backend, error=error)
    problem = next((outcome for outcome in outcomes if isinstance(outcome, VergeError)), None)
    times = [outcome.timing_ms["infer"] for outcome in outcomes if isinstance(outcome, Answer)]
    return Trial(backend, description, median(times) if times else 0.0, problem)


def _with_backend(spec: ModelSpec, backend: str) -> ModelSpec:
    """The same model for this backend; options that were written for another one are left out."""
    manifest = spec.manifest
    options = manifest.backend_options if manifest.backend in ("auto", backend) else {}
    return msgspec.structs.replace(
        spec, manifest=msgspec.structs.replace(manifest, backend=backend, backend_options=options)
    )
