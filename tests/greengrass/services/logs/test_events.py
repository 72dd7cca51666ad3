"""Lines become events, and events batches that CloudWatch Logs takes."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.services.logs.events import EVENT_COST, MAX_BYTES, MAX_EVENTS, Event, batch, events

BLANK = re.compile(r"^\S")
DAY_MS = 86_400_000
LINES = (
    b"2026-11-29T10:00:00.250Z [INFO] a: stdout. one {serviceName=a}\n"
    b"  at more of it\n"
    b'{"level":"WARN","timestamp":1795946401000,"message":"two"}\n'
    b"without a time\n"
)


def read(data, *, pattern=BLANK, whole=True, cut=True, full=False):
    return events(data, 0, pattern, 7, whole=whole, cut=cut, full=full)


def test_an_event_has_the_time_and_level_of_its_line_and_the_lines_that_go_on_with_it():
    first, second, third = read(LINES)
    assert first.messages == ("2026-11-29T10:00:00.250Z [INFO] a: stdout. one {serviceName=a}\n  at more of it",)
    assert (first.time_ms, first.level, first.day) == (1795946400250, "INFO", "2026/11/29")
    assert (second.time_ms, second.level) == (1795946401000, "WARN")
    assert (third.time_ms, third.level) == (second.time_ms, "")
    assert third.end == len(LINES)


def test_a_first_line_without_a_time_has_that_of_the_file():
    assert [event.time_ms for event in read(b"x\n")] == [7]


def test_the_owners_pattern_says_where_an_event_begins():
    found = read(b"BEGIN a\nb\nBEGIN c\n", pattern=re.compile("^BEGIN"))
    assert [event.messages for event in found] == [("BEGIN a\nb",), ("BEGIN c",)]


def test_what_may_still_go_on_waits():
    assert [event.messages for event in read(b"a\nb\nc", whole=False, cut=False)] == [("a",)]
    assert [event.messages for event in read(b"a\nb\nc", cut=False)] == [("a",), ("b",)]
    assert [event.messages for event in read(b"a\nb\nc")] == [("a",), ("b",), ("c",)]


def test_a_line_that_fills_a_whole_piece_does_not_hold_up_the_rest():
    assert [event.messages for event in read(b"aaaa", whole=False, cut=False, full=True)] == [("aaaa",)]


def test_a_carriage_return_ends_no_line():
    assert [event.messages for event in read(b"10%\r20%\rdone\nb\n")] == [("10%\r20%\rdone",), ("b",)]


def test_what_is_below_the_level_is_passed_over_and_what_names_none_is_not():
    taken = batch(read(LINES), "WARN")
    assert [message for _, message in taken.messages] == [
        '{"level":"WARN","timestamp":1795946401000,"message":"two"}', "without a time",
    ]  # fmt: skip
    assert taken.end == len(LINES)
    assert batch(read(LINES)[:1], "ERROR").messages == ()
    assert batch([], "DEBUG") is None


def test_a_message_that_is_too_long_is_cut_into_several_that_lose_nothing():
    text = "é" * 200_000
    (event,) = read(text.encode() + b"\n")
    assert len(event.messages) == 2
    assert "".join(event.messages) == text


@pytest.mark.parametrize("count", [1, MAX_EVENTS, MAX_EVENTS + 1])
def test_a_batch_has_as_many_events_as_one_request_may(count):
    pending = [Event(0, "", ("x",), 1 + EVENT_COST, n + 1) for n in range(count)]
    assert len(batch(pending, "DEBUG").messages) == min(count, MAX_EVENTS)


@given(
    st.lists(
        st.tuples(st.integers(0, 3 * DAY_MS), st.sampled_from(["", "INFO", "ERROR"]), st.integers(1, 250_000)),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_batches_carry_every_event_once_in_order_of_time_and_within_every_limit(drawn):
    pending = [
        Event(time_ms, level, (f"{n:03}" + "x" * (size - 3),), size + EVENT_COST, n + 1)
        for n, (time_ms, level, size) in enumerate(drawn)
    ]
    sent, end = [], 0
    while rest := [event for event in pending if event.end > end]:
        one = batch(rest, "ERROR")
        assert one.end > end
        end = one.end
        times = [time_ms for time_ms, _ in one.messages]
        assert all(a <= b for a, b in pairwise(times))
        assert len({time_ms // DAY_MS for time_ms in times}) <= 1
        assert sum(len(message.encode()) + EVENT_COST for _, message in one.messages) <= MAX_BYTES
        sent += [message[:3] for _, message in one.messages]
    assert sorted(sent) == [f"{n:03}"[:3] for n, event in enumerate(pending) if event.level != "INFO"]
