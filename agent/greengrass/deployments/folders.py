"""A folder of recipes and a folder of their files → recipes as they go into a document.

Where a folder ``COMPONENT/VERSION/file`` holds an artifact, its URI becomes a ``file:`` URI with its digest: an agent
on this machine reads it there.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, VergeError
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.recipes import platform, reader, writer
from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.recipe import Artifact, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement

__all__ = ["recipes_of"]

_RECIPES = {".json", ".yaml", ".yml"}
_HERE = "file:"
_PACK = "verge component pack writes recipes and artifacts"


def recipes_of(
    folder: Path, artifacts: Path | None, *, local: bool, asked: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The recipes below a folder as they go into a document; ``local``: the agent is on this machine.

    ``asked`` are the versions that the document asks for, by component.  A version whose files are not there is left
    out where a newer one is offered that everybody who asks would take instead.

    Raises ``RecipeError`` for a file that is no recipe and ``ConfigError`` for artifacts that the agent could not have.
    """
    if not folder.is_dir():
        raise _wrong(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _RECIPES and path.is_file())
    if not files:
        raise _wrong(
            f"there are no recipes in {folder}", "they are .yaml or .json files; verge component pack makes some"
        )
    offered: list[Recipe] = []
    lacking: list[tuple[Recipe, VergeError]] = []
    for recipe in (reader.read(path)[0] for path in files):
        try:
            offered.append(_placed(recipe, artifacts, local=local))
        except (ConfigError, ArtifactError) as error:
            lacking.append((recipe, error))
    for recipe, problem in lacking:
        if not _is_outdone(recipe, offered, asked or {}):
            raise problem
    return [writer.to_dict(recipe) for recipe in offered]


def _is_outdone(recipe: Recipe, offered: Sequence[Recipe], asked: Mapping[str, str]) -> bool:
    """Whether no one can come to choose this version: a newer one is there and fits wherever this one does."""
    name = recipe.name
    needed = [other.dependencies[name].requirement for other in offered if name in other.dependencies]
    requirements = [*needed, *([Requirement.parse(asked[name])] if name in asked else [])]
    newer = [one.version for one in offered if one.name == name and one.version > recipe.version]
    return any(
        all(wanted.allows(version) or not wanted.allows(recipe.version) for wanted in requirements) for version in newer
    )


def _placed(recipe: Recipe, artifacts: Path | None, *, local: bool) -> Recipe:
    folder = artifacts / recipe.name / str(recipe.version) if artifacts else None
    chosen = _chosen(recipe, local=local)
    manifests = tuple(
        replace(manifest, artifacts=tuple(_located(recipe, one, folder, local=local) for one in manifest.artifacts))
        if manifest in chosen
        else manifest
        for manifest in recipe.manifests
    )
    return replace(recipe, manifests=manifests)


def _chosen(recipe: Recipe, *, local: bool) -> tuple[Manifest, ...]:
    """The manifests that the agent may come to choose: one where it is on this machine, else any."""
    if not local:
        return recipe.manifests
    try:
        return (platform.choose(recipe, platform.detect()),)
    except NoManifestError:
        return ()


def _located(recipe: Recipe, artifact: Artifact, folder: Path | None, *, local: bool) -> Artifact:
    """The artifact with the URI and digest of its file in the folder, if it is there."""
    path = folder / file_name(artifact.uri) if folder else None
    if path is None or not path.is_file():
        if artifact.uri.startswith(_HERE) and not artifact.uri.startswith("file:/"):
            place = f"in {folder}" if folder else "without --artifacts DIR"
            raise _wrong(f"{recipe.name} {recipe.version}: there is no {file_name(artifact.uri)} {place}", _PACK)
        return artifact
    if not local:
        raise _wrong(
            f"{recipe.name} {recipe.version}: {path.name} is on this machine, and the agent is on another one",
            "put it on a web server or into S3, and pack with --base-uri https://… or s3://…",
        )
    raw = base64.b64encode(bytes.fromhex(Digest.of(path).hex)).decode()
    return replace(artifact, uri=path.resolve().as_uri(), digest=raw, algorithm="SHA-256")


def _wrong(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, code="not-deployable", hint=hint)
