"""A retained picture is the last one of its camera and not a new one, however often the broker sends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support import unruly
from tests.support.broker import Broker


def config(broker: Broker, thing: str, folder: Path, **given: Any) -> dict[str, Any]:
    made = agents.configuration(thing, broker.port, folder, unruly.model(folder))
    made["streams"]["line"]["input"] |= given
    return made


def retain(agent: agents.Agent, number: int) -> None:
    """Have the broker keep a picture."""
    topic = f"{agent.thing}/cameras/door/frame"
    agent.peer.client.publish(topic, unruly.jpeg("answer", number), 1, retain=True).wait_for_publish(60)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_retained_picture_is_answered_once_and_told_apart_whatever_starts_again(thing, tmp_path, version):
    store = [f"persistence_location {tmp_path}/", "persistence true"]
    with Broker(lines=store) as broker:
        given = config(broker, thing, tmp_path)
        given["transports"]["local"] |= {"version": version, "backoff_base_s": 0.05, "backoff_cap_s": 0.2}
        with agents.running(given | {"streams": {}}, tmp_path) as agent:
            retain(agent, 1)
        with agents.running(given, tmp_path) as agent:
            assert agent.result()["frame"]["retained"] is True
            retain(agent, 2)  # live
            assert "retained" not in agent.result(lambda told: told["frame"]["sequence"] == 2)["frame"]
            broker.stop()
            broker.start()
            told = agent.peer.wait(agent.topic("streams/line"), lambda told: told["received"] == 3)
            assert told["dropped"] == {"retained": 1}
        with agents.running(given, tmp_path) as agent:
            agent.frame("door", unruly.jpeg("answer", 3))
            told = agent.peer.wait(
                agent.topic("streams/line"), lambda told: told["received"] == 2 and told["answered"] == 1
            )
            assert told["dropped"] == {"retained": 1}


@pytest.mark.parametrize(("retained", "answered"), [("always", 1), ("never", 0)])
def test_whether_retained_pictures_are_answered_is_the_owners_to_say(broker, thing, tmp_path, retained, answered):
    given = config(broker, thing, tmp_path, retained=retained)
    for _start in range(2):
        with agents.running(given | {"streams": {}}, tmp_path) as agent:
            retain(agent, 1)
        with agents.running(given, tmp_path) as agent:
            told = agent.peer.wait(
                agent.topic("streams/line"), lambda told: told["received"] == 1 and not told["pending"]
            )
            assert told["answered"] == answered
