"""Detection transformers: softmax or sigmoid told by labels, names and numbers, and what each is fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.tasks.detection import ObjectDetection

SIDE = 160
WHOLE = Geometry(640, 640, SIDE, SIDE)
CELLS = 525
COLORS = {"color": "RGB", "mean": [0.0], "std": [255.0]}


def settle(outputs: dict[str, np.ndarray], *, classes: int = 0, size: int = SIDE, facts: Any = None) -> Any:
    arrays = [np.asarray(array, np.float32) for array in outputs.values()]
    infos = [TensorInfo(name, array.shape, "float32") for name, array in zip(outputs, arrays, strict=True)]
    given = [TensorInfo("pixel_values", (1, 3, size, size), "float32")]
    labels = Labels({n: f"class {n}" for n in range(classes)})
    network = Network(given, infos, labels, facts or {})
    return recognition.settle(network, {}, lambda _preprocess: (arrays, WHOLE))


def queries(count: int, columns: int, chosen: int, *, others: int | None = None) -> dict[str, np.ndarray]:
    """Logits of -5 but for query 3, which has 3 in column ``chosen``; the others have 6 in column ``others``."""
    logits = np.full((1, count, columns), -5.0)
    if others is not None:
        logits[0, :, others] = 6
        logits[0, 3, others] = -5
    logits[0, 3, chosen] = 3
    boxes = np.random.default_rng(0).uniform(0.3, 0.7, (1, count, 4))
    boxes[0, 3] = [0.5, 0.25, 0.2, 0.1]
    return {"logits": logits, "pred_boxes": boxes}


def scored(told: Any) -> tuple[int, float]:
    (found,) = told.task.predictions(*told.first)
    assert found["box"] == pytest.approx({"x": 0.4, "y": 0.2, "width": 0.2, "height": 0.1}, abs=1e-6)
    return found["label_id"], found["score"]


SIGMOID = 1 / (1 + np.exp(-3))


def softmax(columns: int) -> float:
    return float(np.exp(3) / (np.exp(3) + (columns - 1) * np.exp(-5)))


def test_as_many_logits_as_labels_are_sigmoids() -> None:
    assert scored(settle(queries(300, 7, 6), classes=7)) == (6, pytest.approx(SIGMOID, abs=1e-5))


def test_one_logit_more_than_labels_is_for_no_object() -> None:
    assert scored(settle(queries(100, 8, 6, others=7), classes=7)) == (6, pytest.approx(softmax(8), abs=1e-5))


@pytest.mark.parametrize(("count", "columns", "score"), [(300, 80, SIGMOID), (100, 92, softmax(92))])
def test_without_labels_the_usual_number_of_logits_tells_it(count, columns, score) -> None:
    assert scored(settle(queries(count, columns, 6))) == (6, pytest.approx(score, abs=1e-5))


def test_and_failing_that_the_queries_that_found_nothing_do() -> None:
    assert scored(settle(queries(50, 8, 6))) == (6, pytest.approx(SIGMOID, abs=1e-5))
    assert scored(settle(queries(50, 8, 6, others=7))) == (6, pytest.approx(softmax(8), abs=1e-5))


def test_rf_detr_is_known_by_its_names_and_has_masks_over_the_picture() -> None:
    boxes, logits = queries(300, 91, 6)["pred_boxes"], queries(300, 91, 6)["logits"]
    masks = np.full((1, 300, 16, 16), -1.0)
    masks[0, 3, 4:8, 8:12] = 1
    told = settle({"dets": boxes, "labels": logits, "masks": masks}, classes=90)
    assert scored(told) == (6, pytest.approx(SIGMOID, abs=1e-5))
    mask = told.task.predictions(*told.first)[0]["mask"]
    assert mask.shape == (64, 64)
    assert mask[18:30, 34:46].all()
    assert not mask[:14].any()
    assert mask.mean() == pytest.approx(1 / 16, abs=0.02)


def test_each_family_is_fed_its_own_way() -> None:
    imagenet = {"color": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    assert settle(queries(300, 80, 1)).claim.input == COLORS
    assert settle(queries(100, 92, 1, others=91)).claim.input == imagenet
    assert settle({"dets": queries(300, 91, 1)["pred_boxes"], "labels": queries(300, 91, 1)["logits"]}).claim.input == (
        imagenet
    )


def test_probabilities_beside_boxes_are_no_logits() -> None:
    outputs = {"a": queries(300, 80, 1)["pred_boxes"] * 0.5, "b": np.full((1, 300, 80), 0.1)}
    assert settle(outputs).task.decoder == "boxes-scores"


def test_ultralytics_rt_detr_has_boxes_and_scores_in_rows_and_is_given_the_whole_picture_stretched() -> None:
    rows = np.zeros((1, 300, 84))
    rows[0, 3, :4], rows[0, 3, 10], rows[0, 4, :4], rows[0, 4, 10] = [0.5, 0.25, 0.2, 0.1], 0.9, [0.5] * 4, 0.2
    told = settle({"output0": rows}, classes=80, facts={"task": "detect"})
    assert (told.task.decoder, told.claim.input) == ("rtdetr", COLORS)
    assert scored(told) == (6, 0.9)


# Decoded boxes and scores


def boxes_one_by_one(kind: str, unit: float, rows: np.ndarray) -> list[list[float]]:
    placed = []
    for x, y, third, fourth in rows.tolist():
        corners = [x, y, third, fourth] if kind == "corners" else [
            x - third / 2, y - fourth / 2, x + third / 2, y + fourth / 2
        ]  # fmt: skip
        placed.append([min(max(value / unit, 0), 1) for value in corners])
    return placed


@pytest.mark.parametrize("kind", ["corners", "centres"])
@pytest.mark.parametrize("unit", [1, SIDE])
@pytest.mark.parametrize("transposed", [False, True])
def test_corners_and_centres_pixels_and_fractions_are_told_by_the_numbers(kind, unit, transposed) -> None:
    random = np.random.default_rng(4)
    centres, sizes = random.uniform(0.2, 0.8, (CELLS, 2)), random.uniform(0.05, 0.3, (CELLS, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2] if kind == "corners" else [centres, sizes], 1)
    scores = np.zeros((CELLS, 3))
    scores[5, 1], scores[50, 2] = 0.9, 0.8
    outputs = {"a": boxes[None] * unit, "b": (scores.T if transposed else scores)[None]}
    told = settle(outputs)
    assert told.task.decoder == "boxes-scores"
    found = told.task.predictions(*told.first)
    assert [one["label_id"] for one in found] == [1, 2]
    for one, wanted in zip(found, boxes_one_by_one(kind, unit, boxes[[5, 50]] * unit), strict=True):
        box = one["box"]
        assert [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]] == pytest.approx(
            wanted, abs=1e-5
        )
    assert told.claim.input == (COLORS if transposed else {"resize": "letterbox", "pad": [114], **COLORS})


def test_boxes_with_an_axis_of_classes_of_their_own_are_read() -> None:
    boxes, scores = np.tile([0.1, 0.1, 0.3, 0.3], (1, CELLS, 1, 1)), np.zeros((1, CELLS, 3))
    scores[0, 9, 2] = 0.9
    told = settle({"boxes": boxes, "confs": scores})
    assert told.task.decoder == "boxes-scores"
    assert told.task.predictions(*told.first)[0]["label_id"] == 2


def test_scores_that_add_up_to_one_begin_with_the_background() -> None:
    boxes = np.tile([8.0, 8, 24, 24], (1, 40, 1))
    scores = np.tile([0.98, 0.01, 0.01], (1, 40, 1))
    scores[0, 7] = [0.05, 0.05, 0.9]
    told = settle({"scores": scores, "boxes": boxes})
    assert [(one["label_id"], one["score"]) for one in told.task.predictions(*told.first)] == [(2, 0.9)]
    told = settle({"scores": scores, "boxes": boxes}, classes=2)
    assert [one["label_id"] for one in told.task.predictions(*told.first)] == [1]


def test_encodings_are_neither_corners_nor_centres() -> None:
    boxes = np.random.default_rng(0).normal(size=(1, CELLS, 4))
    told = settle({"a": boxes, "b": np.full((1, CELLS, 3), 0.1)})
    assert told.task.name == "tensors"


def test_negative_scores_are_none() -> None:
    given = [TensorInfo("x", (1, 3, SIDE, SIDE), "float32")]
    infos = [TensorInfo("boxes", (1, CELLS, 4), "float32"), TensorInfo("scores", (1, CELLS, 3), "float32")]
    task = ObjectDetection({"decoder": "boxes-scores"}, Labels(), given, infos)
    outputs = [np.tile([8.0, 8, 24, 24], (1, CELLS, 1)), np.full((1, CELLS, 3), -1.0)]
    assert task.doubt(outputs, WHOLE, 1) == "a score is -1, and none is below 0"
