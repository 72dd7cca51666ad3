from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.results.result import ALPHABET, Ulids

CLOCKS = st.lists(st.floats(0, 2**48 / 1e3 - 1, allow_nan=False), min_size=1, max_size=30)


@given(CLOCKS, st.randoms(use_true_random=False))
def test_ids_sort_in_the_order_they_were_made_whatever_the_clock_does(times, random):
    clock = iter(times)
    ids = Ulids(clock=lambda: next(clock), entropy=random.randbytes)
    made = [ids.new() for _ in times]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


@given(CLOCKS)
def test_the_largest_randomness_carries_into_the_next_millisecond_and_still_sorts(times):
    clock = iter(times)
    ids = Ulids(clock=lambda: next(clock), entropy=lambda count: b"\xff" * count)
    made = [ids.new() for _ in times]
    assert made == sorted(set(made))


@given(st.floats(0, 2**48 / 1e3 - 1, allow_nan=False))
def test_an_id_begins_with_its_millisecond(seconds):
    text = Ulids(clock=lambda: seconds).new()
    value = 0
    for character in text:
        value = value * 32 + ALPHABET.index(character)
    assert len(text) == 26
    assert value >> 80 == int(seconds * 1e3)


def test_two_agents_do_not_make_the_same_id_in_the_same_millisecond():
    assert Ulids(clock=lambda: 1.0).new() != Ulids(clock=lambda: 1.0).new()


def test_a_thousand_ids_of_now_are_different_and_in_order():
    ids = Ulids()
    made = [ids.new() for _ in range(1000)]
    assert made == sorted(set(made))
