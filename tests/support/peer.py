"""A plain MQTT client beside the agent: what a camera, a dashboard or a person with mosquitto_sub would be."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.until import PATIENCE_S

Check = Callable[[mqtt.MQTTMessage], bool]


class Peer:
    """Remembers what it heard, and waits for what it has not heard yet."""

    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.username_pw_set(username, password)
        self.client.on_message = self._on_message
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._granted.set()
        self._filters: list[str] = []
        self._granted = threading.Event()
        self._news = threading.Condition()
        self.heard: list[mqtt.MQTTMessage] = []
        self.client.reconnect_delay_set(0.05, 0.2)
        self.client.connect("127.0.0.1", port)
        self.client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client.loop_start()

    def subscribe(self, topic_filter: str) -> None:
        self._granted.clear()
        self._filters.append(topic_filter)
        self.client.subscribe(topic_filter, 1)
        assert self._granted.wait(PATIENCE_S)

    def publish(
        self, topic: str, payload: bytes | str = b"", *, qos: int = 1, retain: bool = False, **properties: Any
    ) -> None:
        told = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(told, name, value)
        self.client.publish(topic, payload, qos, retain, properties=told).wait_for_publish(PATIENCE_S)

    def wait(self, topic: str, check: Callable[[Any], bool] = lambda _: True, timeout_s: float = PATIENCE_S) -> Any:
        """The first JSON message on a topic that the check accepts, heard already or to come."""

        def accepted(message: mqtt.MQTTMessage) -> bool:
            # An empty payload clears a topic.
            return bool(message.payload) and check(json.loads(message.payload))

        return json.loads(self.message(topic, accepted, timeout_s).payload)

    def message(self, topic: str, check: Check = lambda _: True, timeout_s: float = PATIENCE_S) -> mqtt.MQTTMessage:
        deadline = time.monotonic() + timeout_s
        with self._news:
            looked = 0
            while True:
                for message in self.heard[looked:]:
                    looked += 1
                    if message.topic == topic and check(message):
                        return message
                if not self._news.wait(deadline - time.monotonic()):
                    topics = [message.topic for message in self.heard][-20:]
                    raise TimeoutError(f"nothing fitting came on {topic}; heard lately: {topics}")

    def all(self, topic: str) -> list[Any]:
        """Every JSON message heard on a topic so far."""
        with self._news:
            return [json.loads(message.payload) for message in self.heard if message.topic == topic and message.payload]

    def forget(self) -> None:
        with self._news:
            self.heard.clear()

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        for topic_filter in self._filters:
            client.subscribe(topic_filter, 1)

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self._news:
            self.heard.append(message)
            self._news.notify_all()


@contextmanager
def peer(port: int, username: str | None = None, password: str | None = None) -> Iterator[Peer]:
    """A connected peer."""
    made = Peer(port, username, password)
    try:
        yield made
    finally:
        made.client.disconnect()
        made.client.loop_stop()
