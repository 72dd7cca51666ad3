"""Too few file descriptors: what cannot be done is refused with the reason, and the agent lives on."""

from __future__ import annotations

import getpass
import resource
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document, send
from tests.support.until import until_sync


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    return config | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }


def _set(fleet: Fleet, name: str, version: str, cameras: str) -> dict[str, Any]:
    return document(
        name,
        [
            fleet.model("com.model", version, golden={"label": "fine"}),
            fleet.stream("com.cameras", "com.model", cameras, version),
            fleet.scripts("com.scripts", version, Run="sleep 600"),
        ],
        {"com.cameras": version, "com.scripts": version},
    )


def _ended(agent: agents.Agent) -> list[dict[str, Any]]:
    """The ends of the first document: without a descriptor its id may not be readable."""
    ends = [end for name in ("short", "refused") for end in agent.peer.all(agent.topic(f"deployments/{name}"))]
    return [end for end in ends if end["status"] in ("SUCCEEDED", "FAILED", "REJECTED")]


@pytest.mark.parametrize("spare", [0, 1, 2, 4, 6, 9, 13, 18])
def test_a_deployment_without_descriptors_has_an_end_and_the_next_one_succeeds(config, tmp_path, thing, spare) -> None:
    fleet, cameras = Fleet(tmp_path / "fleet"), f"{thing}/cameras/+/frame"
    with agents.running(config, tmp_path) as agent:
        pid = agent.process.pid
        used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, usual[1]))
        send(agent, _set(fleet, "short", "1.0.0", cameras))
        until_sync(lambda: _ended(agent), why=lambda: agent.log)
        ended = _ended(agent)[0]
        assert ended["status"] == "SUCCEEDED" or "Too many open files" in ended["cause"]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        later = deploy(agent, _set(fleet, "later", "2.0.0", cameras))
        assert (later["status"], later["detailedStatus"]) == ("SUCCEEDED", "SUCCESSFUL")


_FEW = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
runpy.run_module("agent", run_name="__main__", alter_sys=True)
"""


def test_the_agent_takes_as_many_descriptors_as_it_may(config, tmp_path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # The limit is the agent's alone: this process may hold more descriptors than that already.
    with agents.running(config, tmp_path, ("-c", _FEW)) as agent:
        assert resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
