from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime.base import Geometry, Labels, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.classification import ImageClassification

pytestmark = pytest.mark.arch

FRAME = Geometry(640, 480, 224, 224)
INPUTS = [TensorInfo("image", (1, 224, 224, 3), "float32")]


def classify(values, names=(), shape=None, **options):
    values = np.asarray(values, dtype=np.float32)
    shape = shape or (1, values.size)
    task = ImageClassification(
        options, Labels(dict(enumerate(names))), INPUTS, [TensorInfo("scores", shape, "float32")]
    )
    return task.predictions([values.reshape(shape)], FRAME)


def test_the_best_classes_come_first_with_name_number_and_score():
    assert classify([0.1, 0.7, 0.2], ["cat", "dog", "cow"], top_k=2) == [
        {"label": "dog", "label_id": 1, "score": 0.7},
        {"label": "cow", "label_id": 2, "score": 0.2},
    ]


def test_predictions_are_plain_json_values():
    told = classify([0.1, 0.7, 0.2])
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 1, 3), (1, 3, 1, 1)])
def test_every_shape_of_a_vector_is_taken(shape):
    assert classify([0.1, 0.7, 0.2], shape=shape)[0] == {"label": "class 1", "label_id": 1, "score": 0.7}


def test_logits_pass_through_softmax():
    powers = [math.exp(value) for value in (1.0, 3.0, 2.0)]
    scores = [round(power / sum(powers), 6) for power in powers]
    told = classify([1.0, 3.0, 2.0])
    assert [(p["label_id"], p["score"]) for p in told] == [
        (1, pytest.approx(scores[1], abs=2e-6)),
        (2, pytest.approx(scores[2], abs=2e-6)),
        (0, pytest.approx(scores[0], abs=2e-6)),
    ]


def test_huge_logits_do_not_overflow():
    assert classify([1e30, -1e30, 0.0])[0] == {"label": "class 0", "label_id": 0, "score": 1.0}


def test_probabilities_are_taken_as_they_are():
    assert [p["score"] for p in classify([0.25, 0.5, 0.25])] == [0.5, 0.25, 0.25]


def test_independent_classes_pass_through_sigmoid_when_told():
    assert [p["score"] for p in classify([0.0, 100.0, -100.0], activation="sigmoid")] == [1.0, 0.5, 0.0]


def test_numbers_are_left_alone_when_told():
    assert [p["score"] for p in classify([0.3, 0.4], activation="none")] == [0.4, 0.3]


def test_what_is_no_score_is_an_error_and_no_result():
    with pytest.raises(ModelError, match=r"a score of 4, and no score is above 1") as caught:
        classify([3.0, 4.0], activation="none")
    assert caught.value.code == "scores-wrong"
    assert "activation" in caught.value.hint


def test_a_flat_distribution_in_eight_bits_stays_a_distribution():
    info = TensorInfo("scores", (1, 1000), "uint8", scale=1 / 256)
    values = np.zeros((1, 1000), np.float32)  # a thousandth each is below the smallest step
    values[0, 7] = 1 / 256
    told = ImageClassification({}, Labels(), INPUTS, [info]).predictions([values], FRAME)
    assert told[0] == {"label": "class 7", "label_id": 7, "score": 0.003906}


def test_scores_below_the_threshold_are_left_out():
    assert [p["label_id"] for p in classify([0.1, 0.7, 0.2], threshold=0.2)] == [1, 2]


def test_a_background_column_is_never_told_and_the_labels_keep_their_numbers():
    assert classify([0.6, 0.3, 0.1], ["cat", "dog"], background=True) == [
        {"label": "cat", "label_id": 0, "score": 0.3},
        {"label": "dog", "label_id": 1, "score": 0.1},
    ]


def test_a_background_that_the_labels_name_is_found_without_being_told():
    assert [p["label"] for p in classify([0.6, 0.3, 0.1], ["background", "cat", "dog"])] == ["cat", "dog"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_an_error(bad):
    with pytest.raises(ModelError) as caught:
        classify([0.1, bad, 0.2])
    assert caught.value.code == "model-output-not-finite"


def test_one_of_several_outputs_is_chosen_by_shape_name_or_index():
    outputs = [TensorInfo("features", (1, 7, 7, 64), "float32"), TensorInfo("scores", (1, 2), "float32")]
    arrays = [np.zeros((1, 7, 7, 64), np.float32), np.array([[0.2, 0.8]], np.float32)]
    for options in ({}, {"output": "scores"}, {"output": 1}):
        task = ImageClassification(options, Labels(), INPUTS, outputs)
        assert task.predictions(arrays, FRAME)[0]["label_id"] == 1


@pytest.mark.parametrize("options", [{}, {"output": "score"}, {"output": 9}])
def test_an_output_that_cannot_be_told_is_an_error_that_lists_them(options):
    outputs = [TensorInfo("age", (1, 90), "float32"), TensorInfo("mood", (1, 6), "float32")]
    with pytest.raises(ModelError, match=r"0: age \[1, 90\], 1: mood \[1, 6\]") as caught:
        ImageClassification(options, Labels(), INPUTS, outputs)
    assert caught.value.code == "outputs-not-recognised"
    assert "options.output" in caught.value.hint


def test_an_option_misspelt_is_an_error_with_a_guess():
    with pytest.raises(ModelError) as caught:
        classify([0.5, 0.5], topk=3)
    assert "did you mean options.top_k?" in caught.value.hint


@pytest.mark.parametrize(
    ("shapes", "known"),
    [([(1, 1000)], True), ([(1, 1, 1, 5)], True), ([(1, 5, 5)], False), ([(1, 1)], False), ([(1, 9), (1, 9)], False)],
)
def test_one_vector_is_recognised_as_a_classification(shapes, known):
    outputs = [TensorInfo(f"out{n}", shape, "float32") for n, shape in enumerate(shapes)]
    assert ImageClassification.recognises(INPUTS, outputs) is known


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 1, width=32), min_size=2, max_size=60), st.integers(1, 70))
def test_scores_descend_and_the_answer_is_that_of_a_full_sort(values, top_k):
    told = classify(values, top_k=top_k, activation="none")
    order = sorted(range(len(values)), key=lambda n: (-values[n], n))
    expected = [n for n in order if round(values[n], 6) >= 0][:top_k]
    assert [p["label_id"] for p in told] == expected
    assert [p["score"] for p in told] == sorted((p["score"] for p in told), reverse=True)
