"""Where trust comes from: what a broker on this machine is worth is found out by trying, and said."""

from __future__ import annotations

import asyncio
import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from agent.config.load import load
from agent.doctor import deployers
from agent.doctor.finding import Finding
from tests.support import agent as agents
from tests.support.broker import Broker
from tests.support.commands import invoke
from tests.support.fleet import Fleet, document, outcome, send
from tests.support.until import until_sync

WHO = {"verge": "secret"}
MINE = {"username": "verge", "password": "secret"}


def taking(thing: str, broker: Broker, folder: Path, who: dict[str, str], **deployments: Any) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, folder, {})
    config["transports"]["local"] |= {"backoff_base_s": 0.05, "backoff_cap_s": 0.2} | who
    deployments = {"jobs": False, "shadow": False, "health": False, "run_as": getpass.getuser()} | deployments
    return config | {"models": {}, "streams": {}, "deployments": deployments}


def shell(folder: Path, identity: str) -> dict[str, Any]:
    script = Fleet(folder / "fleet").scripts("com.script", Run="sleep 600")
    return document(identity, [script], {"com.script": "1.0.0"})


def refusal(agent: agents.Agent) -> dict[str, Any]:
    """The first document that was refused."""

    def ends() -> list[dict[str, Any]]:
        told = [json.loads(one.payload) for one in list(agent.peer.heard) if "/deployments/" in one.topic]
        return [one for one in told if one["status"] == "REJECTED"]

    until_sync(lambda: bool(ends()))
    return ends()[0]


def finding(folder: Path) -> Finding:
    """What the doctor says of who may deploy."""
    (found,) = asyncio.run(deployers.findings(load(folder / "verge.toml")))
    return found


def unsigned(agent: agents.Agent, word: str) -> str:
    """Why documents that nobody signed are taken or refused, once the agent says so."""
    told = agent.peer.wait(agent.topic("status"), lambda told: told.get("deployments", {}).get("unsigned") == word)
    return told["deployments"]["reason"]


def test_a_broker_on_this_machine_that_asks_nobody_is_no_reason_to_trust_and_everybody_is_told_what_to_do(
    thing, tmp_path
) -> None:
    with Broker() as broker:
        config = taking(thing, broker, tmp_path, {})
        with agents.running(config, tmp_path, rule_as_shipped=True) as agent:
            assert "does not ask the agent who it is" in unsigned(agent, "refused")
            send(agent, shell(tmp_path, "stranger"))
            refused = refusal(agent)
            (tmp_path / "document.json").write_text(json.dumps({"components": {}}))
            deploy = ("deploy", "document.json", "--to", thing, "--broker", f"mqtt://127.0.0.1:{broker.port}")
            typed = invoke(tmp_path, *deploy)
            found = finding(tmp_path)
            examined = invoke(tmp_path, "doctor", "-c", "verge.toml")
    assert refused["detailedStatus"] == "REJECTED"
    for word in ("mosquitto_passwd", "verge trust sign", 'accept = "anyone-on-this-broker"'):
        assert word in refused["hint"]
        assert word in typed.stdout
        assert word in agent.log
    assert typed.returncode == 2
    assert found.status == "WARN"
    assert "anyone-on-this-broker" in found.fix
    assert "does not ask the agent who it is" in " ".join(examined.stdout.split())


def test_with_a_password_and_strangers_kept_out_what_comes_over_loopback_is_taken(thing, tmp_path) -> None:
    with Broker(passwords=WHO) as broker:
        config = taking(thing, broker, tmp_path, MINE)
        with agents.running(config, tmp_path, rule_as_shipped=True) as agent:
            send(agent, shell(tmp_path, "at-once"))
            assert outcome(agent, "at-once")["status"] == "SUCCEEDED"
            assert "keeps strangers out" in unsigned(agent, "taken")
            found = finding(tmp_path)
    assert found.status == "OK"


def test_a_password_of_the_agents_own_is_worth_nothing_where_strangers_need_none(thing, tmp_path) -> None:
    with Broker(passwords=WHO, listener=("allow_anonymous true",)) as broker:
        config = taking(thing, broker, tmp_path, MINE)
        with agents.running(config, tmp_path, rule_as_shipped=True) as agent:
            assert "a client without a name published on" in unsigned(agent, "refused")
            send(agent, shell(tmp_path, "stranger"))
            refused = refusal(agent)
            found = finding(tmp_path)
            components = [one for one in agent.peer.heard if one.topic == agent.topic("components/com.script")]
    assert "lets strangers deploy" in refused["cause"]
    assert (found.status, "allow_anonymous false" in found.fix) == ("FAIL", True)
    assert not components


