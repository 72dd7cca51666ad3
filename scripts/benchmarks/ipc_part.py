"""What a component measures from inside: ``python -m scripts.benchmarks.ipc_part echo|sit …``, started by the agent.

``echo BROKER_PORT OUT SECONDS`` publishes to itself over Greengrass's socket with Amazon's SDK, and over a mosquitto
with paho, in turns, and writes what it took as JSON.  ``sit`` connects and stays.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import paho.mqtt.client as mqtt
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

SIZES = {"1k": 1_000, "56k": 56_000}
WINDOW = 32
TRIPS = 300
TURNS = 3

Publish = Callable[[bytes, Callable[[], None]], None]
"""Publishes a payload; the callback is called once that is acknowledged."""


class Meeting:
    """Counts what comes back."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)

    def arrived(self, *_: Any) -> None:
        """A message came."""
        self.came.release()


def main(arguments: list[str]) -> None:
    """Do what the agent was told to have done."""
    if arguments[0] == "sit":
        client = GreengrassCoreIPCClientV2()
        client.subscribe_to_topic(topic="nothing", on_stream_event=lambda _: None)
        threading.Event().wait()
    port, out, seconds = int(arguments[1]), Path(arguments[2]), float(arguments[3])
    told: dict[str, list[float]] = {}
    contestants = {"ipc": over_ipc, "mqtt": lambda meeting: over_mqtt(meeting, port)}
    for _ in range(TURNS):
        for name, made in contestants.items():
            meeting = Meeting()
            publish = made(meeting)
            for size, count in SIZES.items():
                payload = os.urandom(count)
                told.setdefault(f"{name}_{size}_ms_p50", []).append(round_trip(publish, meeting, payload))
                told.setdefault(f"{name}_{size}_msgs_per_s", []).append(rate(publish, meeting, payload, seconds))
    part = out.with_suffix(".part")
    part.write_text(json.dumps({name: median(values) for name, values in told.items()}))
    part.rename(out)
    threading.Event().wait()


def round_trip(publish: Publish, meeting: Meeting, payload: bytes) -> float:
    """Milliseconds from publishing to the subscriber's handler, one at a time."""
    taken = []
    for _ in range(TRIPS):
        began = time.perf_counter()
        publish(payload, lambda: None)
        meeting.came.acquire()
        taken.append(time.perf_counter() - began)
    return 1e3 * median(taken)


def rate(publish: Publish, meeting: Meeting, payload: bytes, seconds: float) -> float:
    """Messages a second that arrive, with so many on their way."""
    window = threading.Semaphore(WINDOW)
    began, sent = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        window.acquire()
        publish(payload, window.release)
        sent += 1
    for _ in range(sent):
        meeting.came.acquire()
    return sent / (time.perf_counter() - began)


def over_ipc(meeting: Meeting) -> Publish:
    """By local publish and subscribe, as Amazon's second client does it."""
    client = GreengrassCoreIPCClientV2()
    client.subscribe_to_topic(topic="bench/echo", on_stream_event=meeting.arrived)

    def publish(payload: bytes, acknowledged: Callable[[], None]) -> None:
        message = model.PublishMessage(binary_message=model.BinaryMessage(message=payload))
        future = client.publish_to_topic_async(topic="bench/echo", publish_message=message)
        future.add_done_callback(lambda _: acknowledged())

    return publish


def over_mqtt(meeting: Meeting, port: int) -> Publish:
    """By a broker, QoS 1, as paho does it."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = meeting.arrived
    waiting: deque[Callable[[], None]] = deque()
    # As it comes, paho waits 40 ms for the other side's acknowledgement of TCP.
    client.on_socket_open = lambda _client, _data, link: link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.on_publish = lambda *_: waiting.popleft()()
    client.connect("127.0.0.1", port)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.loop_start()
    client.subscribe("bench/echo", 1)
    subscribed.wait()

    def publish(payload: bytes, acknowledged: Callable[[], None]) -> None:
        waiting.append(acknowledged)
        client.publish("bench/echo", payload, 1)

    return publish


if __name__ == "__main__":
    main(sys.argv[1:])
