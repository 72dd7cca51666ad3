"""Objects whose boxes, labels and scores are outputs of their own, with what else there may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.tasks.detection import ObjectDetection

WIDTH, HEIGHT = 96, 64
WHOLE = Geometry(960, 640, WIDTH, HEIGHT)
BOXES = np.array([[24, 16, 72, 48], [0, 0, 12, 8]], np.float32)
SCORES, IDS = np.array([0.9, 0.6], np.float32), np.array([2, 1])
OPEN = {"boxes": (-1, 4), "labels": (-1,), "scores": (-1,)}
FOUND = [{"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}, {"x": 0.0, "y": 0.0, "width": 0.125, "height": 0.125}]


def known(outputs: dict[str, np.ndarray], *, classes: Any = (), given: Any = None, shapes: Any = None) -> Network:
    infos = [
        TensorInfo(name, (shapes or {}).get(name, array.shape), np.asarray(array).dtype.name)
        for name, array in outputs.items()
    ]
    given = given or {"images": (1, 3, HEIGHT, WIDTH)}
    inputs = [TensorInfo(name, shape, "float32") for name, shape in given.items()]
    return Network(inputs, infos, Labels(dict(enumerate(classes))))


def settle(outputs: dict[str, np.ndarray], geometry: Geometry = WHOLE, **how: Any) -> Any:
    arrays = [np.asarray(array) for array in outputs.values()]
    return recognition.settle(known(outputs, **how), {}, lambda _preprocess: (arrays, geometry))


def found(outputs: dict[str, np.ndarray], geometry: Geometry = WHOLE, **how: Any) -> list[dict[str, Any]]:
    told = settle(outputs, geometry, **how)
    assert told.task.decoder == "boxes-labels-scores"
    return told.task.predictions(*told.first)


def torchvision(**more: np.ndarray) -> dict[str, np.ndarray]:
    return {"boxes": BOXES, "labels": IDS, "scores": SCORES, **more}


FAMILIES = {
    "torchvision": torchvision(),
    "by types alone": {"1": SCORES, "2": BOXES, "3": IDS},
    "RT-DETR": {"labels": IDS[None], "boxes": BOXES[None], "scores": SCORES[None]},
    "EfficientNMS": {
        "num_dets": np.array([[2]], np.int32),
        "det_boxes": np.concatenate([BOXES, np.ones((3, 4), np.float32)])[None],
        "det_scores": np.concatenate([SCORES, np.ones(3, np.float32)])[None],
        "det_classes": np.concatenate([IDS, np.ones(3, np.int64)]).astype(np.int32)[None],
    },
    "SuperGradients": {
        "num_predictions": np.array([[2]]),
        "pred_boxes": BOXES[None],
        "pred_scores": SCORES[None],
        "pred_classes": IDS[None],
    },
    "MMDetection": {"dets": np.concatenate([BOXES, SCORES[:, None]], axis=1)[None], "labels": IDS[None]},
    "in fractions": torchvision(boxes=BOXES / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_familys_outputs_are_told_apart(family) -> None:
    predictions = found(FAMILIES[family])
    assert [one["box"] for one in predictions] == FOUND
    assert [one["label_id"] for one in predictions] == [2, 1]
    assert [one["score"] for one in predictions] == pytest.approx([0.9, 0.6])


def test_rows_that_are_open_are_as_many_as_come() -> None:
    told = settle(torchvision(), shapes=OPEN)
    assert len(told.task.predictions(*told.first)) == 2
    nothing = [np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)]
    assert told.task.predictions(nothing, WHOLE) == []


def test_scores_and_classes_of_one_type_are_told_by_their_numbers() -> None:
    outputs = {"a": BOXES, "b": IDS.astype(np.float32), "c": SCORES}
    assert [one["label_id"] for one in found(outputs)] == [2, 1]


def test_without_names_a_count_is_the_one_number_and_a_picture_with_its_colours_first_is_not_tensorflows() -> None:
    outputs = dict(zip("1234", FAMILIES["EfficientNMS"].values(), strict=True))
    assert [one["box"] for one in found(outputs)] == FOUND


def test_boxes_and_scores_alone_are_of_one_class() -> None:
    assert [one["label_id"] for one in found({"boxes": BOXES, "scores": SCORES})] == [0, 0]


def test_what_tensorflow_names_has_its_boxes_the_other_way_and_is_left_to_its_own_head() -> None:
    outputs = {"detection_boxes": BOXES[None], "detection_classes": IDS[None], "detection_scores": SCORES[None]}
    assert settle(outputs).task.name == "tensors"


def test_more_rows_than_suppression_leaves_are_left_to_heads_that_suppress() -> None:
    many = {"boxes": np.zeros((1, 8400, 4), np.float32), "scores": np.zeros((1, 8400, 1), np.float32)}
    claims = [claim.options["decoder"] for claim in ObjectDetection.claims(known(many))]
    assert "boxes-labels-scores" not in claims


# Labels


def test_torchvision_counts_the_background_and_labels_need_not() -> None:
    assert [one["label"] for one in found(torchvision(), classes=["cat", "dog"])] == ["dog", "cat"]
    names = ["__background__", "cat", "dog"]
    assert [(one["label"], one["label_id"]) for one in found(torchvision(), classes=names)] == [("dog", 2), ("cat", 1)]


def test_others_count_from_the_first_class() -> None:
    assert [one["label"] for one in found(FAMILIES["RT-DETR"], classes=["bird", "cat", "dog"])] == ["dog", "cat"]


# What they are fed


def test_each_family_is_fed_its_own_way() -> None:
    assert settle(torchvision(), given={"image": (3, -1, -1)}).claim.input["resize"] == "shortest"
    assert settle(FAMILIES["EfficientNMS"]).claim.input["resize"] == "letterbox"
    given = {"images": (1, 3, HEIGHT, WIDTH), "orig_target_sizes": (1, 2)}
    assert settle(FAMILIES["RT-DETR"], given=given).claim.input == {"color": "RGB", "mean": [0.0], "std": [255.0]}


# Masks and key points


def ramp(rows: int, columns: int) -> np.ndarray:
    """From 0 on the left to 1 on the right."""
    return np.tile((np.arange(columns, dtype=np.float32) + 0.5) / columns, (rows, 1))


def test_small_masks_lie_over_their_boxes() -> None:
    masks = np.stack([ramp(28, 28), 1 - ramp(28, 28)])[:, None]
    (first, second) = found(torchvision(masks=masks))
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[16:48, 48:72] = True
    assert np.array_equal(first["mask"], wanted)
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[:8, :6] = True
    assert np.array_equal(second["mask"], wanted)


def test_a_small_mask_of_a_box_that_is_cut_at_the_edge_keeps_its_place() -> None:
    outputs = {"boxes": np.array([[-24.0, 16, 24, 48]], np.float32), "labels": IDS[:1], "scores": SCORES[:1]}
    (told,) = found({**outputs, "masks": 1 - ramp(28, 28)[None, None]}, shapes=OPEN)
    assert not told["mask"][:, 1:].any()


def test_masks_as_large_as_the_picture_lie_over_it() -> None:
    # The frame is wider than the network's picture, which has a quarter of padding above and below.
    geometry = Geometry(960, 320, WIDTH, HEIGHT, 0.0, -0.5, 1.0, 2.0)
    plane = np.zeros((HEIGHT, WIDTH), np.float32)
    plane[24:40, 30:60] = 1
    outputs = {"boxes": np.array([[30.0, 24, 60, 40]], np.float32), "labels": IDS[:1], "scores": SCORES[:1]}
    (told,) = found({**outputs, "masks": plane[None, None]}, geometry, shapes=OPEN)
    assert told["mask"].shape == (HEIGHT // 2, WIDTH)
    assert np.array_equal(told["mask"], plane[16:48] > 0.5)


def test_key_points_of_a_person_have_names() -> None:
    points = np.zeros((2, 17, 3), np.float32)
    points[..., :2], points[..., 2] = (48, 16), 1
    outputs = torchvision(keypoints=points, keypoints_scores=np.ones((2, 17), np.float32))
    first = found(outputs)[0]
    assert first["keypoints"][0] == {"x": 0.5, "y": 0.25, "name": "nose"}
    assert len(first["keypoints"]) == 17
    shapes = {**OPEN, "keypoints": (-1, -1, 3), "keypoints_scores": (-1, -1)}
    assert len(found(outputs, shapes=shapes)[0]["keypoints"]) == 17
