"""Cameras that are played by processes: real video files and a camera on the network that misbehaves."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.config.streams import CameraOptions, FrameLimits
from agent.frames.recognise import recognise
from agent.inference.runtime.decode import decode
from agent.mqtt.backoff import Backoff
from agent.sources.base import SourceState
from agent.sources.camera import CameraSource
from tests.sources.cameras import HEIGHT, WIDTH, Camera, number, video
from tests.sources.receiver import Given, Receiver
from tests.support.until import until

LIMIT = FrameLimits().max_bytes


@asynccontextmanager
async def playing(
    source: str | int, *, eager: bool = True, folder: Path = Path(), max_bytes: int = LIMIT, **settings: Any
) -> AsyncIterator[Receiver]:
    camera = CameraSource(
        CameraOptions(source=str(source), **settings), folder, max_bytes=max_bytes, backoff=lambda: Backoff(0.05, 0.2)
    )
    receiver = Receiver(camera, eager=eager)
    receiver.open()
    yield receiver
    pid = camera.pid
    camera.close()
    await camera.wait_closed()
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return pid > 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def seen(given: Given) -> np.ndarray:
    """A frame as the worker sees it: recognised by the core, decoded by the worker's side, BGR."""
    picture = recognise(given.message.payload, given.message.content_type, FrameLimits())
    return decode(picture.data, picture.encoding, None).pixels


