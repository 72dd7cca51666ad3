"""Jobs for other agents of the same thing: left alone or rejected, as the configuration says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.until import until_sync

_ROOT = Path(__file__).parents[2]
REBOOT = '{"operation": "reboot"}'

Verge = Callable[..., Any]


@pytest.fixture
def verge(broker, tmp_path):
    """Types a command for the broker; its JSON."""
    url = f"mqtt://127.0.0.1:{broker.port}"
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    serve = [sys.executable, "-m", "agent", "jobs", "serve", "--broker", url, "--data", str(tmp_path / "jobs")]
    service = subprocess.Popen(serve, cwd=_ROOT, stderr=subprocess.DEVNULL)

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "agent", *arguments, "--broker", url, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    until_sync(lambda: run("jobs", "list") is not None)
    yield run
    service.terminate()
    service.wait(10)


def config(thing: str, port: int, folder: Path, **more: Any) -> dict[str, Any]:
    made = agents.configuration(thing, port, folder, {})
    deployments = {"shadow": False, "accept": "anything-from-anyone"} | more
    return made | {"models": {}, "streams": {}, "deployments": deployments}


def create(verge: Verge, thing: str, identity: str, document: str) -> None:
    made = verge("jobs", "create", "--targets", thing, "--id", identity, "--document", document)
    assert made["jobId"] == identity


def status(verge: Verge, identity: str) -> str:
    (execution,) = verge("jobs", "executions", identity)
    return execution["status"]


def test_a_job_for_another_agent_is_left_alone_and_holds_up_no_deployment(verge, broker, thing, tmp_path):
    with agents.running(config(thing, broker.port, tmp_path), tmp_path) as agent:
        create(verge, thing, "reboot-1", REBOOT)
        create(verge, thing, "deploy-1", '{"components": {}}')
        until_sync(lambda: status(verge, "deploy-1") == "SUCCEEDED", why=lambda: agent.log)
        assert status(verge, "reboot-1") == "QUEUED"
        assert "job reboot-1 is left alone" in agent.log


def test_a_job_for_another_agent_is_rejected_where_the_configuration_says_so(verge, broker, thing, tmp_path):
    with agents.running(config(thing, broker.port, tmp_path, foreign_jobs="reject"), tmp_path) as agent:
        for identity in ("reboot-1", "reboot-2"):
            create(verge, thing, identity, REBOOT)
            told = agent.peer.wait(agent.topic(f"deployments/{identity}"))
            assert (told["status"], "it has operation" in told["cause"]) == ("REJECTED", True)
        until_sync(lambda: {status(verge, f"reboot-{number}") for number in (1, 2)} == {"REJECTED"})
        listed = verge("deployments", "--thing", thing)
        assert {one["id"]: one["status"] for one in listed} == {"reboot-1": "REJECTED", "reboot-2": "REJECTED"}
        assert "deployment reboot-1 (IOT_JOBS) is not taken" in agent.log
