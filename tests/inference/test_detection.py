from __future__ import annotations

import itertools
import json
import math
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent
from agent.inference.runtime import labels
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.decoders.yolox import grid
from agent.inference.runtime.tasks.detection import DECODERS, ObjectDetection

pytestmark = pytest.mark.arch

SAMPLES = Path(agent.__file__).parent / "samples"
SEEDS = st.integers(0, 2**32 - 1)


def stretched(size=64):
    return Geometry(640, 480, size, size)


def network(*shapes, names=None, size=64):
    names = names or [f"out{n}" for n in range(len(shapes))]
    inputs = [TensorInfo("image", (1, size, size, 3), "float32")]
    return inputs, [TensorInfo(name, tuple(shape), "float32") for name, shape in zip(names, shapes, strict=True)]


def detect(outputs, *, names=None, size=64, classes=(), geometry=None, **options):
    inputs, infos = network(*[np.shape(output) for output in outputs], names=names, size=size)
    task = ObjectDetection(options, Labels(dict(enumerate(classes))), inputs, infos)
    return task.predictions([np.asarray(output, np.float32) for output in outputs], geometry or stretched(size))


def corners(prediction):
    box = prediction["box"]
    return [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]


def clipped(left, top, right, bottom):
    return [min(max(value, 0.0), 1.0) for value in (left, top, right, bottom)]


def assert_same(predictions, expected):
    """``expected``: (label_id, score, corners) in any order; degenerate boxes in it are not wanted."""
    expected = [one for one in expected if one[2][2] - one[2][0] > 1e-6 and one[2][3] - one[2][1] > 1e-6]
    assert len(predictions) == len(expected)
    for told, (label_id, score, box) in zip(predictions, sorted(expected, key=lambda one: -one[1]), strict=True):
        assert told["label_id"] == label_id
        assert told["score"] == pytest.approx(score, abs=2e-5)
        assert corners(told) == pytest.approx(box, abs=2e-4)


# The task


BOXES = np.array([[[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.9]]], np.float32)
POST = [BOXES, np.array([[1.0, 0.0, 2.0]]), np.array([[0.9, 0.8, 0.7]]), np.array([3.0])]


def test_an_object_is_told_by_name_number_score_and_box_in_fractions():
    told = detect(POST, classes=["cat", "dog"])
    assert told[0] == {
        "label": "dog",
        "label_id": 1,
        "score": 0.9,
        "box": {"x": 0.2, "y": 0.1, "width": 0.4, "height": 0.4},
    }
    assert told[1]["label"] == "cat"


def test_predictions_are_plain_json_values():
    told = detect(POST)
    assert json.loads(json.dumps(told)) == told


def test_a_box_without_area_is_dropped():
    assert len(detect(POST)) == 2


def test_a_box_in_the_padding_is_dropped_and_one_across_it_is_clipped():
    # A 640×320 frame in a square: a quarter of the network's height above and below is padding.
    geometry = Geometry(640, 320, 64, 64, 0.0, -0.5, 1.0, 2.0)
    boxes = np.array([[[0.0, 0.1, 0.25, 0.9], [0.2, 0.25, 0.5, 0.75]]])
    told = detect([boxes, np.zeros((1, 2)), np.array([[0.9, 0.8]]), np.array([2.0])], geometry=geometry)
    assert [corners(one) for one in told] == [[0.25, 0.0, 0.75, 0.5]]


def test_options_bound_the_answer():
    assert [one["score"] for one in detect(POST, threshold=0.85)] == [0.9]
    assert [one["score"] for one in detect(POST, max_detections=1)] == [0.9]


def test_a_misspelt_option_and_one_of_another_decoder_are_refused():
    for options in ({"treshold": 0.5}, {"coder": {"scale": [1, 1, 1, 1]}}):
        with pytest.raises(ModelError, match="unknown key") as caught:
            detect(POST, **options)
        assert caught.value.code == "options-wrong"


