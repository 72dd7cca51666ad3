"""Detectors of faces: one face encoded by hand where its family would say it, decoded to where it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.detection import ObjectDetection

SIDE = 64
FRAME = Geometry(640, 480, SIDE, SIDE)
FACE = (20.0, 12.0, 44.0, 52.0)
"""Left, top, right and bottom in pixels of the network's picture."""
EYES_NOSE_MOUTH = [26.0, 24.0, 38.0, 24.0, 32.0, 32.0, 27.0, 42.0, 37.0, 42.0]
COLUMN, LINE, STRIDE = 2, 1, 16
"""The cell that says it: its corner is at (32, 16)."""


def network(outputs, names=None, labels=(), size=SIDE):
    names = names or [f"out{n}" for n in range(len(outputs))]
    infos = [TensorInfo(name, np.shape(each), "float32") for name, each in zip(names, outputs, strict=True)]
    return Network([TensorInfo("input", (1, 3, size, size), "float32")], infos, Labels(dict(enumerate(labels))))


def settled(outputs, **how):
    arrays = [np.asarray(each, np.float32) for each in outputs]
    return recognition.settle(network(outputs, **how), {}, lambda _: (arrays, FRAME))


def told(outputs, **options):
    given = network(outputs)
    task = ObjectDetection(options, Labels(), given.inputs, given.outputs)
    return task.predictions([np.asarray(each, np.float32) for each in outputs], FRAME)


def assert_is_the_face(predictions, score, points=True):
    (found,) = predictions
    left, top, right, bottom = np.array(FACE) / SIDE
    assert (found["label"], found["label_id"], found["score"]) == ("face", 0, pytest.approx(score, abs=1e-6))
    expected = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    assert found["box"] == pytest.approx(expected, abs=1e-5)
    if points:
        assert [point["name"] for point in found["keypoints"]] == [
            "right_eye", "left_eye", "nose_tip", "mouth_right", "mouth_left",
        ]  # fmt: skip
        numbers = [point[axis] * SIDE for point in found["keypoints"] for axis in ("x", "y")]
        assert numbers == pytest.approx(EYES_NOSE_MOUTH, abs=1e-3)
    else:
        assert "keypoints" not in found


