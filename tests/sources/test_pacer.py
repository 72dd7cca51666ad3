"""Beats on a real event loop."""

from __future__ import annotations

import asyncio

from agent.sources.base import Pacer
from tests.support.until import until


async def test_beats_keep_to_the_grid_while_serving_takes_its_time() -> None:
    loop = asyncio.get_running_loop()
    served: list[float] = []
    pacer = Pacer(lambda: served.append(loop.time()) is None)
    began = loop.time()
    pacer.set(0.05)
    await until(lambda: len(served) >= 20)
    points = (served[-1] - began) / 0.05
    assert points - 1 <= pacer.beats + pacer.missed - 1 <= points + 1
    assert pacer.beats == len(served)
    pacer.stop()


async def test_a_beat_that_is_refused_is_missed() -> None:
    answers = iter([True, False, True])
    pacer = Pacer(lambda: next(answers, True))
    pacer.set(0.02)
    await until(lambda: pacer.beats >= 4)
    assert pacer.missed >= 1
    pacer.stop()


async def test_another_interval_leaves_one_schedule() -> None:
    loop = asyncio.get_running_loop()
    served: list[float] = []
    pacer = Pacer(lambda: served.append(loop.time()) is None)
    pacer.set(3600)
    await until(lambda: served)
    for interval_s in (0.3, 3600, 0.2, 3600, 0.05):
        pacer.set(interval_s)
    await until(lambda: len(served) >= 6)
    pacer.set(0)
    count = len(served)
    assert count <= (served[-1] - served[0]) / 0.05 + 2
    await asyncio.sleep(0.2)
    assert len(served) == count
    assert not pacer.on


async def test_serving_that_fails_does_not_end_the_schedule() -> None:
    calls, errors = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def serve() -> bool:
        calls.append(1)
        raise ValueError("no")

    pacer = Pacer(serve)
    pacer.set(0.02)
    await until(lambda: len(calls) >= 3)
    pacer.stop()
    assert len(errors) == len(calls)