def test_what_a_broker_is_worth_is_tried_anew_at_each_connection(thing, tmp_path) -> None:
    with Broker(passwords=WHO, listener=("allow_anonymous false",)) as broker:
        config = taking(thing, broker, tmp_path, MINE)
        with agents.running(config, tmp_path, rule_as_shipped=True) as agent:
            unsigned(agent, "taken")
            broker._listener = ("allow_anonymous true",)
            broker.restart()
            unsigned(agent, "refused")
            until_sync(agent.peer.client.is_connected)
            send(agent, shell(tmp_path, "after"))
            refused = refusal(agent)
    assert "lets strangers deploy" in refused["cause"]


@pytest.mark.parametrize("accept", ["anyone-on-this-broker", "anything-from-anyone"])
def test_the_owner_may_take_documents_from_anyone_by_name(accept, thing, tmp_path) -> None:
    with Broker() as broker:
        config = taking(thing, broker, tmp_path, {}, accept=accept)
        with agents.running(config, tmp_path, rule_as_shipped=True) as agent:
            send(agent, shell(tmp_path, "anyone"))
            assert outcome(agent, "anyone")["status"] == "SUCCEEDED"
            found = finding(tmp_path)
    assert found.status == "WARN"


def test_a_document_that_waits_for_the_answer_is_not_lost_and_canaries_are_no_documents(thing, tmp_path) -> None:
    with Broker(passwords=WHO) as broker:
        config = taking(thing, broker, tmp_path, MINE)
        with agents.running(config, tmp_path, rule_as_shipped=True) as agent:
            for number in range(5):
                send(agent, shell(tmp_path, f"d{number}") | {"creationTimestamp": 1_700_000_000_000 + number})
            assert outcome(agent, "d4")["status"] == "SUCCEEDED"
            ends = [json.loads(one.payload) for one in agent.peer.heard if "/deployments/" in one.topic]
    assert not [one for one in ends if one["status"] == "REJECTED"]


def test_an_agent_does_not_answer_on_another_ones_topic_and_its_answers_are_no_documents(
    broker, thing, tmp_path
) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    with (
        agents.running(taking(thing, broker, full, {}), full) as victim,
        agents.running(taking(f"{thing}-empty", broker, empty, {}), empty) as other,
    ):
        send(victim, shell(tmp_path, "first"))
        assert outcome(victim, "first")["status"] == "SUCCEEDED"
        documents, get = victim.topic("deployments"), other.topic("deployments/get")
        for topic in (documents, victim.topic("status"), "$aws/things/x/jobs/notify"):
            other.peer.publish(get, b"", ResponseTopic=topic)
            other.peer.publish(other.topic("deployments"), b"{}", ResponseTopic=topic)
        other.peer.publish(get, b"", ResponseTopic=other.topic("answers/1"))
        answer = other.peer.message(other.topic("answers/1")).payload
        assert [one.payload for one in victim.peer.heard if one.topic == documents] == [
            json.dumps(shell(tmp_path, "first")).encode()
        ]
        assert json.loads(answer)["components"] == {}
        victim.peer.publish(documents, answer)
        assert "answer" in refusal(victim)["cause"]
        victim.peer.publish(victim.topic("deployments/get"), b"", ResponseTopic=victim.topic("answers/2"))
        assert victim.peer.wait(victim.topic("answers/2"))["components"] == {"com.script": "1.0.0"}
        assert "wants its answer on" in other.log


def test_a_frame_is_not_answered_on_a_topic_with_a_meaning_and_that_is_counted(broker, thing, tmp_path) -> None:
    config = agents.configuration(thing, broker.port, tmp_path, {"source": "classifier", "threads": 1})
    with agents.running(config, tmp_path) as agent:
        agent.peer.subscribe("verge/elsewhere/deployments")
        agent.frame("door", b"no picture", ResponseTopic="verge/elsewhere/deployments")
        counted = agent.peer.wait(
            agent.topic("streams/line"), lambda told: told["held_back"].get("response-topic-refused") == 1
        )
        agent.frame("door", b"no picture", ResponseTopic=f"{thing}/answers")
        answered = [one for one in agent.peer.heard if one.topic == "verge/elsewhere/deployments"]
    assert sum(counted["failed"].values()) == 1
    assert not answered