def rows_per_stride(width, anchors, numbers=None, strides=(8, 16, 32), fill=0.0):
    """A kind of outputs of a head per stride, with ``numbers`` in the cell's last anchor."""
    made = []
    for stride in strides:
        side = -(-SIDE // stride)
        rows = np.full((1, side * side * anchors, width), fill)
        if stride == STRIDE and numbers is not None:
            rows[0, (LINE * side + COLUMN) * anchors + anchors - 1] = numbers
        made.append(rows)
    return made


CORNER = np.array([COLUMN, LINE]) * STRIDE


def scrfd(anchors=2, strides=(8, 16, 32), points=True):
    left, top, right, bottom = FACE
    distances = np.array([CORNER[0] - left, CORNER[1] - top, right - CORNER[0], bottom - CORNER[1]]) / STRIDE
    outputs = rows_per_stride(1, anchors, 0.9, strides)
    outputs += rows_per_stride(4, anchors, distances, strides)
    if points:
        outputs += rows_per_stride(10, anchors, (np.array(EYES_NOSE_MOUTH) - np.tile(CORNER, 5)) / STRIDE, strides)
    return outputs


@pytest.mark.parametrize(
    ("anchors", "strides", "points"),
    [
        (2, (8, 16, 32), True),
        (2, (8, 16, 32), False),
        (1, (8, 16, 32, 64, 128), True),
        (1, (8, 16, 32, 64, 128), False),
    ],
)
def test_scrfd_measures_from_the_corners_of_cells(anchors, strides, points):
    outputs = scrfd(anchors, strides, points)
    found = settled(outputs)
    assert found.task.decoder == "scrfd"
    assert_is_the_face(found.task.predictions([np.float32(each) for each in outputs], FRAME), 0.9, points)


def test_outputs_per_stride_are_told_by_their_widths_and_rows_in_any_order():
    outputs = scrfd()
    assert_is_the_face(told([each[0] for each in outputs]), 0.9)  # without the batch's axis, as InsightFace has them
    order = [8, 3, 1, 5, 0, 7, 2, 6, 4]
    assert_is_the_face(told([outputs[place] for place in order]), 0.9)
    by_stride = [outputs[kind + level] for level in range(3) for kind in (0, 3, 6)]
    assert_is_the_face(told(by_stride), 0.9)


def test_names_speak_for_scrfd():
    names = [f"{word}_{stride}" for word in ("score", "bbox", "kps") for stride in (8, 16, 32)]
    assert settled(scrfd(), names=names).describe()["evidence"] == "named"
    assert settled(scrfd()).describe()["evidence"] == "fits"


def test_rows_that_are_not_one_for_each_cell_are_no_faces():
    outputs = [each[:, :-1] for each in scrfd()]
    assert settled(outputs).task.name == "tensors"


def yunet():
    left, top, right, bottom = FACE
    centre = (np.array([left + right, top + bottom]) / 2 - CORNER) / STRIDE
    size = np.log(np.array([right - left, bottom - top]) / STRIDE)
    outputs = rows_per_stride(1, 1, 0.9) + rows_per_stride(1, 1, 0.4)
    outputs += rows_per_stride(4, 1, [*centre, *size])
    return outputs + rows_per_stride(10, 1, (np.array(EYES_NOSE_MOUTH) - np.tile(CORNER, 5)) / STRIDE)


def test_yunet_s_score_is_the_root_of_class_times_objectness():
    names = [f"{word}_{stride}" for word in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    found = settled(yunet(), names=names)
    assert (found.task.decoder, found.describe()["evidence"]) == ("yunet", "named")
    assert found.describe()["input"]["color"] == "BGR"
    assert_is_the_face(told(yunet(), threshold=0.5), 0.6)
    assert told(yunet()) == []


PRIORS = {10: ("face", (16, 32, 64, 128, 256, 512)), 8: ("plate", (24, 48, 96, 192, 384, 768))}


def retinaface(width=10, points=EYES_NOSE_MOUTH, sizes=None):
    """The face from the second prior of the cell, whose centre is (40, 24)."""
    size, centre = (sizes or PRIORS[width][1])[3], CORNER + STRIDE / 2
    left, top, right, bottom = FACE
    offset = (np.array([left + right, top + bottom]) / 2 - centre) / (0.1 * size)
    sides = np.log(np.array([right - left, bottom - top]) / size) / 0.2
    places = (np.array(points) - np.tile(centre, width // 2)) / (0.1 * size)
    outputs = [rows_per_stride(4, 2, [*offset, *sides]), rows_per_stride(2, 2), rows_per_stride(width, 2, places)]
    loc, conf, landms = (np.concatenate(each, axis=1) for each in outputs)
    conf[..., 0], conf[..., 1] = 1.0, 0.0
    conf[0, 2 * 64 + 2 * (LINE * 4 + COLUMN) + 1] = 0.1, 0.9
    return [loc, conf, landms]


def test_retinaface_is_relative_to_priors_of_two_sizes():
    found = settled(retinaface(), names=["loc", "conf", "landms"])
    assert (found.task.decoder, found.describe()["evidence"]) == ("retinaface", "named")
    assert_is_the_face(told(retinaface()), 0.9)
    slim = (10, 20, 32, 64, 128, 256)
    assert_is_the_face(told(retinaface(sizes=slim), sizes=list(slim)), 0.9)


def test_logits_of_background_and_face_pass_through_softmax():
    loc, _, landms = retinaface()
    conf = np.zeros((1, loc.shape[1], 2))
    conf[..., 0] = 9.0
    conf[0, 2 * 64 + 2 * (LINE * 4 + COLUMN) + 1] = 0.0, math.log(9)
    assert_is_the_face(told([loc, conf, landms]), 0.9)


def test_a_plate_has_corners_clockwise_from_its_own_top_left():
    right, bottom, left, top = (44.0, 50.0), (20.0, 44.0), (20.0, 20.0), (44.0, 26.0)  # as the network numbers them
    (found,) = told(retinaface(8, [*right, *bottom, *left, *top]))
    assert found["label"] == "plate"
    corners = np.array([left, top, right, bottom]) / SIDE
    assert np.array(found["corners"]) == pytest.approx(corners, abs=1e-5)
    assert found["angle"] == pytest.approx(math.degrees(math.atan2(6 * 480, 24 * 640)), abs=0.01)
    assert found["keypoints"][2]["name"] == "top_left"


def ultraface():
    rows = 3 * 64 + 2 * 16 + 2 * 4 + 3
    boxes, scores = np.tile([0.4, 0.4, 0.5, 0.5], (1, rows, 1)), np.tile([1.0, 0.0], (1, rows, 1))
    boxes[0, 7], scores[0, 7] = np.array(FACE) / SIDE, (0.2, 0.8)
    return [scores, boxes]


def test_ultraface_has_boxes_decoded_and_a_row_for_each_of_its_priors():
    found = settled(ultraface(), names=["scores", "boxes"])
    assert (found.task.decoder, found.describe()["evidence"]) == ("ultraface", "named")
    assert found.describe()["input"]["mean"] == [127.0]
    assert_is_the_face(told(ultraface(), decoder="ultraface"), 0.8, points=False)


def centerface():
    left, top, right, bottom = FACE
    heat, sizes, offsets, points = (np.zeros((1, channels, 16, 16)) for channels in (1, 2, 2, 10))
    line, column = 8, 7  # of the cell around the centre (32, 32): it begins at (28, 32)
    width, height = right - left, bottom - top
    heat[0, 0, line, column] = 0.7
    sizes[0, :, line, column] = math.log(height / 4), math.log(width / 4)
    offsets[0, :, line, column] = 32 / 4 - line - 0.5, 32 / 4 - column - 0.5
    shares = (np.reshape(EYES_NOSE_MOUTH, (5, 2)) - (left, top)) / (width, height)
    points[0, :, line, column] = shares[:, ::-1].ravel()
    return [heat, sizes, offsets, points]


def test_centerface_is_a_heat_map_with_sizes_offsets_and_points_at_each_place():
    found = settled(centerface())
    assert found.task.decoder == "centerface"
    assert found.describe()["input"]["std"] == [1.0]
    assert_is_the_face(told(centerface()), 0.7)


def yolov5_face():
    rows = np.zeros((1, 252, 16))
    rng = np.random.default_rng(1)
    rows[0, :, :2] = rng.uniform(0, SIDE, (252, 2))
    rows[0, :, 2:4] = 8.0
    rows[0, :, 5:15] = np.tile(rows[0, :, :2], 5)
    left, top, right, bottom = FACE
    face = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0.9, *EYES_NOSE_MOUTH, 0.8]
    rows[0, 99] = face
    return rows


def test_yolov5_face_has_points_between_objectness_and_class():
    found = settled([yolov5_face()])
    assert found.task.decoder == "yolov5-face"
    assert_is_the_face(told([yolov5_face()]), 0.72)


def test_eleven_classes_are_no_points():
    rows = yolov5_face()
    rows[0, :, 5:] = np.random.default_rng(2).uniform(0, 1, (252, 11))
    assert settled([rows]).task.decoder == "yolov5"


@pytest.mark.parametrize(
    ("shapes", "size", "stage"),
    [
        ([(1, 4), (1, 2)], 24, "R-Net"),
        ([(1, 4), (1, 10), (1, 2)], 48, "O-Net"),
        ([(1, 16, 16, 4), (1, 16, 16, 2)], 40, "P-Net"),
    ],
)
def test_a_stage_of_mtcnn_stays_a_tensor_and_the_note_names_the_cascade(shapes, size, stage):
    outputs = [np.zeros(shape) for shape in shapes]
    found = settled(outputs, size=size)
    assert found.task.name == "tensors"
    assert f"its outputs are those of MTCNN's {stage}" in found.notes[0]
    assert "one stage of a cascade" in found.notes[0]


def test_what_cannot_even_be_fed_is_an_error_that_names_what_it_is():
    given = network([np.zeros((1, 8, 8, 4)), np.zeros((1, 8, 8, 2))])

    def run(_):
        raise ModelError("options-wrong", "the input leaves the width open")

    with pytest.raises(ModelError, match="leaves the width open; no task fits; the nearest is mtcnn-pnet"):
        recognition.settle(given, {}, run)
