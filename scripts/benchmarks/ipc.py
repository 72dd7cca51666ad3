"""``scripts/bench ipc``: Greengrass's socket, from the inside of components that a real agent runs.

``ipc_1k_ms_p50``          local publish and subscribe with Amazon's SDK: from publishing to the subscriber's handler,
                           in one component, one message at a time; ``56k`` with so many bytes
``ipc_1k_msgs_per_s``      the same with 32 on their way
``mqtt_…``                 the same through the mosquitto of the run, with paho and QoS 1, in turns
``connected``              so many components with a connection and a subscription, beside none: ``rss_mb_…`` and
                           ``pss_mb_…`` of the core
``off_…``, ``on_…``        an agent with deployments, without the socket and with it: time to online, memory
``fuzzed``                 frames that were sent damaged, cut and made up; ``answered_after`` is whether the agent still
                           answers then, and ``rss_mb_fuzzed`` what it came to
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Self

from agent.eventstream.frames import StreamMessage, encode, int32, text
from scripts.benchmarks import mqtt, rig
from scripts.benchmarks.figures import table
from scripts.benchmarks.verge import SETTLE_S, memory

ROOT = Path(__file__).resolve().parents[2]
ECHO = "bench.Echo"
AIMS = {"on_ready_ms_more": ("≤", 20), "on_rss_mb_more": ("≤", 3.0), "answered_after": ("=", True)}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench ipc", description="Greengrass's socket: speed, memory, fuzz.")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each rate (%(default)s)")
    parser.add_argument("--components", type=int, default=50, help="that are connected (%(default)s)")
    parser.add_argument("--starts", type=int, default=7, help="of the agent, with and without (%(default)s)")
    parser.add_argument("--frames", type=int, default=10_000, help="that are fuzzed (%(default)s)")
    options = parser.parse_args(arguments)
    told = measure(options)
    print(json.dumps(told) if options.json else table(told, AIMS))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    with rig.folder() as work, rig.mosquitto(work) as broker:
        told: dict[str, Any] = _starts(work, broker.port, options.starts)
        told |= _speed(work, broker.port, options.seconds)
        told |= _connected(work, broker.port, options.components)
        return told | _fuzzed(work, broker.port, options.frames)


def _starts(work: Path, port: int, starts: int) -> dict[str, float]:
    figures: dict[str, list[float]] = {}
    for number in range(starts):
        for name, enabled in (("off", False), ("on", True)):
            with _Site(work, port, f"start-{name}-{number}", enabled=enabled) as site:
                figures.setdefault(f"{name}_ready_ms", []).append(1e3 * site.ready_s)
                time.sleep(SETTLE_S)
                for kind, value in site.memory().items():
                    figures.setdefault(f"{name}_{kind.lower()}_mb", []).append(value)
    told = {name: round(median(values), 1) for name, values in figures.items()}
    more = {
        f"on_{what}_more": round(median(_less(figures[f"on_{what}"], figures[f"off_{what}"])), 2)
        for what in ("ready_ms", "rss_mb", "pss_mb")
    }
    return told | more


def _less(one: list[float], other: list[float]) -> list[float]:
    return [after - before for after, before in zip(one, other, strict=True)]


def _speed(work: Path, port: int, seconds: float) -> dict[str, float]:
    out = work / "echo.json"
    with _Site(work, port, "speed") as site:
        site.deploy({ECHO: f"echo {port} {out} {seconds}"})
        deadline = time.monotonic() + 300
        while not out.exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {ECHO} has measured nothing:\n{site.log_of(ECHO)}")
            time.sleep(0.1)
    told = json.loads(out.read_text())
    return {name: round(value, 3 if name.endswith("p50") else 0) for name, value in told.items()}


def _connected(work: Path, port: int, components: int) -> dict[str, float]:
    with _Site(work, port, "connected") as site:
        site.deploy({f"bench.Sleep{number}": "" for number in range(components)})
        time.sleep(SETTLE_S)
        idle = site.memory()
    with _Site(work, port, "sitting") as site:
        site.deploy({f"bench.Sit{number}": "sit" for number in range(components)})
        time.sleep(10 * SETTLE_S)
        sitting = site.memory()
    told = {"connected": components}
    return told | {
        f"{kind.lower()}_mb_{name}": round(found[kind], 1)
        for kind in ("Rss", "Pss")
        for name, found in (("idle", idle), ("connected", sitting))
    }


# -- fuzz --------------------------------------------------------------------------------------------------------------


def _fuzzed(work: Path, port: int, frames: int) -> dict[str, Any]:
    chance = random.Random(1)
    with _Site(work, port, "fuzzed") as site:
        sent = 0
        while sent < frames:
            with contextlib.suppress(OSError), _connection(site) as link:
                if chance.random() < 0.9:  # noqa: PLR2004 most get past the handshake
                    link.sendall(_connect(site.token()))
                    link.recv(1 << 16)
                for stream in range(1, chance.randrange(2, 20)):
                    link.sendall(_damaged(chance, _request(stream, chance)))
                    sent += 1
        told = {"fuzzed": sent, "rss_mb_fuzzed": round(site.memory()["Rss"], 1)}
        with _connection(site) as link:
            link.sendall(_connect(site.token()) + _request(1, None))
            answer = b""
            while b"ListComponentsResponse" not in answer and (more := link.recv(1 << 16)):
                answer += more
        return told | {"answered_after": b"ListComponentsResponse" in answer}


@contextlib.contextmanager
def _connection(site: _Site) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(2)
        link.connect(str(site.data / "ipc.socket"))
        yield link


def _connect(token: str) -> bytes:
    numbers = {":message-type": int32(4), ":message-flags": int32(0), ":stream-id": int32(0)}
    return encode(StreamMessage({":version": text("0.1.0"), **numbers}, json.dumps({"authToken": token}).encode()))


def _request(stream: int, chance: random.Random | None) -> bytes:
    names = ("ListComponents", "GetConfiguration", "SubscribeToTopic", "PublishToTopic", "Nothing")
    name = names[0] if chance is None else chance.choice(names)
    headers = {
        ":content-type": text("application/json"),
        "service-model-type": text(f"aws.greengrass#{name}Request"),
        ":message-type": int32(0 if chance is None else chance.choice((0, 0, 0, 0, 1, 2, 3, 4, 7, 99))),
        ":message-flags": int32(0 if chance is None else chance.choice((0, 0, 0, 0, 1, 2, -1))),
        ":stream-id": int32(stream),
        "operation": text(f"aws.greengrass#{name}"),
    }
    payload = (
        b"{}" if chance is None else chance.choice((b"{}", b"[", b'{"topic": 7}', b'{"topic": "a/#"}', b"\xff" * 99))
    )
    return encode(StreamMessage(headers, payload))


def _damaged(chance: random.Random, frame: bytes) -> bytes:
    kind = chance.randrange(5)
    if kind == 0:
        return frame[: chance.randrange(len(frame))]
    if kind == 1:
        return chance.randbytes(chance.randrange(1, 400))
    if kind == 2:  # noqa: PLR2004 a kind of damage
        damaged = bytearray(frame)
        damaged[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        return bytes(damaged)
    return frame


# -- an agent with deployments -----------------------------------------------------------------------------------------


class _Site:
    """An agent that takes deployments, with Greengrass's socket or without it."""

    def __init__(self, work: Path, port: int, name: str, *, enabled: bool = True) -> None:
        self.thing = f"ipc-{name}"
        self.data = work / self.thing
        self.ready_s = 0.0
        self._work, self._port = work, port
        self._config = work / f"{self.thing}.toml"
        self._config.write_text(
            f'thing = "{self.thing}"\ndata_dir = "{self.data}"\nlog_level = "error"\n'
            f"[transports.local]\nport = {port}\n"
            f'[deployments]\naccept = "anyone-on-this-broker"\njobs = false\nshadow = false\n'
            f'health = false\nrun_as = "{_user()}"\n[ipc]\nenabled = {str(enabled).lower()}\n'
        )
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._link = mqtt.Connection(self._port, rig.READY_S)
        self._stack.callback(self._link.close)
        self._link.subscribe(f"verge/{self.thing}/status")
        self._link.subscribe(f"verge/{self.thing}/deployments/bench")
        began = time.perf_counter()
        command = [sys.executable, "-m", "agent", "run", "-c", str(self._config)]
        log = self._work / f"{self.thing}.log"
        self._process = self._stack.enter_context(rig.running(command, log, {"PYTHONPATH": str(ROOT)}))
        self._wait("status", lambda told: told["state"] == "online")
        self.ready_s = time.perf_counter() - began
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def deploy(self, components: Mapping[str, str]) -> None:
        """Run components that do what ``ipc_part`` is told, or sleep."""
        document = {
            "deploymentId": "bench",
            "components": {name: {"version": "1.0.0"} for name in components},
            "recipes": [_recipe(name, told) for name, told in components.items()],
        }
        self._link.send(mqtt.publish(f"verge/{self.thing}/deployments", json.dumps(document).encode()))
        ended = self._wait("deployments/bench", lambda told: told["status"] not in {"QUEUED", "IN_PROGRESS"})
        if ended["status"] != "SUCCEEDED":
            raise SystemExit(f"bench: {ended['failureCause']}")

    def memory(self) -> dict[str, float]:
        """MB of the core: ``Rss``, ``Pss``."""
        found = memory(self._process.pid)
        return {kind: found[kind] for kind in ("Rss", "Pss")}

    def token(self) -> str:
        """The token of greengrass-cli."""
        file = self.data / "cli_ipc_info" / f"user-{os.geteuid()}"
        return str(json.loads(file.read_text())["cli_auth_token"])

    def log_of(self, component: str) -> str:
        """What a component printed."""
        log = self.data / "logs" / f"{component}.log"
        return log.read_text() if log.exists() else ""

    def _wait(self, topic: str, check: Any) -> Any:
        while True:
            try:
                heard, payload = self._link.receive()
            except TimeoutError:
                raise SystemExit(f"bench: {self.thing} said nothing more on {topic}") from None
            if heard == f"verge/{self.thing}/{topic}" and payload and check(told := json.loads(payload)):
                return told


def _recipe(name: str, told: str) -> dict[str, Any]:
    rule = {"operations": ["*"], "resources": ["*"]}
    run = f"exec {sys.executable} -m scripts.benchmarks.ipc_part {told}" if told else "exec sleep 100000"
    lifecycle = {"Setenv": {"PYTHONPATH": str(ROOT)}, "Run": run}
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": "1.0.0",
        "ComponentConfiguration": {
            "DefaultConfiguration": {"accessControl": {"aws.greengrass.ipc.pubsub": {f"{name}:1": rule}}}
        },
        "Manifests": [{"Lifecycle": lifecycle}],
    }


def _user() -> str:
    return getpass.getuser()


if __name__ == "__main__":
    main(sys.argv[1:])
