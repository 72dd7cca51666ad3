"""Components that read, watch and set their configuration as they do under Greengrass, through restarts and crashes."""

from __future__ import annotations

import getpass
import json
import signal
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.agent import Agent
from tests.support.fleet import Fleet, deploy, document
from tests.support.ipc import PRELUDE
from tests.support.until import until_sync

APP = "com.example.App"
DEFAULTS = {"ImageName": "cat.jpeg", "InferenceInterval": "60", "nested": {"count": 0}}

LABS = """
import os
from awsiot.eventstreamrpc import Connection, LifecycleHandler, MessageAmendment
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup, SocketDomain, SocketOptions
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient, SubscribeToConfigurationUpdateStreamHandler

group = EventLoopGroup()
options = SocketOptions()
options.domain = SocketDomain.Local
connection = Connection(
    host_name=os.environ["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"], port=8033,
    bootstrap=ClientBootstrap(group, DefaultHostResolver(group)), socket_options=options,
    connect_message_amender=MessageAmendment.create_static_authtoken_amender(os.environ["SVCUID"]),
)
connection.connect(LifecycleHandler()).result(10)
client = GreengrassCoreIPCClient(connection)
changed = threading.Event()

class Handler(SubscribeToConfigurationUpdateStreamHandler):
    def on_stream_event(self, event):
        write("event", event.configuration_update_event.component_name, event.configuration_update_event.key_path)
        changed.set()

def read():
    operation = client.new_get_configuration()
    operation.activate(model.GetConfigurationRequest()).result(10)
    return operation.get_response().result(10).value

write("config", read())
watching = client.new_subscribe_to_configuration_update(Handler())
watching.activate(model.SubscribeToConfigurationUpdateRequest()).result(10)
watching.get_response().result(10)
write("watching")
while True:
    if changed.wait(1):
        changed.clear()
        write("config", read())
"""
"""How Amazon's sample inference components go about it: neither name nor path, a flag that is looked at each second."""

COUNTS = """
import datetime
client = GreengrassCoreIPCClientV2()
count = client.get_configuration(key_path=["nested", "count"]).value["count"]
write("found", count)
while True:
    count += 1
    write("setting", count)
    client.update_configuration(
        key_path=["nested"], timestamp=datetime.datetime.now(datetime.timezone.utc), value_to_merge={"count": count})
    write("set", count)
"""


class App:
    """A component whose program is ours; what it writes is on the disk before it goes on."""

    def __init__(self, folder: Path, script: str) -> None:
        self.program, self.said_in = folder / "app.py", folder / "said"
        self.said_in.touch()
        write = f"""
def write(*what):
    with open({str(self.said_in)!r}, "a") as file:
        file.write(json.dumps(what) + "\\n")
"""
        self.program.write_text(PRELUDE + write + textwrap.dedent(script))

    def document(self, identity: str, *, version: str = "1.0.0", merge: Any = None, **lifecycle: Any) -> dict[str, Any]:
        steps = {"Run": f"exec {sys.executable} {self.program}"} | lifecycle
        recipe = Fleet(self.program.parent / "fleet").scripts(APP, version, **steps)
        recipe["ComponentConfiguration"] = {"DefaultConfiguration": DEFAULTS}
        made = document(identity, [recipe], {APP: version})
        made["components"][APP]["configurationUpdate"] = {"merge": merge or {}}
        return made

    @property
    def said(self) -> list[Any]:
        return [json.loads(line) for line in self.said_in.read_text().splitlines() if line.endswith("]")]

    def wait(self, *what: Any) -> None:
        until_sync(lambda: list(what) in self.said, why=self.said_in.read_text)


@pytest.fixture
def config(broker, tmp_path: Path) -> dict[str, Any]:
    made = agents.configuration(f"configured-{uuid.uuid4().hex[:8]}", broker.port, tmp_path, {})
    return made | {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser(), "settle_s": 5}}


def succeeded(agent: Agent, told: dict[str, Any]) -> None:
    ended = deploy(agent, told)
    assert ended["status"] == "SUCCEEDED", ended


