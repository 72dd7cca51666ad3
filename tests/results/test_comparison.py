"""When answers say the same: two of them to one frame, or one and what was expected of it."""

from __future__ import annotations

import base64
import itertools
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Segmentation,
    Tensor,
    Text,
)
from agent.inference.runtime.answers import png
from agent.results.comparison import (
    Boxes,
    Label,
    Tensors,
    agree,
    compare,
    difference,
    iou,
    parse,
    record,
    unfinite,
)


def label(name: str, score: float = 0.9) -> Classification:
    return Classification(name, 0, score)


def boxed(name: str, x: float, *, width: float = 0.2) -> Detection:
    return Detection(name, 0, 0.9, Box(x, 0.1, width, 0.2))


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
def test_two_answers_agree_or_they_do_not(old, new, same) -> None:
    assert agree(old, new) is same
    assert agree(new, old) is same


BOXES = st.lists(
    st.builds(boxed, st.sampled_from(["cat", "dog"]), st.floats(0, 0.8), width=st.floats(0, 0.2)), max_size=5
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


# -- an answer and what was expected of it ----------------------------------------------------------------------------

SCORES = st.floats(0, 1)
WORDS = st.sampled_from(["cat", "dog", "cup"])


def expected(value):
    return parse(value, "here")


# -- classes -----------------------------------------------------------------------------------------------------------

CAT = expected({"label": "Egyptian cat", "score": 0.81, "tolerance": 0.1})


def classes(*pairs):
    return [Classification(label, 1, score) for label, score in pairs]


@pytest.mark.parametrize(
    ("predictions", "difference"),
    [
        (classes(("Egyptian cat", 0.71)), ""),
        (classes(("Egyptian cat", 1.0), ("tabby", 0.0)), ""),
        (classes(("tabby", 0.64), ("Egyptian cat", 0.3)), "expected Egyptian cat ≥ 0.71, got tabby 0.64"),
        (classes(("Egyptian cat", 0.6)), "expected Egyptian cat ≥ 0.71, got Egyptian cat 0.60"),
        ([], "expected Egyptian cat ≥ 0.71, got nothing"),
        ([tensor([1.0])], "expected Egyptian cat ≥ 0.71, got out [2]"),
    ],
)
def test_a_class_has_to_come_first_with_nearly_its_score(predictions, difference):
    verdict = compare(CAT, predictions)
    assert verdict.difference == difference
    assert verdict.agrees is (difference == "")


def test_a_class_may_be_expected_with_any_score():
    wanted = expected({"label": "tabby"})
    assert compare(wanted, classes(("tabby", 0.01))).agrees
    assert compare(wanted, classes(("cat", 0.9))).difference == "expected tabby, got cat 0.90"


@given(WORDS, SCORES, WORDS, SCORES, SCORES)
def test_a_class_agrees_exactly_when_its_label_does_and_its_score_reaches(label, score, came, came_score, tolerance):
    wanted = expected({"label": label, "score": score, "tolerance": tolerance})
    assert compare(wanted, classes((came, came_score))).agrees is (
        label == came and came_score >= round(score - tolerance, 6)
    )


# -- boxes -------------------------------------------------------------------------------------------------------------

SIDES = st.floats(0, 1).map(lambda side: round(side, 6))
RECTANGLES = st.builds(Box, SIDES, SIDES, SIDES, SIDES)
OBJECTS = st.lists(st.builds(Detection, WORDS, st.just(1), SCORES, RECTANGLES), max_size=6)


def box(label, x, y, width, height, score=0.9):
    """As somebody writes it who expects it."""
    return {"label": label, "score": score, "box": {"x": x, "y": y, "width": width, "height": height}}


def seen(label, x, y, width, height, score=0.9):
    return Detection(label, 1, score, Box(x, y, width, height))


def written(detections):
    return [{"label": one.label, "score": one.score, "box": msgspec.to_builtins(one.box)} for one in detections]


def test_a_box_that_is_missing_is_told_with_what_came():
    wanted = expected({"boxes": [box("cat", 0, 0, 0.5, 0.5)], "tolerance": 0.2})
    told = compare(wanted, [seen("dog", 0, 0, 0.5, 0.5), seen("cat", 0.5, 0.5, 0.5, 0.5, 0.8)])
    assert told.difference == "expected cat ≥ 0.70 at (0.00, 0.00, 0.50 × 0.50), got dog 0.90, cat 0.80"


@pytest.mark.parametrize(
    ("shift", "agrees"),
    [(0.0, True), (0.1, True), (0.3, True), (0.34, False), (1.0, False)],
)
def test_a_box_may_be_off_as_far_as_the_overlap_says(shift, agrees):
    # Two unit squares that are off by s overlap by (1 - s) / (1 + s): a half at s = 1/3.
    wanted = expected({"boxes": [box("cat", 0, 0, 1, 1)], "iou": 0.5})
    assert compare(wanted, [seen("cat", shift, 0, 1, 1)]).agrees is agrees


def test_each_box_needs_one_of_its_own():
    wanted = expected({"boxes": [box("cat", 0, 0, 1, 1), box("cat", 0, 0, 1, 0.9)]})
    assert not compare(wanted, [seen("cat", 0, 0, 1, 1)]).agrees
    assert compare(wanted, [seen("cat", 0, 0, 1, 1), seen("cat", 0, 0, 1, 1)]).agrees


def test_more_boxes_than_expected_are_no_difference_but_none_means_none():
    assert compare(
        expected({"boxes": [box("cat", 0, 0, 1, 1)]}), [seen("dog", 0, 0, 1, 1), seen("cat", 0, 0, 1, 1)]
    ).agrees
    nothing = expected({"boxes": []})
    assert compare(nothing, []).agrees
    assert compare(nothing, [seen("dog", 0, 0, 1, 1)]).difference == "expected nothing, got dog 0.90"


@settings(max_examples=60)
@given(OBJECTS, OBJECTS)
def test_boxes_agree_exactly_when_some_assignment_of_them_does(wanted, came):
    read = expected({"boxes": written(wanted), "iou": 0.3, "tolerance": 0.3})
    assume(wanted)
    singles = [
        [compare(expected({"boxes": written([w]), "iou": 0.3, "tolerance": 0.3}), [c]).agrees for c in came]
        for w in wanted
    ]
    orders = itertools.permutations(range(len(came)), len(wanted)) if len(wanted) <= len(came) else ()
    possible = any(all(singles[i][j] for i, j in enumerate(order)) for order in orders)
    assert compare(read, came).agrees is possible


# -- tensors -----------------------------------------------------------------------------------------------------------


def numbers(name, shape, data, encoding=None):
    return Tensor(name, tuple(shape), "float32", data, encoding)


def raw(name, shape, data, dtype="float32", form="f"):
    return Tensor(name, tuple(shape), dtype, struct.pack(f"<{len(data)}{form}", *data), "base64")


MEANS = expected({"tensors": {"means": {"shape": [1, 3], "data": [[1.0, 2.0, 3.0]]}}, "atol": 0.01, "rtol": 0})


@pytest.mark.parametrize(
    ("came", "difference"),
    [
        (numbers("means", [1, 3], [[1.0, 2.005, 3.0]]), ""),
        (raw("means", [1, 3], [1.0, 2.0, 3.0]), ""),
        (raw("means", [1, 3], [1.0, 2.0, 3.0], "float16", "e"), ""),
        (numbers("means", [1, 3], [[1.0, 2.5, 3.0]]), "expected means[1] = 2 ± 0.01, got 2.5"),
        (raw("means", [1, 3], [1.0, 2.0, 4.0], "float64", "d"), "expected means[2] = 3 ± 0.01, got 4"),
        (raw("means", [1, 3], [1.0, 2.0, float("nan")]), "expected means[2] = 3 ± 0.01, got nan"),
        (numbers("means", [3], [1.0, 2.0, 3.0]), "expected means of shape [1, 3], got [3]"),
        (numbers("means", [1, 3], [[1.0, 2.0]]), "expected more numbers in means than came: 2"),
        (numbers("means", [1, 3], [[1, 2, 3, 4]]), "expected fewer numbers in means than came: 3"),
        (numbers("other", [1, 3], [[1.0, 2.0, 3.0]]), "expected an output means, got other"),
        (numbers("means", [1, 3], ["1"]), "the numbers of means cannot be read: answered as no tensor"),
        (numbers("means", [1, 3], "!", "base64"), "the numbers of means cannot be read: answered as no tensor"),
    ],
)
def test_a_tensor_has_to_have_its_shape_and_nearly_its_numbers(came, difference):
    verdict = compare(MEANS, [came])
    assert verdict.difference == difference
    assert verdict.agrees is (difference == "")


NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8)


