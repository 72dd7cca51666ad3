"""What there is to resolve from: the agent's own parts, what users bring, and the built-in catalog.

Recipes depend on the agent's parts (AWS's own on ``aws.greengrass.Nucleus`` within 2.x), so they resolve as any other;
they have neither scripts nor artifacts, and there is one version of each: a deployment cannot bring another.  A
component of the catalog (``greengrass.catalog``) gives way to a user's own of the same name, whatever its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agent.greengrass import catalog
from agent.greengrass.deployments.resolver import Offers
from agent.greengrass.recipes.recipe import ComponentType, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["BUILTINS", "NUCLEUS", "TOKEN_EXCHANGE", "Catalogue", "unpinned"]

NUCLEUS: Final = "aws.greengrass.Nucleus"
TOKEN_EXCHANGE: Final = "aws.greengrass.TokenExchangeService"  # noqa: S105 a name
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
        _builtin(TOKEN_EXCHANGE, ComponentType.GENERIC, "Credentials for components"),
        _builtin("aws.greengrass.Cli", ComponentType.GENERIC, "Local deployments"),
    )
}


_PIN: Final = re.compile(r"[=v\s]*2\.\d+\.\d+\s*")
_ANY: Final = Requirement.parse("*")


def unpinned(wishes: Mapping[str, Mapping[str, Requirement]]) -> dict[str, Mapping[str, Requirement]]:
    """The wishes without pins of the agent's own parts: there is one version of each, and it stands for all of 2.x.

    Documents written for Greengrass often pin the nucleus or the CLI that was the newest then.
    """
    return {
        name: {
            group: _ANY if name in BUILTINS and _PIN.fullmatch(str(wanted)) else wanted
            for group, wanted in groups.items()
        }
        for name, groups in wishes.items()
    }


class Catalogue:
    """The agent's parts, the deployment's own recipes, the store's, and for names that neither has the catalog's.

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