def test_a_sample_inference_component_of_amazon_s_reads_its_configuration_and_follows_deployments(
    config, tmp_path: Path
) -> None:
    app = App(tmp_path, LABS)
    with agents.running(config, tmp_path) as agent:
        succeeded(agent, app.document("first"))
        app.wait("watching")
        assert app.said == [["config", DEFAULTS], ["watching"]]
        succeeded(agent, app.document("second", merge={"imagename": "dog.jpeg"}))
        app.wait("config", DEFAULTS | {"ImageName": "dog.jpeg"})
        assert app.said[2:] == [
            ["event", APP, ["ImageName"]], ["config", DEFAULTS | {"ImageName": "dog.jpeg"}],
        ]  # it was not started again  # fmt: skip
    with agents.running(config, tmp_path) as agent:
        until_sync(lambda: app.said.count(["watching"]) == 2)
        assert app.said[4] == ["config", DEFAULTS | {"ImageName": "dog.jpeg"}]
        succeeded(agent, app.document("third", merge={"InferenceInterval": 5}))
        app.wait("config", DEFAULTS | {"ImageName": "dog.jpeg", "InferenceInterval": 5})


def test_a_new_version_is_started_with_its_configuration_and_the_old_one_gets_its_own_back(
    config, tmp_path: Path
) -> None:
    app = App(tmp_path, LABS)
    starting = tmp_path / "starting.py"
    starting.write_text(app.program.read_text().replace("while True:", "sys.exit(3)\nwhile True:"))
    with agents.running(config, tmp_path) as agent:
        succeeded(agent, app.document("first"))
        app.wait("watching")
        bad = app.document(
            "second", version="2.0.0", merge={"ImageName": "dog.jpeg"}, Startup=f"{sys.executable} {starting}"
        )
        ended = deploy(agent, bad)
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE", ended
        until_sync(lambda: app.said[-1] == ["watching"] and app.said[-2] == ["config", DEFAULTS])
        assert ["config", DEFAULTS | {"ImageName": "dog.jpeg"}] in app.said


@pytest.mark.parametrize("moment", ["setting", "set"])
def test_the_plug_pulled_around_an_update_loses_nothing_that_was_acknowledged(
    config, tmp_path: Path, moment: str
) -> None:
    app, seen = App(tmp_path, COUNTS), 0
    for again in range(3):
        with agents.running(config, tmp_path) as agent:
            if not again:
                succeeded(agent, app.document("first"))
            until_sync(lambda: [one[0] for one in app.said].count("found") > again, why=lambda: agent.log)  # noqa: B023
            until_sync(lambda: any(what == moment and value > seen + 20 for what, value in app.said))  # noqa: B023
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()
        said = app.said
        seen = max(value for what, value in said if what == "set")
    with agents.running(config, tmp_path) as agent:
        until_sync(lambda: [one[0] for one in app.said].count("found") == 4, why=lambda: agent.log)
    acknowledged = begun = 0
    for what, value in app.said:
        if what == "found":
            assert acknowledged <= value <= begun
        acknowledged = value if what == "set" else acknowledged
        begun = value if what == "setting" else begun


def test_what_a_component_sets_is_kept_by_the_next_deployment_unless_that_is_newer(config, tmp_path: Path) -> None:
    script = """
    import datetime
    client = GreengrassCoreIPCClientV2()
    now = datetime.datetime.now(datetime.timezone.utc)
    client.update_configuration(timestamp=now, value_to_merge={"calibrated": 1.5, "ImageName": "own.jpeg"})
    later = now + datetime.timedelta(hours=1)
    client.update_configuration(key_path=["nested"], timestamp=later, value_to_merge={"count": 7})
    write("set")
    said()
    """
    app = App(tmp_path, script)
    with agents.running(config, tmp_path) as agent:
        succeeded(agent, app.document("first"))
        app.wait("set")
        app.program.write_text(app.program.read_text().replace("client.update", "None and client.update"))
        app.said_in.write_text("")
        merge = {"ImageName": "deployed.jpeg", "nested": {"count": 1}}
        again = "client = GreengrassCoreIPCClientV2()\nwrite(client.get_configuration().value)\n"
        app.program.write_text(app.program.read_text().replace("client = GreengrassCoreIPCClientV2()\n", again))
        succeeded(agent, app.document("second", version="2.0.0", merge=merge))
        kept = DEFAULTS | {"ImageName": "deployed.jpeg", "calibrated": 1.5, "nested": {"count": 7}}
        app.wait(kept)
