"""``verge infer``: pictures from files through a model, without a broker."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli import loop
from agent.cli.arrays import arrays
from agent.cli.inputs import as_options, input_options, input_table
from agent.cli.output import echo, print_json
from agent.cli.pictures import PictureResult, PictureSource, answer, expand, limited
from agent.config.models import ModelOptions
from agent.config.strict import convert
from agent.errors import ConfigError, VergeError
from agent.files import SHARED, write_atomically
from agent.inference.alone import loaded
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.tensors import write_npy
from agent.inference.values import Answer, ModelMetadata, Snapshot
from agent.results.result import Reason

__all__ = ["command"]


@click.command("infer")
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
@input_options
@click.option(
    "--annotate", type=click.Path(path_type=Path, file_okay=False), help="Write annotated JPEGs to DIR.", metavar="DIR"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Write all that the answers hold as NumPy arrays.",
)
@click.option(
    "--threads", type=click.IntRange(0), default=0, metavar="N", help="For the model; 0 takes what the machine has."
)
@click.option("-v", "--verbose", is_flag=True, help="Tell what the model was taken for, how it is fed, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object a picture.")
def command(
    images: tuple[str, ...], model: str, labels: str, backend: str, task: str, top_k: int | None,
    threshold: float | None, annotate: Path | None, out: Path | None, threads: int, verbose: bool, as_json: bool,
    **fed: Any,
) -> None:  # fmt: skip
    """Answer pictures: JPEG, PNG, WebP, BMP or .npy, or text that holds one (base64, data URI, JSON).

    IMAGE is a file, a folder, a pattern, or - for standard input.  The exit status is 1 when a picture failed.
    Masks, maps, vectors and tensors are told by size and range; --out writes every number, and --task tensors gives
    the network's outputs as they are.

    \b
    Examples:
      verge infer photo.jpg
      verge infer --model detector --annotate out/ photos/
      verge infer --model mine.onnx --labels labels.txt --json photo.jpg
      verge infer --model mine.onnx --task tensors --out outputs.npz photo.jpg
      verge infer --model mine.onnx --size 640 --color BGR --tile 3x2 -v wide.jpg
    """  # noqa: D301 click wants the character itself
    options = {} if threshold is None else {"threshold": threshold}
    given = {
        "source": model,
        "labels": labels,
        "backend": backend,
        "task": task,
        "input": input_table(**fed),
        "options": options,
        "threads": threads,
    }
    spec = resolve(convert(ModelOptions, given, "the command line"), Path.cwd())
    annotations = _Annotations(annotate) if annotate else None
    if out is not None and not out.parent.is_dir():
        raise _no_arrays(out, "there is no such folder")
    try:
        description, results = loop.run(_answers(spec, expand(images), top_k, annotations))
    except VergeError as error:
        if error.hint:
            error.hint = as_options(error.hint)
        raise
    if out is not None:
        _write(out, results)
    if as_json:
        print_json([_json(result, description) for result in results])
    else:
        _print(description, results, verbose=verbose)
        if out is not None:
            echo(f"\narrays: {out}")
    if any(isinstance(result.outcome, VergeError) for result in results):
        raise click.exceptions.Exit(1)


async def _answers(
    spec: ModelSpec, sources: list[PictureSource], top_k: int | None, annotations: _Annotations | None
) -> tuple[ModelMetadata, list[PictureResult]]:
    spec = spec if top_k is None else await limited(spec, top_k)
    async with loaded(spec) as (plane, description):
        if annotations is None:
            return description, [await answer(plane, source) for source in sources]
        return description, [annotations.keep(await answer(plane, source, annotations.snapshot)) for source in sources]


def _json(result: PictureResult, model: ModelMetadata) -> dict[str, Any]:
    if isinstance(result.outcome, VergeError):
        return {"image": result.source.name, "error": Reason.of(result.outcome)}
    values: dict[str, Any] = {
        "image": result.source.name,
        "model": model.name,
        "task": model.task,
        **({"decoder": model.decoder} if model.decoder else {}),
        "predictions": result.outcome.predictions,
        "timing_ms": {**result.outcome.timing_ms, "total": round(result.total_ms, 3)},
    }
    if result.outcome.damaged:
        values["damaged"] = True
    return {**values, "annotated": str(result.annotated)} if result.annotated else values


def _write(path: Path, results: Sequence[PictureResult]) -> None:
    """Write the arrays of all answers; of several pictures each below its name."""
    answered = [(result.source.stem, result.outcome) for result in results if isinstance(result.outcome, Answer)]
    names = _unique(stem.strip(".") or "picture" for stem, _ in answered)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (_, answer) in zip(names, answered, strict=True):
            for array in arrays(answer.predictions, f"{name}/" if len(results) > 1 else ""):
                write_npy(archive, array)
    try:
        write_atomically(path, made.getvalue(), SHARED)
    except OSError as error:
        raise _no_arrays(path, error.strerror) from error


def _no_arrays(path: Path, reason: str | None) -> ConfigError:
    hint = "name another file with --out"
    return ConfigError(f"{path} cannot be written: {reason}", hint=hint, code="arrays-unwritable")


def _unique(names: Iterable[str]) -> Iterator[str]:
    """Each name, with a number where it was there before."""
    taken: set[str] = set()
    for name in names:
        tries = (f"{name}-{number}" if number > 1 else name for number in count(1))
        free = next(one for one in tries if one not in taken)
        taken.add(free)
        yield free


def _print(model: ModelMetadata, results: list[PictureResult], *, verbose: bool) -> None:
    from agent.cli import answers, descriptions  # noqa: PLC0415 rich is slow to import

    if any(isinstance(result.outcome, Answer) for result in results):
        descriptions.show_model(model)
        if verbose:
            descriptions.show_recognition(model)
        answers.show_answers(results)
    written = [result.annotated for result in results if result.annotated]
    for number, path in enumerate(written):
        echo(f"{'' if number else chr(10)}annotated: {path}")
    for result in results:
        if isinstance(result.outcome, VergeError):
            echo(f"verge: {result.source.name}: {result.outcome.message}", fg="red", err=True)
            if result.outcome.hint:
                echo(f"       {result.outcome.hint}", err=True)
        elif result.outcome.damaged:
            echo(f"verge: {result.source.name}: the picture is damaged, and the answer may be wrong", err=True)


class _Annotations:
    """Annotated pictures in a folder: ``<picture>.annotated.jpg``, a file for each, and never one of the pictures."""

    snapshot = Snapshot(quality=90)
    """The request to the model, beside that for its answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[Path] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def keep(self, result: PictureResult) -> PictureResult:
        """The same with its annotated picture on disk instead of in memory, or the error that kept it from there."""
        if not isinstance(result.outcome, Answer):
            return result
        path = self._free(result.source.stem)
        self._taken.add(path)
        try:
            write_atomically(path, result.outcome.snapshot, SHARED)
        except OSError as error:
            return replace(result, outcome=_unwritable(path, error))
        return replace(result, outcome=msgspec.structs.replace(result.outcome, snapshot=b""), annotated=path)

    def _free(self, stem: str) -> Path:
        """A path that no other picture of this run took; what an earlier run left is replaced."""
        names = (f"{stem}{'' if number == 1 else f'-{number}'}.annotated.jpg" for number in count(1))
        return next(path for path in (self._folder / name for name in names) if path not in self._taken)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    hint = "name another folder with --annotate"
    return ConfigError(f"{path} cannot be written: {error.strerror}", hint=hint, code="annotation-unwritable")
