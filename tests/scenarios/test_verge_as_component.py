"""Verge as a component of a Greengrass nucleus, as ``verge component init greengrass`` begins it.

The nucleus is our own IPC server; Verge is a process of its own that finds there what the nucleus gives a component.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.greengrass.recipes import reader
from agent.inference.manifest import SAMPLES
from agent.mqtt.greengrass.client import SOCKET, TOKEN, GreengrassTransport
from agent.mqtt.transport import Message
from tests.support import ipc
from tests.support.commands import invoke
from tests.support.inbox import Inbox, connected, delivered, subscribed
from tests.support.nucleus import Nucleus, nucleus
from tests.support.until import PATIENCE_S, until

NAME = "com.example.Verge"
RESULTS, STATUS = "verge/edge/results/cameras", "verge/edge/status"
CAT = (SAMPLES.parent / "images" / "chelsea.jpg").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The component as it is begun."""
    done = invoke(tmp_path, "component", "init", "greengrass", NAME)
    assert done.returncode == 0, done.stderr
    return tmp_path / NAME


@asynccontextmanager
async def verge(device: Nucleus, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Verge, with what the recipe's Run step and a nucleus put into its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VERGE_")} | {
        SOCKET: str(device.socket), TOKEN: ipc.TOKEN, "VERGE_THING": "edge", "VERGE_DATA_DIR": str(folder / "data"),
    }  # fmt: skip
    command = [sys.executable, "-m", "agent", "run", "-c", str(folder / "verge" / "verge.toml")]
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE_S)


@asynccontextmanager
async def camera(device: Nucleus, results: Inbox, status: Inbox) -> AsyncIterator[GreengrassTransport]:
    """Another component, which sends frames and reads what Verge says."""
    async with GreengrassTransport("camera", replace(device.options, token="OTHER")) as other:
        await connected(other)
        other.subscribe(RESULTS, results)
        other.subscribe(STATUS, status)
        await subscribed(other, "verge/test")
        yield other


async def test_a_local_frame_is_answered_through_iot_core_and_nothing_is_asked_that_the_recipe_does_not_allow(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
):
    results, status = Inbox(), Inbox()
    async with nucleus(tmp_path / "ipc.socket") as device, camera(device, results, status) as other:
        recipe, _ = reader.read(folder / "recipe.yaml")
        device.access = recipe.configuration["accessControl"]
        async with verge(device, folder):
            await status.until(lambda said: any(json.loads(one.payload).get("state") == "online" for one in said))
            await until(lambda: device.asked("SubscribeToTopic", "cameras/+/frame") == 1)
            await delivered(other, Message("cameras/door/frame", CAT, qos=1))
            (message,) = await results.wait(1)
            result = json.loads(message.payload)
            assert (result["frame"]["camera"], result["predictions"][0]["label"]) == ("door", "Egyptian cat")

            device.disconnect()
            await until(lambda: device.asked("SubscribeToTopic", "cameras/+/frame") == 2)
            await delivered(other, Message("cameras/gate/frame", CAT, qos=1))
            await results.until(lambda came: json.loads(came[-1].payload)["frame"]["camera"] == "gate")
    assert "may not do" not in caplog.text


async def test_its_goodbye_goes_through_the_nucleus_too(tmp_path: Path, folder: Path):
    results, status = Inbox(), Inbox()
    async with nucleus(tmp_path / "ipc.socket") as device, camera(device, results, status):
        async with verge(device, folder):
            await status.until(lambda said: any(json.loads(one.payload).get("state") == "online" for one in said))
        await status.until(lambda said: json.loads(said[-1].payload)["state"] == "offline")


def test_outside_of_a_nucleus_it_says_what_it_misses(tmp_path: Path, folder: Path):
    done = invoke(tmp_path, "run", "-c", str(folder / "verge" / "verge.toml"), "--check")
    assert done.returncode != 0
    assert f"transports.nucleus.socket: transport nucleus finds no Greengrass nucleus: {SOCKET} is not set" in (
        done.stdout + done.stderr
    )
