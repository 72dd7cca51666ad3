"""Versions (semver 2.0) and version requirements (npm ranges).

A requirement is read by the ``node-semver`` library: a port of npm's own grammar, small and without
dependencies, so that carets, tildes, x-ranges, hyphens and ``||`` mean here what they mean to npm.  Its
comparators become our values at this border, because four things differ from it:

- ``latest`` and ``==1.0.0``, which Greengrass reads, are spelled for it;
- a prerelease that itself begins with a hyphen (``^1.0.0--x``) would lose it there;
- a bound that the author did not write (the ``<2.0.0`` of ``1.x``) also keeps out the prereleases of the version
  it names, as in npm;
- a prerelease satisfies a lone comparator (``*``, ``>=1.0.0``); where several are joined it needs one that names
  a prerelease of the same major.minor.patch.

Requirements of several dependers are joined as parsed sets: each keeps its own alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from operator import eq, ge, gt, le, lt
from typing import Any, Final

import nodesemver

from agent.greengrass.recipes.errors import VersionError

__all__ = ["Requirement", "Version"]

_MAX_VERSION = 64
_MAX_NUMBER = 999_999
_MAX_REQUIREMENT = 1024
_SHOWN = 80

_NUMBER: Final = r"(0|[1-9][0-9]*)"
_IDENTIFIER: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_DOUBLE_EQUALS = re.compile(r"(^|\s)==(?=[\sv]*[0-9])")
_HYPHEN_LOST = re.compile(r"([~^]>?[v=\s]*[0-9]+\.[0-9]+\.[0-9]+)--")

Precedence = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]

_OPERATORS: Mapping[str, Callable[[Precedence, Precedence], bool]] = {
    "": eq,
    "=": eq,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semver 2.0 version, ordered by precedence; between equals the build text decides, so that order is total."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...] = ()
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read ``MAJOR.MINOR.PATCH[-pre][+build]``, strictly.  Raises ``VersionError``."""
        found = _VERSION.fullmatch(text) if len(text) <= _MAX_VERSION else None
        if not found or max(numbers := [int(number) for number in found.group(1, 2, 3)]) > _MAX_NUMBER:
            raise VersionError(
                f"{_short(text)} is not a version",
                hint=f"MAJOR.MINOR.PATCH[-prerelease][+build], {_MAX_VERSION} characters, numbers up to {_MAX_NUMBER}",
            )
        major, minor, patch = numbers
        return cls(major, minor, patch, _identifiers(found.group(4) or ""), found.group(5) or "")

    @property
    def precedence(self) -> Precedence:
        """What semver compares: build metadata has no part in it."""
        identifiers = tuple((False, one, "") if isinstance(one, int) else (True, 0, one) for one in self.prerelease)
        return self.major, self.minor, self.patch, not identifiers, identifiers

    @property
    def core(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.major, self.minor, self.patch

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.precedence, self.build) < (other.precedence, other.build)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self.prerelease:
            text += "-" + ".".join(map(str, self.prerelease))
        return f"{text}+{self.build}" if self.build else text


@dataclass(frozen=True, slots=True)
class _Comparator:
    operator: str
    bound: Version

    def allows(self, version: Version) -> bool:
        return _OPERATORS[self.operator](version.precedence, self.bound.precedence)


@dataclass(frozen=True, slots=True)
class _Range:
    """Alternatives, one of which must hold; an alternative is comparators, all of which must hold."""

    text: str
    alternatives: tuple[tuple[_Comparator, ...], ...]

    def allows(self, version: Version) -> bool:
        return any(_holds(comparators, version) for comparators in self.alternatives)


@dataclass(frozen=True, slots=True)
class Requirement:
    """Which versions are wanted: an npm range, or the intersection of several."""

    ranges: tuple[_Range, ...]

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read an npm range.  Raises ``VersionError``."""
        if len(text) > _MAX_REQUIREMENT:
            raise _unreadable(text)
        return _parsed(text)

    @classmethod
    def all(cls, requirements: Iterable[Requirement]) -> Requirement:
        """What satisfies each of them; none at all is satisfied by everything."""
        ranges = dict.fromkeys(each for requirement in requirements for each in requirement.ranges)
        return cls(tuple(ranges))

    def allows(self, version: Version) -> bool:
        """Whether the version satisfies every range; its build metadata is ignored."""
        return all(each.allows(version) for each in self.ranges)

    def __str__(self) -> str:
        return " and ".join(each.text for each in self.ranges) or "*"


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Requirement:
    alternatives = tuple(_comparators(alternative, text) for alternative in text.split("||"))
    return Requirement((_Range(text.strip() or "*", alternatives),))


def _comparators(alternative: str, text: str) -> tuple[_Comparator, ...]:
    """One alternative through the library; ``text`` is the whole requirement, for the error."""
    asked = alternative.strip()
    asked = "*" if asked == "latest" else _HYPHEN_LOST.sub(r"\1---", _DOUBLE_EQUALS.sub(r"\1=", asked))
    try:
        if not asked.isascii():
            raise _unreadable(text)
        (found,) = nodesemver.make_range(asked, loose=False).set
    except ValueError as error:
        raise _unreadable(text) from error
    return tuple(_comparator(each, asked) for each in found if each.semver is not nodesemver.ANY)


def _comparator(found: Any, asked: str) -> _Comparator:
    bound = found.semver
    prerelease = tuple(bound.prerelease)
    if found.operator == "<" and not prerelease and bound.version not in asked:
        prerelease = (0,)
    return _Comparator(found.operator, Version(bound.major, bound.minor, bound.patch, prerelease))


def _holds(comparators: tuple[_Comparator, ...], version: Version) -> bool:
    if not all(comparator.allows(version) for comparator in comparators):
        return False
    if not version.prerelease or len(comparators) <= 1:
        return True
    return any(each.bound.prerelease and each.bound.core == version.core for each in comparators)


def _identifiers(text: str) -> tuple[int | str, ...]:
    return tuple(int(each) if each.isdigit() else each for each in text.split(".")) if text else ()


def _unreadable(text: str) -> VersionError:
    return VersionError(
        f"{_short(text)} is not a version requirement", hint="an npm range such as ~2.1.0, ^1.4.0 or >=1.0.0 <2.0.0"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
