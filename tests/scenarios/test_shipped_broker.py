"""The broker that ships, with its passwords made as the README says, and those who attack it."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

import agent
from agent.cli.signing import PrivateKey, seal, with_claims
from agent.config.transports import MqttOptions
from agent.mqtt.strangers import Strangers, try_door
from tests.support import agent as agents
from tests.support.fleet import Fleet, document, outcome, send
from tests.support.ports import HeldPort
from tests.support.until import until_sync

ROOT = Path(agent.__file__).parents[1]
SHIPPED = ROOT / "configs" / "mosquitto"
USERS = ("camera-door", "dashboard", "deployer", "jobs")
ELSEWHERE = "127.0.0.77"
"""Another address than the agent's: the listener for cameras is bound to it."""
TAKEN = "No matching subscribers"
"""The broker's word for a message that nobody has subscribed to."""


class Site:
    """The shipped files as root would install them; paths, ports and the address of the network are the test's."""

    def __init__(self, folder: Path, port: int, cameras: int, *, nobody: bool) -> None:
        self.folder, self.port, self.cameras = folder, port, cameras
        made = re.findall(r"^```sh password\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
        script = made[0].replace("sudo ", "").replace("/etc/mosquitto", str(folder))
        subprocess.run(["bash", "-euc", script], cwd=folder, check=True, capture_output=True)
        self.passwords = {"verge": (folder / "mqtt-password").read_text().strip()}
        for name in USERS:
            self.passwords[name] = f"of-{name}"
            line = ["mosquitto_passwd", "-b", str(folder / "verge.passwords"), name, self.passwords[name]]
            subprocess.run(line, check=True, capture_output=True)
            secret = folder / f"{name}.password"
            secret.write_text(self.passwords[name])
            secret.chmod(0o600)
        self._installed("verge.acl", {"# topic write cameras/": "topic write cameras/"} if nobody else {})
        self.conf = self._installed(
            "local.conf",
            {
                "/etc/mosquitto": str(folder), "/var/lib/mosquitto/": f"{folder}/",
                "listener 1883 127.0.0.1": f"listener {port} 127.0.0.1",
                "listener 1884 0.0.0.0": f"listener {cameras} {ELSEWHERE}",
            } | ({"allow_anonymous false": "allow_anonymous true"} if nobody else {}),
        )  # fmt: skip
        if os.geteuid() == 0:
            self.conf.write_text("user root\n" + self.conf.read_text())

    def _installed(self, name: str, changes: dict[str, str]) -> Path:
        text = (SHIPPED / name).read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def options(self, name: str) -> MqttOptions:
        return MqttOptions(port=self.port, username=name, password=self.passwords[name])

    def agent(self, thing: str = "edge-1", **deployments: Any) -> dict[str, Any]:
        (self.folder / thing).mkdir(exist_ok=True)
        config = agents.configuration(thing, self.port, self.folder / thing, {})
        config["transports"]["local"] |= {"username": "verge", "password": self.passwords["verge"]}
        deployments = {"shadow": False, "health": False, "run_as": getpass.getuser()} | deployments
        return config | {"models": {}, "streams": {}, "deployments": deployments}

    def verge(self, *words: str, user: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        """A command of whoever has the name ``user``."""
        line = [sys.executable, "-m", "agent", *words, "--broker", f"mqtt://127.0.0.1:{self.port}"]
        if user:
            line += ["--username", user, "--password-file", str(self.folder / f"{user}.password")]
        environment = os.environ | {"COLUMNS": "200"}
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False)
        assert done.returncode == status, f"{done.stdout}{done.stderr}"
        return done


@contextmanager
def site(folder: Path, *, nobody: bool = False) -> Iterator[Site]:
    """The broker with all its users; with ``nobody`` cameras that know no password may send frames."""
    with HeldPort() as port, HeldPort() as cameras:
        made = Site(folder, port.number, cameras.number, nobody=nobody)
        with (folder / "broker.log").open("wb") as log:
            broker = subprocess.Popen(["mosquitto", "-c", str(made.conf)], stdout=log, stderr=log)
        try:
            until_sync(lambda: _listens("127.0.0.1", made.port) and _listens(ELSEWHERE, made.cameras))
            yield made
        finally:
            broker.terminate()
            broker.wait(10)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((host, port)) == 0


def attack(made: Site, topic: str, payload: str, who: tuple[str, str] | None) -> str:
    """Publish from the network: what the broker said to it."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    if who is not None:
        client.username_pw_set(*who)
    said: list[str] = []

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            said.append(str(reason))
        else:
            client.publish(topic, payload, 1)

    client.on_connect = on_connect
    client.on_publish = lambda _c, _d, _m, reason, _p: said.append(str(reason))
    client.connect(ELSEWHERE, made.cameras)
    client.loop_start()
    try:
        until_sync(lambda: bool(said))
    finally:
        client.disconnect()
        client.loop_stop()
    return said[0]


def rooted(folder: Path) -> str:
    """A document that would run as root."""
    script = {"Run": {"Script": f"id -u > {folder}/owned; sleep 600", "RequiresPrivilege": True}}
    return json.dumps(document("owned", [Fleet(folder / "fleet").scripts("com.evil", **script)], {"com.evil": "1.0.0"}))


@pytest.mark.parametrize("nobody", [False, True], ids=["as-shipped", "with-cameras-that-know-no-password"])
def test_nobody_in_the_network_deploys_through_the_broker_that_ships(nobody, tmp_path) -> None:
    with site(tmp_path, nobody=nobody) as made:
        with agents.running(made.agent(), tmp_path, rule_as_shipped=True) as running:
            told = running.peer.wait(running.topic("status"), lambda told: told["deployments"]["unsigned"] != "pending")
            assert told["deployments"]["unsigned"] == "taken"
            strangers: list[tuple[str, str] | None] = [None, ("camera-door", made.passwords["camera-door"]), ("x", "y")]
            for who in strangers:
                for topic in ("verge/edge-1/deployments", "$aws/things/edge-1/jobs/notify-next", "verge/jobs/create"):
                    assert "ot authorized" in attack(made, topic, rooted(tmp_path), who)
            camera = ("camera-door", made.passwords["camera-door"])
            assert attack(made, "cameras/door/frame", "x", camera) == TAKEN
            assert attack(made, "cameras/hall/frame", "x", None) == (TAKEN if nobody else "Not authorized")
            script = Fleet(tmp_path / "fleet").scripts("com.script", Run="sleep 600")
            send(running, document("mine", [script], {"com.script": "1.0.0"}))
            assert outcome(running, "mine")["status"] == "SUCCEEDED"
        assert not (tmp_path / "owned").exists()


def test_the_shipped_configuration_runs_without_a_password_and_says_why_it_takes_no_deployments(
    broker, tmp_path
) -> None:
    text = (ROOT / "configs" / "local.toml").read_text().replace("port = 1883", f"port = {broker.port}")
    config = tmp_path / "local.toml"
    config.write_text(f'data_dir = "{tmp_path}/data"\n' + text)
    with (tmp_path / "log").open("wb") as log:
        line = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=ROOT)
    try:
        until_sync(lambda: "INFO    agent: running" in (tmp_path / "log").read_text())
    finally:
        process.terminate()
        process.wait(30)
    said = [one for one in (tmp_path / "log").read_text().splitlines() if "nobody signed" in one]
    assert len(said) == 1
    assert "does not ask the agent who it is" in said[0]
    assert "mosquitto_passwd" in said[0]


@contextmanager
def jobs_service(made: Site) -> Iterator[None]:
    line = [sys.executable, "-m", "agent", "jobs", "serve", "--broker", f"mqtt://127.0.0.1:{made.port}"]
    line += ["--username", "jobs", "--password-file", str(made.folder / "jobs.password")]
    line += ["--data", str(made.folder / "jobs")]
    with (made.folder / "jobs.log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=ROOT)
    try:
        until_sync(lambda: "serving" in (made.folder / "jobs.log").read_text())
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_only_whoever_deploys_makes_jobs_and_a_thing_takes_its_own_only(tmp_path) -> None:
    with site(tmp_path) as made, jobs_service(made):
        (tmp_path / "verge.password").write_text(made.passwords["verge"])
        (tmp_path / "verge.password").chmod(0o600)
        create = ("jobs", "create", "--targets", "edge-1,edge-2", "--document", '{"components": {}}', "--id")
        made.verge(*create, "mine", user="deployer")
        for name in ("verge", "camera-door", "dashboard"):
            done = made.verge(*create, f"by-{name}", user=name, status=2)
            assert "Not authorized" in done.stderr
        assert [one["jobId"] for one in json.loads(made.verge("jobs", "list", "--json", user="deployer").stdout)] == [
            "mine"
        ]
        thing = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        thing.username_pw_set("verge", made.passwords["verge"])
        said: dict[int, str] = {}
        came: list[str] = []
        thing.on_publish = lambda _c, _d, number, reason, _p: said.__setitem__(number, str(reason))
        thing.on_message = lambda _c, _d, message: came.append(message.topic)
        thing.connect("127.0.0.1", made.port)
        thing.loop_start()
        until_sync(thing.is_connected)
        thing.subscribe("$aws/things/+/jobs/#", 1)
        own = thing.publish("$aws/things/edge-1/jobs/start-next", "{}", 1).mid
        other = thing.publish("$aws/things/edge-2/jobs/start-next", "{}", 1).mid
        until_sync(lambda: {own, other} <= said.keys() and bool(came))
        thing.disconnect()
        thing.loop_stop()
        assert (said[own], said[other]) == ("Success", "Not authorized")
        assert {one.split("/")[2] for one in came} == {"edge-1"}
        executions = json.loads(made.verge("jobs", "executions", "mine", "--json", user="deployer").stdout)
        assert {one["thingName"]: one["status"] for one in executions} == {"edge-1": "IN_PROGRESS", "edge-2": "QUEUED"}


def test_the_jobs_service_says_so_where_anybody_may_make_jobs_and_is_silent_where_not(broker, tmp_path) -> None:
    line = [sys.executable, "-m", "agent", "jobs", "serve", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*line, "--data", str(tmp_path / "open")], stdout=log, stderr=log, cwd=ROOT)
    try:
        until_sync(lambda: "anybody may make jobs here" in (tmp_path / "log").read_text())
    finally:
        process.terminate()
        process.wait(30)
    assert "configs/mosquitto/verge.acl" in (tmp_path / "log").read_text()
    with site(tmp_path) as made, jobs_service(made):
        assert "[]" in made.verge("jobs", "list", "--json", user="deployer").stdout
        assert "anybody" not in (tmp_path / "jobs.log").read_text()


def test_a_signed_job_is_carried_out_and_one_that_nobody_signed_is_not(tmp_path) -> None:
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "fleet")
    script = Fleet(tmp_path / "fleet").scripts("com.script", Run="sleep 600")
    wanted = json.dumps(document("job", [script], {"com.script": "1.0.0"})).encode()
    signed = seal(with_claims(wanted, "edge-1", None, datetime.now(UTC)), key)
    with site(tmp_path) as made, jobs_service(made):
        config = made.agent(accept="signed", trusted_keys=[key.public.line])
        create = ("jobs", "create", "--targets", "edge-1", "--wait", "--document")
        with agents.running(config, tmp_path, rule_as_shipped=True) as running:
            (tmp_path / "plain.json").write_bytes(wanted)
            (tmp_path / "signed.json").write_bytes(signed)
            refused = made.verge(*create, str(tmp_path / "plain.json"), "--id", "plain", user="deployer", status=1)
            done = made.verge(*create, str(tmp_path / "signed.json"), "--id", "signed", user="deployer")
            assert "REJECTED" in refused.stdout
            assert "not signed by a trusted key" in made.verge("jobs", "executions", "plain", user="deployer").stdout
            assert "SUCCEEDED" in done.stdout
            running.peer.wait(running.topic("components/com.script"), lambda told: told["state"] == "RUNNING")
    assert "deployments" in config


def test_whoever_deploys_reaches_the_agent_with_a_name_of_its_own(tmp_path) -> None:
    with site(tmp_path) as made, agents.running(made.agent(), tmp_path, rule_as_shipped=True):
        (tmp_path / "none.json").write_text('{"components": {}}')
        made.verge("deploy", str(tmp_path / "none.json"), user="deployer")
        assert "edge-1" in made.verge("components", user="deployer").stdout
        assert try_door(made.options("verge"), ["verge/edge-1/deployments"]).strangers is Strangers.KEPT_OUT
