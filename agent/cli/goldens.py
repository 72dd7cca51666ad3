"""A component before it is packed: what its recipe says to Verge is read, and its model answers its golden frames.

Golden frames are recorded from what the model says now, or held against it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.cli import loop
from agent.cli.packing import ComponentSource
from agent.cli.pictures import PictureSource
from agent.errors import ConfigError
from agent.files import SHARED, write_atomically
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.blocks import ModelBlock
from agent.greengrass.deployments.golden import FOLDER, NAME, GoldenLimits, check, load
from agent.greengrass.deployments.kinds import ComponentKind, kind_of
from agent.greengrass.deployments.kinds import model_of as model_block
from agent.greengrass.recipes.recipe import Unarchive
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import ModelSpec, keep_within, resolve
from agent.results.comparison.recording import record

__all__ = ["model_of", "prove", "recorded"]


def prove(source: ComponentSource, pictures: Sequence[Path] = (), *, run: bool = True) -> int | None:
    """How many golden frames the component's model answered as expected; None when none was run.

    ``pictures`` are recorded first.  Raises what is wrong with the component, ``GoldenMismatchError`` among it.
    """
    model = model_of(source)
    if model is None:
        if pictures:
            raise ConfigError(f"{source.folder} brings no model that could answer pictures", code="no-model")
        return None
    folder, spec = model
    if not run:
        return None
    if pictures:
        loop.run(recorded(spec, folder, pictures))
    return loop.run(_agrees(spec, folder))


def model_of(source: ComponentSource) -> tuple[Path, ModelSpec] | None:
    """The model that the component brings and the folder it is in, as a device would load it.

    Raises what a device would have against the component's type or its Verge block.
    """
    recipe = source.recipe
    manifest = recipe.manifests[0]
    kind = kind_of(recipe, manifest, recipe.configuration, {})
    if kind is ComponentKind.INFERENCE:
        blocks.inference(recipe.name, recipe.configuration, recipe.dependencies)
    if kind is ComponentKind.RUNTIME:
        blocks.runtime(recipe.name, recipe.configuration)
    if kind is not ComponentKind.MODEL:
        return None
    block = model_block(recipe, manifest, recipe.configuration)
    folder = _folder(source, block)
    if folder is None:
        return None
    spec = resolve(block.options(recipe.name, str(folder.resolve())), folder)
    keep_within(spec, folder)
    return folder, spec


def _folder(source: ComponentSource, model: ModelBlock) -> Path | None:
    """The folder that the model's archive is packed from; None when there is none here."""
    archives = [artifact for artifact in source.recipe.manifests[0].artifacts if artifact.unarchive is Unarchive.ZIP]
    named = [artifact for artifact in archives if not model.archive or file_name(artifact.uri) == model.archive]
    if len(named) > 1:
        names = ", ".join(file_name(artifact.uri) for artifact in named)
        hint = f"Verge.Archive names one of {names}"
        raise ConfigError(f"{source.recipe.name}: which archive holds the model?", code="no-model", hint=hint)
    return source.content(named[0]) if named else None


async def _agrees(spec: ModelSpec, folder: Path) -> int:
    """Have the model answer the golden frames of its ``folder``; how many there are.

    Raises what ``golden.check`` does, and what kept the model from loading.
    """
    golden = folder / FOLDER
    frames = load(golden, GoldenLimits())
    async with loaded(spec) as (plane, model):
        await check(lambda picture: plane.infer(MODEL, picture), golden, GoldenLimits.of(model))
    return len(frames)


async def recorded(spec: ModelSpec, folder: Path, pictures: Sequence[Path]) -> None:
    """Put pictures into the golden frames of the model's ``folder``, with what it says of them now.

    A picture of the same name is replaced, the others stay as they are.
    """
    limits = GoldenLimits()
    golden = folder / FOLDER
    entries = _entries(golden)
    async with loaded(spec) as (plane, _):
        for path in pictures:
            answer = await plane.infer(MODEL, PictureSource(str(path)).read(limits.pictures), label=path.stem)
            entries[path.name] = {"picture": path.name, "expect": record(answer.predictions)}
    text = msgspec.json.format(msgspec.json.encode({"pictures": list(entries.values())}), indent=2)
    if len(entries) > limits.max_pictures or len(text) > limits.max_expected_bytes:
        hint = f"devices take {limits.max_pictures} pictures and {limits.max_expected_bytes} bytes of {NAME}"
        raise ConfigError(f"{golden} would hold too much", code="golden-wrong", hint=hint)
    _write(golden, pictures, text)


def _entries(golden: Path) -> dict[str, dict[str, Any]]:
    """What is expected already, by picture."""
    if not load(golden, GoldenLimits()):
        return {}
    if not (golden / NAME).exists():
        raise ConfigError(f"{golden} is written by hand, in TOML", code="golden-wrong", hint=f"turn it into {NAME}")
    expected = msgspec.json.decode((golden / NAME).read_bytes())
    return {entry["picture"]: entry for entry in expected["pictures"]}


def _write(golden: Path, pictures: Sequence[Path], text: bytes) -> None:
    try:
        golden.mkdir(exist_ok=True)
        for path in pictures:
            if path.resolve() != (golden / path.name).resolve():
                shutil.copyfile(path, golden / path.name)
        write_atomically(golden / NAME, text + b"\n", SHARED)
    except OSError as error:
        raise ConfigError(f"{golden} cannot be written: {error}", code="not-written") from error
