"""The agent as its user runs it: a process of its own with a configuration file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from tests.support.peer import Peer, peer
from tests.support.until import PATIENCE_S


class Agent:
    """A running agent, its broker's port, and a peer that hears all it says."""

    def __init__(self, process: subprocess.Popen[bytes], peer: Peer, thing: str, folder: Path, prefix: str) -> None:
        self.process = process
        self.peer = peer
        self.thing = thing
        self.folder = folder
        self.prefix = prefix

    def topic(self, rest: str) -> str:
        return f"{self.prefix}/{rest}"

    def frame(self, camera: str, data: bytes | str, **how: Any) -> None:
        """Send a payload as a camera of the stream ``line`` would."""
        self.peer.publish(f"{self.thing}/cameras/{camera}/frame", data, **how)

    def results(self, stream: str = "line") -> list[dict[str, Any]]:
        return self.peer.all(self.topic(f"results/{stream}"))

    def result(
        self, check: Any = lambda _: True, stream: str = "line", timeout_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        return self.peer.wait(self.topic(f"results/{stream}"), check, timeout_s)

    def settled(self, received: int, stream: str = "line", timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The stream's report once that many payloads have met their end."""
        topic = self.topic(f"streams/{stream}")
        return self.peer.wait(topic, lambda told: told["received"] >= received and not told["pending"], timeout_s)

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def workers(self) -> list[int]:
        """The process ids of the workers now."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if parent == self.process.pid:
                    found.append(int(entry.name))
        return sorted(found)

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout_s)


def configuration(thing: str, port: int, folder: Path, model: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One stream ``line`` over the cameras of this thing, quick to report."""
    made = {
        "thing": thing,
        "data_dir": str(folder / "data"),
        "transports": {"local": {"port": port}},
        "models": {"model": model},
        "streams": {"line": {"model": "model", "input": {"topic": f"{thing}/cameras/+/frame", "qos": 1}}},
        "status": {"statistics_interval_s": 0.2},
    }
    for key, value in more.items():
        made[key] = made.get(key, {}) | value if isinstance(value, dict) else value
    return made


@contextmanager
def running(
    config: dict[str, Any], folder: Path, how: tuple[str, ...] = ("-m", "agent"), *, rule_as_shipped: bool = False
) -> Iterator[Agent]:
    """Run the agent until the context is left; its log is shown when a test fails.  ``how`` is told to Python.

    The tests' brokers ask nobody who he is, so an agent that takes deployments is told to take them from anyone, unless
    its configuration says otherwise or the rule of who may deploy is what is tested.
    """
    thing, local = config["thing"], config["transports"]["local"]
    port = local["port"]
    if "deployments" in config and not rule_as_shipped:
        config = config | {"deployments": {"accept": "anyone-on-this-broker"} | config["deployments"]}
    path = folder / "verge.toml"
    path.write_bytes(tomli_w.dumps(config).encode())
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VERGE_")}
    # Where workers find the backend that misbehaves on cue, as an installed plug-in would be found.
    environment["PYTHONPATH"] = str(Path(__file__).parent / "plugins")
    with (folder / "agent.log").open("ab") as log, peer(port, local.get("username"), local.get("password")) as listener:
        listener.subscribe(f"verge/{thing}/#")
        command = [sys.executable, *how, "run", "-c", str(path)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=Path(__file__).parents[2])
        agent = Agent(process, listener, thing, folder, f"verge/{thing}")
        try:
            _wait_running(agent)
            yield agent
        finally:
            if process.poll() is None:
                agent.stop()
            print(agent.log)


def _wait_running(agent: Agent) -> None:
    """Wait until this agent, and no earlier one, says that it is online."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            agent.peer.wait(agent.topic("status"), lambda told: told.get("pid") == agent.process.pid, timeout_s=1)
        except TimeoutError:
            if agent.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the agent did not start:\n{agent.log}") from None
        else:
            return
