"""What ``verge deploy`` was told → the document that is sent.

Components by name make Greengrass's local form, which changes what the group wants.  Recipes of a folder go along in
the document; their artifacts, where a folder ``COMPONENT/VERSION/file`` holds them, become ``file:`` URIs with their
digest: an agent on this machine reads them there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import ConfigError
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.deployments.trust import Envelope
from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.recipe import Artifact, Recipe

__all__ = ["identity_in", "read_document", "recipes_of", "update_of", "wish"]

_RECIPES = {".json", ".yaml", ".yml"}
_HERE = "file:"


def wish(
    identity: str, *, components: Mapping[str, str], remove: Sequence[str], update: Mapping[str, Any], group: str
) -> dict[str, Any]:
    """The local document for these components."""
    told: dict[str, Any] = {"requestId": identity, "failureHandlingPolicy": "ROLLBACK"}
    parts = {
        "componentsToMerge": dict(components),
        "componentsToRemove": list(remove),
        "configurationUpdate": dict(update),
        "groupName": group,
    }
    return told | {key: value for key, value in parts.items() if value}


def read_document(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A document's bytes and what they say; raises ``ConfigError``."""
    try:
        text = path.read_bytes()
        told = msgspec.json.decode(text)
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"{path} is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise _wrong(f"{path} is no deployment document: it is not a JSON object")
    return text, told


def identity_in(told: Mapping[str, Any]) -> str | None:
    """The id that a document has, in an envelope too; None where the agent will make one up."""
    if "signatures" in told:
        try:
            opened = json.loads(base64.b64decode(msgspec.convert(told, Envelope).document))
        except (msgspec.ValidationError, ValueError) as error:
            raise _wrong(f"the envelope cannot be read: {error}", "sign it again: verge trust sign") from error
        told = opened if isinstance(opened, dict) else {}
    found = told.get("deploymentId") or told.get("requestId")
    return found if isinstance(found, str) else None


def update_of(text: str, components: Collection[str] = ()) -> dict[str, Any]:
    """``--config``: JSON, or a file of it: component → ``{"MERGE": {…}, "RESET": ["/…"]}``.

    Where only one of ``components`` is deployed, what is to be merged into its configuration will do.
    """
    if text.lstrip().startswith("{"):
        try:
            told = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise _wrong(f"--config is not JSON: {error}") from error
    else:
        _, told = read_document(Path(text))
    strangers = [name for name, update in told.items() if not _is_update(update)]
    if len(components) == 1 and told and len(strangers) == len(told) and not told.keys() & set(components):
        return {next(iter(components)): {"MERGE": dict(told)}}
    if strangers:
        raise _wrong(f"--config: {strangers[0]} is not an update", '{"COMPONENT": {"MERGE": {…}, "RESET": ["/key"]}}')
    return dict(told)


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.keys() <= {"MERGE", "RESET", "merge", "reset"}


def recipes_of(folder: Path, artifacts: Path | None, *, near: bool) -> list[dict[str, Any]]:
    """The recipes below a folder as they go into a document; ``near`` is an agent on this machine.

    Raises ``RecipeError`` for a file that is no recipe and ``ConfigError`` for artifacts that the agent could not have.
    """
    if not folder.is_dir():
        raise _wrong(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _RECIPES and path.is_file())
    if not files:
        raise _wrong(
            f"there are no recipes in {folder}", "they are .yaml or .json files; verge component pack makes some"
        )
    return [writer.to_dict(_placed(reader.read(path)[0], artifacts, near=near)) for path in files]


def _placed(recipe: Recipe, artifacts: Path | None, *, near: bool) -> Recipe:
    folder = artifacts / recipe.name / str(recipe.version) if artifacts else None
    manifests = tuple(
        replace(each, artifacts=tuple(_found(recipe, one, folder, near=near) for one in each.artifacts))
        for each in recipe.manifests
    )
    return replace(recipe, manifests=manifests)


def _found(recipe: Recipe, artifact: Artifact, folder: Path | None, *, near: bool) -> Artifact:
    """The artifact, from the folder where it is there."""
    path = folder / file_name(artifact.uri) if folder else None
    if path is None or not path.is_file():
        if artifact.uri.startswith(_HERE) and not artifact.uri.startswith("file:/"):
            place = f"in {folder}" if folder else "without --artifacts DIR"
            raise _wrong(f"{recipe.name} {recipe.version}: there is no {file_name(artifact.uri)} {place}", _PACK)
        return artifact
    if not near:
        raise _wrong(
            f"{recipe.name} {recipe.version}: {path.name} is on this machine, and the agent is on another one",
            "put it on a web server or into S3, and pack with --base-uri https://… or s3://…",
        )
    raw = base64.b64encode(bytes.fromhex(Digest.of(path).hex)).decode()
    return replace(artifact, uri=path.resolve().as_uri(), digest=raw, algorithm="SHA-256")


_PACK = "verge component pack writes recipes and artifacts"


def _wrong(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, code="not-deployable", hint=hint)
