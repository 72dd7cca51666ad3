"""Components that have a say in deployments, with Amazon's SDK over the socket; and the plug pulled meanwhile."""

from __future__ import annotations

import getpass
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document, outcome, send
from tests.support.ipc import PRELUDE
from tests.support.until import until_sync

WITNESS, OTHER = "com.witness", "com.other"
HOUR_MS = 3_600_000

SCRIPT = """
folder = {folder!r}

def note(*what):
    with open(folder + "/said", "a") as file:
        print(json.dumps([*what, os.getpid()]), file=file)

def next_of(name):
    with open(folder + "/" + name) as file:
        answers = json.load(file)
    if len(answers) > 1:
        with open(folder + "/" + name, "w") as file:
            json.dump(answers[1:], file)
    return answers[0]

def on_update(event):
    if event.post_update_event:
        note("post", event.post_update_event.deployment_id)
        return
    identity, answer = event.pre_update_event.deployment_id, next_of("answers")
    note("pre", identity)
    if answer is not None:
        client.defer_component_update_async(deployment_id=identity, recheck_after_ms=answer, message="welding")

def on_configuration(event):
    proposed, answer = event.validate_configuration_update_event, next_of("judgements")
    note("judge", proposed.deployment_id, proposed.configuration)
    if answer is not None:
        report = model.ConfigurationValidityReport(
            status="REJECTED" if answer else "ACCEPTED", message=answer, deployment_id=proposed.deployment_id)
        client.send_configuration_validity_report_async(configuration_validity_report=report)

client = GreengrassCoreIPCClientV2()
client.subscribe_to_component_updates(on_stream_event=on_update)
client.subscribe_to_validate_configuration_updates(on_stream_event=on_configuration)
note("ready")
threading.Event().wait()
"""
"""Answers what the test has written down for it, one after the other, the last one for ever; null is no answer."""


