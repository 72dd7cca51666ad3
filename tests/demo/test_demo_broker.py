"""The demo's broker, both kinds for real."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from agent.config.transports import MqttOptions
from agent.demo import broker as brokers
from agent.demo.broker import HOST
from agent.errors import BackendUnavailableError, BrokerUnreachableError, ConfigError
from agent.mqtt.factory import create
from agent.mqtt.strangers import Strangers, tried
from agent.mqtt.transport import Message
from tests.support.inbox import Inbox

KINDS = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto"),
    ),
    "embedded",
]
LOOPBACK, LISTENING = "0100007F", "0A"
WILL = Message("demo/will", b"gone", qos=1, retain=True)


def listeners(pid: int) -> list[str]:
    """Where a process listens, as the kernel tells: address:port in hexadecimal."""
    links = (os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink())
    inodes = {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            # A UDP socket that is bound is in state 07 and hears everything.
            if fields[9] in inodes and fields[3] in {LISTENING, "07"}:
                found.append(fields[1])
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_it_listens_on_the_loopback_interface_and_nowhere_else(kind, tmp_path):
    async with brokers.running(kind, 0, tmp_path) as broker:
        assert listeners(broker.child.pid) == [f"{LOOPBACK}:{broker.port:04X}"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_private_one_keeps_strangers_out_and_its_password_is_nobody_elses_to_read(kind, tmp_path):
    async with brokers.running(kind, 0, tmp_path, private=True) as broker:
        report = await tried(broker.options, ["verge/demo/deployments"])
        assert report.strangers is Strangers.KEPT_OUT
        async with create("reader", broker.options) as reader:
            await reader.wait_connected(10)
    secret = broker.options.password
    exposed = [path for path in tmp_path.iterdir() if path.stat().st_mode & 0o077 and secret in path.read_text()]
    assert not exposed


@pytest.mark.parametrize("kind", KINDS)
async def test_a_frame_of_the_largest_size_comes_through_whole(kind, tmp_path):
    payload = os.urandom(15 * 1024 * 1024)
    async with (
        brokers.running(kind, 0, tmp_path) as broker,
        create("reader", MqttOptions(port=broker.port)) as reader,
        create("writer", MqttOptions(port=broker.port)) as writer,
    ):
        inbox, ready = Inbox(), Inbox()
        reader.subscribe("demo/frame", inbox, qos=1)
        reader.subscribe("demo/ready", ready, qos=1)
        reader.publish(Message("demo/ready", b"", qos=1))
        await ready.wait(1)
        writer.publish(Message("demo/frame", payload, qos=1))
        (message,) = await inbox.wait(1)
        assert message.payload == payload


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_retained_is_there_for_who_comes_later(kind, tmp_path):
    async with (
        brokers.running(kind, 0, tmp_path) as broker,
        create("early", MqttOptions(port=broker.port)) as early,
        create("late", MqttOptions(port=broker.port)) as late,
    ):
        taken = asyncio.Event()
        early.publish(Message("demo/kept", b"state", qos=1, retain=True), lambda _: taken.set())
        async with asyncio.timeout(10):
            await taken.wait()
        inbox = Inbox()
        late.subscribe("demo/kept", inbox, qos=1)
        (message,) = await inbox.wait(1)
        assert (message.payload, message.retain) == (b"state", True)


SUDDEN_DEATH = """
import asyncio, os, sys
from agent.mqtt.transport import Message
from agent.mqtt.factory import create
from agent.config.transports import MqttOptions

async def main():
    will = Message("demo/will", b"gone", qos=1, retain=True)
    async with create("mortal", MqttOptions(port=int(sys.argv[1])), will=will) as bus:
        alive = asyncio.Event()
        bus.publish(Message("demo/will", b"here", qos=1, retain=True), lambda _: alive.set())
        await alive.wait()
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_will_of_a_killed_client_is_told(kind, tmp_path):
    async with (
        brokers.running(kind, 0, tmp_path) as broker,
        create("reader", MqttOptions(port=broker.port)) as reader,
    ):
        inbox = Inbox()
        reader.subscribe("demo/will", inbox, qos=1)
        mortal = await asyncio.create_subprocess_exec(sys.executable, "-c", SUDDEN_DEATH, str(broker.port))
        assert await mortal.wait() == -signal.SIGKILL
        messages = await inbox.until(lambda messages: any(message.payload == b"gone" for message in messages))
        assert messages[-1].payload == b"gone"


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_gone_when_the_demo_leaves(kind, tmp_path):
    async with brokers.running(kind, 0, tmp_path) as broker:
        pid = broker.child.pid
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, broker.port), timeout=1)


@pytest.mark.parametrize("path", ["", "/nowhere"])
async def test_without_mosquitto_on_the_path_the_embedded_broker_serves(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", path)
    async with brokers.running("auto", 0, tmp_path) as broker:
        assert str(broker) == f"embedded rumqttd 127.0.0.1:{broker.port}"


async def test_mosquitto_by_name_is_refused_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendUnavailableError, match="not on the PATH") as refused:
        async with brokers.running("mosquitto", 0, tmp_path):
            pass
    assert "--broker embedded" in refused.value.hint


@pytest.mark.parametrize("kind", KINDS)
async def test_a_port_in_use_is_refused_before_anything_starts(kind, tmp_path):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} cannot be used") as refused:
            async with brokers.running(kind, port, tmp_path):
                pass
    assert refused.value.code == "port-in-use"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_broker_that_cannot_start_is_reported_with_its_last_words(kind, tmp_path, monkeypatch):
    for template in ("_MOSQUITTO", "_RUMQTTD"):
        monkeypatch.setattr(brokers, template, "nonsense {port}\n")
    told = {"mosquitto": "Unknown configuration variable", "embedded": "cannot read broker config"}[kind]
    with pytest.raises(BrokerUnreachableError, match=rf"(?s)the broker ended \(exit status .*{told}"):
        async with brokers.running(kind, 0, tmp_path):
            pass
