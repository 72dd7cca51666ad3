"""A component holds another one still over the socket, with Amazon's SDK."""

from __future__ import annotations

import getpass
import json
import sys
import time

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, document, outcome, send
from tests.support.ipc import PRELUDE
from tests.support.until import until_sync

COUNTER, MASTER = "com.example.Counter", "com.example.Master"
POLICY = {"aws.greengrass.ipc.lifecycle": {f"{MASTER}:1": {"operations": ["*"], "resources": ["com.example.*", ""]}}}
COUNTING = "while :; do echo >> ticks; sleep 0.02; done"


@pytest.fixture(scope="module")
def site(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pausing")
    config = agents.configuration("pausing", broker.port, folder, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser(), "settle_s": 5}}
    with agents.running(config, folder) as running:
        fleet = Fleet(folder / "fleet")
        # Its Shutdown needs it to answer.
        counter = fleet.scripts(COUNTER, Run=f"trap 'echo > ended; exit 0' TERM; {COUNTING}", Shutdown="test -f ticks")
        master = fleet.scripts(MASTER, Run=f"exec {sys.executable} {folder}/master.py")
        master["ComponentConfiguration"] = {"DefaultConfiguration": {"accessControl": POLICY}}
        (folder / "master.py").write_text(PRELUDE + LOOP)
        send(running, document("first", [counter, master], {COUNTER: "1.0.0", MASTER: "1.0.0"}))
        assert outcome(running, "first")["status"] == "SUCCEEDED"
        yield running


LOOP = """
client = GreengrassCoreIPCClientV2()
while True:
    if os.path.exists("ask"):
        asked = open("ask").read().split()
        os.remove("ask")
        call = getattr(client, asked[0] + "_component")
        told = failure(call, component_name=asked[1] if len(asked) > 1 else "")
        with open("told.part", "w") as file:
            json.dump(told, file)
        os.replace("told.part", "told")
    time.sleep(0.02)

"""


def ask(agent, verb, name):
    folder = agent.folder / "data" / "work" / MASTER
    (folder / "told").unlink(missing_ok=True)
    (folder / "ask.part").write_text(f"{verb} {name}")
    (folder / "ask.part").rename(folder / "ask")
    until_sync((folder / "told").exists)
    return json.loads((folder / "told").read_text())[0]


def ticks(agent):
    return (agent.folder / "data" / "work" / COUNTER / "ticks").stat().st_size


def stands(agent):
    before = ticks(agent)
    time.sleep(0.3)
    return ticks(agent) == before


def test_a_component_stands_still_until_it_is_resumed_and_its_status_says_so(site):
    topic = site.topic(f"components/{COUNTER}")
    assert ask(site, "pause", COUNTER) == "no error"
    assert stands(site)
    site.peer.wait(topic, lambda told: "paused" in told.get("reason", ""))
    assert ask(site, "resume", COUNTER) == "no error"
    before = ticks(site)
    until_sync(lambda: ticks(site) > before)
    site.peer.wait(topic, lambda told: "paused" not in told.get("reason", ""))


def test_what_cannot_be_paused_is_said_in_the_models_words(site):
    assert ask(site, "pause", "com.example.Nobody") == "ResourceNotFoundError"
    assert ask(site, "pause", "aws.greengrass.Nucleus") == "UnauthorizedError"
    assert ask(site, "pause", "") == "InvalidArgumentsError"


def test_a_paused_component_is_shut_down_in_order_by_a_deployment(site):
    assert ask(site, "pause", COUNTER) == "no error"
    began = time.monotonic()
    master = Fleet(site.folder / "fleet").scripts(MASTER, "1.0.1", Run="exec sleep 1000")
    send(site, document("second", [master], {MASTER: "1.0.1"}))
    assert outcome(site, "second")["status"] == "SUCCEEDED"
    assert (site.folder / "data" / "work" / COUNTER / "ended").exists()
    assert time.monotonic() - began < 15
