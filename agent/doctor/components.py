"""The requirements of the catalog's components: a line a group where this device meets them, names where it does not.

Runtimes are judged by what could be built here, from the table of combinations and the interpreters that answer.
Asking those takes a second or two, so it is begun before the other checks and shown after them.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.doctor import machine
from agent.doctor.finding import Finding, size
from agent.greengrass import catalog
from agent.greengrass.catalog import requirements as asked
from agent.greengrass.catalog.entries import ENTRIES
from agent.greengrass.recipes.platform import detect
from agent.greengrass.recipes.recipe import ComponentType
from agent.inference.environments import requirements, survey
from agent.inference.environments.choose import choose
from agent.inference.environments.combinations import FAMILIES
from agent.inference.environments.host import Host

__all__ = ["findings", "groups", "pythons", "runtimes"]

_GROUPS: Final[Mapping[str, ComponentType]] = {
    "inference": ComponentType.INFERENCE,
    "model stores": ComponentType.MODEL,
    "servers": ComponentType.SERVER,
}
"""Group → its type of components; those of the type runtime are judged by ``runtimes``."""
_MEGA: Final = 1_000_000


async def findings(folder: Path) -> list[Finding]:
    """Of this device; ``folder`` is where components will be kept."""
    host = await survey.host(folder)
    attributes = detect()
    libc, libc_version = platform.libc_ver()
    facts = {
        "os": attributes["os"],
        "architecture": attributes["architecture"],
        "libc": libc,
        "libc_version": libc_version,
        "disk_free": host.free_bytes,
        "memory_total": machine.total_memory(),
    }
    return [
        Finding.ok("platform", ", ".join(f"{key} {value}" for key, value in attributes.items())),
        pythons(host),
        *runtimes(host),
        *groups(facts, folder),
    ]


def pythons(host: Host) -> Finding:
    """The interpreters that environments can be made of."""
    check = "pythons"
    if not host.interpreters:
        detail = "; ".join(["none that a worker runs on", *host.passed_over])
        return Finding.warn(check, detail, "install one of Python 3.9 to 3.14")
    releases = dict.fromkeys(interpreter.release for interpreter in host.interpreters)
    return Finding.ok(check, ", ".join(releases))


def runtimes(host: Host) -> list[Finding]:
    """Which families of runtimes could be had."""
    check = "runtimes"
    possible: dict[str, list[str]] = {}
    lacks: dict[tuple[str, str], list[str]] = {}
    for family in FAMILIES:
        shortfalls = list(_shortfalls(host, family))
        for shortfall in shortfalls:
            lacks.setdefault(shortfall, []).append(family)
        if not shortfalls:
            best = choose(FAMILIES[family], host, wheelhouse=None, index=True).candidates[0]
            possible.setdefault(best.interpreter.release, []).append(family)
    words = [f"{', '.join(families)} on Python {release}" for release, families in possible.items()]
    fine = [Finding.ok(check, f"can be installed: {'; '.join(words)}")] if words else []
    return fine + [Finding.warn(check, f"{', '.join(names)}: {what}", fix) for (what, fix), names in lacks.items()]


def groups(facts: Mapping[str, Any], folder: Path) -> list[Finding]:
    """Whether a device with these facts (``catalog.requirements.FACTS``) meets the components' requirements."""
    return [
        finding
        for group, kind in _GROUPS.items()
        for finding in _group(group, [name for name in catalog.names() if ENTRIES[name][0].type is kind], facts, folder)
    ]


def _shortfalls(host: Host, family: str) -> Iterator[tuple[str, str]]:
    """The reasons why a family cannot be had, each with what to do about it."""
    if host.interpreters and not any(interpreter.venv for interpreter in host.interpreters):
        yield "no Python here makes virtual environments", "Debian, Ubuntu: sudo apt-get install python3-venv"
        return
    shortfalls = requirements.check(host, family)
    yield from ((shortfall.what, shortfall.fix) for shortfall in shortfalls)
    choice = choose(FAMILIES[family], host, wheelhouse=None, index=True)
    if not choice.candidates and not shortfalls:
        yield "; ".join(choice.rejected), "install a Python that its wheels are for, or bring wheels in a wheelhouse"


def _group(group: str, names: list[str], facts: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    lacks: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for lack in asked.check(name, facts):
            sentence = lack.message.removeprefix(f"{name}: "), lack.hint or ""
            lacks.setdefault(sentence, []).append(name)
    for (what, fix), lacking in lacks.items():
        who = f"all {len(names)} components" if lacking == names else ", ".join(lacking)
        yield Finding.warn(group, f"{who}: {what}", fix)
    if not lacks:
        yield Finding.ok(group, f"{', '.join(names)}: each asks for {_asked(names, facts, folder)}")


def _asked(names: Iterable[str], facts: Mapping[str, Any], folder: Path) -> str:
    needs = [need for name in names if (need := asked.requirements(name))]
    disk, memory = max(need.disk for need in needs), max(need.memory for need in needs)
    glibc = max((need.glibc for need in needs if need.glibc), default=None)
    words = [
        f"{disk // _MEGA} MB of disk ({size(facts['disk_free'])} free under {folder})" if disk else "",
        f"{memory // _MEGA} MB of memory" if memory else "",
        f"glibc {'.'.join(map(str, glibc))}" if glibc else "",
    ]
    return ", ".join(filter(None, words)) or "nothing more"
