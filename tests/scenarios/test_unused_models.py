"""A model that no stream uses yet: it is asked as any other before it is taken, and it is listed."""

from __future__ import annotations

import getpass
import random
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.device import Owner
from tests.support.fleet import Fleet, deploy, document


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    return config | {"models": {}, "streams": {}, "deployments": deployments}


def alone(identity: str, recipe: dict[str, Any]) -> dict[str, Any]:
    return document(identity, [recipe], {recipe["ComponentName"]: recipe["ComponentVersion"]})


def test_noise_and_a_golden_frame_that_disagrees_fail_a_deployment_of_the_model_alone(config, fleet, tmp_path):
    noise = {"noise.tflite": random.Random(5).randbytes(5000), "manifest.toml": b'file = "noise.tflite"\n'}
    with agents.running(config, tmp_path) as agent:
        ended = deploy(agent, alone("noise", fleet.packed("com.noise", "1.0.0", noise)))
        assert (ended["status"], ended["detailedStatus"]) == ("FAILED", "FAILED_NO_STATE_CHANGE")
        assert "COMPONENT_BROKEN" in ended["errorStack"]
        odd = fleet.model("com.odd", golden={"label": "odd"})
        ended = deploy(agent, alone("odd", odd))
        assert (ended["status"], ended["detailedStatus"]) == ("FAILED", "FAILED_NO_STATE_CHANGE")
        assert "golden/grey.jpg: expected odd" in ended["failureCause"]
        assert not agent.workers()


def test_a_model_alone_that_answers_is_listed_and_loaded_once_a_stream_uses_it(config, broker, fleet, thing, tmp_path):
    model = fleet.model("com.model", golden={"label": "fine"})
    with agents.running(config, tmp_path) as agent:
        owner = Owner(agent, broker.port)
        assert deploy(agent, alone("alone", model))["status"] == "SUCCEEDED"
        told = owner.status("com.model", lambda told: told["state"] == "FINISHED" and told["reason"])
        assert (told["version"], told["reason"]) == ("1.0.0", "no inference component uses it")
        assert not agent.workers()
        stream = fleet.stream("com.stream", "com.model", f"{thing}/cameras/+/frame")
        wanted = {"com.model": "1.0.0", "com.stream": "1.0.0"}
        assert deploy(agent, document("used", [model, stream], wanted))["status"] == "SUCCEEDED"
        owner.status("com.model", lambda told: told["state"] == "RUNNING")
        assert deploy(agent, alone("alone again", model))["status"] == "SUCCEEDED"
        owner.status("com.model", lambda told: told["state"] == "FINISHED" and bool(told["reason"]))
    with agents.running(config, tmp_path) as agent:
        Owner(agent, broker.port).status("com.model", lambda told: told["state"] == "FINISHED")
