"""What can be wrong with a recipe, under the codes and types that Greengrass puts into a deployment's status.

::

    InvalidInputError
    └── RecipeError            the document cannot be used: path, value and what was expected
        ├── RecipeUnreadableError  the file cannot be opened
        ├── VersionError           a version or a version requirement cannot be read
        ├── NoManifestError        no manifest is for this device
        └── LifecycleError         a lifecycle step cannot be read
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from agent.errors import InvalidInputError

__all__ = [
    "Level",
    "LifecycleError",
    "LintFinding",
    "NoManifestError",
    "RecipeError",
    "RecipeUnreadableError",
    "VersionError",
]


class RecipeError(InvalidInputError):
    """A recipe cannot be used; ``code`` and ``error_type`` are Greengrass's own words.

    ``path`` is the place in the document (``Manifests[1].Artifacts[0].Uri``), empty for the whole of it.
    """

    default_code = "RECIPE_PARSE_ERROR"
    error_type: ClassVar[str] = "COMPONENT_RECIPE_ERROR"


class RecipeUnreadableError(RecipeError):
    """A recipe's file cannot be opened."""

    default_code = "IO_READ_ERROR"
    error_type = "DEVICE_ERROR"


class VersionError(RecipeError):
    """A version or a version requirement cannot be read."""

    default_code = "COMPONENT_VERSION_NOT_VALID"


class NoManifestError(RecipeError):
    """None of the recipe's manifests is for this device."""

    default_code = "LOCAL_RECIPE_NOT_FOUND"
    error_type = "DEVICE_ERROR"


class LifecycleError(RecipeError):
    """A lifecycle step cannot be read; ``code`` is the status code of a component that has it."""

    default_code = "RUN_CONFIG_NOT_VALID"
    error_type = "COMPONENT_ERROR"


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The component cannot work as it is written."""
    WARNING = "warning"
    """It works, and probably not as meant."""


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One sentence about one place of the document, and what to do about it."""

    level: Level
    path: str
    message: str
    hint: str | None = None
