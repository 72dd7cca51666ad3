"""Local shadows through a real agent: a component's, over the socket and over local topics, and through a restart."""

from __future__ import annotations

import getpass
import json
import sys

from tests.support import agent as agents
from tests.support.fleet import Fleet, document, outcome, send
from tests.support.ipc import PRELUDE
from tests.support.until import until_sync

WRITER, MANAGER = "com.example.Writer", "aws.greengrass.ShadowManager"
SCRIPT = """
from pathlib import Path
thing = os.environ["AWS_IOT_THING_NAME"]
client = GreengrassCoreIPCClientV2()
told = {}
accepted = threading.Event()
def on_event(event):
    told["topic"] = json.loads(event.binary_message.message)["state"]
    accepted.set()
client.subscribe_to_topic(topic=f"$aws/things/{thing}/shadow/get/accepted", on_stream_event=on_event)
before = failure(client.get_thing_shadow, thing_name=thing)
told["before"] = before[0]
client.update_thing_shadow(thing_name=thing, payload=json.dumps({"state": {"reported": {"starts": 1}}}).encode())
client.publish_to_topic(
    topic=f"$aws/things/{thing}/shadow/get",
    publish_message=model.PublishMessage(binary_message=model.BinaryMessage(message=b"")))
accepted.wait(30)
Path("told.part").write_text(json.dumps(told))
Path("told.part").rename("told")
threading.Event().wait()
"""


def test_a_component_reads_and_writes_its_things_shadow_which_outlives_the_agent(broker, tmp_path):
    config = agents.configuration("shadowed", broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser()}}
    (tmp_path / "writer.py").write_text(PRELUDE + SCRIPT)
    told = tmp_path / "data" / "work" / WRITER / "told"
    access = {
        MANAGER: {f"{WRITER}:1": {"operations": ["*"], "resources": ["$aws/things/{iot:thingName}/shadow"]}},
        "aws.greengrass.ipc.pubsub": {
            f"{WRITER}:2": {"operations": ["*"], "resources": ["$aws/things/{iot:thingName}/shadow/*"]}
        },
    }
    with agents.running(config, tmp_path) as running:
        recipe = Fleet(tmp_path / "fleet").scripts(WRITER, Run=f"exec {sys.executable} {tmp_path}/writer.py")
        recipe["ComponentDependencies"] = {MANAGER: {"VersionRequirement": ">=2.0.0"}}
        recipe["ComponentConfiguration"] = {"DefaultConfiguration": {"accessControl": access}}
        send(running, document("shadow", [recipe], {WRITER: "1.0.0"}))
        assert outcome(running, "shadow")["status"] == "SUCCEEDED"
        until_sync(told.exists)
        assert json.loads(told.read_text()) == {"before": "ResourceNotFoundError", "topic": {"reported": {"starts": 1}}}
        told.unlink()
    with agents.running(config, tmp_path):
        until_sync(told.exists)
        assert json.loads(told.read_text())["before"] == "no error"
