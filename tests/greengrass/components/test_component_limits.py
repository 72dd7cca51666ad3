"""Limits: what is written to a cgroup of one's own, and what an rlimit can do instead."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.greengrass.components.limits import Cgroups, Rlimits, claim
from agent.greengrass.components.spec import Limits


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def _hierarchy(root: Path, members: str, controllers: str = "cpuset cpu io memory pids") -> Path:
    """A cgroup's files as a kernel would show them; what they do is the kernel's."""
    (root / "cgroup.controllers").write_text(controllers)
    (root / "cgroup.procs").write_text(members)
    (root / "cgroup.subtree_control").touch()
    return root


def test_a_cgroup_of_the_agents_own_is_divided_with_the_agent_in_a_leaf(tmp_path):
    enforcer = claim(_hierarchy(tmp_path, f"{os.getpid()}\n"))
    assert isinstance(enforcer, Cgroups)
    assert (tmp_path / "agent/cgroup.procs").read_text() == str(os.getpid())
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_a_cgroup_shared_with_others_is_left_alone(tmp_path):
    assert isinstance(claim(_hierarchy(tmp_path, f"1\n{os.getpid()}\n")), Rlimits)
    assert not (tmp_path / "agent").exists()


def test_a_cgroup_without_the_controllers_is_left_alone(tmp_path):
    assert isinstance(claim(_hierarchy(tmp_path, f"{os.getpid()}\n", "hugetlb")), Rlimits)
    assert isinstance(claim(tmp_path / "missing"), Rlimits)


def test_a_components_cgroup_gets_its_process_and_its_limits(tmp_path):
    enforcer = Cgroups(tmp_path)
    enforcer.attach("a", 4711, Limits(memory_kb=2048, cpus=1.5))
    leaf = tmp_path / "component.a"
    assert {file.name: file.read_text() for file in leaf.iterdir()} == {
        "memory.max": "2097152", "cpu.max": "150000 100000", "cgroup.procs": "4711",
    }  # fmt: skip
    assert enforcer.pids("a") == {4711}
    enforcer.update("a", (4711,), Limits())
    assert (leaf / "memory.max").read_text() == "max"
    assert (leaf / "cpu.max").read_text() == "max 100000"
    assert enforcer.note(Limits(1, 1)) == ""
    assert enforcer.pids("unknown") == ()


def test_an_rlimit_bounds_a_running_process_and_is_lifted_again(sleeper):
    enforcer = Rlimits()
    hard = resource.prlimit(sleeper, resource.RLIMIT_AS)[1]
    enforcer.attach("a", sleeper, Limits(memory_kb=100_000))
    assert resource.prlimit(sleeper, resource.RLIMIT_AS)[0] == 100_000 * 1024
    enforcer.update("a", (sleeper,), Limits())
    assert resource.prlimit(sleeper, resource.RLIMIT_AS) == (hard, hard)


def test_what_an_rlimit_cannot_do_is_said():
    note = Rlimits().note
    assert note(Limits()) == ""
    assert note(Limits(memory_kb=1)).startswith("memory is limited per process, by address space: ")
    assert "cpus is not limited" in note(Limits(cpus=1.0))
