"""No second, wherever it begins, sees more than the bucket holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mqtt.iotcore.quotas import Bucket

CAPACITY = 100
# Sixteenths of a second are exact, so that the laws are not about rounding.
moments = st.lists(st.integers(0, 40).map(lambda sixteenths: sixteenths / 16), min_size=1, max_size=40)
sizes = st.integers(1, CAPACITY)


def sent(gaps: list[float], amounts: list[int]) -> list[tuple[float, float, int]]:
    """What comes after each gap and goes out in its turn: (came, went, amount)."""
    bucket, came, free, out = Bucket(CAPACITY), 0.0, 0.0, []
    for gap, amount in zip(gaps, amounts, strict=False):
        came += gap
        now = max(came, free)
        now += bucket.wait_s(amount, now)
        assert bucket.wait_s(amount, now) == 0
        bucket.take(amount, now)
        free = now
        out.append((came, now, amount))
    return out


@settings(deadline=None, max_examples=100)
@given(gaps=moments, amounts=st.lists(sizes, min_size=40, max_size=40))
def test_no_second_sees_more_than_the_bucket_holds(gaps: list[float], amounts: list[int]):
    out = sent(gaps, amounts)
    for _, begin, _ in out:
        assert sum(amount for _, went, amount in out if begin <= went < begin + 1) <= CAPACITY


@settings(deadline=None, max_examples=100)
@given(gaps=moments, amounts=st.lists(sizes, min_size=40, max_size=40))
def test_who_is_first_in_the_line_waits_a_second_at_most_and_nobody_overtakes(gaps: list[float], amounts: list[int]):
    before = 0.0
    for came, went, _ in sent(gaps, amounts):
        assert 0 <= went - max(came, before) <= 1
        before = went


@settings(deadline=None, max_examples=100)
@given(gaps=moments, amounts=st.lists(sizes, min_size=40, max_size=40))
def test_nothing_waits_while_there_is_room_for_it(gaps: list[float], amounts: list[int]):
    out = sent(gaps, amounts)
    for number, (came, went, amount) in enumerate(out):
        if number and went > max(came, out[number - 1][1]):
            others = out[:number]
            a_moment_before = went - 1 / 16
            spent = sum(other for _, then, other in others if then > a_moment_before - 1)
            assert spent + amount > CAPACITY


def test_all_it_holds_goes_at_once_and_one_more_a_second_later():
    bucket = Bucket(CAPACITY)
    for _ in range(CAPACITY):
        assert bucket.wait_s(1, 5.0) == 0
        bucket.take(1, 5.0)
    assert bucket.wait_s(1, 5.0) == 1.0
    assert bucket.wait_s(1, 5.75) == 0.25
    assert bucket.wait_s(CAPACITY, 6.0) == 0


def test_more_than_it_ever_holds_is_refused():
    assert Bucket(CAPACITY).wait_s(CAPACITY, 0.0) == 0
    with pytest.raises(ValueError, match="101 of 100"):
        Bucket(CAPACITY).wait_s(CAPACITY + 1, 0.0)


def test_what_was_sent_without_asking_is_paid_back():
    bucket = Bucket(CAPACITY)
    bucket.take(2 * CAPACITY, 0.0)
    assert bucket.wait_s(1, 0.5) == 0.5
    assert bucket.wait_s(CAPACITY, 1.0) == 0
