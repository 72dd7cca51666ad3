"""Holes and doubles in the numbers of answered frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.demo.scores import Sequences

NUMBERS = st.lists(st.integers(1, 30))


@given(NUMBERS, st.integers(0, 30), st.integers(0, 30))
def test_missing_and_twice_are_what_a_plain_count_says(numbers, after, upto):
    sequences = Sequences()
    for number in numbers:
        sequences.add(number)
    wanted = range(after + 1, upto + 1)
    assert sequences.missing(after, upto) == len([number for number in wanted if number not in numbers])
    assert sequences.twice(after, upto) == sum(numbers.count(number) - 1 for number in wanted if number in numbers)
    assert sequences.highest == max(numbers, default=0)
