"""What the nucleus's configuration changes in the agent while it runs, and that it is undone when it leaves."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.components.logs import ComponentLog
from agent.greengrass.components.spec import ComponentSpec, RunAs
from agent.greengrass.components.supervisor import Settled, Supervisor
from agent.greengrass.deployments.configurations import Configurations, Configured
from agent.greengrass.deployments.running import LiveSettings
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.recipes.lifecycle import parse
from tests.support.until import PATIENCE_S

ROOT = RunAs("0") if os.geteuid() == 0 else None
NUCLEUS = "aws.greengrass.Nucleus"


@pytest.fixture(autouse=True)
def root_level():
    """The level of the root logger, put back."""
    root = logging.getLogger()
    before = root.level
    root.setLevel("INFO")
    yield root
    root.setLevel(before)


class Agent:
    """Its parts that a configuration reaches, and what the fleet was given."""

    def __init__(self, folder: Path) -> None:
        self.configurations = Configurations()
        self.supervisor = Supervisor(run=folder / "run", logs=folder / "logs", env={}, run_as=ROOT)
        self.cache = Cache(folder / "cache", max_bytes=1_000_000, reserve_bytes=0)
        self.cadences: list[float | None] = []
        LiveSettings(self.configurations, self.supervisor, self.cache, self.cadences.append)

    def configure(self, **values) -> None:
        self.configurations.adopt({NUCLEUS: Configured(Tree.of(values, 5))})


@pytest.fixture
def agent(tmp_path):
    return Agent(tmp_path)


def test_the_agent_logs_from_the_level_that_is_deployed_and_again_from_its_own(agent, root_level) -> None:
    agent.configure(logging={"level": "WARN"})
    assert root_level.level == logging.WARNING
    agent.configure(logging={"level": "DEBUG"})
    assert root_level.level == logging.DEBUG
    agent.configure()
    assert root_level.level == logging.INFO


def test_the_store_is_never_larger_than_the_agents_own_configuration_lets_it_be(agent) -> None:
    agent.cache.folder.mkdir(parents=True)
    agent.configure(componentStoreMaxSizeBytes="1000")
    with pytest.raises(ArtifactError, match="of 1000 allowed"):
        agent.cache.make_room(2000)
    agent.configure(componentStoreMaxSizeBytes=10**12)
    agent.cache.make_room(2000)
    with pytest.raises(ArtifactError, match="of 1000000 allowed"):
        agent.cache.make_room(2_000_000)


def test_the_fleet_is_given_its_cadence_and_that_there_is_none(agent) -> None:
    agent.configure(fleetStatus={"periodicStatusPublishIntervalSeconds": 172_800})
    agent.configure()
    assert agent.cadences == [172_800, None]


def test_what_cannot_be_used_leaves_everything_as_it_was(agent, root_level, caplog) -> None:
    agent.configure(logging={"level": "DEBUG"})
    agent.configure(logging={"level": "LOUD"})
    assert root_level.level == logging.DEBUG
    assert "logging.level is 'LOUD'" in caplog.text


async def test_a_component_that_runs_keeps_its_logs_within_the_sizes_that_are_deployed(agent, tmp_path) -> None:
    prints = "for i in $(seq 60); do echo line $i; done"
    spec = ComponentSpec("a", "1.0.0", parse({"Install": prints}), tmp_path / "work/a")
    agent.configure(logging={"fileSizeKB": 1, "totalLogsSizeKB": 3})
    async with agent.supervisor as supervisor:
        await supervisor.apply({"a": spec})
        assert (await supervisor.settled(["a"], PATIENCE_S))["a"] is Settled.HEALTHY
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["a.log", "a.log.1", "a.log.2"]
    assert "line 60 " in (tmp_path / "logs/a.log").read_text()


def test_files_that_earlier_bounds_allowed_go_with_the_next_rotation(tmp_path) -> None:
    log = ComponentLog(tmp_path, "a", file_bytes=100, total_bytes=1000)
    for number in range(8):
        log.write("INFO", "stdout", f"line {number}", {})
    assert len(list(tmp_path.iterdir())) == 8
    log.bound(100, 200)
    log.write("INFO", "stdout", "last", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
