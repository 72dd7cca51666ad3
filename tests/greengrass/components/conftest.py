"""Components made of a line of shell, and a device to run them on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.greengrass.components.spec import ComponentSpec, RunAs
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.recipes.lifecycle import parse
from tests.support.until import until

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


@pytest.fixture
def becomes():
    """Wait until a component is in a state."""

    async def wait(supervisor: Supervisor, name: str, state: State) -> None:
        await until(lambda: supervisor.states()[name].state is state)

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
