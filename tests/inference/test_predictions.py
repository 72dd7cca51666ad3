"""Every kind of prediction, from a task's dict through the worker's message to the native format."""

from __future__ import annotations

import base64
import json
from itertools import cycle

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agent.errors import ModelRefusedError
from agent.inference import masks
from agent.inference.predictions import (
    KINDS,
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Group,
    Image,
    Keypoint,
    Keypoints,
    Map,
    Mask,
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
from agent.inference.runtime.planes import rle
from agent.results.formats import Context, load
from agent.results.schemas import schema
from tests.results.made_results import CLASSES, LATER, TENSORS, result
from tests.support.answers import received
from tests.support.given import MASKS
from tests.support.given import predictions as made_predictions

NATIVE = Draft202012Validator(json.loads(schema("native")))
CAT = {"label": "cat", "label_id": 3, "score": 0.5}
BOX = {"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}
MASK = np.zeros((48, 60), np.uint8)
MASK[10:20, 5:55] = 1


def native(given):
    """As the native format writes what a stranger's task gives."""
    return json.loads(msgspec.json.encode(received(contracts.predictions(given, "task"))))


def covered(mask):
    """The pixels of a mask in the native format."""
    assert mask["encoding"] == "rle"
    lengths = masks.runs(Mask(mask["width"], mask["height"], mask["data"]))
    inside = np.repeat(np.arange(len(lengths)) % 2, lengths)
    return inside.reshape(mask["width"], mask["height"]).T


def pixels(image):
    assert image["encoding"] == "png"
    plane = cv2.imdecode(np.frombuffer(base64.b64decode(image["data"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert plane.shape == (image["height"], image["width"])
    return plane


def regained(told):
    """The task's dict behind a prediction in the native format, its arrays as nested lists."""
    given = {key: value for key, value in told.items() if key != "kind"}
    if "mask" in given:
        given["mask"] = covered(given["mask"]).tolist()
    if "map" in given:
        given["map"] = pixels(given["map"]).tolist()
    if told.get("kind") == "embedding":
        del given["size"]
        given["vector"] = np.frombuffer(base64.b64decode(given.pop("data", "")), given.pop("dtype")).tolist()
    if "parts" in given:
        given["parts"] = [regained(part) for part in given["parts"]]
    return given


def plain(given):
    """A task's dict without what says nothing, its arrays as nested lists."""
    kept = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in given.items()}
    if kinds.kind_of(given) == "segmentation":
        kept.setdefault("area", round(float(given["mask"].mean()), 6))
    if "corners" in kept:
        kept["corners"] = [list(point) for point in kept["corners"]]
    if "keypoints" in kept:
        kept["keypoints"] = [
            {key: value for key, value in point.items() if (key, value) != ("name", "")} for point in kept["keypoints"]
        ]
    if "parts" in kept:
        kept["parts"] = [plain(part) for part in kept["parts"]]
    silent = {"name", "unit", "character_scores", *(["label"] if kinds.kind_of(given) == "keypoints" else [])}
    return {key: value for key, value in kept.items() if key not in silent or value}


@settings(max_examples=100)
@given(made_predictions())
def test_what_a_task_gives_is_what_a_reader_of_the_native_format_gets(predictions):
    checked = contracts.predictions(predictions, "task")
    kept = received(checked)
    told = json.loads(load("native").encode(result(*kept), Context()))
    NATIVE.validate(told)
    assert read(told["predictions"]) == kept
    assert [regained(one) for one in told["predictions"]] == [plain(one) for one in checked]


@given(MASKS)
def test_the_runs_of_a_mask_are_its_pixels_column_by_column(mask):
    height, width = mask.shape
    made = Mask(width, height, rle(mask))
    columns = [bool(pixel) for run, pixel in zip(masks.runs(made), cycle((0, 1)), strict=False) for _ in range(run)]
    assert columns == mask.T.ravel().tolist()
    assert masks.area(made) == mask.sum()
    told = masks.png(made)
    assert (cv2.imdecode(np.frombuffer(told.data, np.uint8), cv2.IMREAD_UNCHANGED) > 0).tolist() == mask.tolist()


def disc():
    """A disc of a radius of 6 in the middle of 640 × 480 pixels."""
    rows, columns = np.mgrid[:480, :640]
    return (columns - 320) ** 2 + (rows - 240) ** 2 < 36


def blocks():
    """Two blocks in 50 × 40 pixels, one of them a single pixel in a corner."""
    mask = np.zeros((40, 50), bool)
    mask[5:30, 10:14] = mask[0, 49] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "written"),
    [
        (np.zeros((2, 2), bool), "4"),
        (np.ones((2, 2), bool), "04"),
        (np.pad(np.ones((2, 2), bool), ((1, 0), (1, 1))), "42102"),
        (blocks(), "e<i0?00000c[1XOUeN"),
        (disc(), "]lc47h>2N2O000000000001N2Ndnb4"),
    ],
)
def test_run_lengths_are_written_as_cocos_tools_do(mask, written):
    assert rle(mask) == written


@pytest.mark.parametrize("data", ["", "3", "5", "o", "4\0", "4é", "1N5", "o" * 99])
def test_what_are_no_run_lengths_of_a_masks_size_is_refused(data):
    with pytest.raises(ValueError, match=r"run lengths|COCO|longer"):
        masks.runs(Mask(2, 2, data))


def test_a_detection_may_have_a_mask_key_points_and_a_track():
    points = [{"x": np.float32(0.5), "y": 0.25, "score": 0.75, "name": "nose"}, {"x": 0.25, "y": 0}]
    (told,) = native([{**CAT, "box": BOX, "mask": MASK, "keypoints": points, "track_id": np.int64(9)}])
    assert covered(told.pop("mask")).tolist() == MASK.tolist()
    points = [{"x": 0.5, "y": 0.25, "score": 0.75, "name": "nose"}, {"x": 0.25, "y": 0.0}]
    assert told == {**CAT, "box": BOX, "keypoints": points, "track_id": 9}


def test_a_segment_is_a_class_and_its_mask():
    (told,) = native([{**CAT, "mask": MASK > 0}])
    assert covered(told.pop("mask")).tolist() == MASK.tolist()
    assert told == {"kind": "segmentation", **CAT, "area": round(float(MASK.mean()), 6)}


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


def test_a_detection_may_be_turned():
    corners = np.array([[0.25, 0.3], [0.6, 0.25], [0.75, 0.6], [0.3, 0.75]])
    (told,) = native([{**CAT, "box": BOX, "corners": corners, "angle": np.float32(12.5)}])
    assert told == {**CAT, "box": BOX, "corners": corners.tolist(), "angle": 12.5}


def test_key_points_may_stand_alone_with_their_depth():
    points = [{"x": 0.5, "y": 0.25, "z": np.float32(-0.5), "name": "wrist"}, {"x": 0.25, "y": 0.0}]
    assert native([{"keypoints": points}]) == [{"kind": "keypoints", "keypoints": points}]
    (told,) = native([{**CAT, "keypoints": points}])
    assert told == {"kind": "keypoints", "keypoints": points, **CAT}


def test_a_map_says_what_its_darkest_and_its_lightest_stand_for():
    (told,) = native([{"map": np.array([[0.5, 1.0], [2.5, np.nan]]), "unit": "m"}])
    assert pixels(told["map"]).tolist() == [[0, 64], [255, 0]]
    assert (told["minimum"], told["maximum"], told["unit"]) == (0.5, 2.5, "m")
    (told,) = native([{"map": np.array([[0.1, 2 / 3]], np.float32)}])
    assert (told["minimum"], told["maximum"]) == (0.1, 0.6666667)
    (told,) = native([{"map": np.full((2, 2), np.nan)}])
    assert (told["minimum"], told["maximum"]) == (0.0, 0.0)
    (told,) = native([{"map": np.array([[0.5, 1.0]]), "minimum": 0, "maximum": 10}])
    assert pixels(told["map"]).tolist() == [[13, 26]]


def test_a_detection_may_have_what_another_model_says_of_its_part_of_the_frame():
    face = {**CAT, "label": "face", "box": BOX, "parts": [{"vector": [1, 2], "name": "Ada", "similarity": 0.75}]}
    plate = {**CAT, "box": BOX, "parts": [{"text": "EXIT"}, {**CAT, "mask": MASK}, {"map": MASK / 1}, CAT]}
    (told,) = native([{**CAT, "box": BOX, "parts": [face, plate, CAT, {**CAT, "box": BOX}]}])
    kinds_told = [[kinds.kind_of(part) for part in one.get("parts", [])] for one in [told, *told["parts"]]]
    assert kinds_told[0] == ["detection", "detection", "classification", "detection"]
    assert kinds_told[1:] == [["embedding"], ["text", "segmentation", "map", "classification"], [], []]
    (vector,) = told["parts"][0]["parts"]
    assert (vector["name"], vector["similarity"]) == ("Ada", 0.75)
    assert np.frombuffer(base64.b64decode(vector["data"]), "<f4").tolist() == [1, 2]
    assert covered(told["parts"][1]["parts"][1]["mask"]).tolist() == MASK.tolist()


def test_parts_inside_each_other_are_bounded():
    deep = {**CAT, "box": BOX}
    for _ in range(4):
        deep = {**CAT, "box": BOX, "parts": [deep]}
    assert contracts.predictions([deep], "task") == [deep]
    with pytest.raises(ModelError, match="too deep inside each other"):
        contracts.predictions([{**CAT, "box": BOX, "parts": [deep]}], "task")


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
        ({**CAT, "track_id": 1}, "prediction 0 has no box"),
        ({**CAT, "parts": []}, "prediction 0 has no box"),
        ({**CAT, "box": BOX, "keypoints": [{"x": 320, "y": 0}]}, "point 0 in the keypoints of prediction 0 is"),
        ({**CAT, "box": BOX, "keypoints": [(0, 0)]}, "point 0 in the keypoints of prediction 0 is (0, 0)"),
        ({**CAT, "box": BOX, "corners": [[0, 0], [1, 1]]}, "the corners of prediction 0 are [[0, 0], [1, 1]]"),
        ({**CAT, "box": BOX, "corners": [[0, 0], [640, 0], [640, 1], [0, 1]]}, "the corners of prediction 0 are"),
        ({**CAT, "box": BOX, "angle": "steep"}, "the angle of prediction 0 is 'steep'"),
        ({**CAT, "box": BOX, "parts": CAT}, "the parts of prediction 0 are"),
        ({**CAT, "box": BOX, "parts": [{**CAT, "score": "high"}]}, "the score of prediction 0 in the parts of predict"),
        ({"text": "EXIT", "character_scores": [0.5]}, "has 1 character_scores for 4 characters"),
        ({"vector": [1.0], "name": 7}, "the name of prediction 0 is 7"),
        ({"map": MASK}, "is uint8 without minimum and maximum"),
        ({"map": MASK / 2, "minimum": 2, "maximum": 1}, "has the minimum 2 and the maximum 1"),
        ({**CAT, "box": BOX, "keypoints": "all"}, "the keypoints of prediction 0 are 'all'"),
        ({**CAT, "box": BOX, "track_id": "a"}, "the track_id of prediction 0 is 'a'"),
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
    with pytest.raises(ModelError, match="maps, tensors and the like are 12 bytes, 10 are the most"):
        WorkerAnswer([{"vector": np.zeros(3, np.float32)}], {}, 1, 1).message(1)
    monkeypatch.setattr(messages, "MAX_JSON", 500)
    noise = np.random.default_rng(1).random((48, 60)) < 0.5
    with pytest.raises(ModelError, match=r"predictions and their masks are \d+ bytes, 500 are the most"):
        WorkerAnswer([{**CAT, "mask": noise}], {}, 1, 1).message(1)


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
        (Embedding("float32", 512, b"", "Ada", 0.75), ("Ada", 0.75)),
        (Segmentation(label="sky", label_id=1, area=0.5, mask=Mask(1, 1, "1")), ("sky", None)),
        (Keypoints((Keypoint(0, 0), Keypoint(1, 1)), score=0.5), ("2 key points", 0.5)),
        (Keypoints((Keypoint(0, 0),), "hand", 0, 0.5), ("hand", 0.5)),
        (Map(Image(1, 1, b""), 0.25, 12.5, "m"), ("map 0.25 to 12.5 m", None)),
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
