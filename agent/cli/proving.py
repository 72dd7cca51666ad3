"""A component before it is packed: what its recipe says to Verge is read, and its model answers its golden frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.cli import goldens, loop
from agent.cli.packing import Source
from agent.errors import ConfigError
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.blocks import ModelBlock
from agent.greengrass.deployments.kinds import Kind, kind_of
from agent.greengrass.deployments.kinds import model_of as model_block
from agent.greengrass.recipes.recipe import Unarchive
from agent.inference.manifest import ModelSpec, resolve

__all__ = ["model_of", "prove"]


def prove(source: Source, pictures: Sequence[Path] = (), *, run: bool = True) -> int | None:
    """How many golden frames the component's model answered as expected; None when none was run.

    ``pictures`` are recorded first.  Raises what is wrong with the component, ``GoldenMismatchError`` among it.
    """
    found = model_of(source)
    if found is None:
        if pictures:
            raise ConfigError(f"{source.folder} brings no model that could answer pictures", code="no-model")
        return None
    folder, spec = found
    if not run:
        return None
    if pictures:
        loop.run(goldens.recorded(spec, folder, pictures))
    return loop.run(goldens.agrees(spec, folder))


def model_of(source: Source) -> tuple[Path, ModelSpec] | None:
    """The model that the component brings and the folder it is in, as a device would load it.

    Raises what a device would have against the component's type or its Verge block.
    """
    recipe = source.recipe
    manifest = recipe.manifests[0]
    kind = kind_of(recipe, manifest, recipe.configuration, {})
    if kind is Kind.INFERENCE:
        blocks.inference(recipe.name, recipe.configuration, recipe.dependencies)
    if kind is Kind.RUNTIME:
        blocks.runtime(recipe.name, recipe.configuration)
    if kind is not Kind.MODEL:
        return None
    told = model_block(recipe, manifest, recipe.configuration)
    folder = _folder(source, told)
    if folder is None:
        return None
    return folder, resolve(told.options(recipe.name, str(folder.resolve())), folder)


def _folder(source: Source, model: ModelBlock) -> Path | None:
    """The folder that the model's archive is packed from; None when there is none here."""
    archives = [each for each in source.recipe.manifests[0].artifacts if each.unarchive is Unarchive.ZIP]
    named = [each for each in archives if not model.archive or file_name(each.uri) == model.archive]
    if len(named) > 1:
        names = ", ".join(file_name(each.uri) for each in named)
        hint = f"Verge.Archive names one of {names}"
        raise ConfigError(f"{source.recipe.name}: which archive holds the model?", code="no-model", hint=hint)
    return source.content(named[0]) if named else None
