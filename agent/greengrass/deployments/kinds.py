"""What a component is to the agent.

By its type, or as a generic one by its ``Verge`` block (``blocks``); such a block goes before scripts, so that one
recipe can serve Greengrass with scripts and Verge with the block.  What a stream names as its model is one when it has
artifacts and no scripts: Greengrass's model stores need no block.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from agent.greengrass.artifacts import uri
from agent.greengrass.catalog.absent import absent
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.blocks import ModelBlock
from agent.greengrass.deployments.repository import BUILTINS
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes import lifecycle
from agent.greengrass.recipes.recipe import ComponentType, Manifest, Recipe, Unarchive

__all__ = ["ComponentKind", "kind_of", "model_of", "only_files"]


class ComponentKind(StrEnum):
    """What a component is to the agent."""

    MODEL = "model"
    """Files that inference components use."""
    INFERENCE = "inference"
    """A stream: frames in, results out, in a worker of the agent's."""
    GENERIC = "generic"
    """Scripts of its own."""
    RUNTIME = "runtime"
    """An environment in which workers run models."""
    SERVER = "server"
    """A server of the agent's own, with the interface of one of AWS's."""
    SERVICE = "service"
    """One of AWS's own components, which other components find behind the agent's socket."""
    BUILTIN = "builtin"
    """Part of the agent."""


_TYPES: Mapping[ComponentType, ComponentKind] = {
    ComponentType.MODEL: ComponentKind.MODEL,
    ComponentType.INFERENCE: ComponentKind.INFERENCE,
    ComponentType.RUNTIME: ComponentKind.RUNTIME,
    ComponentType.SERVER: ComponentKind.SERVER,
    ComponentType.SERVICE: ComponentKind.SERVICE,
    ComponentType.GENERIC: ComponentKind.GENERIC,
}
_SUBJECTS: Mapping[blocks.Subject, ComponentKind] = {
    blocks.Subject.STREAM: ComponentKind.INFERENCE,
    blocks.Subject.MODEL: ComponentKind.MODEL,
    blocks.Subject.RUNTIME: ComponentKind.RUNTIME,
}
_CONFIGURATION = "COMPONENT_CONFIGURATION_NOT_VALID"


def kind_of(recipe: Recipe, manifest: Manifest, plain: Mapping[str, Any], models: Mapping[str, str]) -> ComponentKind:
    """What a component is, with the configuration ``plain``.

    ``models`` are the components that streams name as their models, each with one of those streams.  Raises
    ``DeploymentError``, and ``LifecycleError`` for scripts of a named model that cannot be read.
    """
    if recipe.name in BUILTINS:
        return ComponentKind.BUILTIN
    if recipe.type not in _TYPES:
        if missing := absent(recipe.name):
            raise DeploymentError(missing.message, hint=missing.hint, code="CUSTOM_PLUGIN_NOT_SUPPORTED")
        raise DeploymentError(
            f"{recipe.name} {recipe.version} is of the type {recipe.type}, which this agent does not run",
            hint=f"it runs {', '.join(_TYPES)}",
            code="CUSTOM_PLUGIN_NOT_SUPPORTED",
        )
    kind = _TYPES[recipe.type]
    if kind is ComponentKind.GENERIC and (subject := blocks.subject(recipe.name, plain)):
        kind = _SUBJECTS[subject]
    if recipe.name in models and kind is ComponentKind.GENERIC and only_files(recipe, manifest):
        kind = ComponentKind.MODEL
    if recipe.name in models and kind is not ComponentKind.MODEL:
        raise DeploymentError(
            f"{models[recipe.name]} names {recipe.name} as its model, which is none: it is of the kind {kind}",
            hint="a model component has artifacts and no scripts",
            code=_CONFIGURATION,
        )
    return kind


def model_of(recipe: Recipe, manifest: Manifest, plain: Mapping[str, Any]) -> ModelBlock:
    """The model that a component brings.  Raises ``DeploymentError`` also for an archive that is not its own."""
    block = blocks.model(recipe.name, plain)
    archives = [uri.file_name(artifact.uri) for artifact in manifest.artifacts if artifact.unarchive is Unarchive.ZIP]
    if block.archive and block.archive not in archives:
        raise DeploymentError(
            f"{recipe.name}: Verge.Archive is {block.archive!r}, which is no ZIP artifact of it",
            hint=f"there are {', '.join(archives) or 'none'}",
            code=_CONFIGURATION,
        )
    return block


def only_files(recipe: Recipe, manifest: Manifest) -> bool:
    """Whether a component brings artifacts and runs nothing: a model store as Greengrass has them."""
    chosen = lifecycle.select(recipe, manifest)
    return bool(manifest.artifacts) and not lifecycle.parse(chosen, f"{recipe.name} {recipe.version}").steps
