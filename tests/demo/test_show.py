"""The demo as a person or a script runs it, against real brokers, the real agent and real cameras."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agent
from agent.config.load import load
from agent.demo.broker import HOST

ROOT = Path(agent.__file__).parents[1]
VERGE = [sys.executable, "-m", "agent"]
PATIENCE_S = 90

needs_mosquitto = pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "TERM": "xterm", **more}


async def demo(folder: Path, *options: str, **more: str) -> tuple[int, str, str]:
    """Run it to its end: exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *VERGE, "demo", *options, env=environment(folder, **more), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def on_stage(folder: Path, *options: str) -> AsyncIterator[Any]:
    """A demo that has told of its first answers."""
    process = await asyncio.create_subprocess_exec(
        *VERGE, "demo", *options, env=environment(folder), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for line in process.stderr:
                if re.search(rb"[1-9]\d* answered", line):
                    break
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def finish(process: Any) -> tuple[int, dict[str, Any]]:
    """Wait for its end: exit status and summary."""
    out, _ = await process.communicate()
    return process.returncode, json.loads(out)


def children(pid: int) -> dict[str, int]:
    """The demo's children by what they are."""
    found = {}
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        kinds = {"agent run": "agent", "agent.demo.camera": "cameras", "mosquitto": "broker", "iotcore": "broker"}
        found |= {kind: child for word, kind in kinds.items() if word in command}
    return found


def assert_whole(summary: dict[str, Any], frames: int) -> None:
    assert summary["frames"] == summary["received"] == frames
    assert summary["answered"] + summary["dropped"] + summary["failed"] == frames
    assert summary["results"] == summary["answered"] > 0
    assert summary["failed"] == 0
    assert summary["fps"] > 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]


@needs_mosquitto
async def test_a_number_of_frames_ends_it_with_one_json_object_and_nothing_else_on_standard_output(tmp_path):
    # Settings of an agent of the user's own are not the demo's.
    strange = {"VERGE_THING": "elsewhere", "VERGE_NONSENSE": "1"}
    status, out, err = await demo(tmp_path, "--frames", "20", "--fps", "20", "--json", **strange)
    assert status == 0, err
    summary = json.loads(out)
    assert out.count("\n") == 1
    assert_whole(summary, 20)
    assert set(summary["cameras"]) == {"front-door", "line-3"}
    assert [camera["frames"] for camera in summary["cameras"].values()] == [10, 10]
    assert summary["broker"].startswith("mosquitto 127.0.0.1:")
    assert summary["model"]["component"] == "ssd-mobilenet-v2"


async def test_it_runs_where_nothing_is_on_the_path_and_leaves_only_pictures(tmp_path):
    options = ("--frames", "12", "--cameras", "3", "--model", "classifier", "--json")
    status, out, err = await demo(tmp_path, *options, PATH="")
    assert status == 0, err
    summary = json.loads(out)
    assert_whole(summary, 12)
    assert summary["broker"].startswith("embedded rumqttd 127.0.0.1:")
    assert summary["model"]["component"] == "efficientnet-lite0"
    snapshots = Path(summary["snapshots"])
    (work,) = tmp_path.iterdir()
    assert list(work.iterdir()) == [snapshots]
    pictures = list(snapshots.iterdir())
    assert {picture.name.split("-", 1)[1] for picture in pictures} == {"front-door.jpg", "line-3.jpg", "yard.jpg"}
    assert all(picture.read_bytes().startswith(b"\xff\xd8\xff") for picture in pictures)


async def test_without_json_the_summary_is_words_and_progress_is_on_standard_error(tmp_path):
    status, out, err = await demo(tmp_path, "--seconds", "0.5", "--model", "classifier", "--keep")
    assert status == 0, err
    assert "every frame is accounted for" in out
    assert "annotated pictures: " in out
    assert "broker: " in err
    (work,) = tmp_path.iterdir()
    assert {"agent.log", "broker.log", "cameras.log", "demo.toml"} <= {entry.name for entry in work.iterdir()}


async def test_ctrl_c_ends_it_in_order_with_the_summary_and_status_0(tmp_path):
    async with on_stage(tmp_path, "--json", "--model", "classifier") as process:
        family = children(process.pid)
        assert set(family) == {"broker", "agent", "cameras"}
        process.send_signal(signal.SIGINT)
        status, summary = await finish(process)
    assert status == 0
    assert_whole(summary, summary["frames"])
    assert not [kind for kind, pid in family.items() if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("victim", ["broker", "agent", "cameras"])
async def test_when_a_child_dies_the_figures_come_with_the_reason_and_status_1(victim, tmp_path):
    async with on_stage(tmp_path, "--json") as process:
        family = children(process.pid)
        os.kill(family[victim], signal.SIGKILL)
        status, summary = await finish(process)
    assert status == 1
    assert summary["trouble"].startswith(f"the {victim} ended (signal SIGKILL)")
    assert summary["answered"] > 0
    assert not [kind for kind, pid in family.items() if Path(f"/proc/{pid}").exists()]


async def test_nothing_is_left_when_the_demo_itself_is_killed(tmp_path):
    async with on_stage(tmp_path) as process:
        watched = [os.pidfd_open(pid) for pid in children(process.pid).values()]
        assert len(watched) == 3
        process.kill()
        for descriptor in watched:
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(descriptor, gone.set)
            await gone.wait()
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


async def test_on_a_terminal_a_table_is_drawn_and_the_ctrl_c_key_ends_it(tmp_path):
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *VERGE, "demo", "--model", "classifier", env=environment(tmp_path, COLUMNS="80"), cwd=ROOT,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # a session's first terminal controls it
    )  # fmt: skip
    os.close(theirs)
    drawn, asked = b"", False
    async with asyncio.timeout(PATIENCE_S):
        async for piece in _pieces(ours):
            drawn += piece
            if not asked and b"espresso" in drawn:
                os.write(ours, b"\x03")
                asked = True
        status = await process.wait()
    assert status == 0
    assert b"sees now" in drawn
    assert b"every frame is accounted for" in drawn


async def _pieces(descriptor: int) -> AsyncIterator[bytes]:
    """What is written to a terminal, until its last user leaves."""
    loop = asyncio.get_running_loop()
    while True:
        readable = asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        await readable.wait()
        loop.remove_reader(descriptor)
        try:
            yield os.read(descriptor, 65536)
        except OSError:
            os.close(descriptor)
            return


async def test_an_agent_that_cannot_start_is_reported_with_its_last_words(tmp_path):
    status, out, err = await demo(tmp_path, "--model", "nonsense", "--json")
    assert status == 3
    assert out == ""
    assert "the agent ended (exit status 2)" in err
    assert "there is no model" in err
    assert list(tmp_path.iterdir()) == []


async def test_a_port_in_use_is_refused(tmp_path):
    server = await asyncio.start_server(lambda *_: None, HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status, out, err = await demo(tmp_path, "--port", str(port))
    assert (status, out) == (2, "")
    assert f"port {port} cannot be used" in err


async def test_the_demos_process_imports_neither_numpy_nor_opencv():
    code = "import sys, agent.cli.demo; sys.exit(any(name in sys.modules for name in ('numpy', 'cv2')))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    assert await process.wait() == 0


def test_its_configuration_is_also_one_for_a_broker_of_ones_own():
    path = ROOT / "configs" / "demo.toml"
    assert path.resolve() == ROOT / "agent" / "demo" / "demo.toml"
    config = load(path, {})
    assert config.transports["local"].address == "127.0.0.1:1883"
    assert config.streams["cameras"].input.topic == "cameras/+/frame"