def test_outputs_that_no_decoder_knows_are_an_error_that_shows_them_and_what_is_known():
    inputs, outputs = network((1, 10))
    with pytest.raises(ModelError, match=r"outputs out0 \[1, 10\]: no detection head is known") as caught:
        ObjectDetection({}, Labels(), inputs, outputs)
    assert caught.value.code == "outputs-not-recognised"
    for decoder in DECODERS:
        assert decoder.name in caught.value.hint
        assert decoder.expects in caught.value.hint


@pytest.mark.parametrize("name", [decoder.name for decoder in DECODERS])
def test_a_decoder_chosen_for_outputs_it_cannot_read_says_what_it_reads(name):
    inputs, outputs = network((1, 10))
    with pytest.raises(ModelError, match=rf"decoder {name} reads .*; the network has out0 \[1, 10\]") as caught:
        ObjectDetection({"decoder": name}, Labels(), inputs, outputs)
    assert caught.value.code == "outputs-not-recognised"


AUTO = [
    ("ssd-post", 300, [(1, 10, 4), (1, 10), (1, 10), (1,)], None, 0),
    ("ssd-post", 300, [(), (), (), ()], [f"TFLite_Detection_PostProcess{n}" for n in ("", ":1", ":2", ":3")], 0),
    ("ssd-raw", 300, [(1, 1917, 4), (1, 1917, 91)], None, 0),
    ("ssd-raw", 300, [(1, 1917, 24), (1, 1917, 4)], ["class_predictions", "box_encodings"], 24),
    ("detr", 800, [(1, 100, 92), (1, 100, 4)], ["logits", "pred_boxes"], 0),
    ("detr", 800, [(-1, -1, 92), (-1, -1, 4), (-1, -1, 256)], ["logits", "pred_boxes", "last_hidden_state"], 91),
    ("yolov8", 640, [(1, 84, 8400)], None, 80),
    ("yolov8", 640, [(1, 84, 8400)], None, 0),
    ("yolov8", 640, [(1, 8400, 84)], None, 80),
    ("yolov8", 640, [(-1, 84, -1)], None, 80),
    ("yolov5", 640, [(1, 25200, 85)], None, 80),
    ("yolov5", 320, [(1, 6300, 85)], None, 0),
    ("yolox", 416, [(1, 3549, 85)], None, 80),
    ("yolox", 640, [(1, 8400, 85)], None, 0),
    ("gluoncv", 512, [(1, 100, 1), (1, 100, 1), (1, 100, 4)], None, 0),
    ("gluoncv", 416, [(1, -1, 1), (1, -1, 1), (1, -1, 4)], ["output0", "output1", "output2"], 20),
    ("end2end", 640, [(1, 300, 6)], None, 80),
    ("end2end", 640, [(1, 300, 6)], None, 0),
    ("end2end", 640, [(1, -1, 6)], None, 80),
    ("ssd-keypoints", 128, [(1, 896, 16), (1, 896, 1)], None, 0),
    ("yolov5", 640, [(1, 25200, 6)], None, 1),
    ("yolov8", 640, [(1, 8400, 6)], None, 2),
]


@pytest.mark.parametrize(("decoder", "size", "shapes", "names", "count"), AUTO)
def test_the_decoder_is_told_by_shapes_names_and_number_of_labels(decoder, size, shapes, names, count):
    inputs, outputs = network(*shapes, names=names, size=size)
    task = ObjectDetection({}, Labels({n: f"class {n}" for n in range(count)}), inputs, outputs)
    assert task._decoder.name == decoder


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("ssd-raw", {"anchors": {"maps": [2], "ratios": [1.0]}, "background": True}),
        ("detr", {"activation": "softmax"}),
    ],
)
def test_a_network_whose_only_class_is_no_object_is_refused(decoder, options):
    with pytest.raises(ModelError, match="nothing remains"):
        detect([np.zeros((1, 12, 4)), np.zeros((1, 12, 1))], decoder=decoder, **options)


