"""Deployments that cannot half-happen: the plug pulled at every step, and every way in which a new set is bad."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.greengrass.deployments.ledger import Step
from agent.results.result import utc
from tests.support import agent as agents
from tests.support import unruly
from tests.support.fleet import Fleet, deploy, document, outcome, send
from tests.support.until import until_sync


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    return config | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }


@pytest.fixture
def cameras(thing) -> str:
    return f"{thing}/cameras/+/frame"


def first(fleet: Fleet, cameras: str) -> dict[str, Any]:
    """A set of three: a model, a stream over it, and scripts."""
    return document(
        "first",
        [
            fleet.model("com.model", "1.0.0", golden={"label": "fine"}),
            fleet.stream("com.cameras", "com.model", cameras),
            fleet.scripts("com.scripts", Run="echo first > said; sleep 600"),
        ],
        {"com.cameras": "1.0.0", "com.scripts": "1.0.0"},
    )


def second(fleet: Fleet, cameras: str, **model: Any) -> dict[str, Any]:
    """The next version of each of them."""
    return document(
        "second",
        [
            fleet.model("com.model", "2.0.0", **model),
            fleet.stream("com.cameras", "com.model", cameras, "2.0.0"),
            fleet.scripts("com.scripts", "2.0.0", Run="echo second > said; sleep 600"),
        ],
        {"com.cameras": "2.0.0", "com.scripts": "2.0.0", "com.model": "2.0.0"},
    )


def answering(agent: agents.Agent) -> str:
    """The version of the model that answers a frame now."""
    before = len(agent.results("com.cameras"))
    agent.frame("door", unruly.jpeg("answer"))
    until_sync(lambda: len(agent.results("com.cameras")) > before, why=lambda: agent.log)
    return agent.results("com.cameras")[-1]["model"]["version"]


def script_says(agent: agents.Agent) -> str:
    return (Path(agent.folder) / "data" / "work" / "com.scripts" / "said").read_text().strip()


@pytest.mark.arch
def test_a_document_of_three_components_is_made_live_and_is_live_after_a_restart(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        told = deploy(agent, first(fleet, cameras))
        assert (told["status"], told["detailedStatus"]) == ("SUCCEEDED", "SUCCESSFUL")
        assert (answering(agent), script_says(agent)) == ("1.0.0", "first")
        agent.peer.wait(agent.topic("components/com.scripts"), lambda told: told["state"] == "RUNNING")
    with agents.running(config, tmp_path) as agent:
        assert answering(agent) == "1.0.0"
        agent.peer.wait(agent.topic("components/com.scripts"), lambda told: told["state"] == "RUNNING")


@pytest.mark.arch
def test_a_new_version_takes_over_between_two_frames_and_the_old_workers_go(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        send(agent, second(fleet, cameras))
        sent = 0
        while not (ended := _ended(agent, "second")):
            agent.frame("door", unruly.jpeg("answer"))
            time.sleep(0.01)  # a camera's pace
            sent += 1
        assert ended["status"] == "SUCCEEDED", ended
        sent += [agent.frame("door", unruly.jpeg("answer")) for _ in range(5)].count(None)
        report = agent.settled(sent, "com.cameras")
        results = agent.results("com.cameras")
        assert len(agent.workers()) <= 2  # the model's, and the script
    assert (report["received"], report["answered"], report["dropped"], report["failed"]) == (sent, sent, {}, {})
    assert sorted(result["frame"]["sequence"] for result in results) == list(range(1, sent + 1))
    versions = [result["model"]["version"] for result in sorted(results, key=lambda one: one["frame"]["sequence"])]
    assert versions == sorted(versions)
    assert set(versions) == {"1.0.0", "2.0.0"}


@pytest.mark.parametrize(
    ("model", "status", "told", "code"),
    [
        ({"golden": {"label": "odd"}}, "FAILED_NO_STATE_CHANGE", "expected odd", "MODEL_DISAGREES"),
        ({"cues": "broken"}, "FAILED_NO_STATE_CHANGE", "the file is broken", "COMPONENT_BROKEN"),
        ({"cues": "die"}, "FAILED_NO_STATE_CHANGE", "killed by SIGABRT", "COMPONENT_BROKEN"),
        ({"damage": True}, "FAILED_NO_STATE_CHANGE", "", "ARTIFACT_CHECKSUM_MISMATCH"),
    ],
)
def test_a_model_that_is_bad_leaves_the_old_one_serving_and_says_why(
    config, fleet, cameras, tmp_path, model, status, told, code
):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        ended = deploy(agent, second(fleet, cameras, **model))
        assert (ended["status"], ended["detailedStatus"]) == ("FAILED", status)
        assert told in ended["failureCause"]
        assert ended["errorStack"][0] == "DEPLOYMENT_FAILURE"
        assert code in ended["errorStack"]
        assert (answering(agent), script_says(agent)) == ("1.0.0", "first")
        assert deploy(agent, second(fleet, cameras) | {"deploymentId": "third"})["status"] == "SUCCEEDED"
        assert answering(agent) == "2.0.0"


def test_scripts_that_never_get_healthy_put_the_old_set_back(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        bad = second(fleet, cameras)
        bad["recipes"][2] = fleet.scripts("com.scripts", "2.0.0", Run="echo second > said; echo no >&2; exit 3")
        ended = deploy(agent, bad)
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE"
        assert "com.scripts is BROKEN" in ended["failureCause"]
        assert (answering(agent), script_says(agent)) == ("1.0.0", "first")


def test_a_document_that_says_so_leaves_a_broken_component_as_it_is(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        bad = second(fleet, cameras) | {"failureHandlingPolicy": "DO_NOTHING"}
        bad["recipes"][2] = fleet.scripts("com.scripts", "2.0.0", Run="exit 3")
        ended = deploy(agent, bad)
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_NOT_REQUESTED"
        assert answering(agent) == "2.0.0"


def test_only_the_files_of_the_active_set_and_of_the_one_before_it_are_kept(config, fleet, cameras, tmp_path):
    kept = tmp_path / "data" / "packages" / "artifacts-unarchived" / "com.model"
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        deploy(agent, second(fleet, cameras, golden={"label": "odd"}))
        assert sorted(path.name for path in kept.iterdir()) == ["1.0.0", "2.0.0"]
        for version in ("3.0.0", "4.0.0"):
            recipes = [fleet.model("com.model", version)]
            wanted = {"com.cameras": "1.0.0", "com.model": version}
            assert deploy(agent, document(f"v{version}", recipes, wanted))["status"] == "SUCCEEDED"
        assert sorted(path.name for path in kept.iterdir()) == ["3.0.0", "4.0.0"]


def test_what_nobody_wants_any_more_goes(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        assert deploy(agent, document("none", [], {}))["status"] == "SUCCEEDED"
        assert agent.workers() == []
        agent.peer.message(agent.topic("streams/com.cameras"), lambda cleared: not cleared.payload)


def test_a_changed_topic_reaches_a_running_stream_without_a_restart(config, fleet, cameras, tmp_path, thing):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        answering(agent)
        workers = agent.workers()
        again = first(fleet, cameras) | {"deploymentId": "again"}
        again["components"]["com.cameras"]["configurationUpdate"] = {
            "merge": {"Verge": {"Input": {"topic": f"{thing}/doors/+"}}}
        }
        assert deploy(agent, again)["status"] == "SUCCEEDED"
        agent.peer.publish(f"{thing}/doors/7", unruly.jpeg("answer"))
        result = agent.result(lambda one: one["frame"]["camera"] == "7", "com.cameras")
        assert result["frame"]["sequence"] == 2
        assert agent.workers() == workers


def test_a_canary_that_agrees_lets_the_new_model_in_and_one_that_does_not_keeps_it_out(
    config, fleet, cameras, tmp_path
):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        for identity, wish, version in (
            ("slow", {"frames": 5, "latency_ratio": 0.000001}, "1.0.0"),
            ("fine", {"frames": 5, "latency_ratio": 1000}, "2.0.0"),
        ):
            send(agent, second(fleet, cameras) | {"deploymentId": identity, "canary": wish})
            while not (heard := _ended(agent, identity)):
                agent.frame("door", unruly.jpeg("answer"))
                time.sleep(0.01)
            assert (heard["status"] == "SUCCEEDED") == (identity == "fine"), heard
            assert answering(agent) == version
        progress = [told["canary"] for told in agent.peer.all(agent.topic("deployments/fine")) if "canary" in told]
        assert progress[-1]["frames"] >= 5
        assert progress[-1]["agreement"] == 1.0


def _ended(agent: agents.Agent, identity: str) -> dict[str, Any] | None:
    told = [
        one
        for one in agent.peer.all(agent.topic(f"deployments/{identity}"))
        if one["status"] not in {"QUEUED", "IN_PROGRESS"}
    ]
    return told[-1] if told else None


@pytest.mark.parametrize(
    ("told", "status", "code"),
    [
        ({"version": "1.0", "steps": []}, "REJECTED", "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        ({"components": {"com.nothing": {"version": "1.0.0"}}}, "FAILED", "NO_AVAILABLE_COMPONENT_VERSION"),
        ({"components": {"com.a": {}}}, "FAILED", "COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT"),
        ({"component": {"com.a": {"version": "1.0.0"}}}, "FAILED", "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        ({"components": {}, "requiredCapabilities": ["FLYING"]}, "FAILED", "NUCLEUS_MISSING_REQUIRED_CAPABILITIES"),
    ],
)
def test_a_document_that_cannot_be_done_is_answered_with_the_reason(config, tmp_path, told, status, code):
    with agents.running(config, tmp_path) as agent:
        agent.peer.subscribe(f"{agent.thing}/answers")
        properties = {"ResponseTopic": f"{agent.thing}/answers", "CorrelationData": b"7"}
        agent.peer.publish(agent.topic("deployments"), json.dumps(told), **properties)
        answer = agent.peer.message(f"{agent.thing}/answers")
    ended = json.loads(answer.payload)
    assert answer.properties.CorrelationData == b"7"
    assert ended["status"] == status
    assert code in ended["errorStack"]
    assert ended["failureCause"]


def test_an_input_topic_that_is_no_filter_fails_the_deployment_and_leaves_the_stream_as_it_was(
    config, fleet, cameras, tmp_path
):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        bad = first(fleet, cameras) | {"deploymentId": "bad"}
        bad["components"]["com.cameras"]["configurationUpdate"] = {
            "merge": {"Verge": {"Input": {"topic": "cameras/#/frame"}}}
        }
        ended = deploy(agent, bad)
        assert ended["status"] == "FAILED"
        assert "is no MQTT topic filter" in ended["failureCause"]
        assert answering(agent) == "1.0.0"


def test_a_script_that_hangs_at_the_next_start_holds_up_neither_the_streams_nor_a_stop(
    config, fleet, cameras, tmp_path
):
    told = first(fleet, cameras)
    told["recipes"][2] = fleet.scripts("com.scripts", Startup="[ ! -e once ] && touch once || sleep 100")
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
    with agents.running(config, tmp_path) as agent:
        assert answering(agent) == "1.0.0"
        began = time.monotonic()
        agent.stop()
        assert time.monotonic() - began < 60  # the script takes 100 s


def test_a_switch_leaves_no_file_of_the_old_outputs_open(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        for number in range(4):
            outputs = [{"file": {"path": str(tmp_path / f"results-{number}.jsonl")}}, {}]
            model, scripts = fleet.model("com.model"), fleet.scripts("com.scripts", Run="sleep 600")
            told = document(
                f"d{number}", [model, fleet.stream("com.cameras", "com.model", cameras, Outputs=outputs), scripts],
                {"com.cameras": "1.0.0"},
            )  # fmt: skip
            assert deploy(agent, told)["status"] == "SUCCEEDED"
            answering(agent)
        opened = [os.readlink(entry) for entry in Path(f"/proc/{agent.process.pid}/fd").iterdir() if entry.is_symlink()]
        assert [Path(name).name for name in opened if name.endswith(".jsonl")] == ["results-3.jsonl"]


def test_a_second_deployment_waits_for_the_first(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        send(agent, first(fleet, cameras))
        send(agent, second(fleet, cameras))
        assert outcome(agent, "second")["status"] == "SUCCEEDED"
        assert outcome(agent, "first")["status"] == "SUCCEEDED"
        assert answering(agent) == "2.0.0"


PAUSE = """
import agent.greengrass.deployments.ledger as ledger, asyncio, os, sys
step, real = sys.argv.pop(1), ledger.Ledger
async def held():
    print("HELD", flush=True)
    await asyncio.Event().wait()
