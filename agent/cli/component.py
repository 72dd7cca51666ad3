"""``verge component``: begin a component, and pack it for deployment."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from agent.cli import goldens, inspections, loop, packing, skeletons
from agent.cli.goldens import prove
from agent.cli.inspections import Judging
from agent.cli.output import echo, json_option, print_json
from agent.cli.packing import ComponentSource, Packed
from agent.cli.skeletons import ARCHIVES, SkeletonKind
from agent.config.models import ModelOptions
from agent.errors import ConfigError
from agent.greengrass.artifacts.digest import Digest
from agent.inference.manifest import SAMPLES, resolve

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_SAMPLE = "classifier"
_PICTURE = SAMPLES.parent / "images" / "chelsea.jpg"


@click.group("component")
def command() -> None:
    """Components of one's own: a model, an inference without code, or any program.

    \b
    Examples:
      verge component init model com.example.Classifier --model classifier
      verge component init inference com.example.Inspect --model com.example.Classifier
      verge component pack com.example.Classifier com.example.Inspect --out build
    """  # noqa: D301 click reads the backspace


@command.command("init")
@click.argument("kind", type=click.Choice([kind.value for kind in SkeletonKind]))
@click.argument("name")
@click.option("--dir", "parent", type=_PATH, default=".", metavar="DIR", help="Where the folder NAME is made.")
@click.option(
    "--model",
    default="",
    metavar="MODEL",
    help="For a model, an anomaly and greengrass: its file, folder or sample; an anomaly's may be an export.  "
    "For an inference: the model component.",
)
@click.option("--normal", multiple=True, metavar="CLASS", help="For an anomaly: a class that is none; repeatable.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), metavar="SCORE", help="For an anomaly: from which score on it is one."
)
@click.option(
    "--task", default="", metavar="TASK", help="For an anomaly: what its outputs are, where they do not tell."
)
@click.option("--no-run", is_flag=True, help="Do not run the model here; then no golden frame is recorded.")
@json_option
def init(
    kind: str, name: str, parent: Path, model: str, normal: Sequence[str], threshold: float | None, task: str,
    no_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write a component that works as it is, to begin from.

    An inference for which no --model is named gets one, NAME.Model, beside it.  The kind greengrass is Verge itself,
    for a nucleus of AWS IoT Greengrass that runs it.  The kind anomaly is a model that judges pictures, from an export
    of Anomalib's or from a classifier.

    \b
    Examples:
      verge component init model com.example.Classifier --model mine.onnx
      verge component init anomaly com.example.Inspector --model results/weights/onnx
      verge component init anomaly com.example.Inspector --model classifier.tflite --normal good
      verge component init inference com.example.Inspect --dir components
      verge component init generic com.example.Hello
      verge component init greengrass com.example.Verge --model mine.onnx
    """  # noqa: D301 click reads the backspace
    begun = SkeletonKind(kind)
    told = Judging(tuple(normal), threshold, task)
    if begun is SkeletonKind.ANOMALY and (no_run or not model):
        raise click.UsageError("an anomaly model comes from --model, and is asked what it is")
    if begun is not SkeletonKind.ANOMALY and told != Judging():
        raise click.UsageError("--normal, --threshold and --task are for the kind anomaly")
    names = [name, f"{name}.Model"] if begun is SkeletonKind.INFERENCE and not model else [name]
    made = [parent / component for component in names]
    if taken := next((folder for folder in made if folder.exists()), None):
        raise ConfigError(f"{taken} is there already", code="not-written", hint="choose another name or --dir")
    # The model comes first: it is what can fail, and then nothing is written.
    if begun is SkeletonKind.MODEL or len(names) > 1:
        _begin_model(made[-1], names[-1], model or _SAMPLE, run=not no_run)
    if begun is SkeletonKind.ANOMALY:
        _begin_anomaly(made[0], name, model, told)
    elif begun is SkeletonKind.GREENGRASS:
        _begin_verge(made[0], name, model or _SAMPLE)
    elif begun is not SkeletonKind.MODEL:
        skeletons.write(begun, made[0], name, model or names[-1])
    if as_json:
        print_json({"folders": [str(folder) for folder in made]})
        return
    for folder in made:
        echo(f"{folder}: written")
    echo(f"next: verge component pack {' '.join(map(str, made))}")


