"""``verge models``: what a model is, and what can run it here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli import loop
from agent.cli.trials import Trial, attempt, backends
from agent.config.models import ModelOptions
from agent.config.strict import convert
from agent.errors import ModelRefusedError, VergeError
from agent.inference.manifest import ModelSpec, resolve, sample_names
from agent.inference.values import Description
from agent.results.result import Reason

__all__ = ["command"]


@click.command("models", short_help="What models are, and what can run them here.")
@click.argument("model", default="", metavar="[PATH|NAME]")
@click.option("--labels", default="", metavar="FILE", help="The names of the model's classes.")
@click.option("--task", default="", metavar="NAME", help="What the answers mean, where the model does not tell.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, labels: str, task: str, as_json: bool) -> None:
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
    given = {"source": model, "labels": labels, "task": task}
    spec = resolve(convert(ModelOptions, given, "the command line"), Path.cwd())
    trials = loop.run(_tried(spec))
    ran = next((trial.description for trial in trials if trial.error is None), None)
    if as_json:
        _print_json({**_facts(spec), **_inside(ran), "backends": [_told(trial) for trial in trials]})
    else:
        from agent.cli import model_tables  # noqa: PLC0415 rich is slow to import

        model_tables.show(_facts(spec), ran, trials)
    if ran is None:
        raise click.exceptions.Exit(1)


async def _tried(spec: ModelSpec) -> Sequence[Trial]:
    # One after the other: two models that load side by side measure each other.
    known = await backends()
    own = [] if spec.manifest.backend in {"auto", *known} else [spec.manifest.backend]
    return [await attempt(spec, backend) for backend in (*own, *known)]


def _list(as_json: bool) -> None:
    samples = [{"sample": name} | _facts(resolve(ModelOptions(source=name), Path.cwd())) for name in sample_names()]
    if as_json:
        _print_json(samples)
        return
    from agent.cli import model_tables  # noqa: PLC0415 rich is slow to import

    model_tables.show_samples(samples)


def _facts(spec: ModelSpec) -> dict[str, Any]:
    """What is known of a model without loading it."""
    manifest = spec.manifest
    try:
        place = Path(manifest.file)
        files = [each for each in place.rglob("*") if each.is_file()] if place.is_dir() else [place]
        size = sum(each.stat().st_size for each in files)
    except OSError as error:
        hint = "check file = … in its manifest.toml"
        raise ModelRefusedError(
            f"the model file {manifest.file} cannot be read: {error.strerror}", hint=hint, code="model-missing"
        ) from error
    return {
        "name": manifest.name,
        "version": manifest.version,
        "file": manifest.file,
        "bytes": size,
        "task": manifest.task,
        "labels_file": manifest.labels,
    }


def _inside(model: Description | None) -> dict[str, Any]:
    """What the file tells once it is loaded."""
    if model is None:
        return {}
    return {
        "task": model.task,
        "digest": model.digest,
        "labels": model.labels,
        "inputs": model.inputs,
        "outputs": model.outputs,
    }


def _told(trial: Trial) -> dict[str, Any]:
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


def _print_json(told: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
