"""A stream with frames from each kind of source, real workers behind it: beats, switches and the way back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agent.config.streams import CameraOptions, DirectoryOptions, FrameLimits, InputOptions, Policy, StreamOptions
from agent.inference.plane import InferencePlane
from agent.mqtt.transport import Message
from agent.results.formats import Context
from agent.sources.base import SourceState
from agent.sources.camera import CameraSource
from agent.status.board import StreamReport
from agent.streams.stream import Stream
from agent.streams.streams import Streams
from tests.sources.cameras import video
from tests.support import unruly
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until


class Box:
    """Streams over a bus in memory, with a model ``m``."""

    def __init__(self, streams: Streams, plane: InferencePlane, theirs: MemoryTransport) -> None:
        self.streams = streams
        self.plane = plane
        self.theirs = theirs
        self.results: list[dict] = []
        theirs.subscribe("verge/box/results/line", lambda m: self.results.append(msgspec.json.decode(m.payload)))

    async def add(self, options: StreamOptions) -> Stream:
        await self.streams.add("line", options, Context())
        return self.streams["line"]

    def report(self) -> dict:
        """The stream's retained topic."""
        report = StreamReport(self.streams["line"], self.plane.status)
        return msgspec.json.decode(msgspec.json.encode(report.payload()))


@asynccontextmanager
async def box(folder: Path, models: tuple[str, ...] = ("m",)) -> AsyncIterator[Box]:
    bus = MemoryBus()
    async with (
        asyncio.TaskGroup() as tasks,
        MemoryTransport(bus, "agent") as ours,
        MemoryTransport(bus, "camera") as theirs,
        InferencePlane(tasks, folder / "quarantine") as plane,
        Streams(
            "box", plane, {"bus": ours}, folder, memory=folder / "streams", limits=FrameLimits(),
            room=lambda _: 10, added=lambda _: None,
            removed=lambda _: None, changed=lambda: None,
        ) as streams,
    ):  # fmt: skip
        for name in models:
            await plane.load(name, unruly.spec(folder / name))
        yield Box(streams, plane, theirs)


def wish(model: str = "m", policy: Policy = Policy.LATEST, **how) -> StreamOptions:
    return StreamOptions(model=model, input=InputOptions(**how), policy=policy)


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    os.utime(folder / name, (time.time() - 60, time.time() - 60))


async def test_a_picture_in_a_folder_is_answered_at_every_beat_and_what_is_none_is_a_failed_frame(tmp_path) -> None:
    put(tmp_path, "cat.jpg", unruly.jpeg("answer"))
    async with box(tmp_path) as here:
        stream = await here.add(wish(directory=DirectoryOptions(path=".", name="cat.jpg"), interval_s=0.1))
        await until(lambda: len(here.results) >= 3)
        put(tmp_path, "cat.jpg", b"\x80 no picture")
        await until(lambda: stream.metrics.failed["not-an-image"] >= 2)
        (tmp_path / "cat.jpg").unlink()
        await until(lambda: stream.source.status.state is SourceState.WAITING)
        told = here.report()
    frame = here.results[0]["frame"]
    assert (frame["topic"], frame["camera"]) == ("cat.jpg", tmp_path.name)
    assert frame["captured_at"] < frame["received_at"]
    assert told["source"]["kind"] == "directory"
    assert told["source"]["name"] == str(tmp_path / "cat.jpg")
    assert told["source"]["interval_s"] == 0.1
    assert told["source"]["beats"] >= told["received"] >= 5
    assert "No such file" in told["source"]["reason"]


async def test_every_new_picture_of_a_watched_folder_is_answered_whatever_the_policy_and_past_broken_ones(
    tmp_path,
) -> None:
    (tmp_path / "in").mkdir()
    async with box(tmp_path) as here:
        stream = await here.add(wish(directory=DirectoryOptions(path="in", settle_s=0.0)))
        await until(lambda: stream.source.status.state is SourceState.RUNNING)
        for number in range(20):
            put(tmp_path / "in", f"{number:02}.jpg", unruly.jpeg("answer") if number % 4 else b"\x80 no picture")
        await until(lambda: stream.metrics.received == 20 and not stream.metrics.pending)
        assert (stream.metrics.answered, stream.metrics.failed.total(), stream.metrics.dropped.total()) == (15, 5, 0)


