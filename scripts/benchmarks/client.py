"""The measuring client: a process of its own that shares its interpreter with nothing else.

*Flood* keeps a few frames in flight, sends the next when a result comes, and counts.  It ends only when each
frame it sent was answered, so that no loss passes for speed.  *Latency* sends one frame at a time, and right before
it the same payload to an echo over the same kind of connection.
"""

from __future__ import annotations

import base64
import json
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from scripts.benchmarks import WARM, cpu, frames, http, mqtt

ANSWER_S = 30.0
REST_S = 0.005
"""A camera's pace: the machine may rest before each frame, and before each echo as well."""


@dataclass(frozen=True)
class Target:
    """What is measured: how the client reaches it, and whose processor time is read beside it."""

    kind: str
    port: int
    echo_port: int
    topic: str = ""
    """MQTT: where frames go; results and echoes have their topics below it."""
    results: str = ""
    watch: Mapping[str, Sequence[int]] | None = None


def flood(target: Target, pictures: Path, window: int, seconds: float) -> dict[str, Any]:
    """``fps`` with ``window`` frames in flight, and ``cpu_ms`` a frame of each process watched and of the client."""
    told: dict[str, Any] = _run(target, pictures, window=window, seconds=seconds)
    return told


def latency(target: Target, pictures: Path, count: int) -> list[tuple[float, float, float]]:
    """End to end, worker and echo, in milliseconds, of each frame."""
    told: list[tuple[float, float, float]] = _run(target, pictures, count=count)
    return told


def _run(target: Target, pictures: Path, **order: float) -> Any:
    command = [sys.executable, "-m", "scripts.benchmarks.client", json.dumps(asdict(target)), str(pictures)]
    done = subprocess.run([*command, json.dumps(order)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: the measuring client gave up on {target}; what it said stands above")
    return json.loads(done.stdout)


# -- in the client's process -----------------------------------------------------------------------------------


class Peer(Protocol):
    """The way to one target."""

    def send(self, number: int) -> None:
        """Send a frame."""

    def hear(self) -> bytes:
        """The next result."""

    def echo(self, number: int) -> None:
        """Send a frame's payload and have it back."""

    def worker_ms(self, payload: bytes) -> float:
        """What the worker spent on the frame, as the result tells."""


class Broker:
    """Over MQTT: results come on one topic, echoes on another."""

    def __init__(self, target: Target, pictures: list[bytes], window: int) -> None:
        del window  # one connection carries them all
        self._link = mqtt.Connection(target.port, ANSWER_S)
        echo = f"{target.topic}/echo"
        self._frames = [mqtt.publish(target.topic, picture) for picture in pictures]
        self._echoes = [mqtt.publish(echo, picture) for picture in pictures]
        self._link.subscribe(target.results)
        self._link.subscribe(echo)

    def send(self, number: int) -> None:
        self._link.send(self._frames[number % len(self._frames)])

    def hear(self) -> bytes:
        return self._link.receive()[1]

    def echo(self, number: int) -> None:
        self._link.send(self._echoes[number % len(self._echoes)])
        self._link.receive()

    def worker_ms(self, payload: bytes) -> float:
        return _steps(json.loads(payload))


class Server:
    """Over HTTP: a connection for each frame in flight, and one to the echo."""

    path = "/predict"

    def __init__(self, target: Target, pictures: list[bytes], window: int) -> None:
        self._frames = [
            http.request("POST", self.path, json.dumps(self.body(picture)).encode()) for picture in pictures
        ]
        self._free = deque(http.Connection(target.port, ANSWER_S) for _ in range(window))
        self._echo = http.Connection(target.echo_port, ANSWER_S)
        self._ready: deque[http.Connection] = deque()
        self._selector = selectors.DefaultSelector()
        for link in self._free:
            self._selector.register(link.socket, selectors.EVENT_READ, link)

    def send(self, number: int) -> None:
        self._free.popleft().send(self._frames[number % len(self._frames)])

    def hear(self) -> bytes:
        if not self._ready:
            self._ready.extend(key.data for key, _ in self._selector.select(ANSWER_S))
        if not self._ready:
            raise TimeoutError("no response came")
        link = self._ready.popleft()
        body = link.receive()
        self._free.append(link)
        return body

    def echo(self, number: int) -> None:
        self._echo.send(self._frames[number % len(self._frames)])
        self._echo.receive()

    def body(self, picture: bytes) -> dict[str, Any]:
        """The request's JSON."""
        return {"image": base64.b64encode(picture).decode()}

    def worker_ms(self, payload: bytes) -> float:
        return _steps(json.loads(payload))


class OpenInference(Server):
    """The Open Inference Protocol, version 2."""

    path = "/v2/models/bench/infer"

    def body(self, picture: bytes) -> dict[str, Any]:
        told = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
        return {"inputs": [told | {"data": [base64.b64encode(picture).decode()]}]}

    def worker_ms(self, payload: bytes) -> float:
        return _steps(json.loads(json.loads(payload)["outputs"][0]["data"][0]))


PEERS: dict[str, Callable[[Target, list[bytes], int], Peer]] = {
    "mqtt": Broker, "litserve": Server, "mlserver": OpenInference,
}  # fmt: skip


def _flood(peer: Peer, window: int, seconds: float, watch: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    for number in range(window):
        peer.send(number)
    sent = window
    for _ in range(WARM):
        peer.hear()
        peer.send(sent)
        sent += 1
    before, own = {name: cpu.seconds(pids) for name, pids in watch.items()}, time.process_time()
    count, start = 0, time.perf_counter()
    while True:
        peer.hear()
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            break
        peer.send(sent)
        sent += 1
    used = {name: cpu.seconds(pids) - before[name] for name, pids in watch.items()}
    used["client"] = time.process_time() - own
    for _ in range(window - 1):
        peer.hear()
    return {"fps": count / elapsed, "cpu_ms": {name: value * 1e3 / count for name, value in used.items()}}


def _latency(peer: Peer, count: int) -> list[tuple[float, float, float]]:
    measured = []
    for number in range(WARM + count):
        echo_ms, _ = _timed(lambda number=number: peer.echo(number))
        whole_ms, payload = _timed(lambda number=number: (peer.send(number), peer.hear())[1])
        measured.append((whole_ms, peer.worker_ms(payload), echo_ms))
    return measured[WARM:]


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    time.sleep(REST_S)
    start = time.perf_counter()
    value = call()
    return (time.perf_counter() - start) * 1e3, value


def _steps(told: Mapping[str, Any]) -> float:
    """The worker's share of a result's times."""
    steps: Mapping[str, float] = told["timing_ms"]
    return sum(steps[step] for step in ("decode", "preprocess", "infer", "postprocess"))


def _main(told: str, folder: str, order: str) -> None:
    target, wanted = Target(**json.loads(told)), json.loads(order)
    peer = PEERS[target.kind](target, frames.read(Path(folder)), wanted.get("window", 1))
    if "seconds" in wanted:
        print(json.dumps(_flood(peer, wanted["window"], wanted["seconds"], target.watch or {})))
    else:
        print(json.dumps(_latency(peer, wanted["count"])))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except OSError as error:  # a timeout is one too
        raise SystemExit(f"bench client: {error or type(error).__name__}") from None
