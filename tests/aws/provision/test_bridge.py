"""The mosquitto examples do what they say: a bridge to a broker that enforces the shipped policy, and the local ACL."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

import agent
from agent.errors import PublishError
from agent.mqtt.client import MqttTransport
from agent.mqtt.transport import Message
from tests.support.broker import Broker
from tests.support.cloud import Cloud
from tests.support.inbox import Inbox, connected, delivered, subscribed
from tests.support.iot_policy import Connection, read
from tests.support.mosquitto_acl import access

CONFIGS = Path(agent.__file__).parents[1] / "configs"
PASSWORDS = {name: f"of-{name}" for name in ("verge", "camera-door", "dashboard", "deployer")}


def local(cloud: Cloud, folder: Path) -> Broker:
    """The example with what a site changes: addresses and paths; the listener is the test's own."""
    at = cloud.certificates
    changes = {
        "PREFIX-ats.iot.eu-west-1.amazonaws.com:8883": f"127.0.0.1:{cloud.broker.port}",
        "/etc/ssl/certs/ca-certificates.crt": str(at.ca),
        "/var/lib/verge/identity/current/certificate.pem": str(at.client_cert),
        "/var/lib/verge/identity/current/private.key": str(at.client_key),
        "/etc/mosquitto/verge.acl": str(CONFIGS / "mosquitto" / "verge.acl"),
        "/var/lib/mosquitto/": f"{folder}/",
        "restart_timeout 2 60": "restart_timeout 1",
    }
    text = (CONFIGS / "mosquitto" / "bridge.conf").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    ours = ("listener", "allow_anonymous", "password_file", "persistence true")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", *ours))]
    start = lines.index("connection iot-core")
    return Broker(lines=lines[:start], passwords=PASSWORDS, listener=lines[start:])


@asynccontextmanager
async def user(broker: Broker, name: str) -> AsyncIterator[MqttTransport]:
    async with MqttTransport(name, replace(broker.options, username=name, password=PASSWORDS[name])) as transport:
        await connected(transport)
        yield transport


async def test_results_go_up_and_documents_come_down(certificates, tmp_path) -> None:
    rules = access(read((CONFIGS / "iot-policy.json").read_text()), Connection("edge-1"), "client")
    with Cloud(certificates, rules) as cloud, local(cloud, tmp_path) as broker:
        async with MqttTransport("fleet", cloud.back_door) as fleet, user(broker, "verge") as ours:
            await connected(fleet)
            results, documents, asked = Inbox(), Inbox(), Inbox()
            fleet.subscribe("verge/edge-1/results/+", results, qos=1)
            fleet.subscribe("$aws/things/edge-1/jobs/$next/get", asked, qos=1)
            await subscribed(fleet, "ready")
            ours.subscribe("verge/edge-1/deployments", documents, qos=1)
            ours.subscribe("$aws/things/edge-1/jobs/$next/get/+", documents, qos=1)
            await subscribed(ours, "verge/edge-1/ready")
            await delivered(ours, Message("verge/edge-1/results/line", b"cat", qos=1, user_properties=(("id", "1"),)))
            [result] = await results.wait(1, 30.0)
            assert (result.payload, result.user_properties) == (b"cat", (("id", "1"),))
            await delivered(ours, Message("$aws/things/edge-1/jobs/$next/get", b"{}", qos=1))
            await asked.wait(1)
            await delivered(fleet, Message("verge/edge-1/deployments", b"document", qos=1))
            await delivered(fleet, Message("$aws/things/edge-1/jobs/$next/get/accepted", b"{}", qos=1))
            assert [one.payload for one in await documents.wait(2)] == [b"document", b"{}"]
            assert "not authorised" not in cloud.broker.log


@pytest.mark.parametrize(
    ("name", "may", "may_not"),
    [
        ("camera-door", "cameras/door/frame", "cameras/hall/frame"),
        ("camera-door", "cameras/door/frame", "verge/edge-1/results/line"),
        ("verge", "verge/edge-1/results/line", "verge/edge-2/results/line"),
        ("deployer", "verge/edge-2/deployments", "verge/edge-2/deployments/d1"),
        ("deployer", "verge/edge-2/deployments/get", "$aws/things/edge-1/jobs/notify"),
    ],
)
async def test_each_user_may_do_what_is_its_own(tmp_path, name, may, may_not) -> None:
    lines = [f"acl_file {CONFIGS / 'mosquitto' / 'verge.acl'}"]
    with Broker(lines=lines, passwords=PASSWORDS) as broker:
        async with user(broker, name) as transport:
            await delivered(transport, Message(may, b"", qos=1))
            with pytest.raises(PublishError, match="Not authorized"):
                await delivered(transport, Message(may_not, b"", qos=1))


def test_the_service_is_one_that_systemd_takes(tmp_path) -> None:
    unit = (CONFIGS / "verge.service").read_text()
    # The agent is not installed where the tests run; everything else is as it ships.
    (tmp_path / "verge.service").write_text(unit.replace("ExecStart=/opt/verge/bin/verge", "ExecStart=/bin/true"))
    try:
        said = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / "verge.service")], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed; install it: apt-get install systemd")
    assert (said.returncode, said.stderr) == (0, "")