class Ledger(real):
    async def step(self, seq, at):
        await super().step(seq, at)
        if at == step and seq > 1: await held()
    async def receive(self, *arguments):
        seq = await super().receive(*arguments)
        if step == "RECEIVED" and seq > 1: await held()
        return seq
    async def commit(self, *arguments):
        await super().commit(*arguments)
        if step == "COMMITTED" and arguments[0] > 1: await held()
    async def end(self, seq, outcome):
        await super().end(seq, outcome)
        if step == "ENDED" and seq > 1: await held()
ledger.Ledger = Ledger
from agent.cli import main
main()
"""
"""The agent, standing still right after it has written one step of its second deployment."""


@pytest.mark.parametrize(
    "step", [step for step in Step if step not in {Step.ASKING, Step.BOOTSTRAPPING, Step.RESTARTING}]
)
def test_the_plug_pulled_after_any_step_leaves_exactly_the_old_set_or_the_new_one(
    config, fleet, cameras, tmp_path, step: Step
):
    bad = step in {Step.ROLLING_BACK, Step.ENDED}
    with agents.running(config, tmp_path, ("-c", PAUSE, step.value)) as agent:
        assert deploy(agent, first(fleet, cameras))["status"] == "SUCCEEDED"
        told = second(fleet, cameras)
        if step is Step.ENDED:
            told = second(fleet, cameras, golden={"label": "odd"})
        if step is Step.ROLLING_BACK:
            _make_commit_fail(tmp_path / "data" / "deployments" / "ledger.db")
        send(agent, told)
        until_sync(lambda: "HELD" in agent.log, why=lambda: agent.log)
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
    if step is Step.ROLLING_BACK:
        _let_commit_be(tmp_path / "data" / "deployments" / "ledger.db")
    (tmp_path / "agent.log").write_text("")
    began = utc(time.time())
    with agents.running(config, tmp_path) as agent:
        ended = _final(agent)
        versions = {answering(agent), _script_version(agent, began)}
        expected = {
            Step.RECEIVED: ("SUCCESSFUL", "2.0.0"),
            Step.RESOLVED: ("SUCCESSFUL", "2.0.0"),
            Step.STAGED: ("SUCCESSFUL", "2.0.0"),
            Step.ACTIVATING: ("FAILED_ROLLBACK_COMPLETE", "1.0.0"),
            Step.VERIFYING: ("FAILED_ROLLBACK_COMPLETE", "1.0.0"),
            Step.COMMITTED: ("SUCCESSFUL", "2.0.0"),
            Step.ROLLING_BACK: ("FAILED_ROLLBACK_COMPLETE", "1.0.0"),
            Step.ENDED: ("FAILED_NO_STATE_CHANGE", "1.0.0"),
        }[step]
        assert (ended["detailedStatus"], versions) == (expected[0], {expected[1]})
        assert bad or expected[0] != "FAILED_NO_STATE_CHANGE"
        recipes = [fleet.model("com.model", "3.0.0"), fleet.stream("com.cameras", "com.model", cameras, "3.0.0")]
        third = document("third", recipes, {"com.cameras": "3.0.0", "com.model": "3.0.0"})
        assert deploy(agent, third)["status"] == "SUCCEEDED"
        assert answering(agent) == "3.0.0"
        told_ends = [
            one
            for one in agent.peer.all(agent.topic("deployments/second"))
            if one["status"] not in {"QUEUED", "IN_PROGRESS"}
        ]
        assert len(told_ends) <= 1


def _final(agent: agents.Agent) -> dict[str, Any]:
    """How the second deployment ended, as it is retained at the broker now."""

    def reported() -> list[Any]:
        with closing(sqlite3.connect(agent.folder / "data" / "deployments" / "ledger.db")) as database:
            return database.execute("SELECT outcome FROM deployments WHERE id = 'second' AND reported = 1").fetchall()

    told = json.loads(until_sync(reported, why=lambda: agent.log)[0][0])
    return {"detailedStatus": told["status"], "failureCause": told["cause"]}


def _script_version(agent: agents.Agent, since: str) -> str:
    words = {"first": "1.0.0", "second": "2.0.0"}
    topic = agent.topic("components/com.scripts")
    agent.peer.wait(topic, lambda told: told["state"] == "RUNNING" and told["since"] > since)
    return words[script_says(agent)]


def _make_commit_fail(path: Path) -> None:
    """As a disk would that gives out in the wrong moment."""
    _make_fail(path, "INSERT ON sets")


def _make_fail(path: Path, event: str) -> None:
    database = sqlite3.connect(path)
    database.execute(f"CREATE TRIGGER full BEFORE {event} BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    database.commit()
    database.close()


def _let_commit_be(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER full")
    database.commit()
    database.close()


def test_a_disk_that_is_full_at_the_commit_puts_the_old_set_back(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        _make_commit_fail(tmp_path / "data" / "deployments" / "ledger.db")
        ended = deploy(agent, second(fleet, cameras))
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE"
        assert "disk is full" in ended["failureCause"]
        assert (answering(agent), script_says(agent)) == ("1.0.0", "first")


@pytest.mark.parametrize("event", ["INSERT ON", "UPDATE ON"])
def test_a_disk_that_takes_no_note_fails_the_deployment_and_the_agent_lives_and_starts(
    config, fleet, cameras, tmp_path, event
):
    ledger = tmp_path / "data" / "deployments" / "ledger.db"
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        _make_fail(ledger, f"{event} deployments")
        ended = deploy(agent, second(fleet, cameras))
        assert ended["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
        assert "disk is full" in ended["failureCause"]
        assert (answering(agent), script_says(agent)) == ("1.0.0", "first")
    with agents.running(config, tmp_path) as agent:
        assert (answering(agent), script_says(agent)) == ("1.0.0", "first")


def test_no_process_of_the_agent_is_left_when_it_stops(config, fleet, cameras, tmp_path):
    with agents.running(config, tmp_path) as agent:
        deploy(agent, first(fleet, cameras))
        workers = agent.workers()
        assert len(workers) == 2
        agent.stop()
        assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


def test_each_component_has_its_own_time_to_shut_down_when_the_agent_stops(config, fleet, tmp_path):
    """Two that wait for each other, longer together than the agent's own patience with what hangs."""
    depends = {"com.base": {"VersionRequirement": "*", "DependencyType": "HARD"}}
    steps = {"Run": "sleep 600", "Shutdown": "sleep 6; echo done > ended"}
    recipes = [fleet.scripts("com.base", **steps), fleet.scripts("com.top", **steps)]
    recipes[1]["ComponentDependencies"] = depends
    with agents.running(config, tmp_path) as agent:
        deploy(agent, document("both", recipes, {"com.base": "1.0.0", "com.top": "1.0.0"}))
        assert agent.stop() == -signal.SIGTERM
        assert "waiting for the Shutdown of com.base, com.top" in agent.log
        assert "killed" not in agent.log
    work = tmp_path / "data" / "work"
    assert [(work / name / "ended").read_text() for name in ("com.base", "com.top")] == ["done\n", "done\n"]


