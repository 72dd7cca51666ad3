"""Documents as AWS's API, its command line and its console write them, sent to a real agent."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, send
from tests.support.until import until_sync

APP = "com.example.App"


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    return config | {"models": {}, "streams": {}, "deployments": deployments}


def test_a_create_deployment_document_is_taken_as_it_is_with_its_policy_its_target_and_its_time(
    config, fleet, tmp_path
):
    recipe = json.dumps(fleet.scripts(APP, Startup="exit 1"))
    told = {
        "targetArn": "arn:aws:iot:eu-west-1:123456789012:thinggroup/lab",
        "deploymentId": "do-nothing",
        "components": {APP: {"componentVersion": "1.0.0"}},
        "deploymentPolicies": {"failureHandlingPolicy": "DO_NOTHING"},
        "creationTimestamp": "2026-11-28T12:00:00.123000+00:00",
        "recipes": [recipe],
    }
    with agents.running(config, tmp_path) as agent:
        ended = deploy(agent, told)
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_NOT_REQUESTED", ended
        # A document for another group does not take away what this one wanted.
        other = {"deploymentId": "other", "components": {}, "creationTimestamp": 1_795_867_201.5}
        deploy(agent, other)
        agent.peer.wait(agent.topic(f"components/{APP}"), lambda told: told["state"] == "BROKEN")


def test_a_document_without_run_with_gives_a_component_its_default_user_and_takes_its_limits_away(
    config, fleet, tmp_path
):
    recipe = fleet.scripts(APP, Run="{ id -un; ulimit -v; echo end; } > told; sleep 600")

    def asked(identity: str, **component: Any) -> list[str]:
        """What the script finds after that deployment."""
        path = Path(agent.folder) / "data" / "work" / APP / "told"
        path.unlink(missing_ok=True)
        told = {"deploymentId": identity, "components": {APP: {"version": "1.0.0", **component}}, "recipes": [recipe]}
        send(agent, told)
        until_sync(lambda: path.exists() and "end" in path.read_text(), why=lambda: agent.log)
        assert agent.peer.wait(agent.topic(f"deployments/{identity}"), lambda told: told["status"] != "IN_PROGRESS")
        return path.read_text().split()

    with agents.running(config, tmp_path) as agent:
        usual = asked("first")
        limits = {"memory": 4_000_000, "cpus": 1}
        bounded = asked("second", runWith={"posixUser": "nobody", "systemResourceLimits": limits})
        assert bounded != usual
        assert asked("third") == usual
