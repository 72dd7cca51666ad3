"""What a family asks of the machine, as a table, checked against a host's facts.

The room is what Greengrass's guide asks for; the C library's versions and the machines are those of the wheels on
the public index, so what a wheelhouse brings may do with less: these are warnings to read, not locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agent.inference.environments.host import NEWEST, OLDEST, Host, Interpreter

__all__ = ["FLAGS", "OLDEST_GLIBC", "ROOM_BYTES", "Shortfall", "check", "room"]

ROOM_BYTES = 500 << 20
"""What must be free before an environment is built."""

_MIB = 1 << 20


OLDEST_GLIBC: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType({
    "litert": {"x86_64": (2, 17), "aarch64": (2, 27), "armv7l": (2, 34)},
    "onnx": {"x86_64": (2, 27), "aarch64": (2, 27)},
    "opencv": {"x86_64": (2, 17), "aarch64": (2, 17), "armv7l": (2, 28)},
    "dlr": {"x86_64": (2, 17)},
})  # fmt: skip
"""Per family, the machines that have wheels, and the oldest C library that these ask for."""

FLAGS: Mapping[str, str] = MappingProxyType({"x86_64": "avx", "aarch64": "asimd", "armv7l": "neon"})
"""Per machine, the processor's flag without which the libraries are slow or do not start."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Something that a machine lacks, and what to do about it."""

    what: str
    fix: str
    fatal: bool
    """Whether nothing can be installed as things are."""


def check(host: Host, family: str) -> list[Shortfall]:
    """What the machine lacks for a family; empty where all is well."""
    shortfalls = [shortage] if (shortage := room(host.free_bytes)) else []
    if not host.interpreters:
        span = f"{_dotted(OLDEST)} to {_dotted(NEWEST)}"
        return [*shortfalls, Shortfall(f"no Python {span} was found", f"install one of Python {span}", fatal=True)]
    machines = {interpreter.machine: interpreter for interpreter in host.interpreters}
    needs = OLDEST_GLIBC[family]
    shortfalls += [lack for python in machines.values() for lack in _wheels(python, needs, family)]
    for machine in machines:
        wanted = FLAGS.get(machine)
        if wanted and wanted not in host.flags:
            fix = "in a virtual machine, pass the host's processor through; else expect slow inference"
            shortfalls.append(Shortfall(f"the processor has no {wanted}", fix, fatal=False))
    return shortfalls


def room(free_bytes: int) -> Shortfall | None:
    """Whether an environment has room."""
    if free_bytes >= ROOM_BYTES:
        return None
    what = f"{free_bytes // _MIB} MiB are free, an environment needs {ROOM_BYTES // _MIB} MiB"
    return Shortfall(what, "free space, or let MLRootPath name a larger disk", fatal=True)


def _wheels(interpreter: Interpreter, needs: Mapping[str, tuple[int, int]], family: str) -> list[Shortfall]:
    oldest = needs.get(interpreter.machine)
    bring = "bring wheels of your own in a wheelhouse"
    if oldest is None:
        there = ", ".join(sorted(needs))
        what = f"the index has {family} wheels for {there}, not for {interpreter.machine}"
        return [Shortfall(what, bring, fatal=False)]
    if interpreter.libc != "glibc":
        here = interpreter.libc or "another C library"
        return [Shortfall(f"the index's {family} wheels are for glibc, here is {here}", bring, fatal=False)]
    if interpreter.libc_version < oldest:
        what = (
            f"the oldest {family} wheels ask for glibc {_dotted(oldest)}, here is {_dotted(interpreter.libc_version)}"
        )
        return [Shortfall(what, f"upgrade the system, or {bring}", fatal=False)]
    return []


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
