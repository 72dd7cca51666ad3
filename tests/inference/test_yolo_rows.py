"""What follows the scores in the rows of YOLO heads: coefficients of masks, key points, angles; and what says so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime import recognition, rotated
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.session import Session
from agent.inference.runtime.tasks.decoders.points import COCO
from agent.inference.runtime.tasks.detection import ObjectDetection
from tests.support.models import onnx_constant

SIDE = 64
CELLS = 84
WIDE = Geometry(640, 320, SIDE, SIDE, 0.0, -0.5, 1.0, 2.0)
"""A frame twice as wide as high in the middle of a square."""
WHOLE = Geometry(640, 640, SIDE, SIDE)
LETTERBOX = {"resize": "letterbox", "pad": [114], "color": "RGB", "mean": [0.0], "std": [255.0]}
SEEDS = st.integers(0, 2**32 - 1)


def network(*arrays: np.ndarray, classes: int = 0, facts: Any = None, size: int | None = SIDE) -> Network:
    side = size or -1
    return Network(
        [TensorInfo("images", (1, 3, side, side), "float32")],
        [TensorInfo(f"output{n}", np.shape(array), "float32") for n, array in enumerate(arrays)],
        Labels({n: f"class {n}" for n in range(classes)}),
        facts or {},
    )


def settle(*arrays: np.ndarray, geometry: Geometry = WHOLE, size: int | None = SIDE, **known: Any) -> Any:
    outputs = [np.asarray(array, np.float32) for array in arrays]
    return recognition.settle(network(*outputs, size=size, **known), {}, lambda _preprocess: (outputs, geometry))


def detect(*arrays: np.ndarray, geometry: Geometry = WHOLE, classes: int = 0, **options: Any) -> list[dict[str, Any]]:
    outputs = [np.asarray(array, np.float32) for array in arrays]
    given = network(*outputs, classes=classes)
    task = ObjectDetection(options, given.labels, given.inputs, given.outputs)
    return task.predictions(outputs, geometry)


def dense(*, classes: int = 2, more: int = 0, objects: dict[int, list[float]] | None = None) -> np.ndarray:
    """[1, 4+C+E, N]: small boxes all over the picture without a score, but for ``objects`` by their cell."""
    rows = np.zeros((CELLS, 4 + classes + more))
    rows[:, :2] = np.random.default_rng(1).uniform(4, 60, (CELLS, 2))
    rows[:, 2:4] = 6
    for cell, row in (objects or {}).items():
        rows[cell] = row
    return rows.T[None]


def planes(height: int = 16, width: int = 16) -> np.ndarray:
    """Three prototypes: how far right a point is, how far down (in points), and 1."""
    down, across = np.mgrid[:height, :width].astype(float)
    return np.stack([across, down, np.ones((height, width))])[None]


# What a file says


SAID = [
    ("detect", [dense()], 2, "yolov8"),
    ("segment", [dense(more=3), planes()], 2, "yolov8-seg"),
    ("pose", [dense(classes=1, more=51)], 1, "yolov8-pose"),
    ("obb", [dense(more=1)], 2, "yolov8-obb"),
    ("detect", [np.zeros((1, 300, 6))], 2, "end2end"),
    ("segment", [np.zeros((1, 300, 9)), planes()], 2, "end2end-seg"),
    ("pose", [np.zeros((1, 300, 57))], 1, "end2end-pose"),
    ("obb", [np.zeros((1, 300, 7))], 2, "end2end-obb"),
]


@pytest.mark.parametrize(("task", "arrays", "classes", "decoder"), SAID)
def test_a_head_of_ultralytics_is_told_by_its_metadata_and_fed_a_letterbox(task, arrays, classes, decoder) -> None:
    told = settle(*arrays, classes=classes, facts={"task": task, "keypoints": [17, 3]})
    assert told.task.decoder == decoder
    assert told.describe()["evidence"] == "said"
    assert told.claim.input == LETTERBOX


@pytest.mark.parametrize(("task", "arrays", "classes", "decoder"), SAID[:4])
def test_without_metadata_labels_prototypes_and_a_persons_points_tell_the_same(task, arrays, classes, decoder) -> None:
    del task
    if decoder == "yolov8-pose":  # points that lie where their boxes are, as every network's do
        arrays = [arrays[0].copy()]
        arrays[0][0, 5::3], arrays[0][0, 6::3] = arrays[0][0, :1], arrays[0][0, 1:2]
    told = settle(*arrays, classes=classes)
    assert told.task.decoder == decoder
    assert told.describe()["evidence"] == "fits"


def test_metadata_of_another_task_keeps_the_rows_from_being_read_as_plain_boxes() -> None:
    told = settle(dense(more=1), classes=3, facts={"task": "pose"})
    assert told.task.name == "tensors"


def test_rows_that_no_grid_makes_are_named_where_the_metadata_says_what_they_should_be() -> None:
    told = settle(dense()[..., :80], classes=2, facts={"task": "detect"})
    assert told.task.name == "tensors"
    assert "its metadata says detect" in told.notes[0]
    assert "but no head has 80 rows for its picture" in told.notes[0]


def test_a_number_of_labels_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"yolov8: its metadata says detect, and its output has 4 \+ 2 features"):
        settle(dense(classes=2), classes=5, facts={"task": "detect"})


def test_open_rows_are_held_against_the_picture_that_was_fed() -> None:
    assert settle(dense(), size=None, facts={"size": (SIDE, SIDE)}).task.decoder == "yolov8"
    told = settle(dense()[..., :80], size=None, facts={"size": (SIDE, SIDE)})
    assert told.task.name == "tensors"
    assert "no head has 80 rows for a picture of 64 × 64" in told.notes[0]


def test_a_shape_that_is_wholly_open_is_settled_by_the_metadata_and_the_first_run() -> None:
    known = network(dense(more=1), classes=2, facts={"task": "obb", "size": (SIDE, SIDE)}, size=None)
    outputs = [dense(more=1).astype(np.float32)]
    known = replace(known, outputs=[TensorInfo("output0", (-1, -1, -1), "float32")])
    assert recognition.settle(known, {}, lambda _preprocess: (outputs, WHOLE)).task.decoder == "yolov8-obb"


def test_a_decoded_output_is_found_beside_the_heads_that_it_was_made_of() -> None:
    raw = [np.zeros((1, 3, side, side, 7)) for side in (8, 4, 2)]
    rows = np.repeat(dense(), 3, axis=2).transpose(0, 2, 1)
    rows = np.concatenate([rows[..., :4], np.full((1, 252, 1), 0.5), rows[..., 4:]], axis=2)
    assert settle(rows, *raw, classes=2).task.decoder == "yolov5"


def test_of_two_heads_alike_the_second_counts() -> None:
    first, second = dense(), dense(objects={5: [32, 32, 8, 8, 0.0, 0.9]})
    told = settle(first, second, classes=2)
    assert told.task.decoder == "yolov8"
    assert len(told.task.predictions(*told.first)) == 1


# Masks


def mask_one_by_one(weights, box, geometry, height, width):
    """Where the sum is above 0 at the middle of each point of the mask, point by point."""
    mask = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x = ((column + 0.5) / width - geometry.offset_x) / geometry.extent_x
            y = ((row + 0.5) / height - geometry.offset_y) / geometry.extent_y
            if box[0] <= x * SIDE < box[2] and box[1] <= y * SIDE < box[3]:
                across, down = x * 16 - 0.5, y * 16 - 0.5
                mask[row, column] = weights[0] * across + weights[1] * down + weights[2] > 0
    return mask


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([1, 2, 4]), st.sampled_from([WIDE, WHOLE]), st.booleans())
def test_a_mask_is_where_the_weighted_prototypes_are_above_zero_within_the_box(seed, scale, geometry, last) -> None:
    random = np.random.default_rng(seed)
    centre, size = random.uniform(20, 44, 2), random.uniform(8, 36, 2)
    weights = np.array([*random.normal(size=2), 0.0])
    weights[2] = -weights[:2] @ (centre / 4 - 0.5 + random.normal(size=2))
    row = [*centre, *size, 0.9, 0.0, *weights]
    prototypes = planes().transpose(0, 2, 3, 1) if last else planes()
    outputs = [dense(more=3, objects={5: row}), prototypes]
    (told,) = detect(*outputs, geometry=geometry, classes=2, decoder="yolov8-seg", mask_scale=scale)
    height, width = told["mask"].shape
    assert (height, width) == (round(16 * scale / geometry.extent_y), 16 * scale)
    box = [*(centre - size / 2), *(centre + size / 2)]
    wanted = mask_one_by_one(weights, box, geometry, height, width)
    # The prototypes end with their last point: beyond it nothing is known, and the last one is repeated.
    inside = np.s_[scale : height - scale, scale : width - scale] if geometry is WHOLE else np.s_[:, scale:-scale]
    differing = (told["mask"] != wanted)[inside].sum()
    assert differing <= 0.02 * wanted.size  # a point on the very edge may fall on either side


def test_each_object_has_the_mask_of_its_own_row() -> None:
    left, right = [16, 32, 16, 40, 0.9, 0, 1, 0, 0.1], [48, 32, 16, 40, 0.8, 0, 0, 0, -1]
    told = detect(dense(more=3, objects={7: right, 3: left}), planes(), classes=2)
    assert [one["score"] for one in told] == [0.9, 0.8]
    assert told[0]["mask"].mean() == pytest.approx(16 * 40 / SIDE**2, abs=0.01)
    assert not told[1]["mask"].any()


def test_rows_after_suppression_and_rows_with_objectness_have_masks_too() -> None:
    kept = np.zeros((1, 300, 9))
    kept[0, 0] = [8, 12, 24, 52, 0.9, 1, 0, 0, 1]
    (told,) = detect(kept, planes(), classes=2)
    assert (told["label_id"], told["score"]) == (1, 0.9)
    assert told["mask"].mean() == pytest.approx(16 * 40 / SIDE**2, abs=0.01)
    rows = np.zeros((1, 252, 10))
    rows[0, 0] = [16, 32, 16, 40, 0.9, 0, 1, 0, 0, 1]
    (told,) = detect(rows, planes(), classes=2)
    assert told["mask"].mean() == pytest.approx(16 * 40 / SIDE**2, abs=0.01)


def test_prototypes_that_are_not_as_many_as_the_rows_say_are_an_error() -> None:
    given = network(dense(more=3), planes(), classes=2)
    task = ObjectDetection({"decoder": "yolov8-seg"}, given.labels, given.inputs, given.outputs)
    with pytest.raises(ModelError, match="decoder yolov8-seg reads"):
        task.predictions([dense(more=3), np.zeros((1, 5, 16, 16))], WHOLE)


# Key points


def posed(*, score: float = 0.9) -> list[float]:
    points = [number for n in range(17) for number in (20 + n, 24 + n, n / 17)]
    return [32, 32, 30, 30, score, *points]


@pytest.mark.parametrize("fractions", [False, True])
def test_key_points_lie_in_the_frame_and_have_names_and_scores(fractions) -> None:
    rows = dense(classes=1, more=51, objects={9: posed()})
    if fractions:
        rows[:, :4] /= SIDE
        for axis in (5, 6):
            rows[:, axis::3] /= SIDE
    (told,) = detect(rows, geometry=WIDE, decoder="yolov8-pose")
    assert [point["name"] for point in told["keypoints"]] == list(COCO)
    for n, point in enumerate(told["keypoints"]):
        assert point["x"] == pytest.approx((20 + n) / SIDE, abs=1e-5)
        assert point["y"] == pytest.approx(((24 + n) / SIDE) * 2 - 0.5, abs=1e-5)
        assert point["score"] == pytest.approx(n / 17, abs=1e-5)


def test_points_in_pixels_beside_boxes_in_fractions_are_told_from_their_size() -> None:
    rows = dense(classes=1, more=51, objects={9: posed()})
    rows[:, :4] /= SIDE
    (told,) = detect(rows, decoder="yolov8-pose")
    assert told["keypoints"][3]["x"] == pytest.approx(23 / SIDE, abs=1e-5)


def test_the_metadata_says_how_many_points_there_are_and_what_they_are_called() -> None:
    facts = {"task": "pose", "keypoints": [4, 2], "keypoint_names": ["a", "b", "c", "d"]}
    row = [32, 32, 20, 20, 0.0, 0.9, *range(28, 36)]
    settled = settle(dense(more=8, objects={2: row}), classes=2, facts=facts)
    (told,) = settled.task.predictions(*settled.first)
    assert [point["name"] for point in told["keypoints"]] == ["a", "b", "c", "d"]
    assert told["keypoints"][1] == {"x": 30 / SIDE, "y": 31 / SIDE, "name": "b"}


def test_scores_of_many_classes_are_not_taken_for_key_points() -> None:
    rows = dense(classes=52, objects={n: [32, 32, 6, 6, *([0.1] * 52)] for n in range(40)})
    assert settle(rows).task.decoder == "yolov8"


def test_points_after_suppression_are_read() -> None:
    kept = np.zeros((1, 300, 57))
    kept[0, 0] = [17, 17, 47, 47, 0.9, 0, *posed()[5:]]
    (told,) = detect(kept, decoder="end2end-pose")
    assert told["box"] == {"x": 17 / SIDE, "y": 17 / SIDE, "width": 30 / SIDE, "height": 30 / SIDE}
    assert told["keypoints"][16]["y"] == pytest.approx(40 / SIDE, abs=1e-5)


# Turned boxes


def corners_by_hand(x, y, width, height, angle):
    places = []
    for right, down in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        across, along = right * width / 2, down * height / 2
        places.append(
            [
                x + across * math.cos(angle) - along * math.sin(angle),
                y + across * math.sin(angle) + along * math.cos(angle),
            ]
        )
    return np.array(places)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, math.pi / 2 - 0.01), st.floats(4, 20), st.floats(4, 20), st.booleans())
def test_a_turned_box_has_corners_clockwise_from_its_own_top_left_and_an_angle(angle, width, height, kept) -> None:
    if kept:
        rows = np.zeros((1, 300, 7))
        rows[0, 0] = [32, 30, width, height, 0.9, 1, angle]
    else:
        rows = dense(more=1, objects={4: [32, 30, width, height, 0.0, 0.9, angle]})
    (told,) = detect(rows, classes=2, decoder="end2end-obb" if kept else "yolov8-obb")
    wanted = corners_by_hand(32, 30, width, height, angle) / SIDE
    assert np.allclose(told["corners"], wanted, atol=1e-5)
    assert told["angle"] == pytest.approx(math.degrees(angle), abs=0.05)
    left, top = wanted.min(axis=0)
    assert (told["box"]["x"], told["box"]["y"]) == pytest.approx((left, top), abs=1e-5)
    assert told["label_id"] == 1


def test_an_angle_of_more_than_a_quarter_turn_is_the_same_box_with_its_sides_exchanged() -> None:
    row = [32, 30, 20, 8, 0.9, 0.0]
    (more,) = detect(dense(more=1, objects={4: [*row, math.radians(110)]}), classes=2, decoder="yolov8-obb")
    (less,) = detect(
        dense(more=1, objects={4: [32, 30, 8, 20, 0.9, 0.0, math.radians(20)]}), classes=2, decoder="yolov8-obb"
    )
    assert more["angle"] == less["angle"] == pytest.approx(20, abs=0.05)
    assert np.allclose(more["corners"], less["corners"], atol=1e-5)


def test_angles_that_nobody_says_are_angles_are_not_taken_for_scores() -> None:
    rows = dense(classes=3)
    rows[0, 6] = np.linspace(-0.7, 0.9, CELLS)
    told = settle(rows)
    assert told.task.name == "tensors"
    assert "a score is -0.7, and none is below 0" in told.notes[0]


def test_boxes_that_cross_both_remain_and_one_that_covers_another_suppresses_it() -> None:
    long = [32, 32, 40, 6, 0.9, 0.0]
    objects = {
        1: [*long, math.radians(45)],
        2: [32.5, 32, 40, 6, 0.8, 0.0, math.radians(44)],
        3: [32, 32, 40, 6, 0.7, 0.0, math.radians(-45)],
        4: [32, 32, 40, 6, 0.0, 0.6, math.radians(45)],
    }
    told = detect(dense(more=1, objects=objects), classes=2, decoder="yolov8-obb")
    assert [one["score"] for one in told] == [0.9, 0.7, 0.6]
    told = detect(dense(more=1, objects=objects), classes=2, decoder="yolov8-obb", nms="agnostic")
    assert [one["score"] for one in told] == [0.9, 0.7]


def overlap_by_hand(one, other):
    """As the paper writes it, from centre, size and angle."""

    def gaussian(x, y, width, height, angle):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.array([x, y]), turn @ np.diag([width**2 / 12, height**2 / 12]) @ turn.T

    (place, spread), (place2, spread2) = gaussian(*one), gaussian(*other)
    mean, apart = (spread + spread2) / 2, place2 - place
    distance = apart @ np.linalg.inv(mean) @ apart / 8
    distance += math.log(np.linalg.det(mean) / math.sqrt(np.linalg.det(spread) * np.linalg.det(spread2))) / 2
    return 1 - math.sqrt(max(1 - math.exp(-distance), 0.0))


BOXES = st.tuples(st.floats(0, 64), st.floats(0, 64), st.floats(2, 40), st.floats(2, 40), st.floats(0, 3.1))


@settings(max_examples=100, deadline=None)
@given(BOXES, BOXES, st.floats(0.001, 10))
def test_how_far_turned_boxes_overlap_is_what_their_gaussians_say_in_any_unit(one, other, unit) -> None:
    corners = np.stack([corners_by_hand(*one), corners_by_hand(*other)]) * unit
    told = rotated.overlaps(corners)
    assert told[0, 1] == told[1, 0] == pytest.approx(overlap_by_hand(one, other), abs=1e-3)
    assert told[0, 0] == pytest.approx(1, abs=1e-6)


def test_turned_boxes_without_an_area_overlap_nothing() -> None:
    corners = np.zeros((3, 4, 2))
    corners[2] = corners_by_hand(32, 32, 10, 10, 0.3)
    assert rotated.remaining(corners, np.zeros(3), 0.5).tolist() == [0, 1, 2]


# A file, whole


def test_a_file_of_ultralytics_answers_by_its_path_alone(tmp_path) -> None:
    properties = {
        "task": "pose",
        "names": "{0: 'person'}",
        "imgsz": f"[{SIDE}, {SIDE}]",
        "kpt_shape": "[17, 3]",
        "kpt_names": str({0: [name.upper() for name in COCO]}),
    }
    rows = dense(classes=1, more=51, objects={9: posed()})
    rows[0, 5::3], rows[0, 6::3] = (np.where(rows[:, 4] > 0, rows[0, n::3], rows[0, n - 5]) for n in (5, 6))
    path = onnx_constant(tmp_path / "pose.onnx", {"output0": rows}, (SIDE, SIDE), properties)
    session = Session({"file": str(path)})
    described = session.describe()
    assert (described["decoder"], described["recognition"]["evidence"]) == ("yolov8-pose", "said")
    (told,) = session.task.predictions([rows.astype(np.float32)], WHOLE)
    assert told["label"] == "person"
    assert told["keypoints"][0]["name"] == "NOSE"
