"""Components restarted and stopped between deployments, by whoever may deploy them."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli import signing
from tests.support import agent as agents
from tests.support import unruly
from tests.support.commands import invoke
from tests.support.fleet import Fleet, deploy, document, outcome
from tests.support.until import until_sync


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    return config | {"models": {}, "streams": {}, "deployments": deployments}


@pytest.fixture
def command(config, broker, tmp_path) -> Any:
    url = ("--broker", f"mqtt://127.0.0.1:{broker.port}", "--thing", config["thing"], "--json")

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = invoke(tmp_path, "components", *arguments, *url)
        return done.returncode, json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}

    return run


def noting(fleet: Fleet, path: Path, name: str = "com.a", **lifecycle: Any) -> dict[str, Any]:
    """A component that writes down what it does."""
    lines = {step: f"echo {name} {step} >> {path}" for step in ("Run", "Shutdown")}
    return fleet.scripts(name, **{"Run": f"{lines['Run']}; exec sleep 600", "Shutdown": lines["Shutdown"]} | lifecycle)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def ask(agent: agents.Agent, told: Any) -> dict[str, Any]:
    """The answer to a document on the topic of deployments."""
    answers = agent.topic("answers/test")
    agent.peer.subscribe(answers)
    before = len(agent.peer.all(answers))
    agent.peer.publish(agent.topic("deployments"), told if isinstance(told, str | bytes) else json.dumps(told),
                       ResponseTopic=answers)  # fmt: skip
    agent.peer.wait(answers, lambda _: len(agent.peer.all(answers)) > before)
    return agent.peer.all(answers)[before]


def test_a_component_is_stopped_stays_so_and_is_restarted(config, fleet, command, tmp_path):
    path = tmp_path / "notes"
    with agents.running(config, tmp_path) as agent:
        made = document("one", [noting(fleet, path)], {"com.a": "1.0.0"})
        assert deploy(agent, made)["status"] == "SUCCEEDED"
        until_sync(lambda: lines(path) == ["com.a Run"])
        status, answer = command("stop", "com.a")
        assert (status, answer["result"], answer["components"]["com.a"]["state"]) == (0, "STOPPED", "FINISHED")
        assert lines(path) == ["com.a Run", "com.a Shutdown"]
        assert "verge components restart" in agent.peer.wait(
            agent.topic("components/com.a"), lambda told: told["state"] == "FINISHED"
        )["reason"]  # fmt: skip
        # A deployment that leaves it as it is does not start it.
        other = [noting(fleet, path), fleet.scripts("com.b", Run="exec sleep 600")]
        assert deploy(agent, document("two", other, {"com.a": "1.0.0", "com.b": "1.0.0"}))["status"] == "SUCCEEDED"
        assert lines(path) == ["com.a Run", "com.a Shutdown"]
        status, answer = command("restart", "com.a")
        assert (status, answer["result"], answer["components"]["com.a"]["state"]) == (0, "RESTARTED", "RUNNING")
        until_sync(lambda: lines(path)[-1] == "com.a Run")


def test_a_restart_goes_through_shutdown_and_takes_what_depends_on_it_hard_along(config, fleet, command, tmp_path):
    path = tmp_path / "notes"
    above = noting(fleet, path, "com.b")
    above["ComponentDependencies"] = {"com.a": {"VersionRequirement": "*", "DependencyType": "HARD"}}
    with agents.running(config, tmp_path) as agent:
        made = document("one", [noting(fleet, path), above], {"com.a": "1.0.0", "com.b": "1.0.0"})
        assert deploy(agent, made)["status"] == "SUCCEEDED"
        until_sync(lambda: len(lines(path)) == 2)
        assert command("restart", "com.a")[0] == 0
        until_sync(lambda: lines(path)[-1] == "com.b Run" and len(lines(path)) == 6)
        assert sorted(lines(path)[2:5]) == ["com.a Run", "com.a Shutdown", "com.b Shutdown"]


def test_a_broken_component_is_installed_again_by_a_restart_and_one_that_stays_broken_is_said_to(
    config, fleet, command, tmp_path
):
    cure = tmp_path / "cure"
    ill = fleet.scripts("com.a", Startup=f"test -e {cure}")
    with agents.running(config, tmp_path) as agent:
        made = document("one", [ill], {"com.a": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
        assert deploy(agent, made)["detailedStatus"] == "FAILED_ROLLBACK_NOT_REQUESTED"
        status, answer = command("restart", "com.a")
        assert (status, answer["result"], answer["components"]["com.a"]["state"]) == (1, "FAILED", "BROKEN")
        assert "Startup" in answer["components"]["com.a"]["reason"]
        cure.touch()
        assert command("restart", "com.a")[0] == 0


def test_a_name_that_is_not_there_is_said_with_the_nearest_and_nothing_is_done(config, fleet, command, tmp_path):
    path = tmp_path / "notes"
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, document("one", [noting(fleet, path)], {"com.a": "1.0.0"}))["status"] == "SUCCEEDED"
        until_sync(lambda: lines(path) == ["com.a Run"])
        status, answer = command("stop", "com.a", "com.aa")
        assert (status, answer["result"], answer["hint"]) == (2, "UNKNOWN", "did you mean com.a?")
        status, answer = command("restart", "aws.greengrass.Nucleus")
        assert (status, answer["result"], "it is the agent itself" in answer["reason"]) == (2, "REFUSED", True)
        assert lines(path) == ["com.a Run"]


def test_an_inference_component_is_restarted_without_a_lost_frame_and_says_why_it_cannot_be_stopped(
    config, fleet, thing, command, tmp_path
):
    recipes = [fleet.model("com.model"), fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame")]
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, document("one", recipes, {"com.cameras": "1.0.0", "com.model": "1.0.0"}))
        stream = agent.topic("streams/com.cameras")
        agent.peer.subscribe(stream)
        for number in range(20):
            agent.peer.publish(f"{thing}/cameras/{number % 2}/frame", unruly.jpeg("answer"))
        status, answer = command("restart", "com.cameras")
        assert (status, answer["components"]["com.cameras"]["state"]) == (0, "RUNNING")
        assert command("restart", "com.model")[0] == 0
        for number in range(20):
            agent.peer.publish(f"{thing}/cameras/{number % 2}/frame", unruly.jpeg("answer"))
        told = agent.peer.wait(stream, lambda told: told["answered"] == 40)
        assert (told["failed"], told["dropped"], told["state"]) == ({}, {}, "running")
        status, answer = command("stop", "com.cameras")
        assert (status, answer["result"]) == (2, "REFUSED")
        assert "verge deploy --remove com.cameras" in answer["hint"]


def test_who_may_not_deploy_may_not_restart_and_a_signed_command_is_taken_once(config, fleet, command, tmp_path):
    path = tmp_path / "notes"
    key = tmp_path / "deployer.key"
    config["deployments"] |= {"accept": "signed", "trusted_keys": [signing.generate(key, "line 3", None).line]}
    private = signing.PrivateKey.read(key, None)
    thing = config["thing"]
    now = datetime.now(UTC)

    def signed(told: dict[str, Any]) -> bytes:
        return signing.seal(signing.with_claims(json.dumps(told).encode(), thing, None, now), private)

    with agents.running(config, tmp_path) as agent:
        agent.peer.publish(
            agent.topic("deployments"), signed(document("one", [noting(fleet, path)], {"com.a": "1.0.0"}))
        )
        assert outcome(agent, "one")["status"] == "SUCCEEDED"
        until_sync(lambda: lines(path) == ["com.a Run"])
        refused = ask(agent, {"restart": ["com.a"]})
        assert (refused["status"], "not signed" in refused["cause"]) == ("REJECTED", True)
        once = signed({"restart": ["com.a"]})
        assert ask(agent, once)["result"] == "RESTARTED"
        assert ask(agent, once)["errorStack"][-1] == "REJECTED_STALE_DEPLOYMENT"
        until_sync(lambda: lines(path) == ["com.a Run", "com.a Shutdown", "com.a Run"])
        status, answer = command("restart", "com.a", "--sign", str(key))
        assert (status, answer["result"]) == (0, "RESTARTED")


def test_a_retained_command_one_for_another_thing_and_one_that_cannot_be_read_are_refused(config, fleet, tmp_path):
    path = tmp_path / "notes"
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, document("one", [noting(fleet, path)], {"com.a": "1.0.0"}))["status"] == "SUCCEEDED"
        until_sync(lambda: lines(path) == ["com.a Run"])
        assert "is for the thing other" in ask(agent, {"restart": ["com.a"], "thing": "other"})["cause"]
        assert "it cannot be read what to restart" in ask(agent, {"restart": 7})["cause"]
        assert "nothing else in it, and here is components" in ask(agent, {"stop": "com.a", "components": {}})["cause"]
        agent.peer.publish(agent.topic("deployments"), json.dumps({"stop": ["com.a"]}), retain=True)
    with agents.running(config, tmp_path) as agent:
        agent.peer.subscribe(agent.topic("deployments/+"))
        until_sync(lambda: "it would be again at each start" in agent.log)
        agent.peer.publish(agent.topic("deployments"), b"", retain=True)
        until_sync(lambda: lines(path)[-1] == "com.a Run")


def test_a_component_that_is_installed_again_at_a_start_is_not_shown_as_it_ended(config, fleet, command, tmp_path):
    path = tmp_path / "go"
    path.touch()
    install = {"Script": f"until test -e {path}; do sleep 0.1; done", "Timeout": 60}
    made = document("one", [fleet.scripts("com.a", Install=install, Run="exec sleep 600")], {"com.a": "1.0.0"})
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, made)["status"] == "SUCCEEDED"
        assert command("stop", "com.a")[0] == 0
    path.unlink()
    with agents.running(config, tmp_path) as agent:
        told = agent.peer.wait(agent.topic("components/com.a"), lambda told: told["state"] == "NEW")
        assert told["reason"] == ""
        path.touch()
        agent.peer.wait(agent.topic("components/com.a"), lambda told: told["state"] == "RUNNING")