def test_four_heads_with_telling_names_but_other_shapes_are_no_detector():
    names = ["age_class", "mood_score", "gender", "glasses"]
    assert not ObjectDetection.recognises(*network((1, 90), (1, 6), (1, 2), (1, 2), names=names))


def test_other_networks_are_not_taken_for_detectors():
    for shapes in ([(1, 1000)], [(1, 21, 65, 65)], [(1, 256, 256)], [(1, 5000, 6)], [(1, 300, 7)], [(1, 1, 4)]):
        assert not ObjectDetection.recognises(*network(*shapes))


NAN_OUTPUTS = {
    "ssd-post": [POST[0], POST[1], np.full((1, 3), math.nan), POST[3]],
    "yolov8": [np.full((1, 6, 84), math.nan)],
    "yolov5": [np.full((1, 252, 7), math.nan)],
    "boxes-labels-scores": [np.zeros((4, 4)), np.zeros(4), np.full(4, math.nan)],
    "boxes-scores": [np.zeros((1, 9, 4)), np.full((1, 9, 5), math.nan)],
    "rtdetr": [np.full((1, 9, 7), math.nan)],
    "yolo-raw": [np.full((1, 3, n, n, 7), math.nan) for n in (8, 4, 2)],
    "nanodet": [np.full((1, 84, 36), math.nan)],
    "picodet": [np.full((1, n, k), math.nan) for n in (64, 16, 4) for k in (5, 32)],
    "yolox": [np.full((1, 84, 7), math.inf)],
    "yolov6": [np.full((1, 84, 7), math.inf)],
    "detr": [np.full((1, 9, 5), math.inf), np.zeros((1, 9, 4))],
    "ssd-raw": [np.full((1, 4, 5), math.nan), np.zeros((1, 4, 4))],
    "gluoncv": [np.zeros((1, 4, 1)), np.full((1, 4, 1), math.nan), np.zeros((1, 4, 4))],
    "end2end": [np.full((1, 4, 6), math.inf)],
    "yolov8-seg": [np.full((1, 10, 84), math.nan), np.zeros((1, 4, 16, 16))],
    "yolov5-seg": [np.full((1, 252, 11), math.nan), np.zeros((1, 4, 16, 16))],
    "yolov8-pose": [np.full((1, 56, 84), math.nan)],
    "yolov7-pose": [np.full((1, 252, 57), math.nan)],
    "yolov8-obb": [np.full((1, 7, 84), math.nan)],
    "end2end-seg": [np.full((1, 4, 10), math.nan), np.zeros((1, 4, 16, 16))],
    "end2end-pose": [np.full((1, 4, 57), math.nan)],
    "end2end-obb": [np.full((1, 4, 7), math.nan)],
    "dbnet": [np.full((1, 1, 64, 64), math.nan)],
    "ultraface": [np.zeros((1, 235, 4)), np.full((1, 235, 2), math.nan)],
    "retinaface": [np.zeros((1, 168, 4)), np.full((1, 168, 2), math.nan), np.zeros((1, 168, 10))],
    "scrfd": [np.full((1, n, w), math.nan) for w in (1, 4) for n in (128, 32, 8)],
    "yunet": [np.full((1, n, w), math.nan) for w in (1, 1, 4) for n in (64, 16, 4)],
    "centerface": [np.full((1, n, 16, 16), math.nan) for n in (1, 2, 2, 10)],
    "yolov5-face": [np.full((1, 252, 16), math.nan)],
    "ssd-keypoints": [np.full((1, 256, 16), math.nan), np.zeros((1, 256, 1))],
}


