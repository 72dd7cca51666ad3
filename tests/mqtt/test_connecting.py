"""A connection attempt that nobody waits for any more."""

from __future__ import annotations

import asyncio
import threading

import pytest
from paho.mqtt.client import Client

from agent.config.transports import MqttOptions
from agent.mqtt.connection import connect
from agent.mqtt.limits import MQTT_5
from agent.mqtt.paho import new_client
from tests.support.broker import Broker
from tests.support.until import until


@pytest.fixture
def client(own_broker: Broker) -> Client:
    return new_client(own_broker.options, MQTT_5, None, None)


async def leave_behind(client: Client, gate: threading.Event) -> None:
    client.on_pre_connect = lambda *_: gate.wait(10)
    attempt = asyncio.create_task(connect(client))
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_an_attempt_that_is_left_behind_says_goodbye_when_it_gets_through(own_broker: Broker, client: Client):
    gate = threading.Event()
    await leave_behind(client, gate)
    gate.set()
    await until(lambda: " disconnected." in own_broker.log)
    assert client.socket() is None


async def test_an_attempt_that_outlives_its_loop_says_goodbye_too(own_broker: Broker, client: Client):
    gate = threading.Event()
    await asyncio.to_thread(asyncio.run, leave_behind(client, gate))
    gate.set()
    await until(lambda: " disconnected." in own_broker.log)
    assert client.socket() is None


async def test_what_kept_an_attempt_from_a_connection_is_raised(free_port: int):
    client = new_client(MqttOptions(port=free_port), MQTT_5, None, None)
    with pytest.raises(ConnectionRefusedError):
        await connect(client)
