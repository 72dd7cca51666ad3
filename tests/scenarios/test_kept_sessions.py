"""A session that outlives the process: what the broker queued while the agent was away is taken by whom it is for."""

from __future__ import annotations

import getpass
import json
import signal
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support import unruly
from tests.support.broker import Broker
from tests.support.fleet import Fleet, deploy, document, outcome
from tests.support.until import until_sync


def kept(broker: Broker, thing: str, folder: Path, **link: Any) -> dict[str, Any]:
    """An agent with a kept session; it takes every frame, and deployments by topic."""
    config = agents.configuration(thing, broker.port, folder, unruly.model(folder))
    config["transports"]["local"] |= {"client_id": thing, "clean_start": False, "session_expiry_s": 600} | link
    config["streams"]["line"] |= {"policy": "all", "depth": 64}
    return config | {"deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()}}


def while_away(agent: agents.Agent, deployment: dict[str, Any]) -> None:
    """Three frames and a deployment document for an agent that does not run."""
    for number in range(3):
        agent.frame("door", unruly.jpeg("answer", number=number))
    agent.peer.publish(agent.topic("deployments"), json.dumps(deployment))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_came_while_the_agent_was_away_is_answered_and_deployed_once(
    broker, thing, tmp_path, how: signal.Signals, version: str
):
    config, fleet = kept(broker, thing, tmp_path, version=version), Fleet(tmp_path / "fleet")
    scripts = fleet.scripts("com.scripts", Run="echo begun >> said; sleep 600")
    with agents.running(config, tmp_path) as agent:
        agent.stop(how)
        while_away(agent, document("while-away", [scripts], {"com.scripts": "1.0.0"}))
    with agents.running(config, tmp_path) as agent:
        report = agent.settled(3)
        assert (report["received"], report["answered"]) == (3, 3)
        assert outcome(agent, "while-away")["status"] == "SUCCEEDED"
        agent.stop()
    with agents.running(config, tmp_path) as agent:
        said = tmp_path / "data" / "work" / "com.scripts" / "said"
        until_sync(lambda: said.read_text().count("begun") == 2, why=lambda: agent.log)
    assert agent.log.count("deployment while-away begins") == 1


def test_frames_for_a_deployed_stream_wait_until_it_is_live_again(broker, thing, tmp_path):
    config, fleet = kept(broker, thing, tmp_path), Fleet(tmp_path / "fleet")
    parts = [
        fleet.model("com.model"),
        fleet.stream("com.cameras", "com.model", f"{thing}/doors/+/frame", Policy="all", Depth=64),
    ]
    with agents.running(config, tmp_path) as agent:
        deployed = deploy(agent, document("first", parts, {"com.cameras": "1.0.0"}))
        assert deployed["status"] == "SUCCEEDED"
        agent.stop(signal.SIGKILL)
        for number in range(3):
            agent.peer.publish(f"{thing}/doors/front/frame", unruly.jpeg("answer", number=number))
    with agents.running(config, tmp_path) as agent:
        assert agent.settled(3, stream="com.cameras")["answered"] == 3


def test_what_waits_when_the_agent_stops_is_answered_by_the_next_one(broker, thing, tmp_path):
    config = kept(broker, thing, tmp_path, receive_maximum=64)
    config["models"]["model"]["backend_options"] = {"slow_s": 0.3}
    with agents.running(config, tmp_path) as agent:
        agent.peer.subscribe(f"{thing}/answers")
        for number in range(30):
            agent.frame("door", unruly.jpeg("slow", number=number), ResponseTopic=f"{thing}/answers")
        agent.result()
        agent.stop()
        answers = agent.peer.all(f"{thing}/answers")
        assert 0 < len(answers) < 30
    with agents.running(config, tmp_path) as agent:
        agent.peer.subscribe(f"{thing}/answers")
        until_sync(lambda: len(agent.peer.all(f"{thing}/answers")) >= 30 - len(answers), why=lambda: agent.log)
        answers += agent.peer.all(f"{thing}/answers")
    assert [answer for answer in answers if "error" in answer] == []
    assert len(answers) == 30


def left(log: str) -> list[str]:
    """The filters that the broker was asked to forget, as its log names them: in lines behind the packet's own."""
    packets = (packet.splitlines()[1:] for packet in log.split("Received UNSUBSCRIBE")[1:])
    return [line.rpartition("\t")[2] for lines in packets for line in takewhile(lambda line: "\t" in line, lines)]


def test_a_clean_stop_leaves_no_filter_and_another_configuration_leaves_what_it_does_not_want(thing, tmp_path):
    with Broker(lines=["log_type all"]) as broker:
        config = kept(broker, thing, tmp_path)
        with agents.running(config, tmp_path) as agent:
            agent.stop()
        kept_ones = {f"{thing}/cameras/+/frame", agent.topic("deployments")}
        assert not kept_ones & set(left(broker.log))  # of its own topics it reads some only while it runs
        config["streams"]["line"]["input"] = {"topic": f"{thing}/doors/+/frame", "qos": 1}
        with agents.running(config, tmp_path) as agent:
            until_sync(lambda: f"{thing}/cameras/+/frame" in left(broker.log), why=lambda: agent.log)
