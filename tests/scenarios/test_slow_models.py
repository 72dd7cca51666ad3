"""A model that takes five seconds for a picture, and no key that says so: it is slow, and nothing takes it for hung."""

from __future__ import annotations

import getpass
import time
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support import unruly
from tests.support.fleet import Fleet, document, send
from tests.support.until import until_sync

SLOW_S = 5.0
MANIFEST = f"""\
file = "model.unruly"
labels = "labels.txt"
backend = "unruly:Unruly"
backend_options = {{every_s = {SLOW_S}}}
"""


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.mark.arch
def test_frames_are_answered_one_after_the_other_with_the_newest_and_no_worker_is_lost(broker, thing, tmp_path) -> None:
    model = unruly.model(tmp_path / "model", backend_options={"every_s": SLOW_S})
    with agents.running(agents.configuration(thing, broker.port, tmp_path, model), tmp_path) as agent:
        workers = agent.workers()
        sent = 0
        while len(agent.results()) < 3:
            agent.frame("door", unruly.jpeg("answer", sent))
            sent += 1
            time.sleep(0.25)
        results = agent.results()
        assert agent.workers() == workers
        assert [one["predictions"][0]["label"] for one in results] == ["fine"] * 3
        # What was sent while a picture was looked at was overtaken; the one that came last is the next.
        first, second, third = (one["frame"]["sequence"] for one in results)
        assert second - first > 10
        assert third - second > 10
        ages = [one["timing_ms"]["total"] for one in results]
        assert max(ages[1:]) < 1.5e3 * SLOW_S
        report = agent.settled(sent, timeout_s=60)
    assert report["failed"] == {}


def _slow(fleet: Fleet, version: str) -> dict[str, Any]:
    golden = b'{"pictures": [{"picture": "grey.jpg", "expect": {"label": "fine"}}]}'
    files = {
        "model.unruly": b"", "labels.txt": b"calm\nfine\nodd\n", "manifest.toml": MANIFEST.encode(),
        "golden/grey.jpg": unruly.jpeg("answer"), "golden/expected.json": golden,
    }  # fmt: skip
    return fleet.packed("com.model", version, files)


def test_it_is_deployed_held_to_its_golden_frames_tried_by_a_canary_and_swapped(broker, thing, fleet, tmp_path) -> None:
    config = agents.configuration(thing, broker.port, tmp_path, {}) | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }
    with agents.running(config, tmp_path) as agent:
        for identity, version, more in (("first", "1.0.0", {}), ("second", "2.0.0", {"canary": {"frames": 1}})):
            recipes = [
                _slow(fleet, version),
                fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame", version, Policy="latest"),
            ]
            wanted = {"com.model": version, "com.cameras": version}
            send(agent, document(identity, recipes, wanted, **more))
            topic = agent.topic(f"deployments/{identity}")
            number = 0
            while not (
                ended := [one for one in agent.peer.all(topic) if one["status"] not in {"QUEUED", "IN_PROGRESS"}]
            ):
                agent.frame("door", unruly.jpeg("answer", number := number + 1))
                time.sleep(0.25)
            assert ended[-1]["status"] == "SUCCEEDED", ended[-1]
        before = len(agent.results("com.cameras"))
        agent.frame("door", unruly.jpeg("answer"))
        until_sync(lambda: len(agent.results("com.cameras")) > before, why=lambda: agent.log)
        assert agent.results("com.cameras")[-1]["model"]["version"] == "2.0.0"
        assert "a worker was lost" not in agent.log