@pytest.mark.parametrize(
    ("user", "reason"), [(None, "no user is named"), ("nobody-of-this-name", "There is no user nobody-of-this-name")]
)
def test_a_script_that_nobody_may_run_leads_to_the_key_that_names_a_user(config, fleet, tmp_path, user, reason):
    del config["deployments"]["run_as"]
    with agents.running(config, tmp_path) as agent:
        recipe = fleet.scripts("com.example.Hello", Run="echo hello; sleep 600")
        told = document("first", [recipe], {"com.example.Hello": "1.0.0"})
        told["components"]["com.example.Hello"]["runWith"] = {"posixUser": user}
        ended = deploy(agent, told)
        if os.geteuid() != 0 and user is None:
            assert ended["status"] == "SUCCEEDED"  # such an agent runs everything as itself
            return
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE"
        assert reason in ended["cause"]
        assert "run_as in [deployments]" in ended["hint"]
        assert "verge deploy --run-with com.example.Hello=USER" in ended["hint"]
        assert "log" not in ended["hint"]
        told["deploymentId"] = "second"
        told["components"]["com.example.Hello"]["runWith"] = {"posixUser": getpass.getuser()}
        assert deploy(agent, told)["status"] == "SUCCEEDED"


def test_the_hint_of_a_script_that_fails_names_its_log_where_there_is_one(config, fleet, tmp_path):
    with agents.running(config, tmp_path) as agent:
        recipe = fleet.scripts("com.example.Hello", Startup="echo no room >&2; exit 3")
        ended = deploy(agent, document("first", [recipe], {"com.example.Hello": "1.0.0"}))
        path = Path(ended["hint"].removesuffix(" has what its scripts printed"))
        assert "no room" in path.read_text()
