"""What a family asks of the machine is a table, and a machine that lacks it is told what to do."""

from __future__ import annotations

import pytest

from agent.inference.environments.combinations import FAMILIES
from agent.inference.environments.host import Host, Interpreter
from agent.inference.environments.requirements import FLAGS, OLDEST_GLIBC, ROOM_BYTES, check


def machine(name: str = "x86_64", flag: str = "avx", free: int = ROOM_BYTES, **facts) -> Host:
    facts = {"path": "/usr/bin/python3.11", "version": (3, 11, 2), "machine": name, "libc_version": (2, 36)} | facts
    return Host((Interpreter(**facts),), frozenset({flag}), free)


def test_the_table_knows_every_family_and_the_machines_that_its_combinations_are_for() -> None:
    assert set(OLDEST_GLIBC) == set(FAMILIES)
    for family, combinations in FAMILIES.items():
        machines = {name for combination in combinations for name in combination.machines}
        assert set(OLDEST_GLIBC[family]) == machines
        assert machines <= set(FLAGS)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_machine_that_has_it_all_lacks_nothing(family) -> None:
    assert check(machine(), family) == []


@pytest.mark.parametrize(
    ("host", "family", "said", "fatal"),
    [
        (machine(free=ROOM_BYTES - 1), "dlr", "499 MiB are free, an environment needs 500 MiB", True),
        (machine("aarch64", "asimd"), "dlr", "the index has dlr wheels for x86_64, not for aarch64", False),
        (machine(libc_version=(2, 24)), "onnx", "the oldest onnx wheels ask for glibc 2.27, here is 2.24", False),
        (machine(libc="musl"), "litert", "the index's litert wheels are for glibc, here is musl", False),
        (machine(flag="sse2"), "litert", "the processor has no avx", False),
        (Host(()), "litert", "no Python 3.9 to 3.14 was found", True),
    ],
)  # fmt: skip
def test_what_a_machine_lacks_is_said_with_the_fix(host, family, said, fatal) -> None:
    (shortfall,) = check(host, family)
    assert (shortfall.what, shortfall.fatal) == (said, fatal)
    assert shortfall.fix
