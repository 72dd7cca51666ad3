"""Deployments that wait: they say why and until when, and can be cancelled and overtaken."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.commands import invoke
from tests.support.fleet import Fleet, deploy, document, recipe, send
from tests.support.ports import HeldPort

OPEN = {"IN_PROGRESS", "QUEUED"}


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    return config | {"models": {}, "streams": {}, "deployments": deployments}


@pytest.fixture
def dead() -> Iterator[int]:
    """A port on which nothing answers."""
    with HeldPort() as held:
        yield held.number


def serving(fleet: Fleet, thing: str, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """A stream over a model, the latter in this version."""
    recipes = [fleet.model("com.model", version), fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame")]
    return document(f"v{version[0]}", recipes, {"com.cameras": "1.0.0", "com.model": version}, **more)


def unreachable(port: int, name: str, version: str, identity: str, **more: Any) -> dict[str, Any]:
    """A document whose artifact is on a server that is not there."""
    artifact = {"Uri": f"http://127.0.0.1:{port}/{name}.zip"}
    made = recipe(name, version, "aws.greengrass.generic", Manifests=[{"Artifacts": [artifact]}])
    return {"deploymentId": identity, "components": {name: {"version": version}}, "recipes": [made]} | more


def state(agent: agents.Agent, identity: str, check: Any = lambda _: True, timeout_s: float = 30.0) -> dict[str, Any]:
    return agent.peer.wait(agent.topic(f"deployments/{identity}"), check, timeout_s)


def end(agent: agents.Agent, identity: str, timeout_s: float = 30.0) -> dict[str, Any]:
    return state(agent, identity, lambda told: told["status"] not in OPEN, timeout_s)


def cancel(agent: agents.Agent, payload: Any) -> dict[str, Any]:
    """The answer to a cancellation."""
    agent.peer.subscribe(agent.topic("answers/test"))
    answers = len(agent.peer.all(agent.topic("answers/test")))
    text = payload if isinstance(payload, str) else json.dumps(payload)
    agent.peer.publish(agent.topic("deployments"), text, ResponseTopic=agent.topic("answers/test"))
    agent.peer.wait(agent.topic("answers/test"), lambda _: len(agent.peer.all(agent.topic("answers/test"))) > answers)
    return agent.peer.all(agent.topic("answers/test"))[answers]


def test_a_canary_on_a_quiet_camera_says_what_it_waits_for_and_is_cancelled(config, fleet, thing, tmp_path):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, serving(fleet, thing))["status"] == "SUCCEEDED"
        send(agent, serving(fleet, thing, "2.0.0", canary={"frames": 20}))
        waiting = state(agent, "v2", lambda told: "waiting" in told)["waiting"]
        assert (waiting["kind"], waiting["for"]) == ("frames", "frames of com.cameras")
        assert (waiting["reason"], waiting["until"] > "2") == ("0 of 20 are compared", True)
        send(agent, document("behind", [], {"com.cameras": "1.0.0"}, groupName="other"))
        queued = state(agent, "behind")
        assert (queued["status"], queued["waiting"]["reason"]) == ("QUEUED", "waits behind v2")
        assert cancel(agent, {"cancel": "v2"})["result"] == "CANCELED"
        assert end(agent, "v2")["status"] != "SUCCEEDED"
        assert end(agent, "behind")["status"] == "SUCCEEDED"
        assert state(agent, "v1")["status"] != "QUEUED"


def test_a_canary_without_frames_ends_at_its_time_limit_and_the_old_model_stays(config, fleet, thing, tmp_path):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, serving(fleet, thing))["status"] == "SUCCEEDED"
        send(agent, serving(fleet, thing, "2.0.0", canary={"frames": 20, "timeout_s": 0.5}))
        ended = end(agent, "v2")
        assert ended["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
        assert "saw 0 frames in 0.5 s, and 20 are asked for" in ended["cause"]
        assert agent.peer.wait(agent.topic("components/com.model"), lambda told: told["version"] == "1.0.0")


def test_a_cancellation_says_what_became_of_it(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        assert cancel(agent, {"cancel": "nobody"})["result"] == "UNKNOWN"
        assert deploy(agent, document("done", [], {}))["status"] == "SUCCEEDED"
        answer = cancel(agent, {"cancel": "done"})
        assert (answer["result"], answer["reason"]) == ("TOO_LATE", "it has ended: SUCCESSFUL")


def test_who_may_not_deploy_may_not_cancel(config, fleet, thing, tmp_path):
    config["deployments"] |= {"accept": "signed"}
    with agents.running(config, tmp_path) as agent:
        answer = cancel(agent, {"cancel": "any"})
        assert answer["status"] == "REJECTED"
        assert "not signed" in answer["failureCause"]


def test_an_artifact_that_cannot_be_reached_is_named_with_the_reason_and_the_next_attempt(config, dead, tmp_path):
    with agents.running(config, tmp_path) as agent:
        send(agent, unreachable(dead, "com.a", "1.0.0", "one"))
        waiting = state(agent, "one", lambda told: "waiting" in told)["waiting"]
        assert (waiting["kind"], waiting["for"]) == ("artifact", f"artifact http://127.0.0.1:{dead}/com.a.zip")
        assert "refused" in waiting["reason"].lower()
        assert waiting["next_attempt"] < waiting["until"]
        # A newer document of the same group takes its place; one of another group waits behind it.
        send(agent, document("other", [], {}, groupName="other"))
        assert state(agent, "other")["waiting"]["reason"] == "waits behind one"
        send(agent, document("two", [fleet_free("com.a", "2.0.0")], {"com.a": "2.0.0"}))
        assert end(agent, "two")["status"] == "SUCCEEDED"
        assert "superseded by two before it changed anything" in end(agent, "one")["cause"]


def fleet_free(name: str, version: str) -> dict[str, Any]:
    """A component that needs no file."""
    return recipe(name, version, "aws.greengrass.generic", Manifests=[{"Lifecycle": {"Run": "sleep 600"}}])


def added(version: str, identity: str, port: int = 0, name: str = "com.a") -> dict[str, Any]:
    """A local document, which adds a component; with a ``port`` its artifact cannot be reached."""
    made = unreachable(port, name, version, identity)["recipes"][0] if port else fleet_free(name, version)
    return {"deploymentId": identity, "componentsToMerge": {name: version}, "recipes": [made]}


def test_an_addition_that_waits_is_overtaken_by_one_for_the_same_component_and_by_no_other(config, dead, tmp_path):
    with agents.running(config, tmp_path) as agent:
        send(agent, added("1.0.0", "one", dead))
        state(agent, "one", lambda told: "waiting" in told)
        send(agent, added("1.0.0", "beside", name="com.b"))
        assert state(agent, "beside")["waiting"]["for"] == "deployment one"
        send(agent, added("1.0.1", "two"))
        assert end(agent, "one")["status"] == "REJECTED"
        assert [end(agent, identity)["status"] for identity in ("beside", "two")] == ["SUCCEEDED", "SUCCEEDED"]
        for name, version in (("com.a", "1.0.1"), ("com.b", "1.0.0")):
            agent.peer.wait(agent.topic(f"components/{name}"), lambda told, version=version: told["version"] == version)


@pytest.mark.parametrize("path", ["/proc/self/environ", "/dev/zero", "/nowhere/at/all", "/tmp"])
def test_a_path_that_is_no_file_fails_at_once(config, tmp_path, path):
    with agents.running(config, tmp_path) as agent:
        made = recipe(
            "com.a", "1.0.0", "aws.greengrass.generic", Manifests=[{"Artifacts": [{"Uri": f"file://{path}"}]}]
        )
        ended = deploy(agent, {"deploymentId": "one", "components": {"com.a": {"version": "1.0.0"}}, "recipes": [made]})
        assert ended["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
        assert "IO_READ_ERROR" in ended["errorStack"]


def test_the_command_lists_what_waits_and_cancels_it(config, broker, dead, tmp_path):
    url = ("--broker", f"mqtt://127.0.0.1:{broker.port}", "--thing", config["thing"])
    with agents.running(config, tmp_path) as agent:
        send(agent, unreachable(dead, "com.a", "1.0.0", "one"))
        state(agent, "one", lambda told: "waiting" in told)
        send(agent, document("two", [], {}, groupName="other"))
        state(agent, "two")
        listed = invoke(tmp_path, "deployments", *url).stdout
        assert "IN_PROGRESS RESOLVED" in listed
        assert f"one: waits for artifact http://127.0.0.1:{dead}/com.a.zip: " in " ".join(listed.split())
        assert "two: waits behind one" in listed
        late = invoke(tmp_path, "deploy", "--remove", "com.z", *deploy_to(url), "--timeout", "2")
        assert (late.returncode, "it waits behind one and two" in " ".join(late.stderr.split())) == (3, True)
        given_up = invoke(tmp_path, "deployments", "cancel", "one", *url)
        assert (given_up.returncode, given_up.stdout.startswith("one: CANCELED")) == (0, True)
        assert end(agent, "two")["status"] == "SUCCEEDED"
        too_late = invoke(tmp_path, "deployments", "cancel", "two", *url, "--json")
        assert (too_late.returncode, json.loads(too_late.stdout)["result"]) == (1, "TOO_LATE")
        nobody = invoke(tmp_path, "deployments", "cancel", "nobody", *url)
        assert (nobody.returncode, "UNKNOWN" in nobody.stdout) == (2, True)


def deploy_to(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("--to" if option == "--thing" else option for option in options)


# -- what a deployment did not do -----------------------------------------------------------------------------


@pytest.fixture
def command(config, broker, tmp_path) -> Any:
    url = ("--broker", f"mqtt://127.0.0.1:{broker.port}", "--to", config["thing"])
    return lambda *arguments: invoke(tmp_path, "deploy", *url, *arguments)


def test_a_component_that_another_group_keeps_stays_and_the_answer_says_so(config, command, tmp_path):
    with agents.running(config, tmp_path) as agent:
        both = document("both", [fleet_free("com.a", "1.0.0")], {"com.a": "1.0.0"})
        assert deploy(agent, both | {"groupName": "lab"})["status"] == "SUCCEEDED"
        assert deploy(agent, both | {"deploymentId": "mine"})["status"] == "SUCCEEDED"
        done = command("--remove", "com.a")
        assert done.returncode == 0
        assert "note: com.a stays: group thinggroup/lab requires it" in done.stdout
        listed = invoke(tmp_path, "deployments", "--broker", f"mqtt://127.0.0.1:{broker_port(agent)}").stdout
        assert "note: com.a stays" in listed
        gone = document("gone", [], {}) | {"groupName": "lab"}
        assert deploy(agent, gone).get("notes", []) == []


def broker_port(agent: agents.Agent) -> int:
    return agent.peer.client._port


def test_removing_what_was_never_there_is_said_with_the_name_that_may_be_meant(config, command, tmp_path):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, document("one", [fleet_free("com.alpha", "1.0.0")], {"com.alpha": "1.0.0"}))
        done = command("--remove", "com.alpa", "--json")
        assert (done.returncode, json.loads(done.stdout)["notes"]) == (
            0, ["com.alpa was not there: nothing is removed; did you mean com.alpha?"],
        )  # fmt: skip


def test_a_key_of_an_aws_component_that_is_misspelled_is_said_with_the_nearest(config, command, tmp_path):
    name = "aws.greengrass.TensorFlowLiteImageClassification"
    with agents.running(config, tmp_path):
        installed = json.dumps({"variant.TensorFlowLite": {"MERGE": {"UseInstaller": "false"}}})
        assert command("--component", "variant.TensorFlowLite=2.5.8", "--config", installed).returncode == 0
        done = command("--component", f"{name}=2.1.4", "--config", '{"InferenceIntervall": "2"}')
        assert done.returncode == 0, done.stdout
        assert "did you mean InferenceInterval?" in " ".join(done.stdout.split())


def test_a_canary_that_had_nothing_to_try_is_said(config, fleet, thing, tmp_path):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, serving(fleet, thing)).get("notes", []) == []
        ended = deploy(agent, serving(fleet, thing, canary={"frames": 5}) | {"deploymentId": "again"})
        assert ended["notes"] == ["the canary tried nothing: no stream that runs gets another model"]


# -- scripts --------------------------------------------------------------------------------------------------


def test_an_install_within_its_own_timeout_is_waited_for_and_named(config, fleet, tmp_path):
    config["deployments"] |= {"settle_s": 0.5}
    slow = fleet.scripts("com.a", Install={"Script": "sleep 3", "Timeout": 900}, Run="sleep 600")
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, document("slow", [slow], {"com.a": "1.0.0"}))["status"] == "SUCCEEDED"
        waiting = state(agent, "slow", lambda told: "waiting" in told)["waiting"]
        assert (waiting["kind"], waiting["for"], waiting["reason"]) == (
            "scripts", "component com.a", "its Install runs",
        )  # fmt: skip
        assert waiting["until"]


def test_what_nobody_has_and_what_gave_up_come_with_the_codes_that_greengrass_reports(config, fleet, tmp_path):
    with agents.running(config, tmp_path) as agent:
        nobody = deploy(agent, document("nobody", [], {"com.nothing": "1.0.0"}))
        fits = ["NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"]
        assert (nobody["errorStack"], nobody["errorTypes"]) == (["DEPLOYMENT_FAILURE", *fits], ["REQUEST_ERROR"])
        elsewhere = recipe("com.b", "1.0.0", "aws.greengrass.generic", Manifests=[{"Platform": {"os": "windows"}}])
        misfit = deploy(agent, document("misfit", [elsewhere], {"com.b": "1.0.0"}))
        assert (misfit["errorStack"], misfit["errorTypes"]) == (["DEPLOYMENT_FAILURE", *fits], ["REQUEST_ERROR"])
        broken = deploy(agent, document("broken", [fleet.scripts("com.a", Startup="exit 3")], {"com.a": "1.0.0"}))
        assert broken["errorStack"] == ["DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"]
        assert broken["errorTypes"] == ["USER_COMPONENT_ERROR"]
