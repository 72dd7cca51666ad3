"""Entries of the catalog as recipes, made when they are asked for and kept.

A recipe is the catalog's by what it says, not by being the same object: one that an older agent wrote down, with other
words of description, is too.  What an owner publishes under a name of the catalog has files or scripts, or another
publisher.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from agent.errors import InvalidInputError
from agent.greengrass.catalog.entries import ENTRIES, Entry
from agent.greengrass.recipes.recipe import Manifest, Recipe
from agent.greengrass.recipes.versions import Version

__all__ = ["PUBLISHER", "completed", "is_ours", "names", "recipe", "versions"]

PUBLISHER: Final = "Verge"
_BLOCK: Final = "Verge"


def names() -> list[str]:
    """Every component of the catalog.

    >>> "variant.DLR" in names()
    True
    """
    return sorted(ENTRIES)


@cache
def versions(name: str) -> tuple[Version, ...]:
    """Every version of a component, the oldest first; none where the catalog does not have it."""
    return tuple(sorted(version for entry in ENTRIES.get(name, ()) for version in entry.versions))


@cache
def recipe(name: str, version: Version) -> Recipe:
    """One of those versions; raises ``InvalidInputError`` for any other."""
    entry = _entry(name, version)
    if entry is None:
        message = f"the catalog has no {name} {version}"
        raise InvalidInputError(message, hint=_offered(name), code="NO_AVAILABLE_COMPONENT_VERSION")
    return Recipe(
        name=name,
        version=version,
        type=entry.type,
        description=entry.description,
        publisher=PUBLISHER,
        configuration=entry.configuration,
        dependencies=entry.dependencies,
        manifests=_manifests(entry),
    )


def is_ours(told: Recipe) -> bool:
    """Whether a recipe comes from the catalog, of this agent or of an older one."""
    entry = _entry(told.name, told.version)
    if entry is None or told.type is not entry.type or told.publisher != PUBLISHER:
        return False
    return not told.lifecycle and not any(each.artifacts or each.lifecycle for each in told.manifests)


def completed(told: Recipe, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A component's configuration with the ``Verge`` block that the catalog stands behind; the owner's keys win.

    It is not stored with the component: see ``entries``.  Recipes of others are left as they are.

    >>> completed(recipe("variant.DLR", Version(1, 6, 9)), {"UseInstaller": "true"})
    {'UseInstaller': 'true', 'Verge': {'Runtime': 'dlr'}}
    """
    entry = _entry(told.name, told.version) if is_ours(told) else None
    if entry is None or not entry.block:
        return dict(configuration)
    spelled = next((key for key in configuration if key.lower() == _BLOCK.lower()), _BLOCK)
    own = configuration.get(spelled)
    if own is not None and not isinstance(own, Mapping):
        return dict(configuration)
    said = {key.lower() for key, value in (own or {}).items() if value is not None}
    base = {key: value for key, value in entry.block.items() if key.lower() not in said}
    return {**configuration, spelled: {**(own or {}), **base}}


def _entry(name: str, version: Version) -> Entry | None:
    return next((entry for entry in ENTRIES.get(name, ()) if version in entry.versions), None)


def _manifests(entry: Entry) -> tuple[Manifest, ...]:
    if not entry.architectures:
        return (Manifest(platform={"os": "linux"}),)
    return tuple(
        Manifest(name=f"Linux, {each}", platform={"os": "linux", "architecture": each}) for each in entry.architectures
    )


def _offered(name: str) -> str:
    found = versions(name)
    return f"it has {found[0]} to {found[-1]}" if found else "known: " + ", ".join(names())
