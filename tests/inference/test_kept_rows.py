"""Rows after suppression inside the network: their orders of columns, pictures counted, and how many count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo

SIDE = 64
WHOLE = Geometry(SIDE, SIDE, SIDE, SIDE)
BOX, SCORE, LABEL = [8, 16, 40, 48], 0.75, 3


def settle(
    *outputs: np.ndarray, shapes=None, facts: Any = None, classes: int = 0, given: str = "x", batch=1, names=None
) -> Any:
    arrays = [np.asarray(output, np.float32) for output in outputs]
    shapes = shapes or [array.shape for array in arrays]
    network = Network(
        [TensorInfo(given, (batch, 3, SIDE, SIDE), "float32")],
        [TensorInfo((names or {}).get(n, f"output{n}"), shape, "float32") for n, shape in enumerate(shapes)],
        Labels({n: f"class {n}" for n in range(classes)}),
        facts or {},
    )
    return recognition.settle(network, {}, lambda _preprocess: (arrays, WHOLE))


ROWS = {
    "YOLOv10": [[[*BOX, SCORE, LABEL]]],
    "YOLOv7": [[0, *BOX, LABEL, SCORE]],
    "SuperGradients": [[0, *BOX, SCORE, LABEL]],
    "Paddle": [[LABEL, SCORE, *BOX]],
    "MXNet": [[[LABEL, SCORE, *(side / SIDE for side in BOX)]]],
    "Caffe": [[[[0, LABEL, SCORE, *(side / SIDE for side in BOX)], [-1, 0, 0, 0, 0, 0, 0]]]],
}


def shapes(rows: np.ndarray) -> list[tuple[int, ...]]:
    """As a file describes them: where there is no axis of pictures, rows are as many as objects."""
    return [(-1, rows.shape[1]) if rows.ndim == 2 else rows.shape]


@pytest.mark.parametrize("family", ROWS)
def test_the_order_of_columns_is_told_by_the_numbers(family) -> None:
    rows = np.array(ROWS[family])
    told = settle(rows, shapes=shapes(rows))
    assert told.task.decoder == "end2end"
    (found,) = told.task.predictions(*told.first)
    assert (found["label_id"], found["score"]) == (LABEL, SCORE)
    assert [found["box"][key] * SIDE for key in ("x", "y", "width", "height")] == pytest.approx(
        [8, 16, 32, 32], abs=1e-4
    )


@pytest.mark.parametrize("family", ROWS)
def test_a_picture_without_an_object_has_none(family) -> None:
    rows = np.array(ROWS[family])
    told = settle(rows, shapes=shapes(rows))
    for nothing in (rows[..., :0, :], np.full_like(rows, -1.0), np.zeros_like(rows)):
        assert told.task.predictions([nothing.astype(np.float32)], WHOLE) == []


def test_fractions_of_objects_are_not_taken_for_pixels_because_of_one_that_lies_far_outside() -> None:
    rows = np.array([[[LABEL, SCORE, *(side / SIDE for side in BOX)]] + [[0, 0.01, 0.1, 0.1, 0.2, 0.2]] * 3
                     + [[0, 0.01, -5, -5, 7, 7]] + [[-1] * 6] * 9])  # fmt: skip
    told = settle(rows)
    (found,) = told.task.predictions(*told.first)
    assert found["box"]["x"] * SIDE == pytest.approx(8, abs=1e-4)


def test_caffes_output_is_known_by_its_name_where_its_shape_is_not() -> None:
    told = settle(np.array(ROWS["Caffe"]), shapes=[(-1,)], names={0: "detection_out"})
    assert told.claim.input == {"color": "BGR", "mean": [104.0, 117.0, 123.0], "std": [1.0]}
    (found,) = told.task.predictions(*told.first)
    assert (found["label_id"], found["score"]) == (LABEL, SCORE)


def test_a_second_output_says_how_many_rows_count() -> None:
    told = settle(np.array([[LABEL, SCORE, *BOX], [1, 0.9, 0, 0, 9, 9]]), np.array([1]), shapes=[(-1, 6), (-1,)])
    assert len(told.task.predictions(*told.first)) == 1


def test_a_classifier_of_seven_classes_and_an_open_batch_is_none() -> None:
    told = settle(np.array([[0.1, 0.2, 0.1, 0.05, 0.25, 0.2, 0.1]]), shapes=[(-1, 7)], batch=-1)
    assert told.task.name == "image-classification"


@pytest.mark.parametrize("shape", [(1, 7), (-1, 7), (-1, 6)])
def test_logits_of_a_classifier_are_no_rows(shape) -> None:
    logits = np.array([[-0.3, 1.2, 4.5, -2.0, 0.1, 3.3, -0.7]])[:, : shape[1]]
    for sign in (1, -1):
        assert settle(logits * sign, shapes=[shape]).task.name == "tensors"


def test_as_many_rows_as_objects_are_no_classes() -> None:
    told = settle(np.zeros((0, 7)), shapes=[(-1, 7)])
    assert told.task.decoder == "end2end"


def test_columns_in_no_known_order_are_not_taken() -> None:
    told = settle(np.concatenate([np.zeros((1, 1, 5, 1)), np.full((1, 1, 5, 6), 0.3)], axis=3))
    assert told.task.name == "tensors"
    assert "none of its 5 rows has a box, a score and a whole class in any order" in told.notes[0]


def test_rows_of_yolo_are_fed_a_letterbox_and_others_are_not() -> None:
    assert settle(np.zeros((0, 7)), shapes=[(-1, 7)]).claim.input["resize"] == "letterbox"
    assert settle(np.array(ROWS["YOLOv10"]), given="images").claim.input["resize"] == "letterbox"
    assert settle(np.array(ROWS["MXNet"])).claim.input == {}


def test_the_queries_of_ultralytics_rt_detr_are_centres_of_a_stretched_picture() -> None:
    rows = np.zeros((1, 300, 6))
    rows[0, 0] = [0.5, 0.25, 0.2, 0.1, SCORE, LABEL]
    told = settle(rows, facts={"task": "detect", "head": "RTDETRDecoder"}, classes=4)
    assert told.claim.input == {"color": "RGB", "mean": [0.0], "std": [255.0]}
    (found,) = told.task.predictions(*told.first)
    assert found["box"] == pytest.approx({"x": 0.4, "y": 0.2, "width": 0.2, "height": 0.1}, abs=1e-6)
