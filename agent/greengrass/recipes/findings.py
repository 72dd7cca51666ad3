"""What a person should know of a recipe that loads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The component cannot work as it is written."""
    WARNING = "warning"
    """It works, and probably not as meant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one place of the document, and what to do about it."""

    level: Level
    path: str
    message: str
    hint: str | None = None
