"""The grid of beats: absolute, never bunched, one schedule at a time."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.base import Beat

INTERVALS = st.floats(0.01, 4000, allow_nan=False)
STARTS = st.floats(0, 1e7, allow_nan=False)
STEPS = st.lists(st.floats(0, 20, allow_nan=False), max_size=60)
"""How long the clock runs between two looks, in intervals."""


def walk(beat: Beat, now: float, steps: list[float]) -> list[tuple[float, float]]:
    """Look at the clock after each step; the result is (when it was due, when it was served) for each served beat."""
    served = []
    for step in steps:
        now += step * beat.interval_s
        due = beat.due
        if beat.take(now):
            served.append((due, now))
        assert beat.due > now or now < due
    return served


@given(STARTS, INTERVALS, STEPS)
def test_every_beat_is_a_whole_number_of_intervals_after_the_start(start, interval, steps) -> None:
    beat = Beat(start, interval)
    now = start
    for step in steps:
        now += step * interval
        beat.take(now)
        number = (beat.due - start) / interval
        assert math.isclose(number, round(number), rel_tol=0, abs_tol=1e-3 + 1e-6 * abs(start) / interval)


@given(STARTS, INTERVALS, STEPS)
def test_every_beat_that_passed_is_served_or_missed_and_never_both(start, interval, steps) -> None:
    beat = Beat(start, interval)
    walk(beat, start, steps)
    passed = round((beat.due - start) / interval)
    assert beat.served + beat.missed == passed


@given(STARTS, INTERVALS, STEPS)
def test_two_served_beats_are_at_least_half_an_interval_apart(start, interval, steps) -> None:
    served = [at for _, at in walk(Beat(start, interval), start, steps)]
    slack = 1e-6 * interval + 1e-9 * abs(start)
    assert all(later - earlier >= interval / 2 - slack for earlier, later in pairwise(served))


def test_lateness_does_not_add_up() -> None:
    beat, now = Beat(100.0, 2.0), 100.0
    for number in range(10_000):
        now = beat.due + 0.3
        assert beat.take(now)
        assert beat.due == 100.0 + 2.0 * (number + 1)
    assert beat.missed == 0


def test_a_clock_that_slept_for_an_hour_wakes_on_the_grid_and_makes_up_for_nothing() -> None:
    beat = Beat(0.0, 2.0)
    assert beat.take(0.0)
    assert not beat.take(3601.5)
    assert (beat.due, beat.served, beat.missed) == (3602.0, 1, 1800)


def test_a_beat_is_not_served_before_it_is_due_and_not_twice() -> None:
    beat = Beat(10.0, 1.0)
    assert not beat.take(9.999)
    assert beat.take(10.0)
    assert not beat.take(10.0)
    assert beat.due == 11.0


@given(INTERVALS, INTERVALS, st.floats(0, 50, allow_nan=False))
def test_another_interval_begins_at_the_last_beat_and_leaves_one_schedule(old, new, waited) -> None:
    beat = Beat(0.0, old)
    assert beat.take(0.0)
    now = waited * old if waited < 1 else old * 0.999
    beat.retime(now, new)
    assert beat.interval_s == new
    if new != old:
        assert beat.due >= min(new, now)
        assert beat.due >= new * (1 - 1e-9)
        assert beat.due <= max(new, now + new) * (1 + 1e-9)
        assert math.isclose(beat.due / new, round(beat.due / new), abs_tol=1e-6 + 1e-9 * beat.due / new)


def test_a_short_interval_after_a_long_one_does_not_wait_for_the_long_one() -> None:
    beat = Beat(0.0, 3600.0)
    beat.take(0.0)
    beat.retime(1000.5, 2.0)
    assert beat.due == 1002.0
    beat.retime(1000.6, 3600.0)
    assert beat.due == 3600.0
