"""The simulated cameras: what they see, when they publish, and what they say on leaving."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent
from agent.config.transports import MqttOptions
from agent.demo import broker as brokers
from agent.demo import camera
from agent.demo.camera import Pan
from agent.mqtt.factory import create
from tests.support.inbox import Inbox

PICTURES = Path(agent.__file__).parent / "samples" / "images"


@pytest.fixture(scope="module")
def pictures():
    return [camera._read(path) for path in sorted(PICTURES.glob("*.jpg"))]


def difference(one, other) -> float:
    return float(np.abs(one[::4, ::4].astype(int) - other[::4, ::4].astype(int)).mean())


@given(seconds=st.floats(0, 1e6), first=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_look_at_any_time_is_a_640_by_480_colour_picture(pictures, seconds, first):
    seen = Pan(pictures, first).look(seconds)
    assert seen.shape == (480, 640, 3)
    assert seen.dtype == np.uint8


def test_it_pans_smoothly_and_turns_to_the_next_picture_every_four_seconds(pictures):
    pan = Pan(pictures, 0)
    steps = [difference(pan.look(n / 10), pan.look((n + 1) / 10)) for n in range(160)]
    turns = [n for n, step in enumerate(steps) if step > 40]
    assert turns == [39, 79, 119, 159]
    assert min(steps) > 0.1


def test_different_cameras_start_on_different_pictures(pictures):
    first = [Pan(pictures, n).look(0) for n in range(4)]
    assert all(difference(one, other) > 20 for one, other in itertools.combinations(first, 2))


def test_the_window_never_leaves_the_picture():
    """A picture without black, looked at for a minute, never shows black."""
    white = np.full((300, 451, 3), 255, np.uint8)
    for tick in range(120):
        assert Pan([white], 0).look(tick / 2).min() == 255


def test_frames_leave_camera_after_camera_on_an_absolute_schedule():
    schedule = camera._schedule(["a", "b"], 50, threading.Event())
    begun = time.monotonic()
    plan = list(itertools.islice(schedule, 21))
    took = time.monotonic() - begun
    assert plan == [("ab"[n % 2], pytest.approx(n / 100)) for n in range(21)]
    assert took >= 0.2


def test_a_slow_frame_does_not_delay_those_after_it():
    schedule = camera._schedule(["a"], 10, threading.Event())
    begun = time.monotonic()
    next(schedule)
    time.sleep(1.5)  # drawing took long
    list(itertools.islice(schedule, 19))
    assert time.monotonic() - begun < 1.9 + 1.4  # 20 frames take 1.9 s when nothing drifts, and 3.4 s when it does


@asynccontextmanager
async def on_air(folder, *options: str):
    """The cameras' process, and the frames that arrive from it."""
    async with (
        brokers.running("auto", 0, folder) as broker,
        create("reader", MqttOptions(port=broker.port)) as reader,
    ):
        inbox = Inbox()
        reader.subscribe("cameras/+/frame", inbox, qos=1)
        arguments = ["-m", "agent.demo.camera", "--port", str(broker.port), "--pictures", str(PICTURES), *options]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, cwd=PICTURES.parents[2]
        )
        try:
            yield process, inbox, broker
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_as_many_frames_arrive_as_it_says_it_published(tmp_path):
    async with on_air(tmp_path, "--fps", "50", "--frames", "31", "front-door", "line-3") as (process, inbox, _):
        said, _ = await process.communicate()
        assert process.returncode == 0
        assert json.loads(said) == {"published": {"front-door": 16, "line-3": 15}}
        messages = await inbox.wait(31)
        assert Counter(message.topic for message in messages) == {
            "cameras/front-door/frame": 16,
            "cameras/line-3/frame": 15,
        }
        assert all(message.payload.startswith(b"\xff\xd8\xff") for message in messages)


async def test_sigterm_ends_it_with_the_true_count(tmp_path):
    async with on_air(tmp_path, "--fps", "50", "yard") as (process, inbox, _):
        await inbox.wait(5)
        process.send_signal(signal.SIGTERM)
        said, _ = await process.communicate()
        assert process.returncode == 0
        count = json.loads(said)["published"]["yard"]
        assert len(await inbox.wait(count)) == count


async def test_when_the_broker_is_gone_it_says_so_and_what_was_acknowledged(tmp_path):
    async with on_air(tmp_path, "--fps", "50", "yard") as (process, inbox, broker):
        # What a subscriber has heard may be acknowledged to the camera a moment later.
        await inbox.wait(10)
        broker.child.process.kill()
        async with asyncio.timeout(8):
            said, _ = await process.communicate()
        assert process.returncode == 1
        assert json.loads(said)["published"]["yard"] >= 5