class Witness:
    """A component that takes part, what it is to answer and what it was asked."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.fleet = folder, Fleet(folder / "fleet")
        (folder / "witness.py").write_text(PRELUDE + SCRIPT.format(folder=str(folder)))
        self.answers(0)
        self.judgements("")
        self.recipe = self.fleet.scripts(WITNESS, Run=f"exec {sys.executable} {folder / 'witness.py'}")

    def answers(self, *milliseconds: int | None) -> None:
        (self.folder / "answers").write_text(json.dumps(milliseconds))

    def judgements(self, *refusals: str | None) -> None:
        (self.folder / "judgements").write_text(json.dumps(refusals))

    def said(self, *kinds: str) -> list[list[Any]]:
        """What it noted of these kinds, after the deployment that brought it; the last element is its process."""
        path = self.folder / "said"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line[0] in kinds and line[1] != "one"]

    def asked(self, *kinds: str) -> list[list[Any]]:
        """The same without the process."""
        return [line[:-1] for line in self.said(*kinds)]

    def ready(self, times: int = 1) -> None:
        until_sync(lambda: len(self.said("ready")) == times)


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    return config | {"models": {}, "streams": {}, "deployments": deployments}


@pytest.fixture
def witness(tmp_path) -> Witness:
    return Witness(tmp_path / "witness")


def first(witness: Witness) -> dict[str, Any]:
    return document("one", [witness.recipe], {WITNESS: "1.0.0"})


def second(witness: Witness, **more: Any) -> dict[str, Any]:
    """Another component beside it, which writes down when it was started."""
    started = witness.folder / "started"
    other = witness.fleet.scripts(OTHER, Run=f"echo >> {started}; exec sleep 600")
    components = {WITNESS: {"version": "1.0.0"}, OTHER: {"version": "1.0.0"}}
    return {"deploymentId": "two", "components": components, "recipes": [witness.recipe, other]} | more


def configured(witness: Witness, identity: str, level: int, **more: Any) -> dict[str, Any]:
    components = {WITNESS: {"version": "1.0.0", "configurationUpdate": {"merge": {"level": level}}}}
    return {"deploymentId": identity, "components": components, "recipes": [witness.recipe]} | more


def waits(agent: agents.Agent, key: str, identity: str = "two") -> dict[str, Any]:
    """What a deployment waits for, once it says so with that key."""
    told = agent.peer.wait(agent.topic(f"deployments/{identity}"), lambda told: key in told.get("waiting", {}))
    return told["waiting"]


def test_a_deployment_is_deferred_twice_and_then_done(config, witness, tmp_path) -> None:
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(witness))["status"] == "SUCCEEDED"
        witness.ready()
        witness.answers(1200, 1200, 0)
        began = time.monotonic()
        send(agent, second(witness))
        waiting = waits(agent, "next_attempt")
        assert (waiting["kind"], waiting["for"]) == ("components", f"component {WITNESS}")
        assert waiting["reason"] == "it deferred the deployment: welding"
        assert not (witness.folder / "started").exists()
        assert outcome(agent, "two")["detailedStatus"] == "SUCCESSFUL"
        assert time.monotonic() - began >= 2.4
        until_sync(lambda: witness.asked("post"))
        assert witness.asked("pre", "post") == [["pre", "two"]] * 3 + [["post", "two"]]
        assert (witness.folder / "started").exists()


def test_a_validator_that_refuses_keeps_its_configuration_and_is_not_disturbed(config, witness, tmp_path) -> None:
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, configured(witness, "one", 1))["status"] == "SUCCEEDED"
        witness.ready()
        witness.judgements("level is below 10", "")
        ended = deploy(agent, configured(witness, "two", 11))
        assert ended["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
        assert ended["errorStack"] == ["DEPLOYMENT_FAILURE", "COMPONENT_CONFIGURATION_NOT_VALID"]
        assert f"{WITNESS} rejected it: level is below 10" in ended["cause"]
        assert witness.asked("pre", "post") == []
        assert deploy(agent, configured(witness, "three", 9))["status"] == "SUCCEEDED"
        assert witness.asked("judge") == [["judge", "two", {"level": 11}], ["judge", "three", {"level": 9}]]
        assert len({line[-1] for line in witness.said("ready", "judge")}) == 1


def test_who_says_nothing_is_waited_for_as_long_as_the_document_says(config, witness, tmp_path) -> None:
    policies = {
        "deploymentPolicies": {
            "componentUpdatePolicy": {"action": "NOTIFY_COMPONENTS", "timeoutInSeconds": 1},
            "configurationValidationPolicy": {"timeoutInSeconds": 1},
        }
    }
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, configured(witness, "one", 1))["status"] == "SUCCEEDED"
        witness.ready()
        witness.answers(None)
        witness.judgements(None)
        began = time.monotonic()
        assert deploy(agent, second(witness, **policies))["detailedStatus"] == "SUCCESSFUL"
        assert time.monotonic() - began >= 1
        assert waits(agent, "until")["reason"] == "asked whether it may be changed now"
        ended = deploy(agent, configured(witness, "three", 2, **policies))
        assert (ended["detailedStatus"], f"{WITNESS} did not report in time" in ended["cause"]) == (
            "FAILED_NO_STATE_CHANGE",
            True,
        )


@pytest.mark.parametrize("wait", ["for an answer", "until it asks again", "for a report"])
def test_the_plug_pulled_while_components_are_asked_begins_the_deployment_anew(config, witness, tmp_path, wait) -> None:
    judged = wait == "for a report"
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, configured(witness, "one", 1))["status"] == "SUCCEEDED"
        witness.ready()
        witness.answers(HOUR_MS if wait == "until it asks again" else None)
        witness.judgements(None)
        send(agent, configured(witness, "two", 2) if judged else second(witness))
        waits(agent, "next_attempt" if wait == "until it asks again" else "until")
        until_sync(lambda: witness.said("judge" if judged else "pre"))
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
    witness.answers(0)
    witness.judgements("level is 1")
    (tmp_path / "agent.log").write_text("")
    with agents.running(config, tmp_path) as agent:
        ended = outcome(agent, "two", 90)
        assert "begins anew" in agent.log
        asked = witness.said("judge" if judged else "pre")
        # The component of before is gone with its agent: it is the new one that was asked again.
        assert [line[1] for line in asked] == ["two", "two"]
        assert asked[0][-1] != asked[1][-1] == witness.said("ready")[1][-1]
        if judged:
            assert ended["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
            assert f"{WITNESS} rejected it: level is 1" in ended["cause"]
        else:
            assert ended["detailedStatus"] == "SUCCESSFUL"
            until_sync((witness.folder / "started").exists)
            until_sync(lambda: witness.asked("post") == [["post", "two"]])


def test_while_a_component_defers_for_long_no_new_model_is_held_in_memory(config, witness, thing, tmp_path) -> None:
    fleet = witness.fleet

    def serving(identity: str, version: str) -> dict[str, Any]:
        stream = fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame")
        recipes = [witness.recipe, fleet.model("com.model", version), stream]
        wanted = {WITNESS: "1.0.0", "com.model": version, "com.cameras": "1.0.0"}
        return document(identity, recipes, wanted)

    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, serving("one", "1.0.0"))["status"] == "SUCCEEDED"
        witness.ready()
        before = agent.workers()
        witness.answers(1500, HOUR_MS)
        send(agent, serving("two", "2.0.0"))
        until_sync(lambda: len(witness.said("pre")) == 1)
        assert len(agent.workers()) == len(before) + 1
        until_sync(lambda: len(witness.said("pre")) == 2)
        until_sync(lambda: agent.workers() == before)
        agent.peer.publish(agent.topic("deployments"), json.dumps({"cancel": "two"}))
        assert outcome(agent, "two")["detailedStatus"] == "CANCELED"
        until_sync(lambda: witness.asked("post") == [["post", "two"]])


# -- a component's own state -------------------------------------------------------------------------------------------

REPORTING = """
client = GreengrassCoreIPCClientV2()
while not os.path.exists({cue!r}):
    time.sleep(0.01)
