"""A recipe's value → the text that a store keeps: canonical names, read back equal."""

from __future__ import annotations

import json
from typing import Any

from agent.greengrass.recipes.recipe import FORMAT, Artifact, Manifest, Recipe

__all__ = ["dump", "to_dict"]


def dump(recipe: Recipe) -> bytes:
    """The recipe as JSON; ``reader.parse`` gives an equal one."""
    return json.dumps(to_dict(recipe), ensure_ascii=False, separators=(",", ":")).encode()


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, in the format's canonical spelling."""
    return _present(
        {
            "RecipeFormatVersion": FORMAT,
            "ComponentName": recipe.name,
            "ComponentVersion": str(recipe.version),
            "ComponentType": recipe.type.value,
            "ComponentDescription": recipe.description,
            "ComponentPublisher": recipe.publisher,
            "ComponentSource": recipe.source,
            "ComponentConfiguration": {"DefaultConfiguration": recipe.configuration},
            "ComponentDependencies": {
                name: {
                    "VersionRequirement": str(needed.requirement),
                    "DependencyType": "HARD" if needed.hard else "SOFT",
                }
                for name, needed in recipe.dependencies.items()
            },
            "Manifests": [_manifest(manifest) for manifest in recipe.manifests],
            "Lifecycle": recipe.lifecycle,
        }
    )


def _manifest(manifest: Manifest) -> dict[str, Any]:
    return _present(
        {
            "Name": manifest.name,
            "Platform": manifest.platform,
            "Lifecycle": manifest.lifecycle,
            "Selections": manifest.selections,
            "Artifacts": [_artifact(artifact) for artifact in manifest.artifacts],
        }
    )


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return _present(
        {
            "Uri": artifact.uri,
            "Unarchive": artifact.unarchive.value,
            "Permission": {"Read": artifact.read.value, "Execute": artifact.execute.value},
            "Digest": artifact.digest,
            "Algorithm": artifact.algorithm,
        }
    )


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
