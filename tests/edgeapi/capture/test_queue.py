"""Which captures leave together, and when: laws of the queue, whatever happens."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.edgeapi.edge_manager.capture.queue import (
    Arrived,
    CaptureTaken,
    Failed,
    Flush,
    Queue,
    Rules,
    Tick,
    due,
    step,
)

RULES = Rules(batch_size=3, period_s=4.0)


def run(queue: Queue, *events: tuple[object, float]) -> tuple[Queue, list[tuple[int, ...]]]:
    sent = []
    for event, now in events:
        queue, batch = step(queue, event, now, RULES)
        sent += [batch] if batch else []
    return queue, sent


def test_a_full_batch_leaves_at_once() -> None:
    queue, sent = run(
        Queue(), (CaptureTaken(1), 0.0), (CaptureTaken(2), 0.1), (CaptureTaken(3), 0.2), (CaptureTaken(4), 0.3)
    )
    assert sent == [(1, 2, 3)]
    assert [number for number, _ in queue.waiting] == [4]


def test_one_that_is_not_full_leaves_when_its_first_has_waited_for_the_period() -> None:
    queue, sent = run(Queue(), (CaptureTaken(1), 10.0), (CaptureTaken(2), 13.0), (Tick(), 13.9))
    assert (sent, due(queue, RULES)) == ([], 14.0)
    assert run(queue, (Tick(), 14.0))[1] == [(1, 2)]


def test_one_that_failed_is_sent_again_as_it_was_when_its_pause_is_over() -> None:
    queue, sent = run(
        Queue(),
        (CaptureTaken(1), 0.0),
        (Tick(), 4.0),
        (CaptureTaken(2), 4.1),
        (Failed(2.0), 5.0),
        (CaptureTaken(3), 6.0),
    )
    assert (sent, due(queue, RULES)) == ([(1,)], 7.0)
    assert run(queue, (Tick(), 7.0), (Arrived(), 8.0), (Tick(), 9.0))[1] == [(1,), (2, 3)]


def test_a_flush_waits_for_no_period_and_ends_with_what_waits() -> None:
    queue, sent = run(Queue(), (CaptureTaken(1), 0.0), (Flush(), 0.1), (Arrived(), 0.2), (CaptureTaken(2), 0.3))
    assert (sent, due(queue, RULES)) == ([(1,)], 0.3 + 4.0)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["taken", "tick", "flush", "arrived", "failed"]), st.floats(0, 10)), max_size=60
)


@given(EVENTS)
def test_whatever_happens_each_capture_arrives_in_order_in_one_batch(events: list[tuple[str, float]]) -> None:
    queue, now, number = Queue(), 0.0, 0
    travelling: tuple[int, ...] = ()
    arrived: list[int] = []
    attempts: list[tuple[int, ...]] = []

    def happens(event: object) -> None:
        nonlocal queue, travelling
        queue, batch = step(queue, event, now, RULES)
        if batch:
            assert not travelling
            assert len(batch) <= RULES.batch_size
            assert not attempts or attempts[-1] == batch or attempts[-1][-1] < batch[0]
            attempts.append(batch)
            travelling = batch

    for word, passed in events:
        now += passed
        if word == "taken":
            number += 1
            happens(CaptureTaken(number))
        elif word in {"arrived", "failed"} and travelling:
            batch, travelling = travelling, ()
            arrived += batch if word == "arrived" else ()
            happens(Arrived() if word == "arrived" else Failed(passed))
        else:
            happens(Flush() if word == "flush" else Tick())
        assert len(queue) == number - len(arrived)
    while len(queue):
        if travelling:
            batch, travelling = travelling, ()
            arrived += batch
            happens(Arrived())
        else:
            assert due(queue, RULES) < math.inf
            now = max(now, due(queue, RULES))
            happens(Tick())
    assert arrived == [*range(1, number + 1)]
