"""The stream manager as a component finds it: by its token, on its port, through a real agent."""

from __future__ import annotations

import getpass
import json
import sys

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, document, outcome, send
from tests.support.ports import HeldPort
from tests.support.until import until_sync

APPENDER, MANAGER = "com.example.Appender", "aws.greengrass.StreamManager"
SCRIPT = """
import json, sys, time
from pathlib import Path
from stream_manager import MessageStreamDefinition, ReadMessagesOptions, StrategyOnFull, StreamManagerClient
for _ in range(200):
    try:
        client = StreamManagerClient(port=int(sys.argv[1]))
        break
    except Exception:
        time.sleep(0.1)
definition = MessageStreamDefinition(name="frames", strategy_on_full=StrategyOnFull.OverwriteOldestData)
if "frames" not in client.list_streams():
    client.create_message_stream(definition)
for number in range(3):
    client.append_message("frames", f"frame {number}".encode())
messages = client.read_messages("frames", ReadMessagesOptions(min_message_count=1, max_message_count=100))
Path("told.part").write_text(json.dumps([message.payload.decode() for message in messages]))
Path("told.part").rename("told")
time.sleep(1000)
"""


def test_a_component_appends_to_a_stream_and_reads_what_is_there_after_the_agents_restart_too(broker, tmp_path):
    pytest.importorskip("stream_manager", reason="pip install stream-manager")
    config = agents.configuration("streams", broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser()}}
    (tmp_path / "appender.py").write_text(SCRIPT)
    held = HeldPort()
    port = str(held.number)
    told = tmp_path / "data" / "work" / APPENDER / "told"
    with agents.running(config, tmp_path) as running:
        run = f"exec {sys.executable} {tmp_path}/appender.py {port}"
        recipe = Fleet(tmp_path / "fleet").scripts(APPENDER, Run=run)
        recipe["ComponentDependencies"] = {MANAGER: {"VersionRequirement": "^2.0.0"}}
        wanted = document("streams", [recipe], {APPENDER: "1.0.0", MANAGER: "2.1.13"})
        wanted["components"][MANAGER]["configurationUpdate"] = {"merge": {"STREAM_MANAGER_SERVER_PORT": port}}
        send(running, wanted)
        assert outcome(running, "streams")["status"] == "SUCCEEDED"
        until_sync(told.exists)
        assert json.loads(told.read_text()) == ["frame 0", "frame 1", "frame 2"]
        status = running.peer.wait(running.topic(f"components/{MANAGER}"))
        assert status["state"] == "RUNNING"
        told.unlink()
    with agents.running(config, tmp_path):
        until_sync(told.exists)
        assert json.loads(told.read_text()) == ["frame 0", "frame 1", "frame 2"] * 2
    held.release()