client.update_state(state={state!r})
threading.Event().wait()
"""


def reporting(witness: Witness, state: str) -> tuple[dict[str, Any], Path]:
    """A component whose Startup stays, and says how it is once the cue is there."""
    cue, script = witness.folder / "cue", witness.folder / "reporting.py"
    script.write_text(PRELUDE + REPORTING.format(cue=str(cue), state=state))
    recipe = witness.fleet.scripts("com.reporting", Startup=f"exec {sys.executable} {script}")
    return document("one", [recipe], {"com.reporting": "1.0.0"}), cue


def test_a_deployment_is_done_when_a_startup_that_stays_says_that_it_runs(config, witness, tmp_path) -> None:
    told, cue = reporting(witness, "RUNNING")
    with agents.running(config, tmp_path) as agent:
        send(agent, told)
        topic = agent.topic("components/com.reporting")
        agent.peer.wait(topic, lambda told: told["state"] == "STARTING")
        assert agent.peer.all(agent.topic("deployments/one"))[-1]["status"] == "IN_PROGRESS"
        cue.touch()
        assert outcome(agent, "one")["detailedStatus"] == "SUCCESSFUL"
        assert agent.peer.all(topic)[-1]["state"] == "RUNNING"


def test_a_component_that_says_that_it_failed_again_and_again_ends_its_deployment(config, witness, tmp_path) -> None:
    told, cue = reporting(witness, "ERRORED")
    cue.touch()
    with agents.running(config, tmp_path) as agent:
        ended = deploy(agent, told)
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE"
        assert ended["errorStack"] == ["DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"]
        assert "The component reported ERRORED." in ended["cause"]