@given(NUMBERS, NUMBERS, st.floats(0, 10), st.floats(0, 1))
def test_numbers_agree_within_both_tolerances_and_in_either_spelling(ours, theirs, atol, rtol):
    wanted = expected({"tensors": {"x": {"data": ours}}, "atol": atol, "rtol": rtol})
    pairs = list(zip(ours, theirs, strict=False))
    near = len(ours) == len(theirs) and all(abs(a - b) <= atol + rtol * abs(a) for a, b in pairs)
    assert compare(wanted, [numbers("x", [len(theirs)], theirs)]).agrees is near
    assert compare(wanted, [raw("x", [len(theirs)], theirs)]).agrees is near


# -- laws of all kinds -------------------------------------------------------------------------------------------------

TENSORS = NUMBERS.flatmap(
    lambda data: st.sampled_from([numbers("x", [len(data)], data), raw("x", [len(data)], data)])
).map(lambda one: [one])
CLASSES = st.lists(st.tuples(WORDS, SCORES), min_size=1, max_size=4).map(lambda pairs: classes(*pairs))
MASKS = st.lists(st.booleans(), min_size=48, max_size=48).map(
    lambda bits: Image(8, 6, "png", png(np.reshape(np.array(bits, np.bool_), (6, 8))))
)
ANSWERS = st.lists(
    st.one_of(
        st.builds(Classification, WORDS, st.just(1), SCORES),
        st.builds(Detection, WORDS, st.just(1), SCORES, RECTANGLES),
        st.builds(Segmentation, WORDS, st.just(1), SCORES, MASKS),
        st.builds(Anomaly, st.booleans(), SCORES),
        st.builds(Text, WORDS),
        NUMBERS.map(lambda data: Embedding("float32", len(data), struct.pack(f"<{len(data)}f", *data))),
        TENSORS.map(lambda one: one[0]),
    ),
    max_size=5,
)
"""Of any kinds, one beside the other."""


