"""Which wheels an interpreter takes and which of them a folder holds, by facts and names alone.

``packaging`` knows the rules of tags, but reads the process that it runs in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from agent.inference.environments.host import Interpreter

__all__ = ["Wheel", "lacking", "platforms", "read", "tags"]

_FIRST_GLIBC = {"x86_64": 5, "i686": 5}
_ARM_FIRST_GLIBC = 17
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""The names that manylinux platforms had before they were called by glibc's version."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's name, taken apart."""

    name: str
    version: Version
    tags: frozenset[Tag]

    @property
    def platform(self) -> str:
        """For whom it is: ``cp311 manylinux2014_x86_64``."""
        pairs = sorted((tag.interpreter, tag.platform) for tag in self.tags)
        return " ".join(pairs[0])


def tags(interpreter: Interpreter) -> list[Tag]:
    """The tags of wheels that an interpreter takes, best first, as pip ranks them."""
    major, minor, _ = interpreter.version
    abi = f"cp{major}{minor}{'t' if interpreter.free_threaded else ''}"
    where = list(platforms(interpreter))
    native = cpython_tags((major, minor), abis=[abi], platforms=where)
    return [*native, *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=where)]


def platforms(interpreter: Interpreter) -> Iterator[str]:
    """The platform part of the tags, best first."""
    machine, (major, minor) = interpreter.machine, interpreter.libc_version
    yield f"linux_{machine}"
    if interpreter.libc == "glibc":
        for number in range(minor, _FIRST_GLIBC.get(machine, _ARM_FIRST_GLIBC) - 1, -1):
            yield f"manylinux_{major}_{number}_{machine}"
            if number in _LEGACY:
                yield f"{_LEGACY[number]}_{machine}"
    elif interpreter.libc == "musl":
        for number in range(minor, -1, -1):
            yield f"musllinux_{major}_{number}_{machine}"


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