def assert_red_left_and_blue_right(picture: np.ndarray) -> None:
    red, blue = picture[HEIGHT // 2, WIDTH // 4], picture[HEIGHT // 2, WIDTH * 3 // 4]
    assert red[2] > 200
    assert red[0] < 60
    assert blue[0] > 200
    assert blue[2] < 60


async def state(receiver: Receiver, wanted: SourceState) -> str:
    await until(lambda: receiver.source.status.state is wanted)
    return receiver.source.status.reason


@pytest.mark.parametrize(("fourcc", "encoding"), [("MJPG", "jpeg"), ("FFV1", "npy")])
async def test_colours_arrive_as_they_were_filmed_however_the_picture_crosses(tmp_path, fourcc, encoding) -> None:
    path = video(tmp_path / "clip.avi", 5, fourcc=fourcc)
    async with playing(path.name, folder=tmp_path, pace="asked") as receiver:
        await state(receiver, SourceState.ENDED)
        assert receiver.source.status.encoding == encoding
    assert_red_left_and_blue_right(seen(receiver.given[0]))


async def test_raw_pictures_cross_without_loss(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 1, fourcc="FFV1")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    _, filmed = capture.read()
    capture.release()
    async with playing(path, pace="asked") as receiver:
        await receiver.has(1)
    assert np.array_equal(seen(receiver.given[0]), filmed)


async def test_a_picture_too_large_to_cross_raw_crosses_as_a_jpeg(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 1, fourcc="FFV1")
    async with playing(path, pace="asked", max_bytes=WIDTH * HEIGHT * 3) as receiver:
        await receiver.has(1)
        assert receiver.source.status.encoding == "jpeg"
    assert_red_left_and_blue_right(seen(receiver.given[0]))


async def test_a_file_that_is_asked_gives_every_picture_in_order_and_ends(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 12)
    async with playing(path, pace="asked") as receiver:
        await state(receiver, SourceState.ENDED)
        status = receiver.source.status
    assert [number(seen(given)) for given in receiver.given] == list(range(12))
    assert (status.delivered, status.skipped, status.reconnects, status.reason) == (12, 0, 0, "")


async def test_a_file_at_its_own_pace_takes_as_long_as_it_was_recorded_and_skips_what_nobody_asks_for(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 20, fps=20)
    async with playing(path, eager=False) as receiver:
        receiver.source.want()
        await receiver.has(1)
        began = time.monotonic()
        await state(receiver, SourceState.ENDED)
        took = time.monotonic() - began
        assert receiver.source.status.delivered == 1
        assert receiver.source.status.skipped == 18  # the last one is still held
    assert took > 0.8


async def test_a_file_can_begin_again_at_its_end(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 3)
    async with playing(path, pace="asked", loop=True) as receiver:
        await receiver.has(8)
        assert receiver.source.status.state is SourceState.RUNNING
    assert [number(seen(given)) for given in receiver.given[:8]] == [0, 1, 2, 0, 1, 2, 0, 1]


async def test_the_newest_picture_is_given_and_each_at_most_once() -> None:
    with Camera(fps=100) as server:
        async with playing(f"http://127.0.0.1:{server.port}/", eager=False) as receiver:
            for count in range(1, 6):
                before = server.served
                asked_at = time.time()
                receiver.source.want()
                await receiver.has(count)
                given = receiver.given[-1]
                assert given.captured_at is not None
                assert given.captured_at > asked_at - 1.5
                await until(lambda before=before: server.served > before + 10)
            status = receiver.source.status
    assert status.skipped is not None
    assert status.skipped >= 20
    assert status.encoding == "jpeg"
    assert len(set(receiver.payloads)) == 5 or len({given.captured_at for given in receiver.given}) == 5


async def test_a_beat_is_missed_while_the_camera_is_away_and_its_picture_is_not_given_later() -> None:
    with Camera() as server:
        url = f"http://127.0.0.1:{server.port}/"
        async with playing(url, eager=False) as receiver:
            camera = receiver.source
            assert camera.beat(), "the first picture is waited for"
            await receiver.has(1)
            server.refusing.set()
            server.drop()
            await state(receiver, SourceState.WAITING)
            assert not camera.beat()
            server.refusing.clear()
            await state(receiver, SourceState.RUNNING)
            await asyncio.sleep(0.3)
            assert len(receiver.given) == 1
            assert camera.beat()
            await receiver.has(2)


async def test_a_camera_that_drops_the_connection_is_connected_again() -> None:
    with Camera() as server:
        async with playing(f"http://127.0.0.1:{server.port}/") as receiver:
            await receiver.has(3)
            server.refusing.set()
            server.drop()
            assert await state(receiver, SourceState.WAITING)
            server.refusing.clear()
            await state(receiver, SourceState.RUNNING)
            count = len(receiver.given)
            await receiver.has(count + 3)
            assert (receiver.source.status.reconnects or 0) >= 1


async def test_a_camera_that_hangs_is_killed_and_opened_anew_and_nothing_stale_is_given() -> None:
    with Camera() as server:
        async with playing(f"http://127.0.0.1:{server.port}/", timeout_s=1.5) as receiver:
            await receiver.has(3)
            hung = receiver.source.pid
            server.stalled.set()
            stalled_at = time.time()
            reason = await state(receiver, SourceState.WAITING)
            assert "1.5 s" in reason or "no more pictures" in reason
            await until(lambda: not alive(hung))
            count = len(receiver.given)
            server.stalled.clear()
            resumed_at = time.time()
            await receiver.has(count + 2)
            for given in receiver.given[count:]:
                assert given.captured_at is not None
                assert given.captured_at > (stalled_at + resumed_at) / 2


async def test_a_camera_that_is_not_there_is_waited_for_and_found_when_it_comes(tmp_path, caplog) -> None:
    path = tmp_path / "later.avi"
    async with playing(path, pace="asked", loop=True) as receiver:
        assert f"there is no {path}" in await state(receiver, SourceState.WAITING)
        await until(lambda: (receiver.source.status.reconnects or 0) >= 2)
        assert receiver.source.status.state is SourceState.WAITING
        video(tmp_path / "made.avi", 3).rename(path)
        await receiver.has(1)
    assert caplog.text.count("there is no") == 1


async def test_a_process_that_is_killed_is_replaced() -> None:
    with Camera() as server:
        async with playing(f"http://127.0.0.1:{server.port}/") as receiver:
            await receiver.has(1)
            pid = receiver.source.pid
            os.kill(pid, signal.SIGKILL)
            assert "SIGKILL" in await state(receiver, SourceState.WAITING)
            count = len(receiver.given)
            await receiver.has(count + 2)
            assert receiver.source.pid not in {0, pid}


async def test_credentials_are_in_no_status_log_topic_or_argument(caplog, tmp_path) -> None:
    caplog.set_level(logging.DEBUG)
    with Camera(credentials="admin:hunter2secret") as server:
        good = f"http://admin:hunter2secret@127.0.0.1:{server.port}/live?token=tok3ntok3n"
        async with playing(good) as receiver:
            await receiver.has(1)
            arguments = Path(f"/proc/{receiver.source.pid}/cmdline").read_bytes()
            surroundings = Path(f"/proc/{receiver.source.pid}/environ").read_bytes()
            texts = repr(receiver.source.status) + receiver.given[0].message.topic
            texts += receiver.source.camera(receiver.given[0].message)
        bad = f"http://admin:hunter2secretwrong@127.0.0.1:{server.port}/live?token=tok3ntok3n"
        async with playing(bad) as receiver:
            reason = await state(receiver, SourceState.WAITING)
    assert "401" in reason
    for text in (texts, reason, caplog.text, arguments.decode(), surroundings.decode(errors="replace")):
        assert "hunter2" not in text
        assert "tok3n" not in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gstreamer: videotestsrc ! appsink", "GStreamer"),
        ("picamera2", "picamera2"),
        ("63", "there is no /dev/video63"),
        ("rtsp://127.0.0.1:1/live", "cannot be opened"),
    ],
)
async def test_what_cannot_be_opened_says_why(source, said) -> None:
    async with playing(source, timeout_s=5.0) as receiver:
        await until(lambda: receiver.source.status.state in {SourceState.WAITING, SourceState.BROKEN})
        assert said in receiver.source.status.reason


