"""``verge infer``: pictures from files through a model, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli import loop
from agent.cli.annotations import Annotations
from agent.cli.answering import Answered, answer, limited
from agent.cli.pictures import Source, expand
from agent.config.models import ModelOptions
from agent.config.strict import convert
from agent.errors import VergeError
from agent.inference.alone import loaded
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.values import Answer, Description
from agent.results.result import Reason

__all__ = ["command"]


@click.command("infer", short_help="Answer pictures from files, without a broker.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--model",
    default="classifier",
    show_default=True,
    metavar="PATH|NAME",
    help="A model's file or folder, or a sample's name.",
)
@click.option("--labels", default="", metavar="FILE", help="The names of the model's classes.")
@click.option("--backend", default="", metavar="NAME", help="What runs the model: litert, onnx, opencv …")
@click.option(
    "--task", default="", metavar="NAME", help="What the answers mean: image-classification, object-detection …"
)
@click.option("--top-k", type=click.IntRange(1), metavar="N", help="At most so many predictions a picture.")
@click.option("--threshold", type=click.FloatRange(0, 1), metavar="X", help="No prediction scored below this.")
@click.option(
    "--annotate", type=click.Path(path_type=Path, file_okay=False), help="Write annotated JPEGs to DIR.", metavar="DIR"
)
@click.option(
    "--threads", type=click.IntRange(0), default=0, metavar="N", help="For the model; 0 takes what the machine has."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object a picture.")
def command(
    images: tuple[str, ...], model: str, labels: str, backend: str, task: str, top_k: int | None,
    threshold: float | None, annotate: Path | None, threads: int, as_json: bool,
) -> None:  # fmt: skip
    """Answer pictures: JPEG, PNG, WebP, BMP or .npy, or text that holds one (base64, data URI, JSON).

    IMAGE is a file, a folder, a pattern, or - for standard input.  The exit status is 1 when a picture failed.

    \b
    Examples:
      verge infer photo.jpg
      verge infer --model detector --annotate out/ photos/
      verge infer --model mine.onnx --labels labels.txt --json photo.jpg
    """  # noqa: D301 click wants the character itself
    options = {} if threshold is None else {"threshold": threshold}
    given = {
        "source": model,
        "labels": labels,
        "backend": backend,
        "task": task,
        "options": options,
        "threads": threads,
    }
    spec = resolve(convert(ModelOptions, given, "the command line"), Path.cwd())
    places = Annotations(annotate) if annotate else None
    try:
        description, answered = loop.run(_answers(spec, expand(images), top_k, places))
    except VergeError as error:
        if error.hint:
            # It speaks of a manifest's key; here there is an option.
            error.hint = error.hint.replace("backend = …", "--backend")
        raise
    if as_json:
        told = [_told(one, description) for one in answered]
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
    else:
        _print(description, answered)
    if any(isinstance(one.outcome, VergeError) for one in answered):
        raise click.exceptions.Exit(1)


async def _answers(
    spec: ModelSpec, sources: list[Source], top_k: int | None, places: Annotations | None
) -> tuple[Description, list[Answered]]:
    wanted = spec if top_k is None else await limited(spec, top_k)
    async with loaded(wanted) as (plane, description):
        if places is None:
            return description, [await answer(plane, source) for source in sources]
        return description, [places.keep(await answer(plane, source, places.snapshot)) for source in sources]


def _told(one: Answered, model: Description) -> dict[str, Any]:
    if isinstance(one.outcome, VergeError):
        return {"image": one.source.name, "error": Reason.of(one.outcome)}
    told = {
        "image": one.source.name,
        "model": model.name,
        "task": model.task,
        "predictions": one.outcome.predictions,
        "timing_ms": {**one.outcome.timing_ms, "total": round(one.total_ms, 3)},
    }
    return {**told, "annotated": str(one.annotated)} if one.annotated else told


def _print(model: Description, answered: list[Answered]) -> None:
    from agent.cli import tables  # noqa: PLC0415 rich is slow to import

    if any(isinstance(one.outcome, Answer) for one in answered):
        tables.show_model(model)
        tables.show_answers(answered)
    written = [one.annotated for one in answered if one.annotated]
    for number, path in enumerate(written):
        click.echo(f"{'' if number else chr(10)}annotated: {path}")
    for one in answered:
        if isinstance(one.outcome, VergeError):
            click.secho(f"verge: {one.source.name}: {one.outcome.message}", fg="red", err=True)
            if one.outcome.hint:
                click.echo(f"       {one.outcome.hint}", err=True)
