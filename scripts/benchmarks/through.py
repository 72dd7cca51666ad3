"""Through the agent: a publisher and subscriber outside it, a real broker between.

*Throughput* keeps a few frames in flight and counts results.  *Latency* sends one frame at a time and takes from
the time to its result what the worker spent on it and what a plain MQTT echo of the same payload takes, each
echo measured right beside its frame.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from scripts.benchmarks import rig

TOPIC, RESULTS, ECHO = "cameras/bench/frame", "verge/bench/results/bench", "echo/bench"
STEPS = ("decode", "preprocess", "infer", "postprocess")
ANSWER_S = 30.0


def configuration(model: str, workers: int) -> str:
    """The agent's: one stream, one thread a worker."""
    return f"""
[models.bench]
source = "{model}"
threads = 1
workers = {workers}
[streams.bench]
model = "bench"
input = {{ topic = "cameras/+/frame" }}
policy = "fifo"
depth = 64
outputs = [{{ qos = 0 }}]
"""


def throughput(work: Path, port: int, model: str, workers: int, pictures: list[bytes], seconds: float) -> float:
    """Results per second with ``2 × workers + 2`` frames in flight."""
    with rig.agent(work, port, configuration(model, workers)):
        rig.wait_for(port, "verge/bench/streams/bench", "state", "running")
        with rig.client(port) as peer:
            return _flood(peer, pictures, 2 * workers + 2, seconds)


def _flood(peer: mqtt.Client, pictures: list[bytes], window: int, seconds: float) -> float:
    counted = [0, 0]
    done = threading.Event()
    warm = 20
    times = [0.0, 0.0]

    def on_message(_client: mqtt.Client, _data: object, _message: mqtt.MQTTMessage) -> None:
        counted[0] += 1
        now = time.perf_counter()
        if counted[0] == warm:
            times[0] = now
        if counted[0] > warm and now - times[0] >= seconds:
            times[1] = now
            done.set()
            return
        counted[1] += 1
        peer.publish(TOPIC, pictures[counted[1] % len(pictures)])

    peer.on_message = on_message
    _subscribe(peer, RESULTS)
    for number in range(window):
        peer.publish(TOPIC, pictures[number % len(pictures)])
    if not done.wait(seconds + ANSWER_S):
        raise SystemExit("bench: no results came; the agent's log says why")
    return (counted[0] - warm) / (times[1] - times[0])


def latency(work: Path, port: int, model: str, pictures: list[bytes], count: int) -> list[float]:
    """What the agent adds to each frame, in milliseconds."""
    with rig.agent(work, port, configuration(model, 1)):
        rig.wait_for(port, "verge/bench/streams/bench", "state", "running")
        with rig.client(port) as peer:
            heard: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            peer.on_message = lambda _client, _data, message: heard.put((time.perf_counter(), message.payload))
            _subscribe(peer, RESULTS)
            _subscribe(peer, ECHO)
            added = [_added(peer, heard, pictures[number % len(pictures)]) for number in range(count + 20)]
    return added[20:]


def _added(peer: mqtt.Client, heard: queue.SimpleQueue[tuple[float, bytes]], picture: bytes) -> float:
    start = time.perf_counter()
    peer.publish(ECHO, picture)
    echoed, _ = heard.get(timeout=ANSWER_S)
    echo = echoed - start
    start = time.perf_counter()
    peer.publish(TOPIC, picture)
    answered, payload = heard.get(timeout=ANSWER_S)
    steps = json.loads(payload)["timing_ms"]
    # A camera's pace: the machine may rest between two frames.
    time.sleep(0.005)
    return (answered - start - echo) * 1e3 - sum(steps[step] for step in STEPS)


def _subscribe(peer: mqtt.Client, topic: str) -> None:
    granted = threading.Event()
    peer.on_subscribe = lambda *_: granted.set()
    peer.subscribe(topic, 0)
    if not granted.wait(ANSWER_S):
        raise SystemExit("bench: the broker does not answer a subscription")
