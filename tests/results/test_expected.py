"""What is expected of a model's answers, and what counts as another answer."""

from __future__ import annotations

import base64
import itertools
import struct

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.results.expected import Boxes, Label, Tensors, compare, parse, record, unfinite

SCORES = st.floats(0, 1)
WORDS = st.sampled_from(["cat", "dog", "cup"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def expected(value):
    return parse(value, "here")


# -- classes -----------------------------------------------------------------------------------------------------------

CAT = expected({"label": "Egyptian cat", "score": 0.81, "tolerance": 0.1})


def classes(*pairs):
    return [{"label": label, "label_id": 1, "score": score} for label, score in pairs]


@pytest.mark.parametrize(
    ("predictions", "difference"),
    [
        (classes(("Egyptian cat", 0.71)), ""),
        (classes(("Egyptian cat", 1.0), ("tabby", 0.0)), ""),
        (classes(("tabby", 0.64), ("Egyptian cat", 0.3)), "expected Egyptian cat ≥ 0.71, got tabby 0.64"),
        (classes(("Egyptian cat", 0.6)), "expected Egyptian cat ≥ 0.71, got Egyptian cat 0.60"),
        ([], "expected Egyptian cat ≥ 0.71, got nothing"),
        ([{"label": "Egyptian cat"}], "expected Egyptian cat ≥ 0.71, got Egyptian cat nan"),
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
RECTANGLES = st.fixed_dictionaries({"x": SIDES, "y": SIDES, "width": SIDES, "height": SIDES})
OBJECTS = st.lists(st.fixed_dictionaries({"label": WORDS, "score": SCORES, "box": RECTANGLES}), max_size=6)


def box(label, x, y, width, height, score=0.9):
    return {"label": label, "score": score, "box": {"x": x, "y": y, "width": width, "height": height}}


def test_a_box_that_is_missing_is_told_with_what_came():
    wanted = expected({"boxes": [box("cat", 0, 0, 0.5, 0.5)], "tolerance": 0.2})
    told = compare(wanted, [box("dog", 0, 0, 0.5, 0.5), box("cat", 0.5, 0.5, 0.5, 0.5, 0.8)])
    assert told.difference == "expected cat ≥ 0.70 at (0.00, 0.00, 0.50 × 0.50), got dog 0.90, cat 0.80"


@pytest.mark.parametrize(
    ("shift", "agrees"),
    [(0.0, True), (0.1, True), (0.3, True), (0.34, False), (1.0, False)],
)
def test_a_box_may_be_off_as_far_as_the_overlap_says(shift, agrees):
    # Two unit squares that are off by s overlap by (1 - s) / (1 + s): a half at s = 1/3.
    wanted = expected({"boxes": [box("cat", 0, 0, 1, 1)], "iou": 0.5})
    assert compare(wanted, [box("cat", shift, 0, 1, 1)]).agrees is agrees


def test_each_box_needs_one_of_its_own():
    wanted = expected({"boxes": [box("cat", 0, 0, 1, 1), box("cat", 0, 0, 1, 0.9)]})
    assert not compare(wanted, [box("cat", 0, 0, 1, 1)]).agrees
    assert compare(wanted, [box("cat", 0, 0, 1, 1), box("cat", 0, 0, 1, 1)]).agrees


def test_more_boxes_than_expected_are_no_difference_but_none_means_none():
    assert compare(expected({"boxes": [box("cat", 0, 0, 1, 1)]}), [box("dog", 0, 0, 1, 1), box("cat", 0, 0, 1, 1)])
    nothing = expected({"boxes": []})
    assert compare(nothing, []).agrees
    assert compare(nothing, [box("dog", 0, 0, 1, 1)]).difference == "expected nothing, got dog 0.90"


@settings(max_examples=60)
@given(OBJECTS, OBJECTS)
def test_boxes_agree_exactly_when_some_assignment_of_them_does(wanted, came):
    read = expected({"boxes": wanted, "iou": 0.3, "tolerance": 0.3})
    assume(wanted)
    singles = [
        [compare(expected({"boxes": [w], "iou": 0.3, "tolerance": 0.3}), [c]).agrees for c in came] for w in wanted
    ]
    orders = itertools.permutations(range(len(came)), len(wanted)) if len(wanted) <= len(came) else ()
    possible = any(all(singles[i][j] for i, j in enumerate(order)) for order in orders)
    assert compare(read, came).agrees is possible


# -- tensors -----------------------------------------------------------------------------------------------------------


def tensor(name, shape, data, **more):
    return {"name": name, "shape": shape, "dtype": "float32", "data": data} | more


def packed(name, shape, numbers, dtype="float32", form="f"):
    data = base64.b64encode(struct.pack(f"<{len(numbers)}{form}", *numbers)).decode()
    return {"name": name, "shape": shape, "dtype": dtype, "encoding": "base64", "data": data}


MEANS = expected({"tensors": {"means": {"shape": [1, 3], "data": [[1.0, 2.0, 3.0]]}}, "atol": 0.01, "rtol": 0})


@pytest.mark.parametrize(
    ("came", "difference"),
    [
        (tensor("means", [1, 3], [[1.0, 2.005, 3.0]]), ""),
        (packed("means", [1, 3], [1.0, 2.0, 3.0]), ""),
        (packed("means", [1, 3], [1.0, 2.0, 3.0], "float16", "e"), ""),
        (tensor("means", [1, 3], [[1.0, 2.5, 3.0]]), "expected means[1] = 2 ± 0.01, got 2.5"),
        (packed("means", [1, 3], [1.0, 2.0, 4.0], "float64", "d"), "expected means[2] = 3 ± 0.01, got 4"),
        (packed("means", [1, 3], [1.0, 2.0, float("nan")]), "expected means[2] = 3 ± 0.01, got nan"),
        (tensor("means", [3], [1.0, 2.0, 3.0]), "expected means of shape [1, 3], got [3]"),
        (tensor("means", [1, 3], [[1.0, 2.0]]), "expected more numbers in means than came: 2"),
        (tensor("means", [1, 3], [[1, 2, 3, 4]]), "expected fewer numbers in means than came: 3"),
        (tensor("other", [1, 3], [[1.0, 2.0, 3.0]]), "expected an output means, got other"),
        (tensor("means", [1, 3], ["1"]), "the numbers of means cannot be read: answered as no tensor"),
        (tensor("means", [1, 3], "!", encoding="base64"), "the numbers of means cannot be read: answered as no tensor"),
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
    assert compare(wanted, [tensor("x", [len(theirs)], theirs)]).agrees is near
    assert compare(wanted, [packed("x", [len(theirs)], theirs)]).agrees is near


# -- laws of all kinds -------------------------------------------------------------------------------------------------

TENSORS = NUMBERS.flatmap(
    lambda numbers: st.sampled_from([tensor("x", [len(numbers)], numbers), packed("x", [len(numbers)], numbers)])
).map(lambda one: [one])
CLASSES = st.lists(st.tuples(WORDS, SCORES), min_size=1, max_size=4).map(lambda pairs: classes(*pairs))


@given(CLASSES | OBJECTS | TENSORS)
def test_an_answer_agrees_with_what_was_recorded_of_it(predictions):
    written = msgspec.json.decode(msgspec.json.encode(record(predictions)))
    assert compare(expected(written), predictions).agrees


@given(
    st.sampled_from([CAT, MEANS, expected({"boxes": [box("cat", 0, 0, 1, 1)]}), expected({"boxes": []})]),
    st.lists(
        st.dictionaries(
            st.sampled_from(["label", "score", "box", "name", "shape", "dtype", "encoding", "data", "x"]), JSON
        ),
        max_size=3,
    ),
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
        ([box("a", 0, float("inf"), 1, 1)], "prediction 0 holds inf"),
        ([tensor("x", [2, 1], [[1.0], [float("-inf")]])], "prediction 0 holds -inf"),
        ([packed("x", [2], [1.0, float("nan")])], "prediction 0 holds nan"),
        ([packed("x", [2], [1, 2], "int8", "b")], ""),
    ],
)
def test_numbers_that_are_not_finite_are_found_wherever_they_are(predictions, where):
    assert unfinite(predictions) == where


@pytest.mark.parametrize("predictions", [classes(("a", float("nan"))), [{"mask": "…"}]])
def test_what_could_never_agree_is_not_recorded(predictions):
    with pytest.raises(ConfigError):
        record(predictions)
