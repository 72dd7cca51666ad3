"""A day without a link: what fits in the bound is there afterwards, in order, and the rest is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.config.transports import OutboxOptions
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.store import Clock
from agent.mqtt.transport import Message
from tests.support.inbox import connected
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

RESULTS = int(os.environ.get("VERGE_OUTAGE_RESULTS", "40000"))
"""VERGE_OUTAGE_RESULTS=1000000 is the whole day."""
STREAMS = 4
DAY_S = 86_400.0
PATIENCE_S = 600.0
FILLING = b', "predictions": [{"label": "Cat", "label_id": 8, "score": 0.853}]}'


class Day:
    """A clock that goes on with the results."""

    def __init__(self) -> None:
        self.results = 0

    def __call__(self) -> float:
        return 1_700_000_000.0 + self.results * DAY_S / RESULTS


@pytest.mark.parametrize("policy", ["drop-oldest", "newest-per-stream"])
async def test_after_a_day_offline_everything_within_the_bound_arrives_in_order(tmp_path: Path, policy: str):
    day, bus, path = Day(), MemoryBus(), tmp_path / "outbox.db"
    transport = MemoryTransport(bus, "uplink")
    options = OutboxOptions(max_bytes=RESULTS * 80, policy=policy)
    arrived: dict[str, list[int]] = {}

    def receive(message: Message) -> None:
        arrived.setdefault(message.topic, []).append(int(message.payload[6:].split(b",", 1)[0]))

    async with (
        MemoryTransport(bus, "cloud") as cloud,
        Outbox(transport, options, path, clock=Clock(day, day)) as outbox,
    ):
        await connected(cloud)
        cloud.subscribe("verge/#", receive, qos=1)
        await connected(outbox)
        transport.drop()
        while day.results < RESULTS:
            topic = f"verge/thing/results/line-{day.results % STREAMS}"
            outbox.publish(Message(topic, b'{"n": %d' % day.results + FILLING, 1))
            day.results += 1
            await until(lambda: len(outbox._writer) <= 4000)
        await until(lambda: not len(outbox._writer))
        kept = outbox.status.depth
        assert 0 < outbox.status.bytes <= options.max_bytes
        assert outbox.status.lost == {"outbox-full": RESULTS - kept}
        assert path.stat().st_size < options.max_bytes * 1.3
        transport.restore()
        await until(lambda: not outbox.status.depth)
        assert outbox.status.replayed == kept
    assert sorted(arrived) == [f"verge/thing/results/line-{stream}" for stream in range(STREAMS)]
    for stream, topic in enumerate(sorted(arrived)):
        newest = range(stream, RESULTS, STREAMS)[-len(arrived[topic]) :]
        assert arrived[topic] == list(newest)
    assert sum(map(len, arrived.values())) == kept