async def test_a_stream_without_an_interval_takes_a_cameras_pictures_as_fast_as_it_can(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 30)
    async with box(tmp_path) as here:
        stream = await here.add(wish(camera=CameraOptions(source=path.name, pace="asked", name="door")))
        await until(lambda: stream.source.status.state is SourceState.ENDED and not stream.metrics.pending)
        told = here.report()
        await until(lambda: len(here.results) == 30)
    assert (told["received"], told["answered"], told["dropped"]) == (30, 30, {})
    assert told["source"]["state"] == "ended"
    assert told["cameras"].keys() == {"door"}
    assert here.results[0]["frame"]["captured_at"] <= here.results[0]["frame"]["received_at"]


async def test_a_camera_plays_on_while_the_model_and_the_interval_change(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 30)
    camera = CameraOptions(source=str(path), loop=True)
    async with box(tmp_path, ("m", "n")) as here:
        stream = await here.add(wish(camera=camera, interval_s=0.1))
        await until(lambda: stream.metrics.answered >= 2)
        source = stream.source
        assert isinstance(source, CameraSource)
        pid = source.pid
        switched = here.streams.switch("line", wish("n", camera=camera, interval_s=0.2), Context())
        count = stream.metrics.answered
        await until(lambda: stream.metrics.answered >= count + 2)
        assert here.report()["source"]["interval_s"] == 0.2
        switched.back()
        here.streams.switch("line", wish(camera=camera), Context()).keep()
        count = stream.metrics.answered
        await until(lambda: stream.metrics.answered >= count + 10)
        assert (stream.source, source.pid) == (source, pid)
        assert "beats" not in here.report()["source"]
        assert source.status.reconnects == 0


async def test_a_switch_to_another_kind_of_source_can_be_taken_back(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 30)
    async with box(tmp_path) as here:
        stream = await here.add(wish(topic="cameras/+"))
        here.theirs.publish(Message("cameras/a", unruly.jpeg("answer")))
        await until(lambda: stream.metrics.answered == 1)
        switched = here.streams.switch("line", wish(camera=CameraOptions(source=str(path), loop=True)), Context())
        here.theirs.publish(Message("cameras/b", unruly.jpeg("answer")))
        await until(lambda: stream.metrics.answered >= 5)
        camera = stream.source
        switched.back()
        await until(lambda: not stream.metrics.pending)
        count = stream.metrics.received
        assert camera.status.state is SourceState.STOPPED
        here.theirs.publish(Message("cameras/c", unruly.jpeg("answer")))
        await until(lambda: stream.metrics.answered == count + 1)
        assert stream.metrics.cameras.keys() == {"a", "clip", "c"}
        assert stream.source_status.kind == "topic"


async def test_with_an_interval_one_frame_of_each_topic_passes_at_a_beat_and_the_others_are_accounted_for(
    tmp_path,
) -> None:
    async with box(tmp_path) as here:
        stream = await here.add(wish(topic="cameras/+", interval_s=0.5))
        answers: list[Message] = []
        here.theirs.subscribe("answers", answers.append)
        for _ in range(4):
            for camera in ("a", "b"):
                frame = Message(f"cameras/{camera}", unruly.jpeg("answer"), response_topic="answers")
                here.theirs.publish(frame)
        await until(lambda: stream.metrics.received == 8 and not stream.metrics.pending)
        assert (stream.metrics.answered, stream.metrics.dropped) == (2, {"superseded": 6})
        await until(lambda: len(answers) == 8)


async def test_with_an_interval_frames_that_must_all_be_answered_pass_one_by_one(tmp_path) -> None:
    async with box(tmp_path) as here:
        stream = await here.add(wish(policy=Policy.ALL, topic="cameras/+", interval_s=0.1))
        began = asyncio.get_running_loop().time()
        for _ in range(4):
            here.theirs.publish(Message("cameras/a", unruly.jpeg("answer"), qos=1))
        await until(lambda: stream.metrics.answered == 4)
        assert asyncio.get_running_loop().time() - began > 0.2


async def test_a_stream_that_is_removed_leaves_no_camera_behind(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 30)
    async with box(tmp_path) as here:
        stream = await here.add(wish(camera=CameraOptions(source=str(path), loop=True)))
        await until(lambda: stream.metrics.answered >= 1)
        source = stream.source
        assert isinstance(source, CameraSource)
        pid = source.pid
        await here.streams.remove("line")
        assert not Path(f"/proc/{pid}").exists()
