"""Every kind of prediction, from a task's dict through the worker's message to the native format."""

from __future__ import annotations

import base64
import json

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ModelRefusedError
from agent.inference.predictions import (
    KINDS,
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Group,
    Keypoint,
    Segmentation,
    Tensor,
    Text,
    decode,
    headline,
    numbers_of,
    read,
)
from agent.inference.runtime import contracts, kinds, messages
from agent.inference.runtime.answers import WorkerAnswer
from agent.inference.runtime.errors import ModelError
from tests.results.made_results import CLASSES, LATER, TENSORS
from tests.support.answers import received

CAT = {"label": "cat", "label_id": 3, "score": 0.5}
BOX = {"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}
MASK = np.zeros((48, 60), np.uint8)
MASK[10:20, 5:55] = 1


def native(given):
    """As the native format writes what a stranger's task gives."""
    return json.loads(msgspec.json.encode(received(contracts.predictions(given, "task"))))


def pixels(image):
    assert image["encoding"] == "png"
    plane = cv2.imdecode(np.frombuffer(base64.b64decode(image["data"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert plane.shape == (image["height"], image["width"])
    return plane


def test_a_detection_may_have_a_mask_key_points_and_a_track():
    points = [{"x": np.float32(0.5), "y": 0.25, "score": 0.75, "name": "nose"}, {"x": 0.25, "y": 0}]
    (told,) = native([{**CAT, "box": BOX, "mask": MASK, "keypoints": points, "track_id": np.int64(9)}])
    assert (pixels(told.pop("mask")) > 0).tolist() == (MASK > 0).tolist()
    points = [{"x": 0.5, "y": 0.25, "score": 0.75, "name": "nose"}, {"x": 0.25, "y": 0.0}]
    assert told == {**CAT, "box": BOX, "keypoints": points, "track_id": 9}


def test_a_segment_is_a_class_and_its_mask():
    (told,) = native([{**CAT, "mask": MASK > 0}])
    assert (pixels(told.pop("mask")) > 0).tolist() == (MASK > 0).tolist()
    assert told == {"kind": "segmentation", **CAT}


def test_an_anomaly_is_a_verdict_a_score_and_perhaps_a_map():
    assert native([{"anomalous": np.bool_(True), "score": 0.9}]) == [
        {"kind": "anomaly", "anomalous": True, "score": 0.9}
    ]
    (told,) = native([{"anomalous": False, "score": 0.1, "map": np.linspace(0, 1, 6).reshape(2, 3)}])
    assert pixels(told["map"]).tolist() == [[0, 51, 102], [153, 204, 255]]


def test_text_is_what_is_written_and_perhaps_where():
    assert native([{"text": "EXIT"}]) == [{"kind": "text", "text": "EXIT"}]
    assert native([{"text": "EXIT", "score": 0.5, "box": BOX}]) == [
        {"kind": "text", "text": "EXIT", "score": 0.5, "box": BOX}
    ]


def test_an_embedding_is_a_vector_as_bytes():
    (told,) = native([{"vector": np.array([1, -2, 0.5], ">f4")}])
    assert (told["kind"], told["dtype"], told["size"]) == ("embedding", "float32", 3)
    assert np.frombuffer(base64.b64decode(told["data"]), "<f4").tolist() == [1, -2, 0.5]
    (vector,) = received(contracts.predictions([{"vector": [1, 2]}], "task"))
    assert numbers_of(vector) == [1.0, 2.0]


def test_kinds_may_stand_beside_each_other_in_their_order():
    given = [{**CAT, "box": BOX}, CAT, CAT, {**CAT, "mask": MASK}, {"text": "EXIT"}, {**CAT, "box": BOX}]
    kept = received(contracts.predictions(given, "task"), snapshot=b"jpeg")
    assert [type(one) for one in kept] == [Detection, Classification, Classification, Segmentation, Text, Detection]


def test_an_annotated_picture_alone_changes_nothing_in_the_predictions():
    assert received([CAT], snapshot=b"jpeg") == (Classification(**CAT),)


def test_a_kind_may_be_named_and_a_key_left_empty():
    given = {"kind": "classification", **CAT, "box": None, "mask": None}
    assert contracts.predictions([given], "task") == [CAT]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**CAT, "kind": "smell"}, "has the kind 'smell'"),
        ({**CAT, "box": BOX, "mask": MASK[0]}, "the mask of prediction 0 is an array of uint8 [60]"),
        ({**CAT, "mask": MASK / 2}, "the mask of prediction 0 is an array of float64 [48, 60]"),
        ({**CAT, "mask": "m"}, "the mask of prediction 0 is 'm'"),
        ({**CAT, "keypoints": []}, "prediction 0 has no box"),
        ({**CAT, "box": BOX, "keypoints": [{"x": 320, "y": 0}]}, "keypoint 0 of prediction 0 is"),
        ({**CAT, "box": BOX, "keypoints": [(0, 0)]}, "keypoint 0 of prediction 0 is (0, 0)"),
        ({**CAT, "box": BOX, "keypoints": "all"}, "the keypoints of prediction 0 are 'all'"),
        ({**CAT, "box": BOX, "track_id": "a"}, "has the track_id 'a'"),
        ({"anomalous": "yes", "score": 1}, "has the anomalous 'yes'"),
        ({"anomalous": True, "score": 1, "map": MASK.astype(np.int32)}, "the map of prediction 0 is"),
        ({"text": 7}, "has the text 7"),
        ({"vector": [[1.0]]}, "the vector of prediction 0 is [[1.0]]"),
        ({"vector": [float("nan")]}, "the vector of prediction 0 is [nan]"),
        (
            {"name": "x", "shape": [1], "dtype": "float32", "data": [1], "encoding": "base64"},
            "the data of prediction 0",
        ),
    ],
)
def test_what_is_none_of_its_kind_is_an_error_that_says_so(given, words):
    with pytest.raises(ModelError) as raised:
        contracts.predictions([given], "task")
    assert words in raised.value.message
    assert raised.value.hint


def test_tensors_stand_alone():
    tensor = {"name": "x", "shape": [1], "dtype": "float32", "data": [1.0]}
    with pytest.raises(ModelError, match="tensors beside other predictions"):
        contracts.predictions([tensor, CAT], "task")


def test_more_than_a_message_takes_is_an_error_of_its_picture(monkeypatch):
    monkeypatch.setattr(messages, "MAX_BODY", 10)
    with pytest.raises(ModelError, match="10 are the most"):
        WorkerAnswer([{"vector": np.zeros(3, np.float32)}], {}, 1, 1).message(1)


@given(CLASSES | LATER | TENSORS)
def test_a_prediction_in_the_native_format_shows_its_kind(prediction):
    told = json.loads(msgspec.json.encode(prediction))
    assert KINDS[kinds.kind_of(told)] is type(prediction)
    assert read([{**told, "from_the_future": 1}]) == (prediction,)


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Classification("cat", 3, 0.5), ("cat", 0.5)),
        (Detection("cat", 3, 0.5, Box(0, 0, 1, 1), keypoints=(Keypoint(0, 0),)), ("cat", 0.5)),
        (Anomaly(anomalous=True, score=0.9), ("anomaly", 0.9)),
        (Anomaly(anomalous=False, score=0.1), ("normal", 0.1)),
        (Text("EXIT"), ("EXIT", None)),
        (Embedding("float32", 512, b""), ("embedding [512]", None)),
        (Tensor("out", (1, 3), "float32", []), ("out [1, 3]", None)),
    ],
)
def test_each_kind_has_a_headline(prediction, words):
    assert headline(prediction) == words


def test_a_kind_that_the_core_does_not_know_is_an_error_of_its_picture():
    with pytest.raises(ModelRefusedError) as raised:
        decode([Group("smell", msgspec.Raw(b"[]"))])
    assert raised.value.code == "prediction-wrong"


@given(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(["float32", "float16", "uint8", "int64", "bool"]))
def test_a_tensor_is_unfolded_as_numpy_does(shape, dtype):
    values = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    (tensor,) = received([{"name": "x", "shape": shape, "dtype": dtype, "data": values}])
    assert tensor == Tensor("x", tuple(shape), dtype, values.tolist())
    assert numbers_of(tensor) == values.ravel().tolist()
