"""Key lists on a running device: its owners' commands, a real broker, a real agent."""

from __future__ import annotations

import getpass
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.broker import Broker
from tests.support.commands import invoke
from tests.support.until import until_sync

PEOPLE = ("anna", "ben", "carl", "dora", "clock")
APP = {
    "RecipeFormatVersion": "2020-01-25", "ComponentName": "com.acme.app", "ComponentVersion": "1.0.0",
    "Manifests": [{"Lifecycle": {"Run": "sleep 600"}}],
}  # fmt: skip
DOCUMENT = {"components": {"com.acme.app": {"version": "1.0.0"}}, "recipes": [APP]}


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as one:
        yield one


class Owners:
    """People with keys in one folder, who type ``verge trust``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._broker = ("--broker", f"mqtt://127.0.0.1:{port}", "--to", "press-7")
        for name in PEOPLE:
            self("keygen", "--out", f"{name}.key", "--comment", name)

    def __call__(self, *arguments: object, status: int = 0) -> str:
        done = invoke(self.folder, "trust", *arguments)
        assert done.returncode == status, f"{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def send(self, *files: str, status: int = 0) -> dict[str, Any]:
        return json.loads(self("send", *files, *self._broker, "--json", status=status))

    def trusted(self) -> dict[str, Any]:
        return json.loads(self("status", *self._broker, "--json"))

    def document(self, name: str, *keys: str, **document: Any) -> bytes:
        """A signed document."""
        (self.folder / name).write_text(json.dumps({"deploymentId": name, **DOCUMENT, **document}))
        self("sign", name, *(part for key in keys for part in ("--key", f"{key}.key")), "--out", f"{name}.signed")
        return (self.folder / f"{name}.signed").read_bytes()


@pytest.fixture
def owners(broker, tmp_path) -> Owners:
    made = Owners(tmp_path, broker.port)
    made("new", "keys.json", "--root", "anna.key.pub", "--root", "ben.key.pub", "--threshold", 2,
         "--timestamp", "clock.key.pub", "--days", 365)  # fmt: skip
    made("role", "keys.json", "line", "--key", "carl.key.pub", "--component", "com.acme.*", "--thing", "press-*")
    made("sign", "keys.json", "--key", "anna.key", "--key", "ben.key")
    return made


def device(port: int, folder: Path, **deployments: Any):
    config = agents.configuration("press-7", port, folder, {})
    options = {"jobs": False, "shadow": False, "accept": "signed", "run_as": getpass.getuser(), **deployments}
    return agents.running(config | {"models": {}, "streams": {}, "deployments": options}, folder)


def deployed(agent: agents.Agent, payload: bytes) -> dict[str, Any]:
    """How a document ended, as whoever sent it learns."""
    answers = agent.topic(f"answers/{hashlib.sha256(payload).hexdigest()[:8]}")
    agent.peer.publish(agent.topic("deployments"), payload, ResponseTopic=answers)
    return agent.peer.wait(answers)


def test_keys_have_roles_are_rotated_and_revoked_on_a_running_device(owners, broker, tmp_path) -> None:
    (tmp_path / "device").mkdir()
    trust_list = str(tmp_path / "keys.signed.json")
    with device(broker.port, tmp_path / "device", trust_list=trust_list) as agent:
        assert owners.trusted()["keys"]["roles"]["line"]["components"] == ["com.acme.*"]
        assert deployed(agent, owners.document("first", "carl"))["detailedStatus"] == "SUCCESSFUL"
        until_sync(lambda: owners.trusted()["last_word"]["kind"] == "document")

        # dora takes carl's place: anna and ben say so.
        owners("rotate", "keys.signed.json", "--old", "carl", "--new", "dora.key.pub", "--out", "keys-2.json")
        owners("sign", "keys-2.json", "--key", "anna.key")
        assert "lacks 1 of 2 signatures of its root" in owners("send", "keys-2.signed.json", status=2)
        agent.peer.publish(agent.topic("trust"), (tmp_path / "keys-2.signed.json").read_bytes())
        until_sync(lambda: owners.trusted()["refused"])
        assert "has 1 of the 2 signatures that it needs from the root" in owners.trusted()["refused"]["reason"]
        owners("sign", "keys-2.signed.json", "--key", "ben.key")
        assert owners.send("keys-2.signed.json")["keys"]["version"] == 2

        # What carl signs is worth nothing from that moment on, what dora signs is.
        told = deployed(agent, owners.document("second", "carl"))
        assert (told["detailedStatus"], "ACCESS_DENIED" in told["errorStack"]) == ("REJECTED", True)
        assert "not in this device's key list (version 2): it was revoked" in told["cause"]
        assert deployed(agent, owners.document("third", "dora"))["detailedStatus"] == "SUCCESSFUL"
    # The configuration still names the first list: the device does not go back to it.
    with device(broker.port, tmp_path / "device", trust_list=trust_list) as agent:
        assert owners.trusted()["keys"]["version"] == 2
        owners.send("keys.signed.json", status=2)
        assert owners.trusted()["keys"]["version"] == 2


def test_a_key_deploys_only_what_its_role_is_for(owners, broker, tmp_path) -> None:
    (tmp_path / "device").mkdir()
    other = {**APP, "ComponentName": "org.other"}
    with device(broker.port, tmp_path / "device", trust_list=str(tmp_path / "keys.signed.json")) as agent:
        document = {"components": {"org.other": {"version": "1.0.0"}}, "recipes": [other]}
        told = deployed(agent, owners.document("other", "carl", **document))
        assert told["detailedStatus"] == "REJECTED"
        for part in ("(carl)", "may not deploy org.other to press-7", "the role line", "com.acme.*"):
            assert part in told["cause"]
        # A recipe that nobody asked for is brought along as little as one that was.
        told = deployed(agent, owners.document("along", "carl", recipes=[APP, other]))
        assert "may not deploy org.other" in told["cause"]


def test_a_device_says_how_long_it_has_been_without_a_signed_word_and_trusts_nothing_older(
    owners, broker, tmp_path
) -> None:
    (tmp_path / "device").mkdir()
    options = {"accept": "anyone-on-this-broker", "max_silence_s": 3600}
    options |= {"trust_list": str(tmp_path / "keys.signed.json")}
    content = json.loads((tmp_path / "keys.json").read_text()) | {"issued": "2026-01-01T00:00:00Z"}
    (tmp_path / "keys.json").write_text(json.dumps(content))
    owners("sign", "keys.json", "--key", "anna.key", "--key", "ben.key")
    with device(broker.port, tmp_path / "device", **options) as agent:
        status = owners.trusted()
        assert (status["silent"], status["age_s"] > 3600) == (True, True)
        told = deployed(agent, json.dumps({"components": {}}).encode())
        assert "trusts only what was signed within 3600 s" in told["cause"]
        owners("stamp", "--key", "clock.key", "--list", "keys.signed.json")
        assert owners.send("still-valid.signed.json")["silent"] is False
        document = {"deploymentId": "now", "components": {}}
        assert deployed(agent, json.dumps(document).encode())["detailedStatus"] == "SUCCESSFUL"


@pytest.fixture
def jobs_service(broker, tmp_path) -> Iterator[str]:
    url = f"mqtt://127.0.0.1:{broker.port}"
    command = [sys.executable, "-m", "agent", "jobs", "serve", "--broker", url, "--data", str(tmp_path / "jobs")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    yield url
    process.terminate()
    process.wait(10)


def test_a_job_brings_a_key_list_and_ends_as_it_was_taken_or_refused(owners, broker, jobs_service, tmp_path) -> None:
    (tmp_path / "device").mkdir()

    def job(document: str) -> dict[str, Any]:
        command = ("jobs", "create", "--targets", "press-7", "--document", document, "--wait", "--json")
        done = invoke(tmp_path, *command, "--broker", jobs_service)
        (execution,) = json.loads(done.stdout)["executions"]
        return execution

    until_sync(lambda: invoke(tmp_path, "jobs", "list", "--broker", jobs_service).returncode == 0)
    options = {"jobs": True, "trust_list": str(tmp_path / "keys.signed.json"), "aws_prefix": "$aws"}
    with device(broker.port, tmp_path / "device", **options):
        owners("renew", "keys.signed.json", "--out", "keys-2.json")
        owners("sign", "keys-2.json", "--key", "anna.key")
        refused = job("keys-2.signed.json")
        assert refused["status"] == "REJECTED"
        assert "1 of the 2 signatures" in refused["statusDetails"]["reason"]
        owners("sign", "keys-2.signed.json", "--key", "ben.key")
        assert job("keys-2.signed.json")["status"] == "SUCCEEDED"
        assert owners.trusted()["keys"]["version"] == 2


def test_who_has_no_role_for_a_component_may_not_restart_it(owners, broker, tmp_path) -> None:
    (tmp_path / "device").mkdir()
    owners("role", "keys.json", "lamps", "--key", "dora.key.pub", "--component", "com.lamp.*")
    owners("sign", "keys.json", "--key", "anna.key", "--key", "ben.key")
    with device(broker.port, tmp_path / "device", trust_list=str(tmp_path / "keys.signed.json")) as agent:
        assert deployed(agent, owners.document("first", "carl"))["detailedStatus"] == "SUCCESSFUL"
        to = ("com.acme.app", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--thing", "press-7", "--json")
        refused = invoke(tmp_path, "components", "stop", *to, "--sign", "dora.key")
        assert (refused.returncode, json.loads(refused.stdout)["result"]) == (2, "REFUSED")
        assert "com.acme.app" in json.loads(refused.stdout)["reason"]
        done = invoke(tmp_path, "components", "restart", *to, "--sign", "carl.key")
        assert (done.returncode, json.loads(done.stdout)["result"]) == (0, "RESTARTED")
