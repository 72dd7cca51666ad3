"""``verge deploy``, ``components``, ``deployments`` and ``rollback`` as people and scripts use them, on a real one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from agent.topics import Topics
from tests.support import agent as agents
from tests.support.broker import Broker
from tests.support.commands import invoke
from tests.support.fleet import Fleet
from tests.support.peer import peer
from tests.support.until import until_sync

STREAM, MODEL = "com.acme.Inspect", "com.acme.Model"
Run = Callable[..., CompletedProcess[str]]


@contextmanager
def device(thing: str, port: int, folder: Path, **deployments: Any) -> Iterator[agents.Agent]:
    """An agent that takes deployments."""
    config = agents.configuration(thing, port, folder, {}) | {"models": {}, "streams": {}}
    with agents.running(config | {"deployments": deployments}, folder) as agent:
        yield agent


def packed(folder: Path, version: str = "1.0.0", **model: Any) -> Path:
    """A stream and its model as ``verge component pack`` leaves them: relative URIs, files in folders."""
    fleet = Fleet(folder / "fleet")
    made = fleet.model(MODEL, version, **model), fleet.stream(STREAM, MODEL, "cams/+/frame", version)
    (folder / "recipes").mkdir(exist_ok=True)
    for recipe in made:
        for artifact in recipe["Manifests"][0].get("Artifacts", ()):
            source = Path(artifact["Uri"].removeprefix("file://"))
            place = folder / "artifacts" / recipe["ComponentName"] / version
            place.mkdir(parents=True)
            shutil.move(source, place)
            artifact.clear()
            artifact |= {"Uri": f"file:{recipe['ComponentName']}/{version}/{source.name}", "Unarchive": "ZIP"}
        (folder / "recipes" / f"{recipe['ComponentName']}-{version}.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


@pytest.fixture
def url(broker) -> str:
    return f"mqtt://127.0.0.1:{broker.port}"


@pytest.fixture
def run(tmp_path, url) -> Run:
    def run(command: str, *arguments: object) -> CompletedProcess[str]:
        return invoke(tmp_path, command, "--broker", url, *arguments)

    return run


@pytest.fixture(scope="module")
def press(broker, tmp_path_factory) -> Iterator[agents.Agent]:
    """An agent on which the first version is live."""
    folder = tmp_path_factory.mktemp("press")
    url = f"mqtt://127.0.0.1:{broker.port}"
    packed(folder)
    with device("press-7", broker.port, folder) as agent:
        nothing = invoke(folder, "rollback", "--broker", url)
        assert (nothing.returncode, nothing.stdout) == (2, "")
        assert "press-7 has nothing to roll back to" in nothing.stderr
        options = ("--recipes", "recipes", "--artifacts", "artifacts", "--component", f"{STREAM}=1.0.0")
        done = invoke(folder, "deploy", "--broker", url, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "press-7: SUCCESSFUL in" in done.stdout
        assert "fetching artifacts" in done.stderr
        assert [line.split() for line in done.stdout.splitlines()[1:]] == [
            ["component", "action", "version"],
            [MODEL, "install", "1.0.0"],
            [STREAM, "install", "1.0.0"],
        ]
        yield agent


def test_a_changed_configuration_goes_live_and_a_rollback_puts_the_old_one_back(run, press):
    before = ended(run("components", "--json"))
    update = json.dumps({STREAM: {"MERGE": {"Verge": {"Depth": 7}}}})
    told = ended(run("deploy", "--component", f"{STREAM}=1.0.0", "--config", update, "--json"))
    assert told["detailedStatus"] == "SUCCESSFUL"
    assert told["thing"] == "press-7"
    assert told["components"] == {MODEL: "keep 1.0.0", STREAM: "reconfigure 1.0.0"}
    assert 0 < told["seconds"] < 30
    back = ended(run("rollback", "--json"))
    assert (back["detailedStatus"], back["components"]) == ("SUCCESSFUL", {MODEL: "keep 1.0.0", STREAM: "update 1.0.0"})
    after = ended(run("components", "--json"))
    versions = [[(each["component"], each["version"]) for each in told["components"]] for told in (before, after)]
    assert versions[0] == versions[1]
    # A second rollback goes forward again.
    assert ended(run("rollback", "--json"))["components"][STREAM] == "update 1.0.0"
    assert ended(run("rollback", "--json"))["detailedStatus"] == "SUCCESSFUL"


def test_what_was_removed_comes_back_with_a_rollback(run, press):
    gone = ended(run("deploy", "--remove", STREAM, "--json"))
    assert sorted(gone["removed"]) == [STREAM, MODEL]
    back = ended(run("rollback", "--json"))
    assert back["components"] == {MODEL: "install 1.0.0", STREAM: "install 1.0.0"}
    press.peer.wait(press.topic(f"components/{MODEL}"), lambda told: told["state"] == "RUNNING")


def test_a_new_set_that_is_bad_fails_with_its_reason_and_status_1(run, press, tmp_path):
    folder = packed(tmp_path, "2.0.0", golden={"label": "odd"})
    options = ("--recipes", folder / "recipes", "--artifacts", folder / "artifacts")
    done = run("deploy", "--component", f"{STREAM}=2.0.0", "--component", f"{MODEL}=2.0.0", *options)
    assert done.returncode == 1
    assert "press-7: FAILED_NO_STATE_CHANGE in" in done.stdout
    assert "nothing was changed" in done.stdout
    assert "expected odd" in done.stdout
    assert "verge component pack --record-golden" in done.stdout
    told = run("deployments")
    assert "FAILED_NO_STATE_CHANGE" in told.stdout
    assert "expected odd" in told.stdout


def test_components_show_state_version_since_and_the_streams(run, press):
    told = run("components")
    assert told.returncode == 0
    rows = [line.split() for line in told.stdout.splitlines()]
    assert rows[0][:2] == ["press-7:", "online"]
    assert [MODEL, "RUNNING", "1.0.0"] in [row[:3] for row in rows]
    assert [STREAM, "running", MODEL] in [row[:3] for row in rows]


def test_deployments_are_listed_the_latest_first(run, press):
    listed = ended(run("deployments", "--thing", "press-7", "--json", "--limit", "2"))
    assert len(listed) == 2
    assert listed[0]["at"] >= listed[1]["at"]
    assert {each["thing"] for each in listed} == {"press-7"}


def test_the_agents_own_file_names_the_broker_and_the_thing(press, tmp_path):
    told = ended(invoke(tmp_path, "components", "-c", press.folder / "verge.toml", "--json"))
    assert told["thing"] == "press-7"


def test_a_document_of_ones_own_is_sent_with_the_recipes_of_a_folder(run, press, tmp_path):
    (tmp_path / "document.json").write_text(json.dumps({"components": {STREAM: {"version": "^3.0.0"}}}))
    done = run("deploy", "document.json", "--json")
    assert done.returncode == 1
    assert "3.0.0" in json.loads(done.stdout)["failureCause"]
    assert run("deploy", "document.json", "--remove", STREAM).returncode == 2


def test_without_wait_it_is_sent_and_ends_by_itself(run, press):
    known = {each["id"] for each in ended(run("deployments", "--json"))}
    done = run("deploy", "--component", f"{STREAM}=9.9.9", "--no-wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "sent\n")
    until_sync(
        lambda: [
            each for each in ended(run("deployments", "--json")) if each["id"] not in known and "failureCause" in each
        ]
    )


def test_whom_it_is_for_has_to_be_said_where_several_are_online(run, press, broker):
    other = Topics("other").status
    with peer(broker.port) as someone:
        someone.client.publish(other, b'{"state": "online", "thing": "other"}', 1, retain=True).wait_for_publish(5)
        done = run("rollback")
        silent = run("rollback", "--thing", "other")
        someone.client.publish(other, b"", 1, retain=True).wait_for_publish(5)
    assert done.returncode == 2
    assert "2 agents are online: other, press-7" in done.stderr
    assert silent.returncode == 3
    assert "other is online and takes no deployments here" in silent.stderr


def test_who_cannot_be_reached_is_status_3(run, tmp_path, press, free_port):
    nobody = run("deploy", "--remove", STREAM, "--to", "press-8")
    assert nobody.returncode == 3
    assert "there is no agent called press-8" in nobody.stderr
    nowhere = invoke(tmp_path, "components", "--broker", f"mqtt://127.0.0.1:{free_port}")
    assert nowhere.returncode == 3
    assert "connection refused" in nowhere.stderr


def test_one_that_does_not_end_in_time_is_status_3_and_said_to_go_on(run, press, tmp_path):
    folder = packed(tmp_path, "4.0.0")
    options = ("--recipes", folder / "recipes", "--artifacts", folder / "artifacts", "--timeout", "0.001")
    done = run("deploy", "--component", f"{STREAM}=4.0.0", *options)
    assert done.returncode == 3
    assert "press-7 did not finish within 0.001 s" in done.stderr
    settled = ended(run("deployments", "--json", "--limit", "1"))[0]["id"]
    press.peer.wait(press.topic(f"deployments/{settled}"), lambda told: told["status"] != "IN_PROGRESS")
    assert ended(run("rollback", "--json"))["detailedStatus"] == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--component", STREAM), "is not NAME=VERSION"),
        ((), "name a FILE, or components"),
        (("nothing.json",), "nothing.json cannot be read"),
        (("--component", "a=1.0.0", "--recipes", "."), "there are no recipes in ."),
        (("--component", "a=1.0.0", "--artifacts", "."), "--artifacts goes with --recipes"),
        (("--component", "a=1.0.0", "--config", '{"a": 1}'), "a is not an update"),
        (("--component", "a=1.0.0", "--config", "{"), "--config is not JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anybody_is_asked(run, arguments, said):
    done = run("deploy", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_artifacts_of_this_machine_are_not_offered_to_agents_on_others(tmp_path):
    packed(tmp_path)
    told = ("--component", f"{STREAM}=1.0.0", "--recipes", "recipes")
    for more in (("--broker", "mqtt://192.0.2.1"), ("--to", "group:all")):
        done = invoke(tmp_path, "deploy", *told, "--artifacts", "artifacts", *more)
        assert done.returncode == 2
        assert "the agent is on another one" in done.stderr
        assert "https://" in done.stderr
        assert "s3://" in done.stderr
    done = invoke(tmp_path, "deploy", *told)
    assert "without --artifacts DIR" in done.stderr


def test_an_agent_that_wants_signatures_rejects_a_document_and_takes_it_signed(run, broker, tmp_path):
    assert invoke(tmp_path, "trust", "keygen", "--out", "deployer.key").returncode == 0
    folder = tmp_path / "signed"
    packed(folder.mkdir() or folder)
    told = ("--to", "safe", "--component", f"{STREAM}=1.0.0", "--recipes", folder / "recipes")
    told += ("--artifacts", folder / "artifacts")
    options = {"accept": "signed", "trusted_keys": [str(tmp_path / "deployer.key.pub")]}
    with device("safe", broker.port, folder, **options):
        refused = run("deploy", *told)
        assert refused.returncode == 2
        assert "safe: REJECTED in" in refused.stdout
        assert "not signed by a trusted key" in refused.stdout
        assert run("deploy", *told, "--sign", "deployer.key").returncode == 0
        assert run("deploy", "--to", "safe", "--remove", STREAM, "--sign", "deployer.key").returncode == 0
        assert run("rollback", "--thing", "safe").returncode == 2
        assert run("rollback", "--thing", "safe", "--sign", "deployer.key").returncode == 0


@pytest.fixture
def jobs_service(url, tmp_path) -> Iterator[None]:
    command = [sys.executable, "-m", "agent", "jobs", "serve", "--broker", url, "--data", str(tmp_path / "jobs")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    process.wait(10)


def test_a_group_is_deployed_to_by_a_job(run, url, press, jobs_service, tmp_path):
    added = ("jobs", "groups", "hall", "--add", "press-7", "--broker", url)
    until_sync(lambda: invoke(tmp_path, *added).returncode == 0)
    recipe = Fleet(tmp_path / "fleet").stream("com.acme.Other", MODEL, "others/+/frame")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "recipe.json").write_text(json.dumps(recipe))
    done = run("deploy", "--to", "group:hall", "--component", "com.acme.Other=1.0.0", "--recipes", "new", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (execution,) = json.loads(done.stdout)["executions"]
    assert execution["statusDetails"]["detailed-deployment-status"] == "SUCCESSFUL"
    bad = run("deploy", "--to", "group:hall", "--component", f"{STREAM}=7.0.0")
    assert bad.returncode == 1
    assert "group thinggroup/hall wants com.acme.Inspect 7.0.0" in bad.stdout
    assert ended(run("rollback", "--json"))["removed"] == ["com.acme.Other"]


def test_a_document_that_is_refused_unread_is_told_to_whoever_sent_it(run, press, tmp_path):
    told = {"deploymentId": "mixed", "rollback": True, "components": {STREAM: {"version": "1.0.0"}}}
    (tmp_path / "mixed.json").write_text(json.dumps(told))
    done = run("deploy", "mixed.json")
    assert done.returncode == 1
    assert "a rollback goes back to what was, so components has no place beside it" in done.stdout


def ended(done: CompletedProcess[str]) -> Any:
    """What a command printed as JSON."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