@pytest.mark.parametrize("name", [decoder.name for decoder in DECODERS])
def test_numbers_that_are_not_finite_are_an_error_of_every_decoder(name):
    options = {"anchors": {"maps": [2], "interpolated": False, "ratios": [1.0], "reduce_lowest": False}}
    with pytest.raises(ModelError) as caught:
        detect(NAN_OUTPUTS[name], decoder=name, **(options if name == "ssd-raw" else {}))
    assert caught.value.code == "model-output-not-finite"


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.floats(0, 1), st.sampled_from([1.0, 1e10, 1e37]), st.sampled_from(["class", "agnostic", "none"]))
def test_whatever_finite_numbers_come_boxes_lie_in_the_frame_and_scores_descend(seed, threshold, scale, nms):
    random = np.random.default_rng(seed)
    rows = np.tanh(random.normal(size=(1, 7, 84))).astype(np.float32)
    rows[:, :4] *= scale
    geometry = Geometry(640, 480, 64, 64, -0.2, 0.1, 1.4, 0.8)
    for decoder, outputs in (("yolov8", rows), ("yolox", rows.transpose(0, 2, 1)), ("yolov5", rows.transpose(0, 2, 1))):
        told = detect([outputs], decoder=decoder, geometry=geometry, threshold=threshold, nms=nms)
        assert [one["score"] for one in told] == sorted((one["score"] for one in told), reverse=True)
        for one in told:
            left, top, right, bottom = corners(one)
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


def test_a_score_that_rounding_to_8_bits_put_above_one_is_one():
    rows = np.zeros((1, 84, 6), np.float32)
    rows[0, 0] = [32, 32, 20, 20, 1.004, 0.0]
    assert detect([rows], decoder="yolov8")[0]["score"] == 1.0


@pytest.mark.parametrize("decoder", ["yolov8", "yolov5"])
def test_a_score_above_one_is_an_error_and_no_result(decoder):
    outputs = np.full((1, 7, 84), 1.5, np.float32)
    with pytest.raises(ModelError, match="no score is above 1") as caught:
        detect([outputs if decoder == "yolov8" else outputs.transpose(0, 2, 1)], decoder=decoder)
    assert caught.value.code == "scores-wrong"


# SSD with its post-processing


ORDERS = list(itertools.permutations(range(4)))
NAMES = [
    ["TFLite_Detection_PostProcess", "TFLite_Detection_PostProcess:1", "TFLite_Detection_PostProcess:2", "count"],
    [f"StatefulPartitionedCall:{n}" for n in (3, 2, 1, 0)],
    ["detection_boxes", "detection_classes", "detection_scores", "num_detections"],
    None,
]


@settings(max_examples=120, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(0, 12), st.sampled_from(ORDERS), st.sampled_from(NAMES))
def test_the_order_of_the_four_outputs_does_not_matter(seed, length, count, order, names):
    random = np.random.default_rng(seed)
    corner = random.random((1, length, 2)) * 0.5
    outputs = [
        np.concatenate([corner, corner + 0.1 + random.random((1, length, 2)) * 0.4], axis=2),
        random.integers(0, 5, (1, length)),
        np.sort(random.uniform(0.001, 0.999, (1, length)))[:, ::-1],
        np.array([min(count, length)]),
    ]
    expected = detect(outputs, names=NAMES[0])
    shuffled = [outputs[n] for n in order]
    assert detect(shuffled, names=[names[n] for n in order] if names else None, decoder="ssd-post") == expected


def test_rows_past_the_count_are_not_answered():
    assert len(detect([*POST[:3], np.array([1.0])])) == 1
    assert detect([*POST[:3], np.array([0.0])]) == []


def test_labels_that_name_the_background_are_one_ahead_of_the_operation():
    told = detect(POST, classes=["???", "cat", "dog", "cow"])
    assert [(one["label"], one["label_id"]) for one in told] == [("dog", 2), ("cat", 1)]
    assert detect(POST, classes=["none", "cat", "dog", "cow"], background=True)[0]["label"] == "dog"
    assert detect(POST, classes=["???", "cat", "dog"], background=False)[0]["label"] == "cat"


# SSD without it


ANCHORS = {"maps": [2], "ratios": [1.0], "min_scale": 0.4, "reduce_lowest": False, "interpolated": False}


