"""SIGHUP, from a service manager or a closed terminal: what can change changes, and nothing ends."""

from __future__ import annotations

import shutil
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from agent.inference.manifest import SAMPLES
from tests.support import agent as agents
from tests.support import unruly
from tests.support.until import until_sync


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    return agents.configuration(thing, broker.port, tmp_path, unruly.model(tmp_path))


def reload(agent: agents.Agent, config: dict[str, Any] | str, logged: str) -> None:
    """Change the file, send SIGHUP and wait until the log has it."""
    before = len(agent.log)
    text = config if isinstance(config, str) else tomli_w.dumps(config)
    (Path(agent.folder) / "verge.toml").write_text(text)
    agent.process.send_signal(signal.SIGHUP)
    until_sync(lambda: logged in agent.log[before:], why=lambda: agent.log)


def answered(agent: agents.Agent, camera: str = "door") -> dict[str, Any]:
    agent.frame(camera, unruly.jpeg("answer"))
    return agent.result(lambda result: result["frame"]["camera"] == camera)


def test_a_closed_terminal_ends_nothing(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        answered(agent)
        workers = agent.workers()
        reload(agent, config, "the configuration is read again; taken: nothing")
        answered(agent, "gate")
        assert agent.workers() == workers


def test_filters_outputs_streams_and_the_log_level_change_without_a_restart(config, tmp_path, thing):
    with agents.running(config, tmp_path) as agent:
        answered(agent)
        line = config["streams"]["line"]
        other = {"model": "model", "input": {"topic": f"{thing}/others/+/frame"}}
        elsewhere = line | {"outputs": [{"topic": f"{thing}/elsewhere"}]}
        changed = config | {"log_level": "debug", "streams": {"line": elsewhere, "other": other}}
        reload(agent, changed, "taken: log_level, streams.line, streams.other")
        agent.peer.publish(f"{thing}/others/one/frame", unruly.jpeg("answer"))
        agent.result(stream="other")
        before = len(agent.results())
        agent.peer.subscribe(f"{thing}/elsewhere")
        agent.frame("door", unruly.jpeg("answer"))
        agent.peer.wait(f"{thing}/elsewhere")
        assert len(agent.results()) == before
        reload(agent, config, "taken: log_level, streams.line, streams.other")
        answered(agent, "gate")
        assert agent.process.poll() is None


def test_a_manifest_that_says_something_else_and_a_file_that_was_replaced_are_taken(config, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(SAMPLES / "classifier", folder)
    written = folder / "manifest.toml"
    labels = folder / tomllib.loads(written.read_text())["labels"]
    mine = config | {"models": {"model": {"source": str(folder)}}}
    with agents.running(mine, tmp_path) as agent:
        picture = (SAMPLES.parent / "images" / "chelsea.jpg").read_bytes()
        for camera, change, label in (
            ("one", lambda: None, "Egyptian cat"),
            ("two", lambda: labels.write_text(labels.read_text().replace("Egyptian cat", "Nile cat")), "Nile cat"),
            ("three", lambda: written.write_text(written.read_text().replace("top_k = 5", "top_k = 1")), "Nile cat"),
        ):
            change()
            if camera != "one":
                reload(agent, mine, "the configuration is read again; taken: models.model")
            agent.frame(camera, picture)
            told = agent.result(lambda result, camera=camera: result["frame"]["camera"] == camera)
            assert told["predictions"][0]["label"] == label
        assert len(told["predictions"]) == 1
        reload(agent, mine, "the configuration is read again; taken: nothing")


def test_a_wrong_configuration_leaves_the_earlier_one_and_names_every_error(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        wrong = config | {"log_level": "loud", "streams": {"line": config["streams"]["line"] | {"model": "none"}}}
        reload(agent, wrong, "streams.line.model: ")
        assert "there is no log level 'loud'" in agent.log
        told = agent.peer.wait(agent.topic("status"), lambda told: bool(told.get("problems")))
        assert told["problems"][0]["code"] == "config-refused"
        answered(agent)
        reload(agent, "this is [no TOML", "is not TOML")
        answered(agent, "gate")
        reload(agent, config, "read again; taken: nothing")
        agent.peer.wait(agent.topic("status"), lambda told: told["state"] == "online" and not told.get("problems"))


def test_what_needs_a_restart_is_named_and_left(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        reload(agent, config | {"tuning_budget_s": 5.0}, "these count only after a restart: tuning_budget_s")
        answered(agent)


def test_a_threshold_changes_between_two_frames_and_a_model_that_cannot_be_loaded_changes_nothing(config, tmp_path):
    model = config["models"]["model"]
    with agents.running(config, tmp_path) as agent:
        assert len(answered(agent)["predictions"]) == 3
        pids = agent.workers()
        strict = config | {"models": {"model": model | {"options": {"threshold": 0.5}}}}
        reload(agent, strict, "taken: models.model, streams.line")
        assert [one["label"] for one in answered(agent, "gate")["predictions"]] == ["fine"]
        until_sync(lambda: not set(pids) & set(agent.workers()))
        broken = tmp_path / "broken.unruly"
        broken.write_text("broken")
        reload(agent, config | {"models": {"model": model | {"source": str(broken)}}}, "models.model")
        told = agent.peer.wait(agent.topic("status"), lambda told: bool(told.get("problems")))
        assert "the file is broken" in told["problems"][0]["reason"]
        assert [one["label"] for one in answered(agent, "yard")["predictions"]] == ["fine"]
        assert agent.settled(3)["answered"] == 3


def test_models_that_are_new_and_gone_are_loaded_and_unloaded(config, tmp_path, thing):
    with agents.running(config, tmp_path) as agent:
        answered(agent)
        second = {"second": config["models"]["model"]}
        line = config["streams"]["line"] | {"model": "second"}
        reload(agent, config | {"models": second, "streams": {"line": line}}, "taken: models.second, models.model")
        answered(agent, "gate")
        agent.peer.message(agent.topic("components/model"), lambda cleared: not cleared.payload)
        until_sync(lambda: len(agent.workers()) == 1)
