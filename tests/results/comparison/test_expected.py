"""An answer and what was expected of it: what can be written, when it agrees, and what is recorded."""

from __future__ import annotations

import itertools
import struct

import cv2
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
    Keypoints,
    Map,
    Parts,
    Segmentation,
    Tensor,
    Text,
)
from agent.results.comparison.expected import Boxes, Label, Recorded, Tensors, Verdict, compare, parse
from agent.results.comparison.finite import unfinite
from agent.results.comparison.recording import record
from agent.results.comparison.tolerances import Tolerances
from tests.results.comparison.made import (
    ANSWERS,
    CORNERS,
    MASKS,
    NUMBERS,
    PIXELS,
    POINTS,
    RECTANGLES,
    SCORES,
    WORDS,
    boxed,
    depth,
    label,
    mask,
    masked,
    plane,
    pose,
    strip,
    tensor,
    vector,
)


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


@given(NUMBERS, NUMBERS, st.floats(0, 10), st.floats(0, 1))
def test_numbers_agree_within_both_tolerances_and_in_either_spelling(ours, theirs, atol, rtol):
    wanted = expected({"tensors": {"x": {"data": ours}}, "atol": atol, "rtol": rtol})
    pairs = list(zip(ours, theirs, strict=False))
    near = len(ours) == len(theirs) and all(abs(a - b) <= atol + rtol * abs(a) for a, b in pairs)
    assert compare(wanted, [numbers("x", [len(theirs)], theirs)]).agrees is near
    assert compare(wanted, [raw("x", [len(theirs)], theirs)]).agrees is near


# -- what is recorded -------------------------------------------------------------------------------------------------


@given(OBJECTS, OBJECTS, SCORES, SCORES, SCORES, SCORES)
def test_what_agrees_within_a_tolerance_agrees_within_a_wider_one(wanted, came, low, high, near, far):
    strict = {"boxes": written(wanted), "iou": max(near, far), "tolerance": min(low, high)}
    loose = {"boxes": written(wanted), "iou": min(near, far), "tolerance": max(low, high)}
    assert compare(expected(loose), came).agrees or not compare(expected(strict), came).agrees


def recorded(predictions):
    """What was recorded of an answer, read back from the file."""
    return parse(msgspec.json.decode(msgspec.json.encode(record(predictions))), "here")


@given(ANSWERS)
def test_an_answer_of_any_kinds_agrees_with_what_was_recorded_of_it(predictions):
    assert compare(recorded(predictions), predictions) == Verdict(agrees=True)


@given(ANSWERS, ANSWERS)
def test_more_than_what_was_recorded_is_no_difference(predictions, more):
    assume(predictions)
    others = {one.name for one in more if isinstance(one, Tensor)}
    assume(not any(isinstance(one, Tensor) and one.name in others for one in predictions))
    assert compare(recorded(predictions), [*predictions, *more]).agrees


BODY = ((0.2, 0.1), (0.25, 0.15), (0.3, 0.3))


