"""The plug pulled, the disk full or read-only, the folder gone, the agent started twice: what runs on, and says so."""

from __future__ import annotations

import getpass
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support import unruly
from tests.support.fleet import Fleet, deploy, document
from tests.support.peer import peer
from tests.support.until import until_sync


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    """A stream of the configuration's own, and deployments."""
    config = agents.configuration(thing, broker.port, tmp_path, unruly.model(tmp_path))
    return config | {"deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()}}


@pytest.fixture
def cameras(thing) -> str:
    return f"{thing}/deployed/+/frame"


def first(fleet: Fleet, cameras: str, version: str = "1.0.0") -> dict[str, Any]:
    """A set of three: a model, a stream over it, and scripts."""
    return document(
        "first",
        [
            fleet.model("com.model", version),
            fleet.stream("com.cameras", "com.model", cameras, version),
            fleet.scripts("com.scripts", version, Run="echo first; sleep 600"),
        ],
        dict.fromkeys(("com.cameras", "com.scripts", "com.model"), version),
    )


def answers(agent: agents.Agent, stream: str = "line") -> None:
    """The stream answers a frame now."""
    before = len(agent.results(stream))
    topic = "cameras" if stream == "line" else "deployed"
    agent.peer.publish(f"{agent.thing}/{topic}/door/frame", unruly.jpeg("answer"), qos=1)
    until_sync(lambda: len(agent.results(stream)) > before, why=lambda: agent.log)


def problems(agent: agents.Agent, *codes: str) -> dict[str, dict[str, str]]:
    """The problems on the status topic, once these are among them."""

    def there(told: dict[str, Any]) -> bool:
        mine = told.get("pid") == agent.process.pid
        return mine and set(codes) <= {problem["code"] for problem in told.get("problems", [])}

    told = agent.peer.wait(agent.topic("status"), there)
    return {problem["code"]: problem for problem in told.get("problems", [])}


def read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own below the data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_read_only_disk_everything_runs_on_and_deployments_are_refused_with_the_reason(
    config, fleet, cameras, tmp_path, disk
):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
    read_only(disk)
    with agents.running(config, tmp_path) as agent:
        answers(agent)
        answers(agent, "com.cameras")
        agent.peer.wait(agent.topic("components/com.scripts"), lambda told: told["state"] == "RUNNING")
        told = problems(agent, "disk-read-only")["disk-read-only"]
        assert "cannot be written" in told["reason"]
        assert "deployments are refused" in told["reason"]
        ended = deploy(agent, first(fleet, cameras) | {"deploymentId": "second"})
        assert ended["status"] == "FAILED"
        assert "read" in ended["failureCause"].lower()
        answers(agent)


def test_on_a_full_disk_everything_runs_on_and_deployments_are_refused_with_the_reason(
    config, fleet, cameras, tmp_path, disk
):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
    subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filling", "bs=64k"], capture_output=True, check=False)
    subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filling2", "bs=1"], capture_output=True, check=False)
    with agents.running(config, tmp_path) as agent:
        answers(agent)
        answers(agent, "com.cameras")
        agent.peer.wait(agent.topic("components/com.scripts"), lambda told: told["state"] == "RUNNING")
        ended = deploy(agent, first(fleet, cameras) | {"deploymentId": "second"})
        assert ended["status"] == "FAILED"
        assert "full" in ended["failureCause"].lower() or "room" in ended["failureCause"].lower()
        answers(agent)


def _damages(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    return {
        "first page zeroed": b"\0" * 4096 + whole[4096:],
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
    }


def test_whatever_is_damaged_of_the_ledger_the_active_set_comes_back_and_the_status_says_so(
    config, fleet, cameras, tmp_path
):
    config = config | {"models": {}, "streams": {}}
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
    ledger = tmp_path / "data" / "deployments" / "ledger.db"
    for damage, content in _damages(ledger).items():
        ledger.write_bytes(content)
        with agents.running(config, tmp_path) as agent:
            answers(agent, "com.cameras")
            told = problems(agent, "ledger-renewed")["ledger-renewed"]
            assert "the active set is kept" in told["reason"], damage
            assert ".broken-" in told["reason"], damage
    with agents.running(config, tmp_path) as agent:
        assert problems(agent) == {}
        assert deploy(agent, first(fleet, cameras) | {"deploymentId": "second"})["status"] == "SUCCEEDED"


def test_where_both_records_are_gone_the_configuration_runs_and_the_status_says_what_is_lost(
    config, fleet, cameras, tmp_path
):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
    folder = tmp_path / "data" / "deployments"
    (folder / "ledger.db").write_bytes(b"\xff" * 20_000)
    (folder / "active.record").write_bytes(b"\xff" * 200)
    with agents.running(config, tmp_path) as agent:
        answers(agent)
        told = problems(agent, "active-set-lost")["active-set-lost"]
        assert "only what the configuration names runs" in told["reason"]
        assert told["hint"] == "deploy again"
        assert deploy(agent, first(fleet, cameras) | {"deploymentId": "again"})["status"] == "SUCCEEDED"
        answers(agent, "com.cameras")
        agent.peer.wait(
            agent.topic("status"),
            lambda told: "active-set-lost" not in str(told.get("problems")) and told["pid"] == agent.process.pid,
        )


# -- one model, one stream -------------------------------------------------------------------------------------------


def two(fleet: Fleet, thing: str, cues: str = "") -> dict[str, Any]:
    """Two models with a stream each; ``cues`` are the first one's."""
    recipes = []
    for name, told in (("odd", cues), ("fine", "")):
        recipes.append(fleet.model(f"com.model.{name}", cues=told))
        recipes.append(fleet.stream(f"com.{name}", f"com.model.{name}", f"{thing}/deployed/+/frame"))
    return document("two", recipes, {recipe["ComponentName"]: "1.0.0" for recipe in recipes})


def test_a_model_that_cannot_be_loaded_at_a_start_keeps_no_other_from_running_and_comes_back_by_itself(
    config, fleet, thing, tmp_path
):
    gate = tmp_path / "gate"
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, two(fleet, thing, f"gate {gate}"))["status"] == "SUCCEEDED"
    gate.touch()
    with agents.running(config, tmp_path) as agent:
        answers(agent, "com.fine")
        told = agent.peer.wait(agent.topic("components/com.model.odd"), lambda told: "gave up" in told["reason"])
        assert told["state"] in {"ERRORED", "BROKEN"}
        gate.unlink()
        agent.peer.wait(agent.topic("components/com.model.odd"), lambda told: told["state"] == "RUNNING")
        answers(agent, "com.odd")


def test_a_model_whose_files_are_gone_for_good_keeps_no_other_from_running(config, fleet, thing, tmp_path):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, two(fleet, thing))["status"] == "SUCCEEDED"
    packages = tmp_path / "data" / "packages"
    for folder in ("artifacts", "artifacts-unarchived"):
        shutil.rmtree(packages / folder / "com.model.odd")
    shutil.rmtree(packages / "cache")
    (fleet.folder / "com.model.odd-1.0.0.zip").unlink()
    with agents.running(config, tmp_path) as agent:
        answers(agent, "com.fine")
        agent.peer.wait(agent.topic("components/com.odd"), lambda told: told["state"] == "BROKEN")
        assert "com.model.odd 1.0.0: its files are damaged and cannot be had again" in agent.log