def test_class_scores_and_boxes_relative_to_anchors_are_decoded():
    logits = np.full((1, 4, 3), -9.0)
    logits[0, 2, 1] = 2.0  # third anchor: bottom left cell
    encodings = np.zeros((1, 4, 4))
    encodings[0, 2] = [1.0, -1.0, 5 * math.log(0.5), 0.0]
    told = detect([encodings, logits], anchors=ANCHORS, classes=["cat", "dog", "cow"], background=False)
    centre_x, centre_y = 0.25 - 0.1 * 0.4, 0.75 + 0.1 * 0.4
    assert_same(told, [(1, 1 / (1 + math.exp(-2)), [centre_x - 0.2, centre_y - 0.1, centre_x + 0.2, centre_y + 0.1])])


@pytest.mark.parametrize(
    ("names", "background", "told"),
    [
        (["cat", "dog"], None, ("dog", 1)),
        (["cat", "dog"], True, ("dog", 1)),
        (["???", "cat", "dog"], None, ("dog", 2)),
        (["thing", "cat", "dog"], None, ("thing", 0)),
    ],
)
def test_the_background_column_is_skipped_and_labels_keep_their_numbers(names, background, told):
    logits = np.full((1, 4, 3), -9.0)
    logits[0, 0] = [5.0, 0.0, 2.0]
    options = {} if background is None else {"background": background}
    (one,) = detect([np.zeros((1, 4, 4)), logits], anchors=ANCHORS, classes=names, **options)
    assert (one["label"], one["label_id"]) == told


def test_scores_by_softmax_count_the_background_in():
    logits = np.zeros((1, 4, 3))
    logits[0, 1] = [1.0, 4.0, 0.0]
    told = detect([np.zeros((1, 4, 4)), logits], anchors=ANCHORS, background=True, activation="softmax", threshold=0.5)
    assert [one["score"] for one in told] == [pytest.approx(math.exp(4) / (math.e + math.exp(4) + 1), abs=1e-5)]


def test_anchors_that_do_not_fit_the_network_are_counted_in_the_error():
    with pytest.raises(ModelError, match=r"answers for 5 anchors, options.anchors describe 4") as caught:
        detect([np.zeros((1, 5, 4)), np.zeros((1, 5, 3))], anchors=ANCHORS)
    assert caught.value.code == "anchors-do-not-fit"


# YOLO


