"""The place where a camera's newest picture waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.runtime.newest import Newest

MOVES = st.lists(st.tuples(st.sampled_from(["put", "take"]), st.floats(0, 5, allow_nan=False)), max_size=80)


@given(MOVES)
def test_each_picture_is_given_once_in_order_or_skipped_and_all_are_counted(moves) -> None:
    newest: Newest[int] = Newest()
    now, number, given_away, held = 0.0, 0, [], 0
    for move, step in moves:
        now += step
        if move == "put":
            newest.put(number, now)
            number, held = number + 1, 1
        else:
            taken = newest.take(now)
            held = 0
            if taken is not None:
                assert taken == number - 1, "the newest"
                given_away.append(taken)
        assert newest.seen == newest.taken + newest.skipped + held
    assert given_away == sorted(set(given_away))


@given(st.floats(0.001, 0.5), st.floats(1.01, 100))
def test_a_picture_from_before_a_pause_is_not_given_after_it(period, pause) -> None:
    newest: Newest[int] = Newest()
    for number in range(10):
        newest.put(number, number * period)
    assert newest.take(9 * period + pause) is None
    assert newest.skipped == 10


def test_a_slow_camera_may_be_asked_late() -> None:
    newest: Newest[int] = Newest()
    for number in range(10):
        newest.put(number, number * 5.0)
    assert newest.take(45.0 + 4.9) == 9
