"""A stream between a bus in memory and real workers: acknowledgements, replies and the end of each frame."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np

from agent.config.outbox import OutboxOptions
from agent.config.streams import FrameLimits, InputOptions, OutputOptions, Policy, StreamOptions
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.transport import Message, Transport
from agent.results.formats import Context
from agent.sources.base import Source
from agent.streams.metrics import Reports
from agent.streams.output import StreamOutput
from agent.streams.stream import Stream
from agent.streams.streams import source
from tests.support import pictures, unruly
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

OPTIONS = StreamOptions(model="m", input=InputOptions(topic="cameras/+", transport="bus"))


@asynccontextmanager
async def stream_in(
    folder: Path, options: StreamOptions = OPTIONS, others: Mapping[str, Transport] | None = None, **model
) -> AsyncIterator[tuple[Stream, MemoryTransport, MemoryTransport]]:
    bus = MemoryBus()
    async with (
        asyncio.TaskGroup() as tasks,
        MemoryTransport(bus, "agent") as ours,
        MemoryTransport(bus, "camera") as theirs,
        InferencePlane(tasks, folder / "quarantine") as plane,
    ):
        await plane.load("m", unruly.spec(folder, **model))
        output = StreamOutput("line", "box", options, {"bus": ours} | dict(others or {}), folder, Context())
        async with Stream(
            "line",
            options,
            plane=plane,
            source=listening(options, ours),
            output=output,
            limits=FrameLimits(),
            changed=lambda: None,
        ) as stream:
            yield stream, ours, theirs


def listening(options: StreamOptions, transport: MemoryTransport) -> Source:
    return source(options, {"bus": transport}, Path(), max_bytes=FrameLimits().max_bytes, changed=lambda: None)


def _named(folder: Path) -> ModelSpec:
    """A slow model whose results carry the folder's name."""
    spec = unruly.spec(folder, backend_options={"slow_s": 0.02})
    return msgspec.structs.replace(spec, manifest=msgspec.structs.replace(spec.manifest, name=folder.name))


async def done(stream: Stream, received: int) -> None:
    await until(lambda: stream.metrics.received >= received and not stream.metrics.pending)


async def test_under_the_policy_all_a_frame_is_acknowledged_when_it_is_done_and_not_before(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.ALL)
    async with stream_in(tmp_path, options, backend_options={"slow_s": 0.2}) as (stream, ours, theirs):
        theirs.publish(Message("cameras/a", unruly.jpeg("slow"), qos=1))
        theirs.publish(Message("cameras/a", b"\x80 no picture", qos=1))
        await until(lambda: stream.metrics.received >= 2)
        assert len(ours.unacknowledged) == 1
        await done(stream, 2)
        assert len(ours.unacknowledged) == 0


async def test_a_frame_is_acknowledged_only_when_its_answer_and_its_result_are_on_disk(tmp_path) -> None:
    topic = OutputOptions(topic="results", transport="cloud")
    options = msgspec.structs.replace(OPTIONS, policy=Policy.ALL, outputs=(topic,))
    gate, path = threading.Event(), tmp_path / "outbox.db"
    async with (
        Outbox(MemoryTransport(MemoryBus(), "cloud"), OutboxOptions(), path) as cloud,
        stream_in(tmp_path, options, others={"cloud": cloud}) as (stream, ours, theirs),
    ):
        cloud._writer._thread.submit(gate.wait)  # a disk that stands still
        theirs.publish(Message("cameras/a", unruly.jpeg("answer"), qos=1))
        await done(stream, 1)
        assert (stream.metrics.answered, len(ours.unacknowledged)) == (1, 1)
        gate.set()
        await until(lambda: not ours.unacknowledged)


async def test_a_camera_that_sends_poison_costs_the_other_camera_no_answer(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.FIFO, depth=64, max_age_ms=30_000)
    async with stream_in(tmp_path, options, workers=2) as (stream, _, theirs):
        for number in range(10):
            theirs.publish(Message("cameras/bad", unruly.jpeg("crash", number % 5)))
            for one in range(4):
                theirs.publish(Message("cameras/good", unruly.jpeg("answer", 4 * number + one)))
            await until(lambda sent=number: stream.metrics.received == 5 * (sent + 1) and not stream.metrics.pending)
    assert stream.metrics.cameras["good"].answered == 40
    assert stream.metrics.failed == {"worker-crashed": 3, "camera-held": 7}


async def test_a_dropped_frame_that_asked_for_an_answer_is_told_why(tmp_path) -> None:
    async with stream_in(tmp_path, backend_options={"slow_s": 0.3}) as (stream, _, theirs):
        answers: list[Message] = []
        theirs.subscribe("answers", answers.append)
        for number in range(5):
            theirs.publish(
                Message("cameras/a", unruly.jpeg("slow"), response_topic="answers", correlation_data=bytes([number]))
            )
        await done(stream, 5)
        await until(lambda: len(answers) >= 5)
    told = {answer.correlation_data: msgspec.json.decode(answer.payload) for answer in answers}
    assert len(told) == 5
    codes = [told[bytes([number])].get("error", {}).get("code", "answered") for number in range(5)]
    assert codes == ["answered", "answered", "superseded", "superseded", "answered"]


