"""What a component needs of its device, and whether a device has it.

The figures are those of AWS's documentation of the components: 500 MB of free disk and of memory for each
machine-learning component (Troubleshooting machine learning inference), glibc 2.27 (each component's Requirements),
Linux on arm, aarch64 and amd64 (the platforms of the recipes), 64 bits for the two servers.
A device below a recommended figure is worth a warning: the agent needs less than what these stood for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.greengrass.catalog.entries import ENTRIES
from agent.greengrass.recipes.errors import Level, LintFinding
from agent.greengrass.recipes.recipe import ComponentType

__all__ = ["FACTS", "Requirements", "check", "requirements"]

_RECOMMENDED: Final = 500_000_000
_GLIBC: Final = (2, 27)
_MEGA: Final = 1_000_000

FACTS: Final = ("os", "architecture", "libc", "libc_version", "disk_free", "memory_total")
"""What may be known of a device: platform attributes, ``platform.libc_ver()``, bytes; what is not is not checked."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """``disk`` and ``memory`` are bytes, 0 where nothing is asked; empty ``architectures`` are all."""

    disk: int = 0
    memory: int = 0
    glibc: tuple[int, int] | None = None
    architectures: tuple[str, ...] = ()


_NEEDS: Final[Mapping[ComponentType, Requirements]] = {
    ComponentType.INFERENCE: Requirements(_RECOMMENDED, _RECOMMENDED, _GLIBC),
    # Its environment is what takes the room.
    ComponentType.RUNTIME: Requirements(_RECOMMENDED, 0, _GLIBC),
    ComponentType.MODEL: Requirements(),
    ComponentType.SERVER: Requirements(0, 0, _GLIBC),
    ComponentType.SERVICE: Requirements(),
}


def requirements(component: str) -> Requirements | None:
    """What a component of the catalog needs; None for any other."""
    entry = next(iter(ENTRIES.get(component, ())), None)
    if entry is None:
        return None
    needs = _NEEDS[entry.type]
    return Requirements(needs.disk, needs.memory, needs.glibc, entry.architectures)


def check(component: str, facts: Mapping[str, Any]) -> tuple[LintFinding, ...]:
    """What a device lacks for a component of the catalog; nothing for any other.

    >>> [finding.message for finding in check("variant.DLR", {"disk_free": 100_000_000})]
    ['variant.DLR: 100 MB of disk are free, 500 MB are recommended']
    """
    needs = requirements(component)
    return tuple(_lacking(component, needs, facts)) if needs else ()


def _lacking(component: str, needs: Requirements, facts: Mapping[str, Any]) -> Iterator[LintFinding]:
    if (system := facts.get("os")) not in {None, "linux"}:
        yield _error(component, "os", f"it is for linux, this is {system}", "run the agent on Linux")
    architecture = facts.get("architecture")
    if architecture and needs.architectures and architecture not in needs.architectures:
        known = ", ".join(needs.architectures)
        hint = "bring components of your own, or override the device's attributes"
        yield _error(component, "architecture", f"it is for {known}, this is {architecture}", hint)
    yield from _libc(component, needs, facts)
    yield from _room(component, "disk_free", needs.disk, facts, "of disk are free")
    yield from _room(component, "memory_total", needs.memory, facts, "of memory are there")


def _libc(component: str, needs: Requirements, facts: Mapping[str, Any]) -> Iterator[LintFinding]:
    if needs.glibc is None or "libc" not in facts:
        return
    wanted = ".".join(map(str, needs.glibc))
    libc = f"{facts['libc'] or 'another C library'} {facts.get('libc_version', '')}".rstrip()
    version = tuple(int(part) for part in re.findall(r"[0-9]+", str(facts.get("libc_version", "")))[:2])
    if facts["libc"] != "glibc" or version < needs.glibc:
        hint = "use a system with a newer glibc (Debian 10, Ubuntu 20.04 or later)"
        yield _error(component, "libc", f"it needs glibc {wanted} or later, this is {libc}", hint)


def _room(component: str, fact: str, least: int, facts: Mapping[str, Any], words: str) -> Iterator[LintFinding]:
    value = facts.get(fact)
    if value is not None and value < least:
        message = f"{component}: {value // _MEGA} MB {words}, {least // _MEGA} MB are recommended"
        yield LintFinding(Level.WARNING, fact, message, "make room before deploying, or expect failures under load")


def _error(component: str, fact: str, message: str, hint: str) -> LintFinding:
    return LintFinding(Level.ERROR, fact, f"{component}: {message}", hint)