async def test_picamera2_is_used_where_it_can_be_imported(tmp_path, monkeypatch) -> None:
    (tmp_path / "picamera2.py").write_text(PICAMERA)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with playing("picamera2", width=WIDTH, height=HEIGHT, fps=10) as receiver:
        await receiver.has(2)
        status = receiver.source.status
        assert (status.width, status.height, status.encoding) == (WIDTH, HEIGHT, "npy")
    assert_red_left_and_blue_right(seen(receiver.given[0]))


PICAMERA = '''
import time
import numpy as np

class Picamera2:
    """As the real one: what it calls RGB888 lies in memory as blue, green, red."""
    def __init__(self, number): pass
    def create_video_configuration(self, main, controls):
        assert main["format"] == "RGB888" and controls == {"FrameRate": 10.0}
        return {"main": main}
    def configure(self, configuration): self.configuration = configuration
    def camera_configuration(self): return self.configuration
    def start(self): pass
    def capture_array(self, name):
        time.sleep(0.02)
        width, height = self.configuration["main"]["size"]
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, : width // 2, 2] = 255
        picture[:, width // 2 :, 0] = 255
        return picture
'''


async def test_a_camera_that_is_opened_again_plays_again(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 5)
    async with playing(path, loop=True) as receiver:
        await receiver.has(1)
        first = receiver.source.pid
        receiver.source.close()
        assert receiver.source.status.state is SourceState.STOPPED
        count = len(receiver.given)
        receiver.open()
        await receiver.has(count + 1)
        assert not alive(first)


async def test_no_camera_outlives_a_core_that_is_killed(tmp_path) -> None:
    path = video(tmp_path / "clip.avi", 5)
    core = subprocess.Popen([sys.executable, "-c", CORE, str(path)], stdout=subprocess.PIPE, text=True)
    assert core.stdout is not None
    pid = int(core.stdout.readline())
    assert alive(pid)
    core.kill()
    core.wait()
    core.stdout.close()
    await until(lambda: not alive(pid))


CORE = """
import asyncio, sys
from pathlib import Path
from agent.sources.camera import CameraSource
from agent.config.streams import CameraOptions

async def main():
    camera = CameraSource(CameraOptions(source=sys.argv[1], loop=True), Path(), max_bytes=1 << 20)
    camera.open(lambda message, **facts: print(camera.pid, flush=True))
    camera.want()
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_an_interpreter_that_is_not_there_is_told_and_tried_again(tmp_path) -> None:
    async with playing(tmp_path / "clip.avi", interpreter=str(tmp_path / "python")) as receiver:
        assert "cannot run" in await state(receiver, SourceState.BROKEN)


async def test_a_server_that_says_nothing_is_given_up_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with playing(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=1.0) as receiver:
            assert "opened" in await state(receiver, SourceState.WAITING)
