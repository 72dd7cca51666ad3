"""Components made of a line of shell, and a device to run them on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.greengrass.components.spec import ComponentSpec, RunAs
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.recipes.lifecycle import parse

ROOT = RunAs("0") if os.geteuid() == 0 else None


class Device:
    """Folders of a device, and what its components left in them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def supervisor(self, **options) -> Supervisor:
        facts = {"env": {"AWS_IOT_THING_NAME": "thing"}, "run_as": ROOT}
        return Supervisor(run=self.root / "run", logs=self.root / "logs", **{**facts, **options})

    def spec(self, name: str, version: str = "1.0.0", *, hard=(), steps=None, facts=None, **scripts) -> ComponentSpec:
        lifecycle = parse({**scripts, **(steps or {})})
        return ComponentSpec(name, version, lifecycle, self.root / "work" / name, frozenset(hard), **(facts or {}))

    def log(self, name: str) -> str:
        return (self.root / "logs" / f"{name}.log").read_text()

    def file(self, name: str, file: str) -> str:
        """What a component wrote, empty as long as it has not."""
        path = self.root / "work" / name / file
        return path.read_text() if path.exists() else ""


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


async def _until(true: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
def until():
    """Wait until something that another process brings about is so."""
    return _until


@pytest.fixture
def becomes():
    """Wait until a component is in a state."""

    async def wait(supervisor: Supervisor, name: str, state: State) -> None:
        await _until(lambda: supervisor.states()[name].state is state)

    return wait


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def alive():
    """Whether a process is there and no zombie."""
    return _alive
