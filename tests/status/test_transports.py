"""What the agent says of its transports."""

from __future__ import annotations

import asyncio
from pathlib import Path

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from agent.config.transports import OutboxOptions
from agent.mqtt.client import MqttTransport
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.transport import Message
from agent.results.schemas import schema
from agent.status.transports import TransportStatusPublisher
from agent.topics import Topics
from tests.support.broker import Broker
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until


async def test_a_transport_s_topic_tells_what_waits_in_its_outbox_and_when_the_link_is_back(tmp_path: Path) -> None:
    bus, retained, topics = MemoryBus(), {}, Topics("box")
    ours = MemoryTransport(bus, "agent")
    async with (
        asyncio.TaskGroup() as tasks,
        Outbox(ours, OutboxOptions(), tmp_path / "o.db") as outbox,
    ):
        uplinks = TransportStatusPublisher(topics, {"cloud": outbox}, retained.__setitem__, interval_s=0.05)
        running = tasks.create_task(uplinks.run())

        async def says(check) -> None:
            await until(lambda: check(msgspec.json.decode(retained.get(topics.transport("cloud"), b"null")) or {}))

        await says(lambda told: told.get("connected") and told["outbox"]["depth"] == 0)
        ours.drop()
        outbox.publish(Message("results/a", b"{}", qos=1))
        await says(lambda told: not told.get("connected", True) and told["outbox"]["depth"] == 1)
        ours.restore()
        await says(lambda told: told.get("connected") and told["outbox"]["delivered"] == 1)
        running.cancel()
        jsonschema.validate(
            msgspec.json.decode(retained[topics.transport("cloud")]), msgspec.json.decode(schema("transport-status"))
        )


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_two_agents_with_one_client_id_are_told_on_their_transports_topic(version: str, broker: Broker) -> None:
    options = replace(broker.options, version=version, client_id=f"twin-{version}")
    topics, retained = Topics("box"), {}
    async with (
        asyncio.TaskGroup() as tasks,
        MqttTransport("local", options) as ours,
        MqttTransport("other", options),
    ):
        links = TransportStatusPublisher(topics, {"local": ours}, retained.__setitem__, interval_s=0.05)
        running = tasks.create_task(links.run())
        told: dict = {}

        def guessed() -> bool:
            told.update(msgspec.json.decode(retained.get(topics.transport("local"), b"{}")))
            return "guess" in told.get("link", {})

        await until(guessed)
        running.cancel()
    assert f"'twin-{version}'" in told["link"]["guess"]
    assert told["link"]["trouble"]["code"] in {"taken-over", "connection-closed"}
    jsonschema.validate(told, msgspec.json.decode(schema("transport-status")))


async def test_what_is_told_of_a_kept_session_keeps_to_the_schema(broker: Broker) -> None:
    options = replace(broker.options, clean_start=False, client_id="keeper")
    transport, retained = MqttTransport("local", options), {}
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            TransportStatusPublisher(Topics("box"), {"local": transport}, retained.__setitem__, interval_s=1).run()
        )
        await until(lambda: retained)
        running.cancel()
    (told,) = map(msgspec.json.decode, retained.values())
    assert told["session"] == {"held_back": 0, "no_room": 0, "unclaimed": 0}
    jsonschema.validate(told, msgspec.json.decode(schema("transport-status")))
