"""Parts side by side are the object's bytes in order, whatever breaks."""

from __future__ import annotations

import asyncio
import random
import time
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from agent.greengrass.artifacts.errors import ArtifactUnreachableError
from agent.greengrass.artifacts.stores.s3 import PARALLEL, Parts

DATA = random.Random(5).randbytes(5000)


def answering(data: bytes, breaks_at: int | None = None):
    """Ask for a part: late by chance, and cut short where the link breaks."""

    def ask(start: int, end: int) -> HTTPResponse:
        time.sleep(random.uniform(0, 0.002))
        cut = end if breaks_at is None else min(end, max(start, breaks_at))
        return HTTPResponse(BytesIO(data[start:cut]), preload_content=False)

    return ask


async def taken(parts: Parts) -> bytes:
    came = b""
    try:
        async for chunk in parts.chunks():
            came += chunk
    except ArtifactUnreachableError:
        return came
    finally:
        await parts.close()
    return came


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5000), st.integers(300, 6000), st.none() | st.integers(0, 5000))
def test_what_comes_is_a_beginning_of_the_rest_and_the_gate_is_left_open(start, part_bytes, breaks_at):
    async def run() -> None:
        gate = asyncio.Semaphore(PARALLEL)
        parts = Parts(answering(DATA, breaks_at), "s3://b/k", start, len(DATA), gate, part_bytes)
        came = await taken(parts)
        whole = DATA[start:]
        assert came == (whole if breaks_at is None else whole[: max(0, breaks_at - start)])
        for _ in range(PARALLEL):
            await asyncio.wait_for(gate.acquire(), 10)

    asyncio.run(run())


async def test_a_reader_that_stops_leaves_the_gate_open():
    gate = asyncio.Semaphore(PARALLEL)
    parts = Parts(answering(DATA), "s3://b/k", 0, len(DATA), gate, 100)
    chunks = parts.chunks()
    for _ in range(8):
        assert await anext(chunks)
    await parts.close()
    assert [await asyncio.wait_for(gate.acquire(), 10) for _ in range(PARALLEL)] == [True] * PARALLEL


async def test_one_gate_bounds_the_parts_of_all_objects_and_none_starves():
    busy = busiest = 0

    def ask(start: int, end: int) -> HTTPResponse:
        nonlocal busy, busiest
        busy += 1
        busiest = max(busiest, busy)
        time.sleep(0.002)
        busy -= 1
        return HTTPResponse(BytesIO(DATA[start:end]), preload_content=False)

    gate = asyncio.Semaphore(PARALLEL)
    rows = [Parts(ask, "s3://b/k", 0, len(DATA), gate, 250) for _ in range(6)]
    assert await asyncio.gather(*(taken(row) for row in rows)) == [DATA] * 6
    assert busiest <= PARALLEL


async def test_what_the_store_says_of_a_part_is_raised_as_it_is():
    def ask(start: int, end: int) -> HTTPResponse:
        raise ArtifactUnreachableError("the object was replaced")

    parts = Parts(ask, "s3://b/k", 0, len(DATA), asyncio.Semaphore(1))
    with pytest.raises(ArtifactUnreachableError, match="replaced"):
        await anext(parts.chunks())
    await parts.close()