@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_list_of_what_came_for_a_model_keeps_the_model_from_nothing(config, fleet, thing, tmp_path, gone):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, two(fleet, thing))["status"] == "SUCCEEDED"
    inventory = tmp_path / "data" / "packages" / "inventories" / "com.model.odd" / "1.0.0.json"
    said = inventory.read_text()
    digest = json.loads(said[said.index("{") :])["artifacts"][0]["digest"]
    inventory.write_text(said.replace(digest, digest[:-1] + ("0" if digest[-1] != "0" else "1")))
    if gone:
        (fleet.folder / "com.model.odd-1.0.0.zip").unlink()
    with agents.running(config, tmp_path) as agent:
        answers(agent, "com.odd")


# -- one folder, one agent --------------------------------------------------------------------------------------------


def test_a_second_agent_on_one_data_folder_is_refused_with_the_pid_and_what_to_do(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        command = [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "verge.toml")]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 3
        assert f"{tmp_path / 'data'} is in use: the agent of process {agent.process.pid} has it" in second.stderr
        assert f"kill {agent.process.pid}" in second.stderr
        assert "data_dir" in second.stderr
        answers(agent)
        agent.stop(signal.SIGKILL)
    with agents.running(config, tmp_path) as agent:
        answers(agent)


def test_the_data_folder_removed_under_a_running_agent_is_noticed_and_what_is_deployed_then_is_kept(
    config, fleet, cameras, tmp_path
):
    config["transports"]["local"]["outbox"] = {}
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
        shutil.rmtree(tmp_path / "data")
        told = problems(agent, "data-folder-gone")["data-folder-gone"]
        assert "removed or replaced while the agent runs" in told["reason"]
        answers(agent)
        assert deploy(agent, first(fleet, cameras, "2.0.0") | {"deploymentId": "second"})["status"] == "SUCCEEDED"
        second = subprocess.run(
            [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "verge.toml")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 3, "the folder made anew is this agent's, too"
    with agents.running(config, tmp_path) as agent:
        agent.peer.wait(agent.topic("components/com.scripts"), lambda told: told["state"] == "RUNNING")


# -- one thing, one agent ---------------------------------------------------------------------------------------------


def test_two_agents_of_one_thing_are_noticed_by_both_and_offline_does_not_stay_while_one_lives(config, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with agents.running(config, tmp_path) as agent:
        assert problems(agent) == {}
        with agents.running(config | {"data_dir": str(other / "data")}, other) as twin:
            for one, another in ((agent, twin), (twin, agent)):
                told = problems(one, "another-agent")["another-agent"]
                assert f"process {another.process.pid}" in told["reason"]
                assert f"process {another.process.pid}" in one.log
        listener = agent.peer
        until_sync(lambda: listener.all(agent.topic("status"))[-1]["pid"] == agent.process.pid)
        last = listener.all(agent.topic("status"))[-1]
        assert (last["state"], last.get("problems", [])) == ("online", [])


def test_agents_that_somebody_makes_up_fill_neither_the_log_nor_the_status(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        for number in range(300):
            made_up = {"state": "online", "instance": f"{number}" * 1000, "pid": number}
            agent.peer.publish(agent.topic("status"), json.dumps(made_up), qos=1)
        agent.peer.publish(agent.topic("status"), b"[" * 100_000, qos=1)
        agent.peer.wait(agent.topic("status"), lambda told: "process 15" in str(told.get("problems")))
        answers(agent)
        assert agent.log.count("has the name of this thing") == 1


def test_what_a_kept_session_held_of_another_agent_is_no_second_agent_and_what_comes_now_is(config, tmp_path):
    config["transports"]["local"] |= {"client_id": f"{config['thing']}-kept", "clean_start": False}
    config["transports"]["local"] |= {"session_expiry_s": 600}
    another = {"state": "online", "instance": "another", "pid": 1, "host": "elsewhere"}
    with agents.running(config, tmp_path) as agent:
        agent.stop(signal.SIGKILL)
    with peer(config["transports"]["local"]["port"]) as sender:
        sender.publish(agent.topic("status"), json.dumps(another), qos=1)
    with agents.running(config, tmp_path) as agent:
        answers(agent)
        assert "another agent" not in agent.log
        assert "to which nothing here subscribes" not in agent.log
        agent.peer.publish(agent.topic("status"), json.dumps(another | {"instance": "a third"}), qos=1)
        assert "process 1 on elsewhere" in problems(agent, "another-agent")["another-agent"]["reason"]


# -- ghosts -----------------------------------------------------------------------------------------------------------


def retained(agent: agents.Agent, port: int) -> dict[str, Any]:
    """What is retained below the thing's prefix, by what comes after it."""
    with peer(port) as reader:
        reader.subscribe(f"{agent.prefix}/#")
        reader.publish(agent.topic("end"), b'{"end": true}')
        reader.wait(agent.topic("end"))
        told = [message for message in reader.heard if message.retain and message.payload]
    return {message.topic.removeprefix(f"{agent.prefix}/"): json.loads(message.payload) for message in told}


def test_what_a_killed_agent_left_on_its_topics_is_cleared_at_the_next_start(config, fleet, cameras, tmp_path, broker):
    with agents.running(config, tmp_path) as agent:
        for ghost in ("components/com.gone", "streams/gone", "transports/gone"):
            agent.peer.publish(agent.topic(ghost), b'{"state": "RUNNING"}', retain=True)
        agent.peer.publish(f"verge/{agent.thing}-2/components/com.gone", b'{"state": "RUNNING"}', retain=True)
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
        agent.stop(signal.SIGKILL)
    config = config | {"streams": {}, "models": {}}
    (tmp_path / "data" / "deployments" / "ledger.db").unlink()
    (tmp_path / "data" / "deployments" / "active.record").unlink()
    with agents.running(config, tmp_path) as agent:
        ours = {"transports/local", "status", "deployments/first"}
        until_sync(lambda: retained(agent, broker.port).keys() <= ours, why=lambda: agent.log)
        assert {"transports/local", "status"} <= retained(agent, broker.port).keys()
        with peer(broker.port) as reader:
            reader.subscribe(f"verge/{agent.thing}-2/#")
            reader.wait(f"verge/{agent.thing}-2/components/com.gone")


def test_what_a_deployment_removes_or_only_tried_is_cleared_when_it_is_over(config, fleet, cameras, tmp_path, broker):
    config = config | {"streams": {}, "models": {}}
    deployed = {"components/com.model", "components/com.cameras", "components/com.scripts", "streams/com.cameras"}
    with agents.running(config, tmp_path) as agent:

        def on_topics() -> set[str]:
            return {topic for topic in retained(agent, broker.port) if topic.startswith(("components/", "streams/"))}

        tried = document(
            "tried",
            [fleet.model("com.other", "1.0.0", golden={"label": "odd"}), fleet.stream("com.o", "com.other", cameras)],
            {"com.o": "1.0.0"},
        )
        assert deploy(agent, tried)["status"] == "FAILED"
        until_sync(lambda: on_topics() == set(), why=on_topics)
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
        until_sync(lambda: on_topics() == deployed, why=on_topics)
        assert deploy(agent, document("nothing", [], {}))["status"] == "SUCCEEDED"
        until_sync(lambda: on_topics() == set(), why=on_topics)


def test_after_an_orderly_stop_no_component_says_that_it_starts(config, fleet, cameras, tmp_path, broker):
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
        agent.stop()
        told = retained(agent, broker.port)
    states = {topic: status["state"] for topic, status in told.items() if topic.startswith("components/")}
    assert states == {f"components/{name}": "FINISHED" for name in ("com.cameras", "com.model", "com.scripts", "model")}
    assert told["streams/com.cameras"]["state"] == "stopped"
