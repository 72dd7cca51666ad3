"""The components that are always there, because the agent itself does what they stand for.

Recipes depend on them (AWS's own on ``aws.greengrass.Nucleus`` within 2.x), so they resolve as any other; they have
neither scripts nor artifacts, and there is one version of each: a deployment cannot bring another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agent.deployment.resolver import Offers
from agent.recipes.recipe import ComponentType, Manifest, Recipe
from agent.recipes.versions import Version

__all__ = ["BUILTINS", "NUCLEUS", "Catalogue"]

NUCLEUS: Final = "aws.greengrass.Nucleus"
_AS_NUCLEUS: Final = Version(2, 12, 6)
"""The nucleus whose behaviour the agent follows."""


def _builtin(name: str, kind: ComponentType, description: str) -> Recipe:
    return Recipe(
        name=name,
        version=_AS_NUCLEUS,
        type=kind,
        description=description,
        publisher="Verge",
        manifests=(Manifest(),),
    )


BUILTINS: Final[Mapping[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        _builtin(NUCLEUS, ComponentType.NUCLEUS, "The agent itself"),
        _builtin("aws.greengrass.TokenExchangeService", ComponentType.GENERIC, "Credentials for components"),
        _builtin("aws.greengrass.Cli", ComponentType.GENERIC, "Local deployments"),
    )
}


class Catalogue:
    """What there is to resolve from: the built-in components, the deployment's own recipes, then the store's.

    A deployment's recipe goes before the stored one of the same version: it is what its author means now.
    """

    def __init__(self, stored: Offers, inline: Iterable[Recipe] = ()) -> None:
        self._stored = stored
        self._inline = {(each.name, each.version): each for each in inline}

    def versions(self, name: str) -> Sequence[Version]:
        """Every version there is of a component."""
        if name in BUILTINS:
            return [BUILTINS[name].version]
        inline = [version for known, version in self._inline if known == name]
        return list(dict.fromkeys([*inline, *self._stored.versions(name)]))

    def recipe(self, name: str, version: Version) -> Recipe:
        """The recipe of one of those versions."""
        if name in BUILTINS:
            return BUILTINS[name]
        return self._inline.get((name, version)) or self._stored.recipe(name, version)
