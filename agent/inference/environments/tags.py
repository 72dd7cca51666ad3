"""Which wheels an interpreter takes, from its facts alone: ``packaging`` knows the rules but reads its own process."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.tags import Tag, compatible_tags, cpython_tags

from agent.inference.environments.host import Interpreter

__all__ = ["platforms", "tags"]

_FIRST_GLIBC = {"x86_64": 5, "i686": 5}
_ARM_FIRST_GLIBC = 17
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""The names that manylinux platforms had before they were called by glibc's version."""


def tags(interpreter: Interpreter) -> list[Tag]:
    """Best first, as pip ranks them."""
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
