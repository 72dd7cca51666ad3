"""What there is to resolve from: the agent's own parts, what users bring, and the built-in catalog.

Recipes depend on the agent's parts (AWS's own on ``aws.greengrass.Nucleus`` within 2.x), so they resolve as any other;
they have neither scripts nor artifacts, and there is one version of each: a deployment cannot bring another, and bounds
on it are read generously (``catalog.parts``).  A
component of the catalog (``greengrass.catalog``) gives way to a user's own of the same name, whatever its version.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.errors import VergeError
from agent.files import make_folder, write_atomically
from agent.greengrass import catalog
from agent.greengrass.catalog import parts
from agent.greengrass.catalog.parts import CLI, NUCLEUS, TOKEN_EXCHANGE
from agent.greengrass.deployments.request import Requirements
from agent.greengrass.deployments.resolver import Offers
from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.recipe import ComponentType, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["BUILTINS", "NUCLEUS", "TOKEN_EXCHANGE", "ComponentRepository", "RecipeStore", "unpinned"]

log = logging.getLogger(__name__)


def _builtin(name: str, kind: ComponentType, description: str) -> Recipe:
    return Recipe(
        name=name,
        version=parts.AS_NUCLEUS,
        type=kind,
        description=description,
        publisher="Verge",
        manifests=(Manifest(),),
    )


BUILTINS: Final[Mapping[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        _builtin(NUCLEUS, ComponentType.NUCLEUS, "The agent itself"),
        _builtin(TOKEN_EXCHANGE, ComponentType.GENERIC, "Credentials for components"),
        _builtin(CLI, ComponentType.GENERIC, "Local deployments"),
    )
}


_PIN: Final = re.compile(r"[=v\s]*2\.\d+\.\d+\s*")
_ANY: Final = Requirement.parse("*")


def unpinned(requirements: Requirements) -> Requirements:
    """The requirements without pins of the agent's own parts: the one version of each stands for all of 2.x.

    Documents written for Greengrass often pin the nucleus or the CLI that was the newest then.
    """
    return {
        name: {
            group: _ANY if name in BUILTINS and _PIN.fullmatch(str(requirement)) else requirement
            for group, requirement in groups.items()
        }
        for name, groups in requirements.items()
    }


class ComponentRepository:
    """The agent's parts, the deployment's own recipes, the store's, and for names that neither has the catalog's.

    A deployment's recipe goes before the stored one of the same version: it is what its author means now.
    """

    def __init__(self, stored: Offers, inline: Iterable[Recipe] = ()) -> None:
        self._stored = stored
        self._inline = {(recipe.name, recipe.version): recipe for recipe in inline}

    def versions(self, name: str) -> Sequence[Version]:
        """Every version there is of a component."""
        if name in BUILTINS:
            return [BUILTINS[name].version]
        inline = [version for known, version in self._inline if known == name]
        own = list(dict.fromkeys([*inline, *self._stored.versions(name)]))
        return own or catalog.versions(name)

    def recipe(self, name: str, version: Version) -> Recipe:
        """The recipe of one of those versions."""
        if name in BUILTINS:
            return BUILTINS[name]
        if (name, version) in self._inline:
            return self._inline[name, version]
        stored = version in self._stored.versions(name)
        return self._stored.recipe(name, version) if stored else catalog.recipe(name, version)


class RecipeStore:
    """The recipes that this device keeps (an ``Offers``): a folder of files, one a component version, written whole.

    Every method blocks for a moment.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, dict[Version, Recipe]] = {}

    def open(self) -> None:
        """Read the folder; a file that is no recipe any more is logged and left."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                recipe, _ = reader.read(path)
            except VergeError as error:
                log.warning("%s is left out: %s", path, error)
            else:
                self._remember(recipe)

    def add(self, recipes: Iterable[Recipe]) -> None:
        """Keep recipes; one of the same name and version is replaced."""
        for recipe in recipes:
            if self._known.get(recipe.name, {}).get(recipe.version) != recipe:
                make_folder(self._folder, ours=True)
                write_atomically(self._path(recipe), writer.dump(recipe))
                self._remember(recipe)

    def prune(self, kept: Iterable[tuple[str, Version]]) -> list[tuple[str, Version]]:
        """Forget every recipe but these; the result is what was forgotten."""
        keep = set(kept)
        gone = [
            (name, version)
            for name, versions in self._known.items()
            for version in versions
            if (name, version) not in keep
        ]
        for name, version in gone:
            self._path(self._known[name].pop(version)).unlink(missing_ok=True)
        return gone

    def versions(self, name: str) -> Sequence[Version]:
        """Every version there is of a component."""
        return tuple(self._known.get(name, ()))

    def recipe(self, name: str, version: Version) -> Recipe:
        """The recipe of one of those versions."""
        return self._known[name][version]

    def _remember(self, recipe: Recipe) -> None:
        self._known.setdefault(recipe.name, {})[recipe.version] = recipe

    def _path(self, recipe: Recipe) -> Path:
        return self._folder / f"{recipe.name}@{recipe.version}.json"