@given(ANSWERS)
def test_an_answer_of_any_kinds_agrees_with_itself(predictions):
    assert agree(predictions, predictions)


@given(ANSWERS, ANSWERS)
def test_of_two_answers_of_any_kinds_none_is_the_better_one(one, other):
    assert agree(one, other) == agree(other, one)


@given(RECTANGLES, RECTANGLES)
def test_boxes_overlap_alike_from_either_side_and_never_more_than_wholly(one, other):
    assert iou(one, other) == iou(other, one)
    assert 0 <= iou(one, other) <= 1
    assert iou(one, one) == 1


@given(OBJECTS, OBJECTS, SCORES, SCORES, SCORES, SCORES)
def test_what_agrees_within_a_tolerance_agrees_within_a_wider_one(wanted, came, low, high, near, far):
    strict = {"boxes": written(wanted), "iou": max(near, far), "tolerance": min(low, high)}
    loose = {"boxes": written(wanted), "iou": min(near, far), "tolerance": max(low, high)}
    assert compare(expected(loose), came).agrees or not compare(expected(strict), came).agrees


def masked(label, left, right):
    pixels = np.zeros((6, 80), np.bool_)
    pixels[:, left:right] = True
    return Segmentation(label, 0, 0.9, Image(80, 6, "png", png(pixels)))


