"""When a worker is started again, and how long it may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.inference.pool import Restart, Restarts
from agent.inference.process import Deadline


def test_the_first_deaths_cost_no_delay_then_delays_grow_and_after_some_the_model_is_broken() -> None:
    restarts = Restarts(healthy_s=30, limit=6, base_s=0.25, cap_s=30, free=2)
    seen = [restarts.died(1.0) for _ in range(12)]
    assert [restart.delay_s for restart in seen[:6]] == [0.0, 0.0, 0.25, 0.5, 1.0, 2.0]
    assert [restart.delay_s for restart in seen[6:]] == [4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert [restart.broken for restart in seen] == [False] * 5 + [True] * 7


def test_a_worker_that_lived_long_enough_starts_the_count_anew() -> None:
    restarts = Restarts(limit=3)
    assert [restarts.died(lived).broken for lived in (1, 1, 100, 1, 1)] == [False, False, False, False, True]


def test_a_refused_start_is_tried_again_rarely_and_visibly() -> None:
    assert Restarts(cap_s=30).refused() == Restart(30, broken=True)


def test_a_model_that_answers_between_the_deaths_is_not_broken_and_is_started_soon() -> None:
    restarts = Restarts(limit=6, base_s=0.25, cap_s=30, answering_cap_s=2, free=2)
    seen = [restarts.died(1.0, answered=True) for _ in range(12)]
    assert not any(restart.broken for restart in seen)
    assert [restart.delay_s for restart in seen[:6]] == [0.0, 0.0, 0.25, 0.5, 1.0, 2.0]
    assert max(restart.delay_s for restart in seen) == 2.0


def test_deaths_without_an_answer_count_from_the_last_answer_on() -> None:
    restarts = Restarts(limit=3)
    answered = (True, False, False, True, False, False, False)
    assert [restarts.died(1.0, answered=one).broken for one in answered] == [False] * 6 + [True]


@given(st.lists(st.floats(0, 60), max_size=30))
def test_no_delay_is_negative_or_past_the_cap(lives) -> None:
    restarts = Restarts(cap_s=5)
    assert all(0 <= restarts.died(lived).delay_s <= 5 for lived in lives)


def test_the_deadline_is_twenty_times_the_99th_percentile_and_never_below_the_floor() -> None:
    deadline = Deadline(2.0)
    for _ in range(64):
        deadline.observe(0.01)
    assert deadline.seconds == 2.0
    for _ in range(256):
        deadline.observe(0.5)
    assert deadline.seconds == 10.0


def test_one_slow_answer_among_hundreds_does_not_move_the_deadline() -> None:
    deadline = Deadline(2.0)
    for number in range(256):
        deadline.observe(60.0 if number == 100 else 0.01)
    assert deadline.seconds == 2.0


def test_the_deadline_begins_with_ten_times_the_warm_up_and_is_then_learnt() -> None:
    deadline = Deadline(2.0)
    deadline.begin(0.05)
    assert deadline.seconds == 2.0
    deadline.begin(3.0)
    assert deadline.seconds == 30.0
    for _ in range(64):
        deadline.observe(0.2)
    assert deadline.seconds == 4.0


def test_the_deadline_is_never_below_what_the_models_behind_another_may_take() -> None:
    deadline = Deadline(2.0)
    deadline.begin(0.1, 30.0)
    assert deadline.seconds == 60.0
    for _ in range(256):
        deadline.observe(0.01)
    assert deadline.seconds == 60.0


def test_the_pace_is_that_of_the_last_answer() -> None:
    deadline = Deadline()
    deadline.begin(5.0)
    assert deadline.pace_s == 5.0
    deadline.observe(0.1)
    assert deadline.pace_s == 0.1