@pytest.mark.parametrize(
    ("was", "came", "difference"),
    [
        ([masked("belt", 0, 40)], [masked("belt", 0, 36), masked("part", 50, 60)], ""),
        (
            [masked("belt", 0, 40)],
            [masked("part", 0, 40), masked("belt", 0, 10)],
            "expected belt ≥ 0.80, got belt 0.90 with another mask (IoU 0.250, at least 0.5 is wanted)",
        ),
        (
            [boxed("cat", 0.1, mask=strip(0, 40))],
            [boxed("cat", 0.1)],
            "expected cat ≥ 0.80 at (0.10, 0.10, 0.20 × 0.20), got cat 0.90 with no mask",
        ),
        ([boxed("cat", 0.1)], [boxed("cat", 0.1, mask=strip(0, 40), keypoints=pose(*BODY))], ""),
        (
            [boxed("cat", 0.1, mask=strip(0, 40))],
            [boxed("cat", 0.1, mask=strip(0, 40), score=0.7)],
            "expected cat ≥ 0.80 at (0.10, 0.10, 0.20 × 0.20), got cat 0.70",
        ),
        ([Keypoints(pose(*BODY), "hand", 0, 0.8)], [Keypoints(pose(*BODY), "hand", 0, 0.75)], ""),
        (
            [Keypoints(pose(*BODY), "hand", 0, 0.8)],
            [Keypoints(pose(*BODY), "hand", 0, 0.6)],
            "expected hand ≥ 0.70, got hand 0.60",
        ),
        (
            [boxed("man", 0.1, keypoints=pose(*BODY))],
            [boxed("man", 0.1, keypoints=pose(*[(x + 0.05, y) for x, y in BODY]))],
            (
                "expected man ≥ 0.80 at (0.10, 0.10, 0.20 × 0.20), got man 0.90 with another pose "
                "(OKS 0.003, at least 0.5 is wanted)"
            ),
        ),
        ([Anomaly(True, 0.9)], [Anomaly(True, 0.8)], ""),
        ([Anomaly(True, 0.9)], [Anomaly(True, 0.7)], "expected anomaly 0.90 ± 0.1, got anomaly 0.70"),
        ([Anomaly(False, 0.1)], [Anomaly(False, 0.4)], "expected normal 0.10 ± 0.1, got normal 0.40"),
        ([Anomaly(True, 0.9)], [Anomaly(False, 0.85)], "expected anomaly 0.90 ± 0.1, got normal 0.85"),
        (
            [Anomaly(True, 0.9, map=plane([[0, 255]]))],
            [Anomaly(True, 0.9, map=plane([[255, 255]]))],
            "expected anomaly 0.90 ± 0.1, got anomaly 0.90 with another map (likeness 0.500, at least 0.9 is wanted)",
        ),
        ([Text("EXIT", 0.9)], [Text("WAY OUT", 0.9), Text("EXIT", 0.85)], ""),
        ([Text("EXIT", 0.9)], [Text("EX1T", 0.9)], "expected EXIT ≥ 0.80, got EX1T 0.90"),
        ([vector(1, 0, name="Ann", similarity=0.8)], [vector(1, 0, name="Ann", similarity=0.75)], ""),
        (
            [vector(1, 0, name="Ann", similarity=0.8)],
            [vector(1, 0, name="Bob", similarity=0.8)],
            "expected Ann ≥ 0.70, got Bob 0.80",
        ),
        (
            [vector(1, 0)],
            [vector(0, 1)],
            "expected embedding [2], got embedding [2] with another vector (cosine 0.000, at least 0.99 is wanted)",
        ),
        (
            [depth([[0, 100]])],
            [depth([[200, 250]])],
            "expected map 0 to 5 m, got map 0 to 5 m with another map (likeness 0.314, at least 0.9 is wanted)",
        ),
        (
            [boxed("car", 0.1, parts=Parts([Text("AB 12")]))],
            [boxed("car", 0.1, parts=Parts([Text("AB 13")]))],
            (
                "expected car ≥ 0.80 at (0.10, 0.10, 0.20 × 0.20), "
                "got car 0.90 with other parts (expected AB 12, got AB 13)"
            ),
        ),
        ([boxed("car", 0.1, track_id=1, mask=strip(0, 9))], [boxed("car", 0.1, track_id=7, mask=strip(0, 9))], ""),
        (
            [label("indoors", 0.9), label("dark", 0.8)],
            [label("dark", 0.9), label("indoors", 0.6)],
            "expected indoors ≥ 0.80, got dark 0.90, indoors 0.60",
        ),
    ],
)
def test_what_was_recorded_of_each_kind_is_asked_for_from_then_on(was, came, difference):
    assert compare(recorded(was), was).agrees
    assert compare(recorded(was), came).difference == difference


def test_the_words_of_old_files_are_recorded_where_they_say_all():
    assert record([label("cat", 0.8), label("dog", 0.1)]) == {"label": "cat", "score": 0.8}
    assert record([boxed("cat", 0.1)]) == {"boxes": [box("cat", 0.1, 0.1, 0.2, 0.2)]}
    assert record([]) == {"boxes": []}
    assert record([tensor([1.0, 2.0])]) == {"tensors": {"out": {"shape": (2,), "dtype": "float32", "data": [1.0, 2.0]}}}


def test_every_bound_of_an_answer_may_be_written_beside_it():
    written = {"predictions": [msgspec.to_builtins(Text("EXIT", box=Box(0, 0, 0.5, 0.5)))]}
    assert parse(written, "here") == Recorded((Text("EXIT", box=Box(0, 0, 0.5, 0.5)),), Tolerances())
    bounds = {"iou": 0.1, "oks": 0.2, "cosine": 0.3, "text": 0.4, "map": 0.5, "tolerance": 0.6, "atol": 0, "rtol": 1}
    assert parse(written | bounds, "here").tolerances == Tolerances(**bounds)
    assert compare(parse(written | {"text": 0.75}, "here"), [Text("EX1T")]).agrees