async def test_a_slow_camera_gets_its_turn_beside_a_fast_one(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.FIFO, depth=100)
    async with stream_in(tmp_path, options, backend_options={"slow_s": 0.02}) as (stream, ours, theirs):
        order: list[str] = []
        ours.subscribe(
            "verge/box/results/line", lambda m: order.append(msgspec.json.decode(m.payload)["frame"]["camera"])
        )
        for _ in range(20):
            theirs.publish(Message("cameras/fast", unruly.jpeg("slow")))
        theirs.publish(Message("cameras/slow", unruly.jpeg("slow")))
        await done(stream, 21)
        await until(lambda: len(order) >= 21)
    assert order.index("slow") <= 4


async def test_a_stream_switches_models_between_two_frames_and_loses_none(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.FIFO, depth=100)
    async with stream_in(tmp_path, options, backend_options={"slow_s": 0.02}) as (stream, ours, theirs):
        results: list[dict] = []
        ours.subscribe("verge/box/results/line", lambda m: results.append(msgspec.json.decode(m.payload)))
        await stream._plane.load("n", _named(tmp_path / "other"))
        for _ in range(40):
            theirs.publish(Message("cameras/a", unruly.jpeg("slow")))
        await until(lambda: stream.metrics.answered >= 5)
        changed = msgspec.structs.replace(options, model="n")
        stream.switch(changed, stream.source, StreamOutput("line", "box", changed, {"bus": ours}, tmp_path, Context()))
        await done(stream, 40)
        await until(lambda: len(results) >= 40)
        await stream._plane.unload("m")
    assert (stream.metrics.answered, stream.metrics.dropped.total()) == (40, 0)
    assert {result["frame"]["sequence"] for result in results} == set(range(1, 41))
    assert {result["model"]["component"] for result in results} == {"model", "other"}


async def test_a_switch_to_other_topics_takes_effect_at_once_and_keeps_what_waits(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.FIFO, depth=100)
    async with stream_in(tmp_path, options, backend_options={"slow_s": 0.05}) as (stream, ours, theirs):
        for _ in range(5):
            theirs.publish(Message("cameras/a", unruly.jpeg("slow")))
        await until(lambda: stream.metrics.received >= 5)
        changed = msgspec.structs.replace(options, input=InputOptions(topic="doors/+", transport="bus"))
        stream.switch(
            changed, listening(changed, ours), StreamOutput("line", "box", changed, {"bus": ours}, tmp_path, Context())
        )
        theirs.publish(Message("cameras/a", unruly.jpeg("slow")))
        theirs.publish(Message("doors/b", unruly.jpeg("slow")))
        await done(stream, 6)
    assert stream.metrics.answered == 6
    assert set(stream.metrics.cameras) == {"a", "b"}


async def test_a_switch_to_another_policy_still_acknowledges_what_was_held(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.ALL)
    async with stream_in(tmp_path, options, backend_options={"slow_s": 0.1}) as (stream, ours, theirs):
        for _ in range(3):
            theirs.publish(Message("cameras/a", unruly.jpeg("slow"), qos=1))
        await until(lambda: stream.metrics.received >= 3)
        assert len(ours.unacknowledged) == 3
        changed = msgspec.structs.replace(options, policy=Policy.FIFO)
        stream.switch(
            changed, listening(changed, ours), StreamOutput("line", "box", changed, {"bus": ours}, tmp_path, Context())
        )
        await done(stream, 3)
        assert len(ours.unacknowledged) == 0


async def test_a_report_of_refused_payloads_says_how_many_it_stands_for(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("agent.streams.stream.Reports", functools.partial(Reports, per_s=0.2))
    async with stream_in(tmp_path) as (stream, _, theirs):
        for _ in range(3):
            theirs.publish(Message("cameras/a", b"\x80 no picture"))
        await done(stream, 3)
        assert len(caplog.records) == 1
        await asyncio.sleep(0.25)  # the interval of the reports passes
        theirs.publish(Message("cameras/a", b"\x80 no picture"))
        await done(stream, 4)
    assert "(and 2 more since the last report)" in caplog.records[1].message


async def test_a_picture_whose_decoder_complained_is_answered_marked_and_counted(tmp_path) -> None:
    noise = np.random.default_rng(1).integers(96, 160, (96, 128, 3), np.uint8)
    picture = pictures.encode(noise, "jpeg")
    async with stream_in(tmp_path, msgspec.structs.replace(OPTIONS, policy=Policy.FIFO)) as (stream, ours, theirs):
        results: list[dict] = []
        ours.subscribe("verge/box/results/line", lambda m: results.append(msgspec.json.decode(m.payload)))
        for payload in (picture, picture[: len(picture) // 2] + b"\xff\xd9", picture + bytes(50_000)):
            theirs.publish(Message("cameras/a", payload))
        await until(lambda: len(results) >= 3)
    assert [result["frame"].get("damaged", False) for result in results] == [False, True, False]
    assert (stream.metrics.answered, stream.metrics.damaged) == (3, 1)
