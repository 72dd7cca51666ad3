"""What a folder of wheels holds, by their names alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

__all__ = ["Wheel", "lacking", "read"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's name, taken apart."""

    name: str
    version: Version
    tags: frozenset[Tag]

    @property
    def platform(self) -> str:
        """For whom it is: ``cp311 manylinux2014_x86_64``."""
        told = sorted((tag.interpreter, tag.platform) for tag in self.tags)
        return " ".join(told[0])


def read(names: Iterable[str]) -> tuple[Wheel, ...]:
    """The wheels among some file names; what is none is left out."""
    return tuple(wheel for name in names if (wheel := _wheel(name)) is not None)


def lacking(requirement: Requirement, wheels: Sequence[Wheel], fitting: Iterable[Tag]) -> str:
    """Why no wheel serves a requirement for an interpreter that takes the tags; empty where one does."""
    name = canonicalize_name(requirement.name)
    named = [wheel for wheel in wheels if wheel.name == name]
    if not named:
        return f"there is no wheel of {name}"
    asked = [wheel for wheel in named if requirement.specifier.contains(wheel.version)]
    if not asked:
        there = ", ".join(str(version) for version in sorted({wheel.version for wheel in named}))
        return f"{name} is there as {there}, asked is {requirement.specifier}"
    taken = frozenset(fitting)
    if not any(wheel.tags & taken for wheel in asked):
        best = max(asked, key=lambda wheel: wheel.version)
        others = sorted({wheel.platform for wheel in asked if wheel.version == best.version})
        return f"{name} {best.version} is there for {' and '.join(others)} only"
    return ""


def _wheel(name: str) -> Wheel | None:
    try:
        project, version, _, tags = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return None
    return Wheel(project, version, tags)
