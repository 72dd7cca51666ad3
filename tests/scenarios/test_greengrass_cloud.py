"""Components that live in the Greengrass cloud: a deployment names one, the device gets all that it needs."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support import unruly
from tests.support.certs import Certificates
from tests.support.fleet import SHELL, Fleet, deploy, document
from tests.support.greengrass_cloud import ARTIFACT, GreengrassCloud
from tests.support.until import until_sync

CAMERAS, MODEL = "com.cameras", "com.model"
DOCUMENT = document("first", [], {CAMERAS: "^1.0.0"})


@pytest.fixture
def online() -> Iterator[ExitStack]:
    """Closed when the cloud is down."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def cloud(certificates, online, thing, tmp_path) -> GreengrassCloud:
    """A model store, and an inference component over it: generic ones, the only type that an owner's have there."""
    made = online.enter_context(GreengrassCloud(certificates))
    fleet = Fleet(tmp_path / "fleet")
    model = fleet.model(MODEL, golden={"label": "fine"})
    (artifact,) = model["Manifests"][0]["Artifacts"]
    archive = Path(artifact["Uri"].removeprefix("file://"))
    artifact["Uri"] = f"greengrass:{archive.name}"
    made.keep(made.arn(MODEL, "1.0.0"), archive.name, archive.read_bytes())
    for recipe in (model, fleet.stream(CAMERAS, MODEL, f"{thing}/cameras/+/frame")):
        made.create(json.dumps(recipe | {"ComponentType": SHELL}))
    archive.unlink()
    return made


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    return agents.configuration(thing, broker.port, tmp_path, {}) | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }


def asking(config: dict[str, Any], cloud: GreengrassCloud, certificates: Certificates) -> dict[str, Any]:
    """The configuration of a device that asks the cloud, by the certificate of its account."""
    files = {"cert_file": certificates.client_cert, "key_file": certificates.client_key, "ca_file": certificates.ca}
    return config | {
        "greengrass": {"enabled": True, "data_endpoint": cloud.endpoint},
        "aws": {name: str(path) for name, path in files.items()},
    }


def served(agent: agents.Agent) -> None:
    """A frame is answered."""
    before = len(agent.results(CAMERAS))
    agent.frame("door", unruly.jpeg("answer"))
    until_sync(lambda: len(agent.results(CAMERAS)) > before, why=lambda: agent.log)
    assert agent.results(CAMERAS)[-1]["model"]["version"] == "1.0.0"


def test_what_lives_in_the_cloud_comes_from_there_and_stays_when_the_cloud_is_gone(
    config, cloud, online, certificates, tmp_path
):
    config = asking(config, cloud, certificates)
    with agents.running(config, tmp_path) as agent:
        told = deploy(agent, DOCUMENT)
        assert (told["status"], told["detailedStatus"]) == ("SUCCEEDED", "SUCCESSFUL"), told
        served(agent)
        assert [(name, here) for name, here, _ in cloud.candidates()] == [(CAMERAS, None), (MODEL, None)]
        assert {each.peer for each in cloud.requests} == {"client"}
        assert len(cloud.asked(ARTIFACT)) == 1
        online.close()
        told = deploy(agent, DOCUMENT | {"deploymentId": "second"})
        assert told["status"] == "SUCCEEDED", told
        served(agent)
        assert f"{MODEL} stays 1.0.0, as known here" in agent.log
    with agents.running(config, tmp_path) as agent:
        served(agent)


def test_a_newer_version_comes_from_the_cloud_when_a_deployment_wants_it(config, cloud, certificates, tmp_path):
    with agents.running(asking(config, cloud, certificates), tmp_path) as agent:
        deploy(agent, DOCUMENT)
        ((_, text),) = cloud.components[CAMERAS]
        cloud.create(text.replace('"ComponentVersion": "1.0.0"', '"ComponentVersion": "1.1.0"'))
        assert deploy(agent, document("second", [], {CAMERAS: "^1.1.0"}))["status"] == "SUCCEEDED"
        agent.peer.wait(agent.topic(f"components/{CAMERAS}"), lambda told: told["version"] == "1.1.0")
        served(agent)
        assert len(cloud.asked(ARTIFACT)) == 1


def test_an_agent_that_is_not_told_to_ask_the_cloud_does_not(config, cloud, tmp_path):
    with agents.running(config, tmp_path) as agent:
        told = deploy(agent, DOCUMENT)
    assert told["status"] == "FAILED"
    assert "NO_AVAILABLE_COMPONENT_VERSION" in told["errorStack"]
    assert cloud.requests == []
