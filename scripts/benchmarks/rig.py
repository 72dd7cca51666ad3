"""A real mosquitto and a real agent for a measurement, on loopback, ended when it is done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

READY_S = 60.0


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="verge-bench-") as path:
        yield Path(path)


@contextlib.contextmanager
def mosquitto(work: Path) -> Iterator[int]:
    """A broker on a free loopback port; the port."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("bench: mosquitto is not installed; 'apt-get install mosquitto' adds it")
    port = free_port()
    config = work / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{user}")
    with ended(subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)):
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline:
                raise SystemExit("bench: mosquitto does not answer")
        yield port


@contextlib.contextmanager
def agent(work: Path, port: int, body: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running agent with the given rest of a configuration; thing ``bench``."""
    config = work / "verge.toml"
    config.write_text(
        f'thing = "bench"\ndata_dir = "{work}/data"\nlog_level = "warning"\n[transports.local]\nport = {port}\n{body}'
    )
    with (work / "agent.log").open("ab") as log:
        command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        with ended(subprocess.Popen(command, stdout=log, stderr=log)) as process:
            yield process
    complaints = (work / "agent.log").read_text()
    if complaints:
        print(complaints, file=sys.stderr)


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End the process on leaving."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def client(port: int) -> Iterator[mqtt.Client]:
    """A connected client with its own network thread."""
    connected = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    connected.connect("127.0.0.1", port)
    connected.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.loop_start()
    try:
        yield connected
    finally:
        connected.disconnect()
        connected.loop_stop()


def wait_for(port: int, topic: str, field: str, value: str, timeout: float = READY_S) -> float:
    """Wait until a retained JSON message says so; the time (``time.time()``) at which it was heard."""
    heard: list[float] = []
    with client(port) as listener:

        def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
            if json.loads(message.payload).get(field) == value:
                heard.append(time.time())

        listener.on_message = on_message
        listener.subscribe(topic, 1)
        deadline = time.monotonic() + timeout
        while not heard:
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {topic} did not say {field} = {value} within {timeout:g} s")
            time.sleep(0.001)
    return heard[0]


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
