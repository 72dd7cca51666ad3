"""The agent as it is measured: started as anyone starts it, each time under a name of its own.

The name keeps what an earlier agent left retained on the broker from being taken for this one's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from scripts.benchmarks import cpu, mqtt, rig
from scripts.benchmarks.client import Target

SETTLE_S = 1.0
FRAMES = "cameras/bench/frame"

_names = (f"bench-{number}" for number in itertools.count())


@dataclass(frozen=True)
class Verge:
    """The agent between a broker's topics, one thread a worker."""

    work: Path
    broker: rig.Broker
    model: str
    name: str = "e2e"

    @contextlib.contextmanager
    def serving(self, workers: int) -> Iterator[Target]:
        """An agent with one stream, ready for frames."""
        thing = next(_names)
        with _agent(self.work, self.broker.port, thing, _stream(self.model, workers)) as (process, link):
            _wait(link, f"verge/{thing}/streams/bench", "running")
            watch = {"core": [process.pid], "worker": cpu.tree(process.pid)[1:], "broker": [self.broker.pid]}
            results = f"verge/{thing}/results/bench"
            yield Target("mqtt", self.broker.port, self.broker.port, FRAMES, results, watch)


def idle(work: Path, broker: rig.Broker, starts: int) -> dict[str, list[float]]:
    """Of each start with no model: MB of ``core_rss_mb`` and ``core_pss_mb``, and ``ready_s`` to retained online."""
    told: dict[str, list[float]] = {"core_rss_mb": [], "core_pss_mb": [], "ready_s": []}
    for thing in itertools.islice(_names, starts):
        began = time.perf_counter()
        with _agent(work, broker.port, thing, "") as (process, link):
            _wait(link, f"verge/{thing}/status", "online")
            told["ready_s"].append(time.perf_counter() - began)
            time.sleep(SETTLE_S)
            found = memory(process.pid)
        told["core_rss_mb"].append(found["Rss"])
        told["core_pss_mb"].append(found["Pss"])
    return told


def idle_medians(told: dict[str, list[float]]) -> dict[str, float]:
    """What the starts have in common."""
    return {name: round(median(values), 3 if name == "ready_s" else 1) for name, values in told.items()}


@contextlib.contextmanager
def _agent(work: Path, port: int, thing: str, body: str) -> Iterator[tuple[subprocess.Popen[bytes], mqtt.Connection]]:
    """A starting agent, and a connection that hears all it says."""
    config, log = work / f"{thing}.toml", work / f"{thing}.log"
    config.write_text(
        f'thing = "{thing}"\ndata_dir = "{work}/data"\nlog_level = "warning"\n[transports.local]\nport = {port}\n{body}'
    )
    link = mqtt.Connection(port, rig.READY_S)
    try:
        link.subscribe(f"verge/{thing}/status")
        link.subscribe(f"verge/{thing}/streams/#")
        with rig.running([sys.executable, "-m", "agent", "run", "-c", str(config)], log) as process:
            yield process, link
    finally:
        link.close()
        if complaints := log.read_text():
            print(complaints, file=sys.stderr)


def _wait(link: mqtt.Connection, topic: str, state: str) -> None:
    while True:
        try:
            heard, payload = link.receive()
        except TimeoutError:
            raise SystemExit(f"bench: {topic} did not say {state!r} within {rig.READY_S:g} s") from None
        if heard == topic and json.loads(payload)["state"] == state:
            return


def _stream(model: str, workers: int) -> str:
    return f"""
[models.bench]
source = {json.dumps(model)}
threads = 1
workers = {workers}
[streams.bench]
model = "bench"
input = {{ topic = "{FRAMES}" }}
policy = "fifo"
depth = 64
outputs = [{{ qos = 0 }}]
"""


def memory(pid: int) -> dict[str, float]:
    """MB of a process by kind: ``Rss``, ``Pss`` …"""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(size) / 1024 for name, size, *_ in (line.split() for line in lines)}