def yolo_one_by_one(rows, objectness, extent, threshold):
    found = []
    for row in rows.tolist():
        x, y, w, h = (value / extent for value in row[:4])
        classes = row[5:] if objectness else row[4:]
        best = max(range(len(classes)), key=lambda n: classes[n])
        score = classes[best] * (row[4] if objectness else 1.0)
        if score >= threshold:
            found.append((best, score, clipped(x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return found


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.booleans(), st.booleans(), st.booleans(), st.floats(0.05, 0.95))
def test_yolo_rows_are_decoded_as_a_plain_loop_decodes_them(seed, objectness, pixels, transposed, threshold):
    random = np.random.default_rng(seed)
    rows = random.random((84, 12 + objectness)).astype(np.float32)
    extent = 64 if pixels else 1
    rows[:, :4] *= extent
    output = rows.T[None] if transposed else rows[None]
    told = detect(
        [output],
        decoder="yolov5" if objectness else "yolov8",
        nms="none",
        threshold=threshold,
        max_detections=1000,
    )
    assert_same(told, yolo_one_by_one(rows, objectness, extent, threshold))


def test_fractions_of_the_network_can_be_told_from_pixels_by_an_option():
    rows = np.zeros((1, 84, 6), np.float32)
    rows[0, 0] = [1.0, 1.0, 1.0, 1.0, 0.9, 0.1]  # one pixel in the corner, or half outside
    assert corners(detect([rows], decoder="yolov8", normalized=False)[0]) == pytest.approx(
        [0.5 / 64, 0.5 / 64, 1.5 / 64, 1.5 / 64], abs=1e-6
    )
    assert corners(detect([rows], decoder="yolov8")[0]) == [0.5, 0.5, 1.0, 1.0]


def test_yolo_scores_without_activation_pass_through_sigmoid_when_told():
    rows = np.full((1, 252, 6), -20.0, np.float32)
    rows[0, 3] = [32, 32, 16, 16, 2.0, 1.0]
    (told,) = detect([rows], decoder="yolov5", activation="sigmoid", normalized=False)
    assert told["score"] == pytest.approx(1 / (1 + math.exp(-2)) / (1 + math.exp(-1)), abs=1e-5)


def test_the_suppression_leaves_the_best_of_each_class():
    rows = np.zeros((1, 84, 6), np.float32)
    rows[0, :3] = [[32, 32, 20, 20, 0.9, 0.0], [33, 32, 20, 20, 0.8, 0.0], [32, 33, 20, 20, 0.0, 0.7]]
    assert [(one["label_id"], one["score"]) for one in detect([rows], decoder="yolov8")] == [(0, 0.9), (1, 0.7)]
    assert len(detect([rows], decoder="yolov8", nms="agnostic")) == 1
    assert len(detect([rows], decoder="yolov8", nms="none")) == 3
    assert len(detect([rows], decoder="yolov8", iou=0.95)) == 3
    assert len(detect([rows], decoder="yolov8", nms="none", top_k=2)) == 2


def yolox_one_by_one(rows, size, threshold):
    cells = []
    for stride in (8, 16, 32):
        cells += [(x, y, stride) for y in range(size[1] // stride) for x in range(size[0] // stride)]
    found = []
    for row, (column, line, stride) in zip(rows.tolist(), cells, strict=True):
        x, y = (row[0] + column) * stride / size[0], (row[1] + line) * stride / size[1]
        w, h = math.exp(row[2]) * stride / size[0], math.exp(row[3]) * stride / size[1]
        best = max(range(len(row) - 5), key=lambda n: row[5 + n])
        if row[4] * row[5 + best] >= threshold:
            found.append((best, row[4] * row[5 + best], clipped(x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return found


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([(64, 64), (96, 64), (32, 96)]), st.floats(0.05, 0.9))
def test_yolox_cells_are_decoded_as_a_plain_loop_decodes_them(seed, size, threshold):
    random = np.random.default_rng(seed)
    count = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    rows = random.random((count, 9)).astype(np.float32)
    rows[:, :4] = random.normal(size=(count, 4))
    inputs = [TensorInfo("image", (1, 3, size[1], size[0]), "float32")]
    options = {"decoder": "yolox", "nms": "none", "threshold": threshold, "max_detections": 1000}
    task = ObjectDetection(options, Labels(), inputs, [TensorInfo("output", (1, count, 9), "float32")])
    told = task.predictions([rows[None]], Geometry(640, 480, *size))
    assert_same(told, yolox_one_by_one(rows, size, threshold))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_decoding_yolox_undoes_its_encoding(seed):
    random = np.random.default_rng(seed)
    cell = int(random.integers(0, 84))
    column, line, stride = grid(64, 64)[cell]
    centre, size = 16 + random.random(2) * 32, 4 + random.random(2) * 24
    rows = np.zeros((1, 84, 6), np.float32)
    rows[0, cell] = [
        centre[0] / stride - column,
        centre[1] / stride - line,
        math.log(size[0] / stride),
        math.log(size[1] / stride),
        1.0,
        0.8,
    ]
    box = np.concatenate([centre - size / 2, centre + size / 2]) / 64
    assert_same(detect([rows], decoder="yolox"), [(0, 0.8, box.tolist())])


def test_rows_that_do_not_fit_the_cells_are_an_error():
    with pytest.raises(ModelError, match="for 84 cells"):
        detect([np.zeros((1, 85, 6))], decoder="yolox")


# DETR


def detr_one_by_one(logits, boxes, threshold):
    found = []
    for row, (x, y, w, h) in zip(logits.tolist(), boxes.tolist(), strict=True):
        total = sum(math.exp(value) for value in row)
        scores = [math.exp(value) / total for value in row][:-1]
        best = max(range(len(scores)), key=lambda n: scores[n])
        if scores[best] >= threshold:
            found.append((best, scores[best], clipped(x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return found


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans(), st.floats(0.05, 0.9))
def test_detr_queries_are_decoded_as_a_plain_loop_decodes_them(seed, boxes_first, threshold):
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(20, 7)) * 2).astype(np.float32)
    boxes = random.random((20, 4)).astype(np.float32)
    outputs = [boxes[None], logits[None]] if boxes_first else [logits[None], boxes[None]]
    told = detect(outputs, threshold=threshold, activation="softmax")
    assert_same(told, detr_one_by_one(logits, boxes, threshold))


def test_a_query_that_found_nothing_is_not_answered():
    logits = np.array([[[0.0, 1.0, 9.0], [0.0, 5.0, 1.0]]])
    assert [one["label_id"] for one in detect([logits, np.full((1, 2, 4), 0.5)], activation="softmax")] == [1]


def test_with_sigmoid_every_column_of_detr_is_a_class():
    logits = np.array([[[-9.0, -9.0, 3.0]]])
    (told,) = detect([logits, np.full((1, 1, 4), 0.5)], decoder="detr", activation="sigmoid")
    assert (told["label_id"], told["score"]) == (2, pytest.approx(1 / (1 + math.exp(-3)), abs=1e-5))


# The detector that ships


@pytest.fixture(scope="module")
def shipped():
    """The sample detector run plainly: stretched, RGB, (pixel - mean) / std."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only this test loads a runtime

    folder = SAMPLES / "models" / "detector"
    manifest = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))
    interpreter = Interpreter(str(folder / manifest["file"]))
    interpreter.allocate_tensors()
    (given,), taken = interpreter.get_input_details(), interpreter.get_output_details()
    inputs, outputs = (
        [TensorInfo(one["name"], tuple(map(int, one["shape"])), "float32") for one in details]
        for details in ([given], taken)
    )
    task = ObjectDetection(manifest["options"], labels.read(folder / manifest["labels"]), inputs, outputs)

    def run(name):
        picture = cv2.imread(str(SAMPLES / "images" / name))
        height, width = given["shape"][1:3]
        pixels = cv2.cvtColor(cv2.resize(picture, (int(width), int(height))), cv2.COLOR_BGR2RGB)
        values = (pixels - np.array(manifest["input"]["mean"])) / np.array(manifest["input"]["std"])
        interpreter.set_tensor(given["index"], values[None].astype(np.float32))
        interpreter.invoke()
        answers = [interpreter.get_tensor(one["index"]) for one in taken]
        return task.predictions(answers, Geometry(picture.shape[1], picture.shape[0], int(width), int(height)))

    return run


@pytest.mark.parametrize(
    ("picture", "label", "score"),
    [("chelsea.jpg", "Cat", 0.8), ("astronaut.jpg", "Person", 0.5), ("coffee.jpg", "Coffee cup", 0.4)],
)
def test_the_shipped_detector_finds_what_the_picture_shows(shipped, picture, label, score):
    best = shipped(picture)[0]
    assert best["label"] == label
    assert best["score"] >= score
    assert best["box"]["width"] * best["box"]["height"] > 0.2


def test_the_shipped_detector_finds_nothing_where_nothing_is(shipped):
    assert shipped("rocket.jpg") == []


def test_tensorflow_s_four_outputs_are_read_rows_first_whatever_they_are_called() -> None:
    given = Network(*network((1, 9, 4), (1, 9), (1, 9), (1,), names=["boxes", "classes", "scores", "count"]), Labels())
    claims = sorted(ObjectDetection.claims(given), key=lambda claim: -claim.strength)
    assert claims[0].options["decoder"] == "ssd-post"
