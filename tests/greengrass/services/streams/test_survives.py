"""What was acknowledged is there after the process was killed, whenever that was."""

import asyncio
import os
import signal
import sys
from contextlib import suppress

import pytest

from agent.greengrass.services.streams.manager import StreamManager
from tests.support.stream_client import APPEND, connected

SERVE = """
import asyncio, sys
from pathlib import Path
from agent.greengrass.services.streams.manager import StreamManager

async def main():
    service = StreamManager(Path(sys.argv[1]), {"token": "c"}.get)
    await service.apply({"STREAM_MANAGER_SERVER_PORT": 0})
    print(service.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 120])
@pytest.mark.parametrize("flush", [True, False])
async def test_acknowledged_appends_outlive_sigkill(tmp_path, acknowledged, flush):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with connected(int(await child.stdout.readline())) as client:
            await client.create("s", flushOnWrite=flush)
            # More are on their way than are acknowledged when it is killed.
            for number in range(acknowledged + 60):
                client.send(APPEND, name="s", payload=str(number).encode())
            numbers = {(await client.receive())[1]["sequenceNumber"] for _ in range(acknowledged)}
            os.kill(child.pid, signal.SIGKILL)
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    numbers.add((await client.receive())[1]["sequenceNumber"])
    except BaseException:
        child.kill()
        raise
    finally:
        ended = await child.wait()
    assert ended == -signal.SIGKILL
    service = StreamManager(tmp_path, {"token": "c"}.get)
    await service.apply({"STREAM_MANAGER_SERVER_PORT": 0})
    try:
        async with connected(service.port) as client:
            answer = await client.read("s", minMessageCount=len(numbers), maxMessageCount=1000)
            kept = {one["sequenceNumber"]: one["payload"] for one in answer["messages"]}
            assert numbers <= set(kept)
            assert kept == {number: str(number).encode() for number in range(len(kept))}
    finally:
        await service.apply(None)