@command.command("pack")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=_PATH)
@click.option("--out", type=_PATH, default="build", show_default=True, help="Where to write.", metavar="DIR")
@click.option(
    "--base-uri", default="file:", metavar="URI", help="Where devices find the artifacts: https://…; usually with them."
)
@click.option(
    "--record-golden", "pictures", multiple=True, type=_PATH, metavar="PICTURE",
    help="Make what the model says of it now what is expected; repeatable.",
)  # fmt: skip
@click.option("--no-run", is_flag=True, help="Do not run models here, so that golden frames are not checked.")
@json_option
def pack(
    folders: Sequence[Path], out: Path, base_uri: str, pictures: Sequence[Path], no_run: bool, as_json: bool
) -> None:
    """Pack components: archives with digests, and recipes that name them.

    A model first has to answer its golden frames as expected.  What is written, OUT/recipes and OUT/artifacts, is
    what a deployment takes; the same folder gives the same bytes.

    \b
    Examples:
      verge component pack com.example.Classifier
      verge component pack com.example.Classifier --record-golden cat.jpg --record-golden cup.jpg
      verge component pack com.example.* --out build --base-uri https://files.example.com/artifacts
    """  # noqa: D301 click reads the backspace
    if pictures and (no_run or len(folders) > 1):
        raise click.UsageError("--record-golden is for one component, whose model is run here")
    sources = [packing.find(folder) for folder in folders]
    counted = [prove(source, pictures, run=not no_run) for source in sources]
    packed = [packing.pack(source, out, base_uri) for source in sources]
    if as_json:
        print_json([_json(*results) for results in zip(sources, packed, counted, strict=True)])
        return
    for results in zip(sources, packed, counted, strict=True):
        _show(*results)


def _begin_model(folder: Path, name: str, source: str, *, run: bool) -> None:
    """Write a model component and have its model answer a picture; what fails leaves nothing behind."""
    spec = resolve(ModelOptions(source=source), Path.cwd())
    skeletons.write(SkeletonKind.MODEL, folder, name)
    place = folder / ARCHIVES[SkeletonKind.MODEL]
    try:
        skeletons.write_model(spec, source, place)
        if run:
            loop.run(goldens.recorded(resolve(ModelOptions(source=str(place)), Path.cwd()), place, [_PICTURE]))
    except BaseException:
        shutil.rmtree(folder)
        raise


def _begin_anomaly(folder: Path, name: str, source: str, told: Judging) -> None:
    """Write an anomaly component and have its model answer a picture; what fails leaves nothing behind."""
    skeletons.write(SkeletonKind.ANOMALY, folder, name)
    place = folder / ARCHIVES[SkeletonKind.ANOMALY]
    try:
        inspections.write(source, place, told)
        loop.run(goldens.recorded(resolve(ModelOptions(source=str(place)), Path.cwd()), place, [_PICTURE]))
    except BaseException:
        shutil.rmtree(folder)
        raise


def _begin_verge(folder: Path, name: str, model: str) -> None:
    """Write Verge as a component, with a copy of its model; what fails leaves nothing behind."""
    spec = resolve(ModelOptions(source=model), Path.cwd())
    skeletons.write(SkeletonKind.GREENGRASS, folder, name)
    try:
        skeletons.write_model(spec, model, folder / ARCHIVES[SkeletonKind.GREENGRASS] / "model")
    except BaseException:
        shutil.rmtree(folder)
        raise


def _json(source: ComponentSource, packed: Packed, golden: int | None) -> dict[str, Any]:
    return {
        "name": packed.recipe.name,
        "version": str(packed.recipe.version),
        "recipe": str(packed.file),
        "artifacts": [
            {"file": str(path), "bytes": path.stat().st_size, "digest": str(Digest.of(path))}
            for path in packed.artifacts
        ],
        "golden_frames": golden,
        "findings": list(source.findings),
    }


def _show(source: ComponentSource, packed: Packed, golden: int | None) -> None:
    values = _json(source, packed, golden)
    echo(f"{values['name']} {values['version']}", bold=True)
    echo(f"  recipe    {packed.file}")
    for artifact in values["artifacts"]:
        echo(f"  artifact  {artifact['file']}  {artifact['bytes']:,} bytes  {artifact['digest']}")
    if golden is not None:
        echo(f"  golden    {_answered(golden)}")
    for finding in source.findings:
        echo(f"  warning   {finding.path}: {finding.message}", fg="yellow")


def _answered(golden: int) -> str:
    if not golden:
        return "none; a blank frame was answered"
    return f"{golden} frame{'' if golden == 1 else 's'} answered as expected"
