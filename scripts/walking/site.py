"""A traced agent on a broker of its own, used through what is public: a TOML file, topics and commands."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks import mqtt, rig
from scripts.walking.tracer import Tracer

THING = "walks"
BASE = f"verge/{THING}"
PATIENCE_S = 60.0
SETTLED_S = 1.2
"""What an agent publishes of a change waits for up to a second."""


class Link:
    """Sends to a broker, and waits for what is published there."""

    def __init__(self, port: int, *topics: str) -> None:
        self._link = mqtt.Connection(port, PATIENCE_S)
        for topic in topics:
            self._link.subscribe(topic)
        self._packet_id = 0

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1."""
        self._packet_id += 1
        self._link.send(mqtt.publish(topic, payload, packet_id=self._packet_id))

    def wait(self, topic: str, **values: str) -> dict[str, Any]:
        """The next message on a topic whose JSON has these values."""
        while True:
            try:
                received, payload = self._link.receive()
            except TimeoutError:
                raise SystemExit(f"walks: nothing with {values} came on {topic} within {PATIENCE_S:g} s") from None
            if received == topic:
                message: dict[str, Any] = json.loads(payload)
                if values.items() <= message.items():
                    return message


@dataclass(frozen=True)
class Site:
    """A folder to work in, a running mosquitto, and the checkout whose code runs."""

    work: Path
    port: int
    root: Path

    @contextlib.contextmanager
    def agent(self, body: str, tracer: Tracer) -> Iterator[None]:
        """An agent that is online, with one transport, ``local``, and the rest of its TOML file in ``body``."""
        config, log = self.work / "agent.toml", self.work / "agent.log"
        config.write_text(
            f'thing = "{THING}"\ndata_dir = "{self.work}/data"\nlog_level = "warning"\n'
            f"[status]\nstatistics_interval_s = 3600\n[transports.local]\nport = {self.port}\n{body}"
        )
        link = Link(self.port, f"{BASE}/status")
        command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        try:
            with rig.running(command, log, tracer.environment, self.root):
                link.wait(f"{BASE}/status", state="online")
                yield
        finally:
            print(log.read_text(), end="", file=sys.stderr)

    @contextlib.contextmanager
    def jobs(self) -> Iterator[None]:
        """The project's own Jobs service, which answers."""
        command = [sys.executable, "-m", "agent", "jobs", "serve", *self._broker, "--data", str(self.work / "jobs")]
        with rig.running(command, self.work / "jobs.log", {"PYTHONPATH": ""}, self.root):
            give_up = time.monotonic() + PATIENCE_S
            while self._command("jobs", "list", *self._broker).returncode:
                if time.monotonic() > give_up:
                    raise SystemExit(f"walks: the Jobs service does not answer within {PATIENCE_S:g} s")
            yield

    def create_job(self, name: str, document: Mapping[str, Any]) -> None:
        """Make a job for the agent."""
        options = ("--targets", THING, "--id", name, "--document", json.dumps(document))
        done = self._command("jobs", "create", *self._broker, *options)
        if done.returncode:
            raise SystemExit(f"walks: no job could be made: {done.stderr}")

    @property
    def _broker(self) -> list[str]:
        return ["--broker", f"mqtt://127.0.0.1:{self.port}"]

    def _command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent", *words]
        environment = os.environ | {"PYTHONPATH": ""}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
