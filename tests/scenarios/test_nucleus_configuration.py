"""A deployment configures the nucleus, and the agent does what it says."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document
from tests.support.until import until_sync

NUCLEUS, APP = "aws.greengrass.Nucleus", "com.example.Probe"


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    return config | {"models": {}, "streams": {}, "deployments": {"jobs": False, "shadow": False}}


def probe(fleet: Fleet) -> dict[str, Any]:
    """A component for a device with a certain GPU, which writes down how it was started."""
    script = "echo 'topic {configuration:/topic}' > told; readlink /proc/$$/exe >> told; sleep 600"
    recipe = fleet.scripts(APP, Run=script)
    recipe["Manifests"][0]["Platform"] = {"gpu": "nvidia"}
    recipe["ComponentConfiguration"] = {"DefaultConfiguration": {"topic": "lab/{iot:thingName}/out"}}
    return recipe


def configured(identity: str, recipe: dict[str, Any], **values: Any) -> dict[str, Any]:
    told = document(identity, [recipe], {APP: "1.0.0"})
    told["components"][NUCLEUS] = {"version": "2.12.6", "configurationUpdate": {"merge": values}}
    return told


def test_platform_user_shell_and_interpolation_hold_for_the_deployment_that_sets_them_and_after(
    config, fleet, thing, tmp_path
):
    def told(agent: agents.Agent) -> list[str]:
        path = Path(agent.folder) / "data" / "work" / APP / "told"
        return path.read_text().splitlines() if path.exists() else []

    values = {
        "platformOverride": {"gpu": "nvidia"},
        "interpolateComponentConfiguration": True,
        "runWithDefault": {"posixUser": getpass.getuser(), "posixShell": "bash"},
    }
    with agents.running(config, tmp_path) as agent:
        recipe = probe(fleet)
        refused = deploy(agent, document("without", [recipe], {APP: "1.0.0"}))
        assert "has no manifest for this device: it is for gpu=nvidia" in refused["cause"]
        assert "platformOverride" in refused["hint"]
        ended = deploy(agent, configured("with", recipe, **values, jvmOptions="-Xmx64m"))
        assert ended["status"] == "SUCCEEDED", ended
        (note,) = ended["notes"]
        assert "jvmOptions is kept and has no effect in this agent" in note
        until_sync(lambda: len(told(agent)) == 2, why=lambda: agent.log)
        assert told(agent)[0] == f"topic lab/{thing}/out"
        assert told(agent)[1].endswith("bash")
        # It is the device's: a document that does not name it leaves it as it is.
        assert deploy(agent, document("after", [recipe], {APP: "1.0.0"}))["status"] == "SUCCEEDED"
    (Path(agent.folder) / "data" / "work" / APP / "told").unlink()
    with agents.running(config, tmp_path) as agent:
        until_sync(lambda: len(told(agent)) == 2, why=lambda: agent.log)
        assert told(agent)[0] == f"topic lab/{thing}/out"
