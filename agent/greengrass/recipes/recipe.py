"""The values a recipe is read into.

They hold what the document says with its defaults filled in, and nothing of the device.  ``configuration`` and
the lifecycles stay plain data in the author's spelling: they belong to the component, and are read further by
``configuration``, ``lifecycle`` and ``variables``.  Mappings are shared, not copied: whoever holds a recipe reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["FORMAT", "Artifact", "ComponentType", "Dependency", "Manifest", "Permission", "Recipe", "Unarchive"]

FORMAT = "2020-01-25"
"""The one recipe format there is."""


class ComponentType(StrEnum):
    """What kind of component a recipe describes: Greengrass's four, and those of Verge."""

    GENERIC = "aws.greengrass.generic"
    LAMBDA = "aws.greengrass.lambda"
    PLUGIN = "aws.greengrass.plugin"
    NUCLEUS = "aws.greengrass.nucleus"
    INFERENCE = "verge.inference"
    MODEL = "verge.model"
    RUNTIME = "verge.runtime"
    SERVER = "verge.server"
    SERVICE = "verge.service"


class Unarchive(StrEnum):
    """What is done with an artifact after its download."""

    NONE = "NONE"
    ZIP = "ZIP"


class Permission(StrEnum):
    """Who may read or execute an artifact."""

    NONE = "NONE"
    OWNER = "OWNER"
    ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of a component.  ``digest`` is base64 of the raw hash, ``algorithm`` its Java name (``SHA-256``)."""

    uri: str
    unarchive: Unarchive = Unarchive.NONE
    read: Permission = Permission.OWNER
    execute: Permission = Permission.NONE
    digest: str | None = None
    algorithm: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a component is on one platform; an empty ``platform`` is every platform.

    A ``platform`` value of None matches everything, as ``*`` does.
    """

    name: str | None = None
    platform: Mapping[str, str | None] = field(default_factory=dict)
    lifecycle: Mapping[str, Any] = field(default_factory=dict)
    selections: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependency:
    """Which versions of another component are needed, and whether its state matters (``hard``)."""

    requirement: Requirement
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Recipe:
    """A component version: what it needs, what it consists of and what it runs."""

    name: str
    version: Version
    type: ComponentType = ComponentType.GENERIC
    description: str | None = None
    publisher: str | None = None
    source: str | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    dependencies: Mapping[str, Dependency] = field(default_factory=dict)
    manifests: tuple[Manifest, ...] = ()
    lifecycle: Mapping[str, Any] = field(default_factory=dict)
    """The global lifecycle: for manifests that have none of their own."""
