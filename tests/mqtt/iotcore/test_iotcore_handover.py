"""From other threads to the loop: in order, bounded, with few wake-ups."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agent.mqtt.iotcore.awscrt import Event, Published
from agent.mqtt.iotcore.connection import Handover
from agent.mqtt.receiving import Received
from agent.mqtt.transport import Message
from tests.support.until import until


def received(size: int = 1, *, qos: int = 0) -> Received:
    return Received(Message("t", bytes(size), qos), (), object() if qos else None)


async def in_a_thread(handover: Handover, events: list[Event]) -> None:
    thread = threading.Thread(target=lambda: [handover.put(event) for event in events])
    thread.start()
    thread.join()  # the loop takes nothing meanwhile


async def test_events_keep_their_order_and_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch):
    taken: list[Event] = []
    handover = Handover(taken.append, max_messages=10_000, max_bytes=10_000)
    loop, wakes = asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *errors: (wakes.append(errors), wake(*errors)))
    events = [Published(number, None) for number in range(1000)]
    await in_a_thread(handover, events)
    await until(lambda: len(taken) == 1000)
    assert taken == events
    assert len(wakes) == 1
    await asyncio.sleep(0)  # the turn that finds nothing more
    await in_a_thread(handover, events[:1])
    await until(lambda: len(taken) == 1001)
    assert len(wakes) == 2


async def test_others_have_their_turn_in_a_flood():
    turns: list[int] = []
    taken: list[Event] = []
    handover = Handover(taken.append, max_messages=1, max_bytes=1)
    await in_a_thread(handover, [Published(number, None) for number in range(1000)])
    while len(taken) < 1000:
        await asyncio.sleep(0)
        turns.append(len(taken))
    assert len(set(turns)) >= 10


@pytest.mark.parametrize(
    ("bounds", "size", "kept"),
    [({"max_messages": 5, "max_bytes": 1000}, 1, 5), ({"max_messages": 100, "max_bytes": 50}, 10, 5)],
)
async def test_messages_of_qos_0_that_find_no_room_are_dropped_and_counted(
    bounds: dict[str, Any], size: int, kept: int
):
    taken: list[Event] = []
    handover = Handover(taken.append, **bounds)
    await in_a_thread(handover, [received(size) for _ in range(kept)])
    assert handover.dropped == 0
    await in_a_thread(handover, [received(size), received(size, qos=1), Published(1, None)])
    assert handover.dropped == 1
    await until(lambda: len(taken) == kept + 2)
    await in_a_thread(handover, [received(size)])
    await until(lambda: len(taken) == kept + 3)
    assert handover.dropped == 1


async def test_what_fails_in_the_loop_does_not_stop_what_comes_behind():
    taken: list[Event] = []

    def take(event: Event) -> None:
        taken.append(event)
        if len(taken) == 1:
            raise RuntimeError("the first fails")

    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    handover = Handover(take, max_messages=1, max_bytes=1)
    await in_a_thread(handover, [Published(number, None) for number in range(3)])
    await until(lambda: len(taken) == 3)
    assert [str(error) for error in errors] == ["the first fails"]


def test_what_comes_after_the_loop_is_closed_hurts_nobody():
    async def make() -> Handover:
        return Handover(lambda _: None, max_messages=1, max_bytes=1)

    asyncio.run(make()).put(Published(1, None))
