"""Scheme → store: built in, or a stranger's by the entry-point group ``verge.stores``.

A store is imported and made when its scheme is first met, and closed with the registry.  The name of an
entry point is the scheme that it serves.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Self

from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.store import Store
from agent.greengrass.artifacts.uri import scheme, shown

__all__ = ["BUILTIN", "GROUP", "INSTALL", "Stores"]

GROUP = "verge.stores"

BUILTIN: Mapping[str, str] = {
    "docker": "agent.greengrass.artifacts.stores.docker:DockerStore",
    "file": "agent.greengrass.artifacts.stores.file:FileStore",
    "greengrass": "agent.greengrass.artifacts.stores.greengrass:GreengrassStore",
    "http": "agent.greengrass.artifacts.stores.https:HttpsStore",
    "https": "agent.greengrass.artifacts.stores.https:HttpsStore",
    "s3": "agent.greengrass.artifacts.stores.s3:S3Store",
}
INSTALL: Mapping[str, str] = {"agent.greengrass.artifacts.stores.https:HttpsStore": "pip install urllib3"}


class Stores:
    """The stores of one fetch: ``async with`` closes them."""

    def __init__(self, options: StoreOptions | None = None) -> None:
        self._options = options or StoreOptions()
        self._open: dict[str, Store] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for store in self._open.values():
            await store.close()
        self._open.clear()

    def of(self, uri: str) -> Store:
        """The store that serves the URI; raises ``ArtifactError`` when none does."""
        target = _target(scheme(uri), uri)
        if target not in self._open:
            self._open[target] = _load(target)(self._options)
        return self._open[target]


def _target(name: str, uri: str) -> str:
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    target = BUILTIN.get(name) or points.get(name)
    if target is None:
        known = ", ".join(sorted({*BUILTIN, *points}))
        raise ArtifactError(
            f"{shown(uri)}: artifacts are not fetched by {name}:",
            hint=f"known: {known}",
            code="UNSUPPORTED_ARTIFACT_SCHEME",
        )
    return target


def _load(target: str) -> type[Store]:
    module_name, _, attribute = target.partition(":")
    try:
        store = getattr(importlib.import_module(module_name), attribute, None)
    except ImportError as error:
        raise ArtifactError(
            f"the store {target} cannot be imported: {error}",
            hint=INSTALL.get(target, f"is {module_name} installed?"),
            code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
        ) from error
    if not (isinstance(store, type) and issubclass(store, Store)):
        raise ArtifactError(
            f"{target} is no Store",
            hint="derive it from agent.greengrass.artifacts.store.Store",
            code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
        )
    return store
