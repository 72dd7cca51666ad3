"""Replays, retained documents, wrong clocks and floods, as a broker's clients can try them on a running agent."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cli.signing import PrivateKey, seal, with_claims
from tests.support import agent as agents
from tests.support.agent import Agent
from tests.support.fleet import Fleet, deploy, document
from tests.support.until import until_sync

KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "line 3")
STALE = "REJECTED_STALE_DEPLOYMENT"


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    deployments = {"jobs": False, "shadow": False, "run_as": getpass.getuser(), "trusted_keys": [KEY.public.line]}
    return config | {"models": {}, "streams": {}, "deployments": deployments | {"accept": "signed"}}


def version(fleet: Fleet, number: str, **more: Any) -> dict[str, Any]:
    made = document(f"v{number}", [fleet.scripts("com.a", number, Run="sleep 600")], {"com.a": number})
    return made | {"deploymentId": f"v{number}"} | more


def signed(content: dict[str, Any], at: datetime) -> bytes:
    return seal(with_claims(json.dumps(content).encode(), None, at + timedelta(days=1), at), KEY)


def ended(agent: Agent, identity: str, payload: bytes, *, retain: bool = False) -> dict[str, Any]:
    """How a document ended that is published now."""
    topic = agent.topic(f"deployments/{identity}")
    before = len(agent.peer.all(topic))
    agent.peer.client.publish(agent.topic("deployments"), payload, 1, retain=retain)
    told: list[dict[str, Any]] = []

    def over() -> bool:
        told[:] = [one for one in agent.peer.all(topic)[before:] if one["status"] not in {"IN_PROGRESS", "QUEUED"}]
        return bool(told)

    until_sync(over, why=lambda: agent.log)
    return told[0]


def live(agent: Agent) -> str:
    """The version that runs, by what was published last."""
    topic = agent.topic("components/com.a")
    until_sync(lambda: (told := agent.peer.all(topic)) and told[-1]["state"] == "RUNNING", why=lambda: agent.log)
    return agent.peer.all(topic)[-1]["version"]


def test_a_replay_of_an_older_signed_document_is_stale_before_and_after_a_restart(config, fleet, tmp_path):
    at = datetime.now(UTC)
    first = signed(version(fleet, "1.0.0"), at)
    second = signed(version(fleet, "2.0.0"), at + timedelta(seconds=1))
    with agents.running(config, tmp_path) as agent:
        assert ended(agent, "v1.0.0", first)["status"] == "SUCCEEDED"
        assert ended(agent, "v2.0.0", second)["status"] == "SUCCEEDED"
        for replayed, identity in ((first, "v1.0.0"), (second, "v2.0.0")):
            told = ended(agent, identity, replayed)
            assert (told["status"], told["errorStack"][-1]) == ("REJECTED", STALE)
        assert live(agent) == "2.0.0"
    with agents.running(config, tmp_path) as agent:
        assert ended(agent, "v1.0.0", first)["errorStack"][-1] == STALE
        assert live(agent) == "2.0.0"


def test_a_replay_of_a_signed_rollback_is_stale(config, fleet, tmp_path):
    at = datetime.now(UTC)
    back = signed({"deploymentId": "back", "rollback": True}, at + timedelta(seconds=2))
    with agents.running(config, tmp_path) as agent:
        for number in (1, 2):
            made = signed(version(fleet, f"{number}.0.0"), at + timedelta(seconds=number - 1))
            assert ended(agent, f"v{number}.0.0", made)["status"] == "SUCCEEDED"
        assert ended(agent, "back", back)["status"] == "SUCCEEDED"
        assert live(agent) == "1.0.0"
        assert ended(agent, "back", back)["errorStack"][-1] == STALE
        assert live(agent) == "1.0.0"


@pytest.mark.parametrize("refused", [False, True], ids=["deployed", "refused"])
def test_a_retained_document_does_not_come_back_after_a_hundred_and_one_others(config, fleet, tmp_path, refused):
    config["deployments"]["accept"] = "anything-from-anyone"
    with agents.running(config, tmp_path) as agent:
        retained = json.dumps(version(fleet, "1.0.0")).encode()
        assert ended(agent, "v1.0.0", retained, retain=True)["status"] == "SUCCEEDED"
        newer = version(fleet, "2.0.0")
        assert deploy(agent, newer)["status"] == "SUCCEEDED"
        for number in range(101):
            other = newer | {"deploymentId": f"other-{number}"} | ({"canary": 7} if refused else {})
            told = ended(agent, f"other-{number}", json.dumps(other).encode())
            assert told["status"] == ("FAILED" if refused else "SUCCEEDED")
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, {"deploymentId": "a word after it", "components": {}, "groupName": "g"})
        assert live(agent) == "2.0.0"


def test_a_document_made_by_a_clock_that_is_ahead_is_refused_and_a_record_that_is_ahead_heals(config, fleet, tmp_path):
    config["deployments"]["accept"] = "anything-from-anyone"
    now = datetime.now(UTC)
    with agents.running(config, tmp_path) as agent:
        for at in (int((now + timedelta(days=365)).timestamp() * 1e3), 99_999_999_999_999_999):
            told = deploy(agent, version(fleet, "1.0.0", creationTimestamp=at, deploymentId=f"of {at}"))
            assert (told["status"], "creationTimestamp" in told["hint"]) == ("REJECTED", True)
        ahead = int((now + timedelta(hours=20)).timestamp() * 1e3)
        assert deploy(agent, version(fleet, "2.0.0", creationTimestamp=ahead))["status"] == "SUCCEEDED"
        right = version(fleet, "3.0.0", creationTimestamp=int(time.time() * 1e3) + 60_000)
        told = deploy(agent, right)
        assert told["errorStack"][-1] == STALE
        assert "verge trust forget LOCAL_DEPLOYMENT" in told["hint"]
        assert "LOCAL_DEPLOYMENT: newer than" in trust(tmp_path, "order")
        assert "LOCAL_DEPLOYMENT: newer than" in trust(tmp_path, "forget", "LOCAL_DEPLOYMENT")
        assert "nothing of LOCAL_DEPLOYMENT is ahead" in trust(tmp_path, "forget", "LOCAL_DEPLOYMENT", status=2)
        assert "there are LOCAL_DEPLOYMENT" in trust(tmp_path, "forget", "thinggroup/lab", status=2)
        assert ended(agent, right["deploymentId"], json.dumps(right).encode())["status"] == "SUCCEEDED"


def trust(folder: Path, *arguments: str, status: int = 0) -> str:
    """What ``verge trust`` prints on the device, beside the running agent."""
    command = [sys.executable, "-m", "agent", "trust", *arguments, "--config", str(folder / "verge.toml")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_flood_of_large_unsigned_documents_costs_neither_disk_nor_memory_nor_log(config, tmp_path):
    with agents.running(config, tmp_path) as agent:
        before = memory(agent)
        for number in range(41):
            size = 12_000_000 if number % 2 else 8_000_000
            agent.peer.publish(agent.topic("deployments"), b'{"deploymentId": "%d", "x": "%b"}' % (number, b"x" * size))
        agent.peer.wait(agent.topic("deployments/40"), lambda told: told["status"] == "REJECTED")
        until_sync(lambda: memory(agent) < before + 120_000_000, why=lambda: f"{memory(agent)} B")
        kept = sum(file.stat().st_size for file in (tmp_path / "data").rglob("*") if file.is_file())
        assert kept < 2_000_000
        assert agent.log.count("is not taken") <= 20


def memory(agent: Agent) -> int:
    """The resident bytes of the agent."""
    return int(Path(f"/proc/{agent.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_record_that_is_lost_is_said_on_the_status_and_nothing_older_than_what_is_live_counts(
    config, fleet, tmp_path
):
    at = datetime.now(UTC)
    first = signed(version(fleet, "1.0.0"), at)
    with agents.running(config, tmp_path) as agent:
        assert ended(agent, "v1.0.0", first)["status"] == "SUCCEEDED"
        second = signed(version(fleet, "2.0.0"), at + timedelta(seconds=1))
        assert ended(agent, "v2.0.0", second)["status"] == "SUCCEEDED"
    for file in (tmp_path / "data" / "deployments").glob("order*"):
        file.write_bytes(b"damaged")
    with agents.running(config, tmp_path) as agent:
        told = agent.peer.wait(agent.topic("status"), lambda told: "order_damage" in told)
        assert "goes on from the times of the active set" in told["order_damage"]
        assert ended(agent, "v1.0.0", first)["errorStack"][-1] == STALE
        assert live(agent) == "2.0.0"
