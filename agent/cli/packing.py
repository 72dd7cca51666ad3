"""A component's folder → the recipe and the artifacts that are deployed.

An artifact ``file:NAME.zip`` of the recipe is packed from the folder ``NAME/`` beside it, any other ``file:NAME`` is
the file of that name; what has another URI is somewhere already and stays as it is.  The same folder gives the same
bytes: entries are sorted and carry no times, owners or modes.  What comes out lies as a deployment takes it::

    OUT/recipes/NAME-VERSION.json        with the digests of
    OUT/artifacts/NAME/VERSION/file
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from agent.errors import ConfigError
from agent.files import SHARED, write_atomically
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.unpack import measure
from agent.greengrass.recipes import lint, reader
from agent.greengrass.recipes.errors import Level, LintFinding
from agent.greengrass.recipes.recipe import Artifact, Recipe, Unarchive
from agent.greengrass.recipes.writer import to_dict

__all__ = ["ComponentSource", "Packed", "find", "pack"]

_RECIPES = ("recipe.yaml", "recipe.yml", "recipe.json")
_LOCAL = re.compile(r"file:([^/?#]+)", re.IGNORECASE)
_LEFT_OUT = ("__pycache__",)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can tell."""


@dataclass(frozen=True, slots=True)
class ComponentSource:
    """A component as it is written: its folder, recipe, and what is odd in that."""

    folder: Path
    recipe: Recipe
    findings: tuple[LintFinding, ...] = ()

    def content(self, artifact: Artifact) -> Path | None:
        """The folder or file that an artifact is made of; None for one that is somewhere already."""
        if not (local := _LOCAL.fullmatch(artifact.uri)):
            return None
        name = unquote(local[1])
        if "/" in name or name in {".", ".."}:
            raise _wrong(f"the artifact {artifact.uri} is not beside the recipe", hint="name a file there")
        return self.folder / (Path(name).stem if artifact.unarchive is Unarchive.ZIP else name)


@dataclass(frozen=True, slots=True)
class Packed:
    """What was written: the recipe with its digests, and the files."""

    recipe: Recipe
    file: Path
    artifacts: tuple[Path, ...]


def find(folder: Path) -> ComponentSource:
    """The component in a folder.  Raises ``ConfigError`` and ``RecipeError``, also for what no device would take."""
    path = next((folder / name for name in _RECIPES if (folder / name).is_file()), None)
    if path is None:
        raise _wrong(f"there is no recipe.yaml in {folder}", hint="begin one: verge component init")
    recipe, warnings = reader.read(path)
    findings = (*warnings, *lint.check(recipe))
    for finding in findings:
        if finding.level is Level.ERROR:
            raise _wrong(f"{path}: {finding.path}: {finding.message}", hint=finding.hint)
    return ComponentSource(folder, recipe, findings)


def pack(source: ComponentSource, out: Path, base_uri: str = "file:") -> Packed:
    """Write a component's recipe and artifacts below ``out``; ``base_uri`` is where devices will find the latter.

    Raises:
        ConfigError: a file is missing or cannot be written.
        ArtifactError: devices would refuse the archive.
    """
    recipe = source.recipe
    place = f"{recipe.name}/{recipe.version}"
    base = base_uri if base_uri.endswith((":", "/")) else f"{base_uri}/"
    written: dict[str, Path] = {}

    def packed(artifact: Artifact) -> Artifact:
        if (content := source.content(artifact)) is None:
            return artifact
        file = artifact.uri.partition(":")[2]
        if file not in written:
            written[file] = _write(content, out / "artifacts" / place / unquote(file), artifact.unarchive)
        raw = bytes.fromhex(Digest.of(written[file]).hex)
        return replace(
            artifact, uri=f"{base}{place}/{file}", digest=base64.b64encode(raw).decode(), algorithm="SHA-256"
        )

    manifests = tuple(
        replace(manifest, artifacts=tuple(packed(artifact) for artifact in manifest.artifacts))
        for manifest in recipe.manifests
    )
    done = replace(recipe, manifests=manifests)
    file = out / "recipes" / f"{recipe.name}-{recipe.version}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # JSON: what a recipe means in YAML depends on quotes.
        write_atomically(file, json.dumps(to_dict(done), ensure_ascii=False, indent=2).encode() + b"\n", SHARED)
    except OSError as error:
        raise _wrong(f"{file} cannot be written: {error.strerror}") from error
    return Packed(done, file, tuple(written.values()))


def _write(content: Path, target: Path, unarchive: Unarchive) -> Path:
    """Copy or zip beside the target, and rename: what is there is whole."""
    if unarchive is Unarchive.ZIP and not content.is_dir():
        raise _wrong(f"there is no folder {content} to make {target.name} of")
    if unarchive is Unarchive.NONE and not content.is_file():
        raise _wrong(f"there is no file {content}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".packing-") as folder:
            made = Path(folder) / target.name
            if unarchive is Unarchive.ZIP:
                _zip(content, made)
                measure(made)
            else:
                shutil.copyfile(content, made)
            os.replace(made, target)  # noqa: PTH105 one of the two names is enough
    except OSError as error:
        raise _wrong(f"{target} cannot be made: {error}") from error
    return target


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in _files(folder):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            info.file_size = path.stat().st_size  # decides on the form for more than 4 GiB
            with path.open("rb") as source, archive.open(info, "w") as entry:
                shutil.copyfileobj(source, entry, 1 << 20)


def _files(folder: Path) -> Iterator[Path]:
    """What is packed, in the order of names; hidden files, links and Python's leftovers are not."""
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        parts = path.relative_to(folder).parts
        if path.is_symlink():
            raise _wrong(f"{path} is a link, which no device unpacks", hint="put the file itself there")
        if path.is_file() and not any(part.startswith(".") or part in _LEFT_OUT for part in parts):
            yield path


def _wrong(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, code="component-not-packed", hint=hint)
