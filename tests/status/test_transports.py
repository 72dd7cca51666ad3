"""What the agent says of its transports."""

from __future__ import annotations

import asyncio
from pathlib import Path

import jsonschema
import msgspec

from agent.config.transports import OutboxOptions
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.transport import Message
from agent.results.schemas import schema
from agent.status.transports import TransportStatusPublisher
from agent.topics import Topics
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