NOTHING_ASKED = {"iou": 0, "oks": 0, "cosine": 0, "text": 0, "map": 0, "tolerance": 1}
NAMED_ALIKE = [
    st.builds(boxed, st.just("cat"), SCORES, mask=st.none() | MASKS, keypoints=POINTS, corners=CORNERS),
    st.builds(Segmentation, label=st.just("cat"), label_id=st.just(0), area=SCORES, mask=MASKS),
    st.builds(Keypoints, POINTS),
    st.builds(Anomaly, st.just(True), SCORES, map=st.none() | PIXELS.map(plane)),
    st.builds(Text, WORDS, SCORES, st.none() | RECTANGLES, CORNERS),
    st.builds(lambda numbers: vector(*numbers), NUMBERS),
    st.builds(Map, PIXELS.map(plane), SCORES, SCORES),
]


@given(st.sampled_from(NAMED_ALIKE).flatmap(lambda kind: st.tuples(kind, kind)))
def test_where_no_likeness_is_asked_for_the_same_name_is_enough(pair):
    one, other = pair
    written = msgspec.json.encode({"predictions": [one], **NOTHING_ASKED})
    assert compare(parse(msgspec.json.decode(written), "here"), [other]).agrees


def test_what_is_recorded_stays_small_and_is_recognised_all_the_same():
    random = np.random.default_rng(1)
    heat = np.add.outer(np.arange(480), np.arange(640)) // 5
    large = [Map(plane(heat), 0, 9), Anomaly(True, 0.9, map=plane(heat))]
    outputs = random.normal(size=8400 * 84).astype("<f4")
    raw = Tensor("out", (1, 84, 8400), "float32", outputs.tobytes(), "base64")
    pixels = np.zeros((480, 640), np.bool_)
    cv2.ellipse(pixels.view(np.uint8), (300, 200), (200, 120), 30, 0, 360, 1, -1)
    for answer, most in (([raw], 6000), (large, 16_000), ([boxed("cat", 0.1, mask=mask(pixels))], 2000)):
        assert len(msgspec.json.encode(record(answer))) < most
        assert compare(recorded(answer), answer).agrees
    outputs[::3] += 0.5
    other = Tensor("out", (1, 84, 8400), "float32", outputs.tobytes(), "base64")
    assert compare(recorded([raw]), [other]).difference.startswith("expected out[0] = ")
    assert not compare(recorded(large), [Map(plane(heat[::-1]), 0, 9), large[1]]).agrees


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
    [
        ({"label": "x"}, Label),
        ({"boxes": []}, Boxes),
        ({"tensors": {"x": {"data": [1]}}}, Tensors),
        ({"predictions": []}, Recorded),
    ],
)
def test_the_kind_of_what_is_expected_is_told_by_its_key(value, kind):
    assert isinstance(expected(value), kind)


@pytest.mark.parametrize(
    "value",
    [
        {"predictions": [{"label": "x"}]}, {"predictions": [{"kind": "x"}]}, {"predictions": [1]},
        {"predictions": [{"label": "x", "label_id": 0, "score": 1.0, "scores": 1}]},
        {"predictions": [box("x", 0, 0, 1, 1) | {"label_id": 0, "parts": [{"kind": "text", "txt": "x"}]}]},
        {"predictions": [box("x", 0, 0, 1, 1) | {"label_id": 0, "parts": 1}]},
        {"predictions": [{"kind": "text", "text": "x"}] * 101}, {"predictions": [], "oks": 2},
        {"predictions": [], "cosine": -1}, {"predictions": [], "tolerance": float("inf")},
        {"predictions": [], "label": "x"},
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
        ([vector(1.0, float("nan"))], "prediction 0 holds nan"),
        ([Keypoints(pose((0.5, float("inf"))))], "prediction 0 holds inf"),
        ([boxed("a", 0, parts=Parts([Text("x", float("nan"))]))], "prediction 0 holds nan"),
    ],
)
def test_numbers_that_are_not_finite_are_found_wherever_they_are(predictions, where):
    assert unfinite(predictions) == where


@pytest.mark.parametrize("predictions", [classes(("a", float("nan"))), [vector(1.0, float("inf"))]])
def test_what_could_never_agree_is_not_recorded(predictions):
    with pytest.raises(ConfigError):
        record(predictions)
