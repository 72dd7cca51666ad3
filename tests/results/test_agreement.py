"""When two answers to one frame say the same, and what is told when they do not."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.results.comparison import agree, difference
from agent.results.result import Box, Prediction, Tensor


def label(name: str, score: float = 0.9) -> Prediction:
    return Prediction(name, 0, score)


def boxed(name: str, x: float, *, width: float = 0.2) -> Prediction:
    return Prediction(name, 0, 0.9, Box(x, 0.1, width, 0.2))


def tensor(data, shape=(2,), name="out") -> Tensor:
    return Tensor(name, shape, "float32", data)


def packed(*numbers: float) -> Tensor:
    raw = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return Tensor("out", (len(numbers),), "float32", raw, "base64")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ([], [], True),
        ([label("cat")], [], False),
        ([label("cat"), label("dog", 0.1)], [label("cat", 0.5), label("fox", 0.4)], True),
        ([label("cat"), label("dog", 0.1)], [label("cat", 0.4), label("dog", 0.5)], False),
        ([boxed("cat", 0.1)], [boxed("cat", 0.12)], True),
        ([boxed("cat", 0.1)], [boxed("dog", 0.1)], False),
        ([boxed("cat", 0.1)], [boxed("cat", 0.25)], False),
        ([boxed("cat", 0.1)], [boxed("cat", 0.1), boxed("cat", 0.11)], False),
        ([boxed("cat", 0.1), boxed("cat", 0.6)], [boxed("cat", 0.6), boxed("cat", 0.1)], True),
        ([boxed("cat", 0.1), boxed("cat", 0.6)], [boxed("cat", 0.1), boxed("cat", 0.1)], False),
        # The first could take either, the second only one of them.
        ([boxed("cat", 0.10), boxed("cat", 0.04)], [boxed("cat", 0.07), boxed("cat", 0.15)], True),
        ([boxed("cat", 0.1, width=0.0)], [boxed("cat", 0.1, width=0.0)], False),
        ([boxed("cat", 0.1)], [label("cat")], False),
        ([tensor([1.0, 2.0])], [tensor([1.001, 2.0])], True),
        ([tensor([1.0, 2.0])], [tensor([1.1, 2.0])], False),
        ([tensor([1.0, float("nan")])], [tensor([1.0, float("nan")])], True),
        ([tensor([1.0, 2.0])], [packed(1.0, 2.0)], True),
        ([packed(1.0, 2.0)], [packed(1.0, 2.5)], False),
        ([tensor([1.0, 2.0])], [tensor([[1.0, 2.0]], shape=(1, 2))], False),
        ([tensor([1.0, 2.0])], [tensor([1.0, 2.0], name="other")], False),
        ([tensor([1.0, 2.0])], [label("cat")], False),
        ([tensor("?")], [tensor("?")], True),
        ([tensor("?")], [tensor([1.0, 2.0])], False),
    ],
)
def test_two_answers_agree_or_they_do_not(old, new, same) -> None:
    assert agree(old, new) is same
    assert agree(new, old) is same


BOXES = st.lists(
    st.builds(boxed, st.sampled_from(["cat", "dog"]), st.floats(0, 0.8), width=st.floats(0.05, 0.2)), max_size=5
)


@given(BOXES, BOXES, st.randoms(use_true_random=False))
def test_agreement_has_no_sides_and_no_order(old, new, random) -> None:
    assert agree(old, old)
    assert agree(old, new) == agree(new, old) == agree(random.sample(old, len(old)), new)


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ([label("cat")], [label("dog", 0.6)], "says dog (0.60), not cat (0.90)"),
        ([label("cat")], [], "says nothing, not cat (0.90)"),
        ([boxed("cat", 0.1)], [], "finds nothing, not 1"),
        ([boxed("cat", 0.1), boxed("cat", 0.6)], [boxed("cat", 0.1)], "finds 1 object, not 2"),
        ([boxed("cat", 0.1)], [boxed("dog", 0.1)], "finds no cat (0.90)"),
        ([boxed("cat", 0.1)], [boxed("cat", 0.6)], "finds cat elsewhere"),
        ([boxed("cat", 0.1), boxed("cat", 0.1)], [boxed("cat", 0.1), boxed("cat", 0.19)], "finds cat (0.90) too"),
        ([boxed("cat", x) for x in (0, 0, 0.5)], [boxed("cat", x) for x in (0, 0.5, 0.5)], "finds an object twice"),
        ([tensor([1.0, 2.0])], [tensor([1.1, 2.5])], "gives 'out' with 2.5 where 2 is expected"),
        ([tensor([1.0, 2.0])], [tensor([float("nan"), 2.5])], "gives 'out' with nan where 1 is expected"),
        ([tensor([1.0])], [tensor([1.0], shape=(1, 1))], "gives 'out' of shape [1, 1], not [2]"),
        ([tensor([1.0])], [tensor([1.0], name="b")], "gives the outputs b, not the outputs out"),
        ([tensor([1.0])], [label("cat")], "gives no outputs, not the outputs out"),
        ([tensor("?")], [tensor([1.0])], "gives another 'out'"),
    ],
)
def test_a_disagreement_is_told_in_a_few_words(expected, found, told) -> None:
    assert difference(expected, found) == told


@given(BOXES, BOXES)
def test_there_is_something_to_tell_exactly_when_two_answers_disagree(old, new) -> None:
    assert bool(difference(old, new)) is not agree(old, new)