def vector(*data):
    return Embedding("float32", len(data), struct.pack(f"<{len(data)}f", *data))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ([masked("belt", 0, 40)], [masked("belt", 3, 43)], ""),
        ([masked("belt", 0, 40)], [masked("belt", 30, 70)], "finds belt elsewhere"),
        ([masked("belt", 0, 40)], [masked("part", 0, 40)], "finds no belt (0.90)"),
        ([Anomaly(True, 0.9)], [Anomaly(True, 0.6)], ""),
        ([Anomaly(True, 0.9)], [Anomaly(False, 0.4)], "says normal (0.40), not anomaly (0.90)"),
        ([Text("EXIT")], [Text("EXIT", 0.5)], ""),
        ([Text("EXIT")], [Text("EX17")], "reads 'EX17', not 'EXIT'"),
        ([vector(1, 2, 3)], [vector(2, 4, 6)], ""),
        ([vector(1, 0)], [vector(0, 1)], "gives a vector whose cosine to the expected one is 0.000"),
        ([boxed("cat", 0.1), label("pets")], [boxed("cat", 0.1), label("pets")], ""),
    ],
)
def test_each_kind_is_compared_as_its_meaning_asks(one, other, words):
    assert difference(one, other) == words


@given(CLASSES | OBJECTS | TENSORS)
def test_an_answer_agrees_with_what_was_recorded_of_it(predictions):
    recorded = msgspec.json.decode(msgspec.json.encode(record(predictions)))
    assert compare(expected(recorded), predictions).agrees


@given(
    st.sampled_from([CAT, MEANS, expected({"boxes": [box("cat", 0, 0, 1, 1)]}), expected({"boxes": []})]),
    ANSWERS,
)
def test_whatever_a_model_says_is_compared_and_a_difference_is_a_sentence(wanted, predictions):
    verdict = compare(wanted, predictions)
    assert verdict.agrees is (verdict.difference == "")
    unfinite(predictions)


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"label": "x"}, Label), ({"boxes": []}, Boxes), ({"tensors": {"x": {"data": [1]}}}, Tensors)],
)
def test_the_kind_of_what_is_expected_is_told_by_its_key(value, kind):
    assert isinstance(expected(value), kind)


@pytest.mark.parametrize(
    "value",
    [
        {}, {"labels": "x"}, {"label": "x", "boxes": []}, {"label": 1}, {"label": "x", "scores": 1},
        {"label": "x", "tolerance": -1}, {"boxes": [{}]}, {"boxes": [box("x", 0, 0, 1, 1) | {"id": 1}]},
        {"boxes": [], "iou": 2}, {"boxes": [box("x", 0, 0, 1, 1)] * 101}, {"tensors": {}}, {"tensors": {"x": {}}},
    ],
)  # fmt: skip
def test_what_cannot_be_expected_is_refused_with_its_place(value):
    with pytest.raises(ConfigError, match="here"):
        expected(value)


@pytest.mark.parametrize(
    ("predictions", "where"),
    [
        (classes(("a", 0.5)), ""),
        ([], ""),
        (classes(("a", 0.5), ("b", float("nan"))), "prediction 1 holds nan"),
        ([seen("a", 0, float("inf"), 1, 1)], "prediction 0 holds inf"),
        ([numbers("x", [2, 1], [[1.0], [float("-inf")]])], "prediction 0 holds -inf"),
        ([raw("x", [2], [1.0, float("nan")])], "prediction 0 holds nan"),
        ([raw("x", [2], [1, 2], "int8", "b")], ""),
    ],
)
def test_numbers_that_are_not_finite_are_found_wherever_they_are(predictions, where):
    assert unfinite(predictions) == where


@pytest.mark.parametrize("predictions", [classes(("a", float("nan"))), [Text("EXIT")]])
def test_what_could_never_agree_is_not_recorded(predictions):
    with pytest.raises(ConfigError):
        record(predictions)
