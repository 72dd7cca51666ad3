"""Two answers to one frame: when they say the same, and what is told when they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.predictions import KINDS, Anomaly, Box, Keypoints, Parts, Text
from agent.results.comparison.answers import agree, difference, is_multi_label, missing
from agent.results.comparison.pairs import Terms
from tests.results.comparison.made import (
    ANSWERS,
    EXAMPLES,
    boxed,
    depth,
    label,
    masked,
    packed,
    plane,
    pose,
    strip,
    tensor,
    vector,
)


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
        ([boxed("cat", 0.1, width=0.0)], [boxed("cat", 0.1, width=0.0)], True),
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
def test_two_answers_agree_or_they_do_not(old, new, same):
    assert agree(old, new) is same
    assert agree(new, old) is same


BOXES = st.lists(
    st.builds(boxed, st.sampled_from(["cat", "dog"]), st.floats(0, 0.8), width=st.floats(0, 0.2)), max_size=5
)


@given(BOXES, BOXES, st.randoms(use_true_random=False))
def test_agreement_has_no_sides_and_no_order(old, new, random):
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
def test_a_disagreement_is_told_in_a_few_words(expected, found, told):
    assert difference(expected, found) == told


@given(BOXES, BOXES)
def test_there_is_something_to_tell_exactly_when_two_answers_disagree(old, new):
    assert bool(difference(old, new)) is not agree(old, new)


BODY = ((0.2, 0.1), (0.25, 0.15), (0.3, 0.3))
AWAY = ((0.25, 0.1), (0.3, 0.15), (0.35, 0.3))
TURNED = ((0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3))
TURNED_ON = ((0.2, 0.06), (0.34, 0.2), (0.2, 0.34), (0.06, 0.2))
STEEP = ((0.2, 0.0), (0.22, 0.0), (0.22, 0.4), (0.2, 0.4))
PLATE = boxed("car", 0.1, parts=Parts([Text("AB 12")]))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ([masked("belt", 0, 40)], [masked("belt", 3, 43)], ""),
        (
            [masked("belt", 0, 40)],
            [masked("belt", 30, 70)],
            "finds belt with another mask (IoU 0.143, at least 0.5 is wanted)",
        ),
        ([masked("belt", 0, 40)], [masked("part", 0, 40)], "finds no belt (0.90)"),
        ([boxed("cat", 0.1, mask=strip(0, 40))], [boxed("cat", 0.1, mask=strip(0, 30))], ""),
        (
            [boxed("cat", 0.1, mask=strip(0, 40))],
            [boxed("cat", 0.1, mask=strip(0, 10))],
            "finds cat with another mask (IoU 0.250, at least 0.5 is wanted)",
        ),
        ([boxed("cat", 0.1, mask=strip(0, 40))], [boxed("cat", 0.1)], "finds cat with no mask"),
        ([boxed("cat", 0.1)], [boxed("cat", 0.1, mask=strip(0, 40))], "finds cat with a mask too"),
        ([boxed("ship", 0.1, corners=TURNED)], [boxed("ship", 0.1, corners=TURNED_ON)], ""),
        ([boxed("ship", 0.1, corners=TURNED)], [boxed("ship", 0.1, corners=STEEP)], "finds ship elsewhere"),
        ([boxed("ship", 0.1, corners=STEEP)], [boxed("ship", 0.1)], ""),
        ([boxed("man", 0.1, keypoints=pose(*BODY))], [boxed("man", 0.1, keypoints=pose(*BODY))], ""),
        (
            [boxed("man", 0.1, keypoints=pose(*BODY))],
            [boxed("man", 0.1, keypoints=pose(*AWAY))],
            "finds man with another pose (OKS 0.003, at least 0.5 is wanted)",
        ),
        ([Keypoints(pose(*BODY))], [Keypoints(pose(*BODY))], ""),
        ([Keypoints(pose(*BODY))], [], "finds nothing, not 1"),
        (
            [Keypoints(pose(*BODY))],
            [Keypoints(pose(*BODY[:2]))],
            "finds 3 key points with another pose (OKS 0.000, at least 0.5 is wanted)",
        ),
        ([Anomaly(True, 0.9)], [Anomaly(True, 0.6)], ""),
        ([Anomaly(True, 0.9)], [Anomaly(False, 0.4)], "says normal (0.40), not anomaly (0.90)"),
        ([Anomaly(True, 0.9)], [], "says nothing, not anomaly (0.90)"),
        (
            [Anomaly(True, 0.9, map=plane([[0, 255]]))],
            [Anomaly(True, 0.9, map=plane([[0, 51]]))],
            "gives another map (likeness 0.600, at least 0.9 is wanted)",
        ),
        ([Text("EXIT")], [Text("EXIT", 0.5)], ""),
        ([Text("EXIT")], [Text("EX17")], "reads 'EX17', not 'EXIT'"),
        ([Text("A"), Text("B")], [Text("B")], "reads 'B', not 'A', 'B'"),
        (
            [Text("EXIT", box=Box(0, 0, 0.5, 0.1))],
            [Text("EXIT", box=Box(0, 0.5, 0.5, 0.1))],
            "reads 'EXIT' with another place",
        ),
        ([vector(1, 2, 3)], [vector(2, 4, 6)], ""),
        ([vector(1, 0)], [vector(0, 1)], "gives another vector (cosine 0.000, at least 0.99 is wanted)"),
        (
            [vector(1, 0, name="Ann", similarity=0.8)],
            [vector(1, 0, name="Bob", similarity=0.7)],
            "says Bob (0.70), not Ann (0.80)",
        ),
        ([vector(1, 0)], [], "says nothing, not embedding [2]"),
        ([depth([[0, 100]])], [depth([[0, 120]])], ""),
        ([depth([[0, 100]])], [depth([[200, 250]])], "gives another map (likeness 0.314, at least 0.9 is wanted)"),
        ([depth([[0, 100]])], [depth([[0, 100]], unit="cm")], "says map 0 to 5 cm, not map 0 to 5 m"),
        ([PLATE], [PLATE], ""),
        (
            [PLATE],
            [boxed("car", 0.1, parts=Parts([Text("AB 13")]))],
            "finds car with other parts (reads 'AB 13', not 'AB 12')",
        ),
        ([PLATE], [boxed("car", 0.1)], "finds car with other parts (reads nothing, not 'AB 12')"),
        ([boxed("cat", 0.1), label("pets")], [boxed("cat", 0.1), label("pets")], ""),
    ],
)
def test_each_kind_is_compared_as_its_meaning_asks(one, other, words):
    assert difference(one, other) == words


def test_of_classes_that_exclude_each_other_the_first_one_counts_and_of_others_all_that_are_likely():
    rivals = [label("cat", 0.6), label("dog", 0.4)]
    assert not is_multi_label(rivals)
    assert agree(rivals, [label("cat", 0.6), label("cup", 0.4)])
    both = [label("indoors", 0.9), label("dark", 0.8), label("wet", 0.2)]
    assert is_multi_label(both)
    assert agree(both, [label("dark", 0.95), label("indoors", 0.6)])
    assert difference(both, [label("indoors", 0.9), label("wet", 0.8)]) == (
        "says indoors (0.90), wet (0.80), not indoors (0.90), dark (0.80)"
    )


def test_places_of_key_points_are_compared_as_they_are_seen_however_wide_the_frame_is():
    here, right, below = (
        [boxed("man", 0.1, keypoints=pose((0.2 + x, 0.2 + y), names=["nose"]))]
        for x, y in ((0, 0), (0.007, 0), (0, 0.007))
    )
    assert (agree(here, right), agree(here, below)) == (True, True)
    assert (agree(here, right, aspect=4), agree(here, below, aspect=4)) == (False, True)
    assert (agree(here, right, aspect=1 / 4), agree(here, below, aspect=1 / 4)) == (True, False)


def test_every_kind_that_there_is_is_compared_and_missed_when_it_is_gone():
    assert EXAMPLES.keys() == KINDS.keys()
    for example in EXAMPLES.values():
        assert agree([example], [example])
        assert difference([example], [])
        assert missing([example], [], Terms(exact=False))


# -- laws of all kinds -------------------------------------------------------------------------------------------------


@given(ANSWERS)
def test_an_answer_of_any_kinds_agrees_with_itself(predictions):
    assert agree(predictions, predictions)


@given(ANSWERS, ANSWERS, st.floats(0.1, 10))
def test_of_two_answers_of_any_kinds_none_is_the_better_one(one, other, aspect):
    assert agree(one, other, aspect=aspect) == agree(other, one, aspect=aspect)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_an_answer_of_any_kinds_is_the_same_in_any_order(predictions, random):
    assert agree(predictions, random.sample(predictions, len(predictions)))


@given(ANSWERS, ANSWERS)
def test_a_difference_of_any_kinds_is_told(one, other):
    assert bool(difference(one, other)) is not agree(one, other)
