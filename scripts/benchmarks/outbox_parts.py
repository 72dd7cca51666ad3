"""The processes of ``scripts/bench outbox``: each measures one thing and prints it, or publishes until it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agent.config.transports import MqttOptions, OutboxOptions
from agent.mqtt.factory import create
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.transport import Message

SIZE = 300
STREAMS = 4
PATIENCE_S = 300.0
RUN = 1_000_000
"""Numbers that one life of an agent may use."""

MODULE = "scripts.benchmarks.outbox_parts"


async def part(name: str, *arguments: object) -> dict[str, Any]:
    """What a process of its own found."""
    command = [sys.executable, "-m", MODULE, name, *map(str, arguments)]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    if child.returncode:
        raise SystemExit(f"bench: {name} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(said)
    return found


def options_for(port: str, outbox: OutboxOptions | None = None) -> MqttOptions:
    return MqttOptions(port=int(port), backoff_base_s=0.02, backoff_cap_s=0.2, outbox=outbox)


def message(number: int, topic: str = "bench/results") -> Message:
    text = b'{"n": %d, "filling": "' % number
    return Message(f"{topic}/{number % STREAMS}", text + b"x" * (SIZE - len(text) - 2) + b'"}', 1)


def number_of(payload: bytes) -> int:
    return int(payload[6 : payload.index(b",")])


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds, for what no event tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def throughput(port: str, folder: str, count: str) -> dict[str, Any]:
    """Publish as fast as it is taken, until the last is delivered and removed."""
    async with create("bench", options_for(port, OutboxOptions()), folder=Path(folder)) as outbox:
        assert isinstance(outbox, Outbox)
        await until(lambda: outbox.state.connected)
        began = time.perf_counter()
        await fill(outbox, int(count), ahead=1000)
        await until(lambda: outbox.status.delivered == int(count))
        seconds = time.perf_counter() - began
    return {"msgs_per_s": round(int(count) / seconds)}


async def fill(outbox: Outbox, count: int, ahead: int) -> None:
    """Publish so many, no more than ``ahead`` of them ahead of the disk."""
    stored = 0

    def on_disk(_: object) -> None:
        nonlocal stored
        stored += 1

    for number in range(count):
        outbox.publish(message(number), on_disk)
        while number - stored >= ahead:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await until(lambda: stored == count)


async def latency(port: str, folder: str, count: str) -> dict[str, Any]:
    """The same message, now through the outbox and now not."""
    plain_options = options_for(port)
    async with (
        create("receiver", plain_options) as receiver,
        create("plain", plain_options) as plain,
        create("spooled", options_for(port, OutboxOptions()), folder=Path(folder)) as spooled,
    ):
        came = asyncio.Event()
        receiver.subscribe("bench/#", lambda _: came.set(), qos=1)
        await until(lambda: all(each.state.connected for each in (receiver, plain, spooled)))
        delays: dict[str, list[float]] = {"plain": [], "spooled": []}
        for number in range(int(count) + 20):
            for transport in (plain, spooled):
                came.clear()
                began = time.perf_counter()
                transport.publish(message(number))
                await asyncio.wait_for(came.wait(), PATIENCE_S)
                delays[transport.name].append(1e3 * (time.perf_counter() - began))
                await asyncio.sleep(0.005)
    halves = {name: sorted(found[20:]) for name, found in delays.items()}
    added = {
        f"added_ms_p{share}": round(_share(halves["spooled"], share) - _share(halves["plain"], share), 2)
        for share in (50, 95)
    }
    return {"added_ms_p50": added["added_ms_p50"], "added_ms_p95": added["added_ms_p95"]}


def _share(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)]


async def memory(port: str, folder: str, count: str) -> dict[str, Any]:
    """Fill an outbox whose broker is not there."""
    options = options_for(port, OutboxOptions(max_bytes=4 << 30))
    async with create("bench", options, folder=Path(folder)) as outbox:
        assert isinstance(outbox, Outbox)
        await fill(outbox, 100, ahead=100)
        empty = _rss_mb()
        began = time.perf_counter()
        await fill(outbox, int(count) - 100, ahead=2000)
        seconds = time.perf_counter() - began
        found = _rss_mb()
        assert outbox.status.depth == int(count)
    label = "1e6" if int(count) == RUN else count
    return {
        "rss_mb_empty": round(empty, 1),
        f"rss_mb_at_{label}": round(found, 1),
        "queued_per_s": round(int(count) / seconds),
    }


def _rss_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def victim(port: str, folder: str, start: str) -> dict[str, Any]:
    """Publish until killed, and tell each number that is acknowledged; with a negative start, only drain."""
    async with create("bench", options_for(port, OutboxOptions()), folder=Path(folder)) as outbox:
        assert isinstance(outbox, Outbox)
        if int(start) < 0:
            await until(lambda: outbox.state.connected and not outbox.status.depth)
            return {}
        for number in range(int(start), int(start) + RUN):
            outbox.publish(message(number), lambda error, n=number: _tell(n) if error is None else None)  # type: ignore[misc]
            if number % 10 == 0:
                await asyncio.sleep(0.02)
    return {}


def _tell(number: int) -> None:
    os.write(1, b"%d\n" % number)


PARTS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "throughput": throughput,
    "latency": latency,
    "memory": memory,
    "victim": victim,
}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(PARTS[sys.argv[1]](*sys.argv[2:]))))
