"""The recipes this device knows: a folder of files, one a component version, written whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.errors import VergeError
from agent.files import write_atomically
from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Version

__all__ = ["Library"]

log = logging.getLogger(__name__)


class Library:
    """Known recipes (an ``Offers``); every method blocks for a moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, dict[Version, Recipe]] = {}

    def open(self) -> None:
        """Read the folder; a file that is no recipe any more is told and left."""
        self._folder.mkdir(parents=True, exist_ok=True)
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
                write_atomically(self._path(recipe), writer.dump(recipe))
                self._remember(recipe)

    def prune(self, kept: Iterable[tuple[str, Version]]) -> list[tuple[str, Version]]:
        """Forget every recipe but these; the result is what was forgotten."""
        keep = set(kept)
        gone = [
            (name, version) for name, found in self._known.items() for version in found if (name, version) not in keep
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
