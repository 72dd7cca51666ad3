"""The options of ``verge deploy`` → the document that is sent.

Components by name make Greengrass's local form, which changes the root components of a group.  Recipes of a folder go
along in the document; their artifacts, where a folder ``COMPONENT/VERSION/file`` holds them, become ``file:`` URIs
with their digest: an agent on this machine reads them there.
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
from agent.greengrass.deployments.trust import SignedEnvelope
from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.recipe import Artifact, Recipe

__all__ = ["identity_in", "local_document", "read_document", "recipes_of", "update_of"]

_RECIPES = {".json", ".yaml", ".yml"}
_HERE = "file:"


def local_document(
    identity: str, *, components: Mapping[str, str], remove: Sequence[str], update: Mapping[str, Any], group: str
) -> dict[str, Any]:
    """The local document for these components."""
    head = {"requestId": identity, "failureHandlingPolicy": "ROLLBACK"}
    parts = {
        "componentsToMerge": dict(components),
        "componentsToRemove": list(remove),
        "configurationUpdate": dict(update),
        "groupName": group,
    }
    return head | {key: value for key, value in parts.items() if value}


def read_document(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A document's bytes and the JSON object in them; raises ``ConfigError``."""
    try:
        content = path.read_bytes()
        document = msgspec.json.decode(content)
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _wrong(f"{path} is no deployment document: it is not a JSON object")
    return content, document


def identity_in(document: Mapping[str, Any]) -> str | None:
    """The id that a document has, in an envelope too; None where the agent will make one up."""
    if "signatures" in document:
        try:
            opened = json.loads(base64.b64decode(msgspec.convert(document, SignedEnvelope).document))
        except (msgspec.ValidationError, ValueError) as error:
            raise _wrong(f"the envelope cannot be read: {error}", "sign it again: verge trust sign") from error
        document = opened if isinstance(opened, dict) else {}
    identity = document.get("deploymentId") or document.get("requestId")
    return identity if isinstance(identity, str) else None


def update_of(text: str, components: Collection[str] = ()) -> dict[str, Any]:
    """``--config``: JSON, or a file of it: component → ``{"MERGE": {…}, "RESET": ["/…"]}``.

    Where only one of ``components`` is deployed, what is to be merged into its configuration will do.
    """
    if text.lstrip().startswith("{"):
        try:
            updates = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise _wrong(f"--config is not JSON: {error}") from error
    else:
        _, updates = read_document(Path(text))
    strangers = [name for name, update in updates.items() if not _is_update(update)]
    if len(components) == 1 and updates and len(strangers) == len(updates) and not updates.keys() & set(components):
        return {next(iter(components)): {"MERGE": dict(updates)}}
    if strangers:
        raise _wrong(f"--config: {strangers[0]} is not an update", '{"COMPONENT": {"MERGE": {…}, "RESET": ["/key"]}}')
    return dict(updates)


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.keys() <= {"MERGE", "RESET", "merge", "reset"}


def recipes_of(folder: Path, artifacts: Path | None, *, local: bool) -> list[dict[str, Any]]:
    """The recipes below a folder as they go into a document; ``local``: the agent is on this machine.

    Raises ``RecipeError`` for a file that is no recipe and ``ConfigError`` for artifacts that the agent could not have.
    """
    if not folder.is_dir():
        raise _wrong(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _RECIPES and path.is_file())
    if not files:
        raise _wrong(
            f"there are no recipes in {folder}", "they are .yaml or .json files; verge component pack makes some"
        )
    return [writer.to_dict(_placed(reader.read(path)[0], artifacts, local=local)) for path in files]


def _placed(recipe: Recipe, artifacts: Path | None, *, local: bool) -> Recipe:
    folder = artifacts / recipe.name / str(recipe.version) if artifacts else None
    manifests = tuple(
        replace(manifest, artifacts=tuple(_located(recipe, one, folder, local=local) for one in manifest.artifacts))
        for manifest in recipe.manifests
    )
    return replace(recipe, manifests=manifests)


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


_PACK = "verge component pack writes recipes and artifacts"


def _wrong(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, code="not-deployable", hint=hint)
