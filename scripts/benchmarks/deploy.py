"""``scripts/bench deploy``: what a deployment costs while a camera sends 20 frames a second.

The stream's model is swapped back and forth between the samples, both in the agent's cache.  Figures:

``cached_deploy_s``, ``cached_deploy_s_p95``  from the document's publication to the retained outcome
``swap_gap_frames``                           frames sent that have no result, and results that came twice, of all swaps
``rollback_s``                                a model that disagrees with its golden frames: from the step ACTIVATING to
                                              the outcome, with the old model live
``rollback_scripts_s``                        the same where a script fails after scripts were touched, which is a
                                              FAILED_ROLLBACK_COMPLETE; the script is tried three times
``rss_growth_pct``                            of the core, after the swaps against after ten of them
``leaked_mb``                                 of the core and its children together, over the same time

Frames alone move the core's heap by some 2 MB (a frame is 50 kB, and several are under way at a time), so that many
seconds of them come before the first look.  What leaks is anonymous and shared memory (``Pss_Anon + Pss_Shmem``),
measured with no frames under way: pages of files come and go with their neighbours, and MemAvailable is everybody's.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from agent.demo.kit import BAD, CLASSIFIER, DETECTOR, Kit
from agent.demo.scores import Sequences
from scripts.benchmarks import cpu, frames, mqtt, rig

AIMS = {
    "cached_deploy_s": ("≤", 1.0),
    "swap_gap_frames": ("=", 0),
    "rollback_s": ("≤", 1.0),
    "rss_growth_pct": ("≤", 2.0),
    "leaked_mb": ("≤", 5.0),
}

FPS = 20
WARM_UP = 10
FAILURES = 5
SETTLE_S = 2.0
PATIENCE_S = 30.0
THING, STREAM, FRAMES = "bench", "cameras", "cameras/bench/frame"
BASE = f"verge/{THING}"
MARK = f"{BASE}/answers/bench"
SCRIPT = "verge.bench.Script"


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench deploy", description="Deployments while frames come.")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--swaps", type=int, default=100, help="after as many to warm up, at most ten (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=20.0, help="seconds of frames before (%(default)s)")
    options = parser.parse_args(arguments)
    told = measure(options.swaps + options.swaps % 2, options.warm_up)
    print(json.dumps(told) if options.json else table(told))


def table(told: Mapping[str, float]) -> str:
    """For people."""
    rows = ((name, value, " ".join(map(str, AIMS.get(name, ())))) for name, value in told.items())
    return "\n".join(f"{name:<22}{value!s:>12}{aim:>9}".rstrip() for name, value, aim in rows)


def measure(swaps: int, warm_up_s: float) -> dict[str, float]:
    """Every figure."""
    with rig.folder() as work:
        pictures = frames.read(frames.write(work / "frames"))
        stream = {"Input": {"Topic": FRAMES}, "Policy": "fifo", "Depth": 256, "Run": {"Threads": 1}}
        kit = Kit(work / "components", STREAM, stream)
        with rig.mosquitto(work) as broker, _agent(work, broker.port) as pid:
            site = Site(broker.port)
            site.deploy(kit.document(CLASSIFIER))
            camera = Camera(broker.port, pictures)
            with camera.sending():
                _swap(site, kit, min(WARM_UP, swaps))
                _fail(site, kit)
                time.sleep(warm_up_s)
            before = memory(pid, site, camera)
            with camera.sending():
                seconds = _swap(site, kit, swaps)
            after = memory(pid, site, camera)
            with camera.sending():
                failed = [_fail(site, kit) for _ in range(FAILURES)]
                scripts = _fail_scripts(site, kit)
            site.hear_all(camera.sent)
            gap = site.sequences.missing(0, camera.sent) + site.sequences.twice(0, camera.sent)
    return {
        "swaps": swaps,
        "cached_deploy_s": round(median(seconds), 3),
        "cached_deploy_s_p95": round(sorted(seconds)[int(0.95 * len(seconds))], 3),
        "swap_gap_frames": gap,
        "frames": camera.sent,
        "rollback_s": round(median(failed), 3),
        "rollback_scripts_s": round(scripts, 3),
        "rss_growth_pct": round(100 * (after.core_rss / before.core_rss - 1), 2),
        "core_rss_mb": round(after.core_rss, 1),
        "leaked_mb": round(after.own - before.own, 2),
        "own_mb": round(after.own, 1),
    }


@dataclass(frozen=True)
class Ended:
    """A deployment that is over; the seconds since it was sent, and since it began to change something."""

    told: Mapping[str, Any]
    seconds: float
    active_s: float


class Site:
    """Deploys, and hears what the agent says."""

    def __init__(self, port: int) -> None:
        self.sequences = Sequences()
        self._link = mqtt.Connection(port, PATIENCE_S)
        for topic in (f"{BASE}/results/{STREAM}", f"{BASE}/deployments/+", MARK):
            self._link.subscribe(topic)
        self._numbers = itertools.count()

    def deploy(self, document: Mapping[str, Any]) -> Ended:
        """Send a document and wait for its end."""
        identity = f"bench-{next(self._numbers)}"
        payload = json.dumps({"deploymentId": identity, **document}).encode()
        began = active = time.perf_counter()
        self._link.send(mqtt.publish(f"{BASE}/deployments", payload))
        while True:
            topic, content = self._receive()
            if topic != f"{BASE}/deployments/{identity}":
                continue
            told, now = json.loads(content), time.perf_counter()
            if told["status"] not in {"QUEUED", "IN_PROGRESS"}:
                return Ended(told, now - began, now - active)
            if told.get("step") == "ACTIVATING":
                active = now

    def hear_all(self, count: int) -> None:
        """Wait for the result of frame ``count``, and then for those that were overtaken."""
        while self.sequences.highest < count:
            self._receive()
        time.sleep(SETTLE_S)
        self._link.send(mqtt.publish(MARK, b""))
        while self._receive()[0] != MARK:
            pass

    def _receive(self) -> tuple[str, bytes]:
        try:
            topic, content = self._link.receive()
        except TimeoutError:
            raise SystemExit(f"bench: nothing was heard for {PATIENCE_S:g} s") from None
        if topic.startswith(f"{BASE}/results/"):
            self.sequences.add(json.loads(content)["frame"]["sequence"])
        return topic, content


class Camera:
    """Sends frames at ``FPS`` in a thread, when it is told to."""

    def __init__(self, port: int, pictures: list[bytes]) -> None:
        self.sent = 0
        self._link = mqtt.Connection(port)
        self._packets = itertools.cycle([mqtt.publish(FRAMES, picture) for picture in pictures])

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Frames come until the context is left."""
        stop = threading.Event()
        thread = threading.Thread(target=self._send, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _send(self, stop: threading.Event) -> None:
        began = time.perf_counter()
        for number in itertools.count(1):
            self._link.send(next(self._packets))
            self.sent += 1
            if stop.wait(max(0.0, began + number / FPS - time.perf_counter())):
                return


@dataclass(frozen=True)
class Memory:
    """In MB: resident in the core, and what the core and its children have for themselves."""

    core_rss: float
    own: float


def memory(pid: int, site: Site, camera: Camera) -> Memory:
    """What is used once every frame is answered and workers that are not needed are gone."""
    site.hear_all(camera.sent)
    own = sum(_rollup(each, "Pss_Anon") + _rollup(each, "Pss_Shmem") for each in cpu.tree(pid))
    return Memory(_rollup(pid, "Rss"), own)


def _rollup(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"bench: this kernel does not tell {name}")


@contextlib.contextmanager
def _agent(work: Path, port: int) -> Iterator[int]:
    """An agent that hears documents."""
    config, log = work / "agent.toml", work / "agent.log"
    config.write_text(
        f'thing = "{THING}"\ndata_dir = "{work}/data"\nlog_level = "error"\n'
        f'[transports.local]\nport = {port}\n[deployments]\naccept = "anyone-on-this-broker"\n'
    )
    with rig.running([sys.executable, "-m", "agent", "run", "-c", str(config)], log) as process:
        _until_it_listens(port)
        yield process.pid


def _until_it_listens(port: int) -> None:
    """Documents that nobody listens for are gone: offer a harmless one until it is refused."""
    give_up = time.monotonic() + rig.READY_S
    while time.monotonic() < give_up:
        link = mqtt.Connection(port, 0.1)
        link.subscribe(f"{BASE}/deployments/+")
        link.send(mqtt.publish(f"{BASE}/deployments", b"{}"))
        with contextlib.closing(link), contextlib.suppress(TimeoutError):
            link.receive()
            return
    raise SystemExit("bench: the agent does not listen for deployments")


def _swap(site: Site, kit: Kit, count: int) -> list[float]:
    """Seconds of each; the classifier is live before and after."""
    seconds = []
    for number in range(count):
        ended = site.deploy(kit.document(CLASSIFIER if number % 2 else DETECTOR))
        _expect(ended, "SUCCESSFUL")
        seconds.append(ended.seconds)
    return seconds


def _fail(site: Site, kit: Kit) -> float:
    """Seconds in which a model that disagrees with its golden frames is found out and gone."""
    ended = site.deploy(kit.document(DETECTOR, BAD["wrong-labels"]))
    _expect(ended, "FAILED_NO_STATE_CHANGE")
    return ended.active_s


def _fail_scripts(site: Site, kit: Kit) -> float:
    """Seconds in which a script that fails is given up, and what was there before is there again."""
    document = kit.document(DETECTOR)
    head = {"RecipeFormatVersion": "2020-01-25", "ComponentName": SCRIPT, "ComponentVersion": "1.0.0"}
    document["recipes"].append(head | {"Manifests": [{"Lifecycle": {"Run": "exit 1"}}]})
    document["components"][SCRIPT] = {"version": "1.0.0"}
    ended = site.deploy(document)
    _expect(ended, "FAILED_ROLLBACK_COMPLETE")
    return ended.active_s


def _expect(ended: Ended, status: str) -> None:
    if ended.told["detailedStatus"] != status:
        raise SystemExit(f"bench: {ended.told['id']} should be {status}: {ended.told}")
