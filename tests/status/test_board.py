"""What the agent tells of itself, on a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agent.config.streams import FrameLimits, InputOptions, StreamOptions
from agent.inference.plane import InferencePlane
from agent.results.formats import Context
from agent.sources.topic import TopicSource
from agent.status.board import StatusBoard
from agent.streams.output import StreamOutput
from agent.streams.stream import Stream
from agent.topics import Topics
from tests.support.memory import MemoryBus, MemoryTransport

TOPICS = Topics("box")
OPTIONS = StreamOptions(model="m", input=InputOptions(topic="cameras/+", transport="bus"))


@asynccontextmanager
async def told(bus: MemoryBus, folder: Path, interval_s: float) -> AsyncIterator[tuple[StatusBoard, Stream]]:
    """A board at work that tells of one stream, whose books the test writes."""
    async with (
        asyncio.TaskGroup() as tasks,
        MemoryTransport(bus, "agent") as ours,
        InferencePlane(tasks, folder / "quarantine") as plane,
        StatusBoard("box", TOPICS, ours, interval_s) as board,
    ):
        output = StreamOutput("line", "box", OPTIONS, {"bus": ours}, folder, Context())
        stream = Stream(
            "line",
            OPTIONS,
            plane=plane,
            source=TopicSource(ours, "cameras/+"),
            output=output,
            limits=FrameLimits(),
            changed=board.changed,
        )
        board.add(stream)
        running = tasks.create_task(board.run())
        yield board, stream
        running.cancel()


async def test_counters_are_published_while_trouble_lasts(tmp_path) -> None:
    bus = MemoryBus()
    async with told(bus, tmp_path, 0.1) as (_, stream), asyncio.timeout(10):
        topic, seen = TOPICS.stream("line"), set()
        while len(seen) < 4:
            # The kind of loss stays the same, so that only the interval has a reason to tell.
            stream.metrics.arrived("door")
            stream.metrics.drop("door", "too-old")
            stream._changed()
            await asyncio.sleep(0.005)
            if topic in bus.retained:
                seen.add(msgspec.json.decode(bus.retained[topic].payload)["received"])


async def test_a_link_that_comes_back_after_the_goodbye_leaves_offline_retained() -> None:
    bus = MemoryBus()
    async with MemoryTransport(bus, "agent") as ours:
        async with StatusBoard("box", TOPICS, ours, 30) as board:
            board.ready()
            ours.drop()
        ours.restore()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert msgspec.json.decode(bus.retained[TOPICS.status].payload)["state"] == "offline"
