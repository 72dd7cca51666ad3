"""What a fleet's owner hears of a device, in Greengrass's own words."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document
from tests.support.peer import Peer, peer

BREAKS_ON_CUE = "while [ ! -e cue ]; do sleep 0.05; done; exit 3"
NUCLEUS = "aws.greengrass.Nucleus"


class Owner:
    """Hears every fleet status message of one device, from before it starts."""

    def __init__(self, listener: Peer, thing: str) -> None:
        self.peer = listener
        self.topic = f"$aws/things/{thing}/greengrassv2/health/json"
        listener.subscribe(self.topic)

    def hears(self, check: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        return self.peer.wait(self.topic, check)

    def hears_of_deployment(self, identity: str) -> dict[str, Any]:
        return self.hears(lambda told: told.get("deploymentInformation", {}).get("deploymentId") == identity)

    def hears_of_state(self, name: str, state: str) -> dict[str, Any]:
        return self.hears(lambda told: components(told).get(name, {}).get("status") == state)

    @property
    def heard(self) -> list[dict[str, Any]]:
        return self.peer.all(self.topic)


def components(told: dict[str, Any]) -> dict[str, Any]:
    return {each["componentName"]: each for each in told["components"]}


@pytest.fixture
def owner(broker, thing):
    with peer(broker.port) as listener:
        yield Owner(listener, thing)


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    config = agents.configuration(thing, broker.port, tmp_path, {})
    return config | {"models": {}, "streams": {}, "deployments": deployments}


def test_a_device_tells_of_its_launch_its_deployments_and_what_breaks(config, owner, fleet, tmp_path):
    with agents.running(config, tmp_path) as agent:
        launch = owner.hears(lambda _: True)
        assert (launch["trigger"], launch["messageType"]) == ("NUCLEUS_LAUNCH", "COMPLETE")
        assert (launch["overallDeviceStatus"], list(components(launch))) == ("HEALTHY", [NUCLEUS])
        scripts = fleet.scripts("com.scripts", Run=BREAKS_ON_CUE)

        deploy(agent, document("one", [scripts], {"com.scripts": "1.0.0"}))
        told = owner.hears_of_deployment("one")
        assert (told["trigger"], told["messageType"]) == ("LOCAL_DEPLOYMENT", "PARTIAL")
        assert told["deploymentInformation"] == {
            "status": "SUCCEEDED",
            "statusDetails": {"detailedStatus": "SUCCESSFUL"},
            "fleetConfigurationArnForStatus": "",
            "deploymentId": "one",
            "unchangedRootComponents": [],
        }
        assert told["components"] == [
            {
                "componentName": "com.scripts", "version": "1.0.0", "fleetConfigArns": [],
                "componentStatusDetails": None, "isRoot": True, "status": "RUNNING",
            }
        ]  # fmt: skip

        (Path(agent.folder) / "data" / "work" / "com.scripts" / "cue").touch()
        errored = owner.hears_of_state("com.scripts", "ERRORED")
        broken = owner.hears_of_state("com.scripts", "BROKEN")
        assert {errored["trigger"], broken["trigger"]} == {"COMPONENT_STATUS_CHANGE"}
        assert (errored["overallDeviceStatus"], broken["overallDeviceStatus"]) == ("HEALTHY", "UNHEALTHY")
        details = components(broken)["com.scripts"]["componentStatusDetails"]
        assert details["statusCodes"] == ["RUN_ERROR"]
        assert "3" in details["statusReason"]

        deploy(agent, document("nothing", [], {}))
        told = owner.hears_of_deployment("nothing")
        assert (told["overallDeviceStatus"], components(told)["com.scripts"]["status"]) == ("HEALTHY", "FINISHED")
        agent.peer.message(agent.topic("components/com.scripts"), lambda message: not message.payload)


def test_the_workers_of_a_model_tell_how_its_components_are(config, owner, fleet, thing, tmp_path):
    with agents.running(config, tmp_path) as agent:
        recipes = [fleet.model("com.model"), fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame")]
        deploy(agent, document("one", recipes, {"com.cameras": "1.0.0"}))
        told = components(owner.hears_of_deployment("one"))
        assert {name: (each["status"], each["isRoot"]) for name, each in told.items()} == {
            "com.cameras": ("RUNNING", True),
            "com.model": ("RUNNING", False),
        }


def test_numbers_rise_without_a_gap_over_a_restart_and_each_start_is_told_once(config, owner, fleet, tmp_path):
    with agents.running(config, tmp_path) as agent:
        scripts = fleet.scripts("com.scripts", Run="sleep 600")
        deploy(agent, document("one", [scripts], {"com.scripts": "1.0.0"}))
        owner.hears_of_deployment("one")
    before = len(owner.heard)
    with agents.running(config, tmp_path):
        told = owner.hears(lambda told: told["trigger"] == "NUCLEUS_LAUNCH" and told["sequenceNumber"] >= before)
        assert components(told).keys() == {NUCLEUS, "com.scripts"}
    heard = owner.heard
    assert [each["sequenceNumber"] for each in heard] == list(range(len(heard)))
    assert [each["trigger"] for each in heard].count("NUCLEUS_LAUNCH") == 2


def test_health_that_is_switched_off_says_nothing(config, owner, fleet, tmp_path):
    config["deployments"]["health"] = False
    with agents.running(config, tmp_path) as agent:
        scripts = fleet.scripts("com.scripts", Run="sleep 600")
        deploy(agent, document("one", [scripts], {"com.scripts": "1.0.0"}))
    assert owner.heard == []
