"""``verge models``: what a model is, and which backends run it here, each tried in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from msgspec.structs import replace

from agent.cli import loop
from agent.cli.inputs import input_options, input_table
from agent.cli.output import json_option, print_json
from agent.cli.pictures import PictureSource, answer
from agent.config.models import ModelOptions
from agent.config.strict import convert
from agent.doctor import child
from agent.errors import BackendUnavailableError, VergeError
from agent.inference.alone import loaded
from agent.inference.manifest import RAW, SAMPLES, ModelSpec, parts, resolve, sample_names
from agent.inference.values import Answer, ModelMetadata
from agent.results.result import Reason

__all__ = ["BackendTrial", "command"]

_RUNS = 5
_PICTURE = PictureSource(str(SAMPLES.parent / "images" / "chelsea.jpg"))


@dataclass(frozen=True, slots=True)
class BackendTrial:
    """A model tried in one backend: its description and a duration, or an error."""

    backend: str
    description: ModelMetadata | None = None
    infer_ms: float = 0.0
    """The median of a few runs."""
    error: VergeError | None = None


@click.command("models")
@click.argument("model", default="", metavar="[PATH|NAME]")
@click.option("--labels", default="", metavar="FILE", help="The names of the model's classes.")
@click.option("--task", default="", metavar="NAME", help="What the answers mean, where the model does not tell.")
@input_options
@json_option
def command(model: str, labels: str, task: str, as_json: bool, **fed: Any) -> None:
    """List the sample models; or tell what a model is, and try it in every backend.

    A model is a sample's name, a folder or a model file.  The exit status is 1 when no backend runs it here.

    \b
    Examples:
      verge models
      verge models detector
      verge models mine.onnx --json
    """  # noqa: D301 click wants the character itself
    if not model:
        _list(as_json)
        return
    given = {"source": model, "labels": labels, "task": task, "input": input_table(**fed)}
    spec = resolve(convert(ModelOptions, given, "the command line"), Path.cwd())
    trials = loop.run(_try_all(spec))
    ran = next((trial.description for trial in trials if trial.error is None), None)
    if as_json:
        print_json({**_facts(spec), **_description(ran), "backends": [_outcome(trial) for trial in trials]})
    else:
        from agent.cli import descriptions  # noqa: PLC0415 rich is slow to import

        descriptions.show_trials(_facts(spec), ran, trials)
    if ran is None:
        raise click.exceptions.Exit(1)


def _list(as_json: bool) -> None:
    samples = [{"sample": name} | _facts(resolve(ModelOptions(source=name), Path.cwd())) for name in sample_names()]
    if as_json:
        print_json(samples)
        return
    from agent.cli import descriptions  # noqa: PLC0415 rich is slow to import

    descriptions.show_samples(samples)


def _facts(spec: ModelSpec) -> dict[str, Any]:
    """The facts that are known of a model without loading it."""
    manifest = spec.manifest
    made_of = parts(spec)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "file": manifest.file,
        "parts": [str(part) for part in made_of[1:]],
        "bytes": sum(part.stat().st_size for part in made_of),
        "task": manifest.task,
        "labels_file": manifest.labels,
    }


def _description(model: ModelMetadata | None) -> dict[str, Any]:
    """The facts that a model has once it is loaded."""
    if model is None:
        return {}
    return {
        "task": model.task,
        "decoder": model.decoder,
        "recognition": model.recognition,
        "input": model.input,
        "digest": model.digest,
        "labels": model.labels,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "stages": [{"name": stage.name, **_description(stage)} for stage in model.stages],
    }


def _outcome(trial: BackendTrial) -> dict[str, Any]:
    model = trial.description
    if trial.error is not None or model is None:
        return {
            "backend": trial.backend,
            "runs": False,
            "error": Reason.of(trial.error or VergeError("it does not run")),
        }
    return {
        "backend": trial.backend,
        "runs": True,
        "version": model.backend,
        "accelerator": model.accelerator,
        "load_ms": model.load_ms,
        "infer_ms": trial.infer_ms,
    }


async def _try_all(spec: ModelSpec) -> Sequence[BackendTrial]:
    """Try every backend that has a name, installed or not."""
    known: list[str] = (await child.ask("backends"))["backends"]
    own = [] if spec.manifest.backend in {"auto", *known} else [spec.manifest.backend]
    # One after the other: two models that load side by side measure each other.
    return [await _try(spec, backend) for backend in (*own, *known)]


async def _try(spec: ModelSpec, backend: str) -> BackendTrial:
    """Load the model with this backend and have it answer a sample picture."""
    path = spec.manifest.file
    try:
        named = backend == spec.manifest.backend
        if not named and not (await child.ask("backend", backend, path))["accepts"]:
            suffix = Path(path).suffix or "such"
            raise BackendUnavailableError(f"it does not read {suffix} files", code="model-format-unknown")
        async with loaded(_with_backend(spec, backend)) as (plane, description):
            if description.task == RAW:
                return BackendTrial(backend, description, description.warm_up_ms)
            outcomes = [(await answer(plane, _PICTURE)).outcome for _ in range(_RUNS)]
    except VergeError as error:
        return BackendTrial(backend, error=error)
    problem = next((outcome for outcome in outcomes if isinstance(outcome, VergeError)), None)
    times = [outcome.timing_ms["infer"] for outcome in outcomes if isinstance(outcome, Answer)]
    return BackendTrial(backend, description, median(times) if times else 0.0, problem)


def _with_backend(spec: ModelSpec, backend: str) -> ModelSpec:
    """The same model for this backend; options that were written for another one are left out."""
    manifest = spec.manifest
    options = manifest.backend_options if manifest.backend in ("auto", backend) else {}
    return replace(spec, manifest=replace(manifest, backend=backend, backend_options=options))
