"""Detectors of TensorFlow's Object Detection API outside TFLite: more outputs, classes from 1 on, masks over boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo

HIGH, WIDE = 60, 80
FRAME = Geometry(640, 480, WIDE, HIGH)
LEFT = {"x": 0.1, "y": 0.2, "width": 0.4, "height": 0.4}


def outputs(**more: np.ndarray) -> dict[str, np.ndarray]:
    boxes = np.array([[[0.2, 0.1, 0.6, 0.5], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]], np.float32)
    return {
        "detection_anchor_indices": np.array([[7, 3, 0]], np.float32),
        "detection_boxes": boxes,
        "detection_classes": np.array([[2, 1, 1]], np.float32),
        "detection_multiclass_scores": np.zeros((1, 3, 3), np.float32),
        "detection_scores": np.array([[0.9, 0.6, 0.0]], np.float32),
        "num_detections": np.array([2], np.float32),
        "raw_detection_boxes": np.zeros((1, 1917, 4), np.float32),
        "raw_detection_scores": np.zeros((1, 1917, 3), np.float32),
        **more,
    }


def settle(given: dict[str, np.ndarray], names: dict[int, str] | None = None, *, size: Any = (HIGH, WIDE)) -> Any:
    infos = [TensorInfo(name, array.shape, "float32") for name, array in given.items()]
    network = Network([TensorInfo("input_tensor", (1, *size, 3), "uint8")], infos, Labels(names or {}))
    return recognition.settle(network, {}, lambda _preprocess: (list(given.values()), FRAME))


def found(given: dict[str, np.ndarray], names: dict[int, str] | None = None) -> list[dict[str, Any]]:
    told = settle(given, names)
    assert (told.task.decoder, told.describe()["evidence"]) == ("ssd-post", "named")
    return told.task.predictions(*told.first)


def test_boxes_classes_scores_and_the_count_are_found_by_their_names_among_others() -> None:
    first, second = found(outputs())
    assert (first["label_id"], first["score"], second["label_id"]) == (2, 0.9, 1)
    assert first["box"] == pytest.approx(LEFT)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({1: "person", 2: "bicycle"}, [("bicycle", 2), ("person", 1)]),
        ({0: "???", 1: "person", 2: "bicycle"}, [("bicycle", 2), ("person", 1)]),
        ({0: "person", 1: "bicycle"}, [("bicycle", 1), ("person", 0)]),
    ],
)
def test_class_1_is_the_first_however_the_labels_count(names, wanted) -> None:
    assert [(one["label"], one["label_id"]) for one in found(outputs(), names)] == wanted


def test_a_network_that_sizes_its_picture_itself_is_given_the_frame_in_its_proportions() -> None:
    told = settle(outputs(), size=(-1, -1))
    assert (told.claim.input["resize"], told.claim.input["upscale"]) == ("longest", False)


def test_masks_lie_over_their_boxes() -> None:
    masks = np.zeros((1, 3, 33, 33), np.float32)
    masks[0, 0, :, :16] = 1
    first = found(outputs(detection_masks=masks))[0]
    wanted = np.zeros((HIGH, WIDE), bool)
    wanted[12:36, 8:24] = True
    assert first["mask"].shape == wanted.shape
    assert (first["mask"] != wanted).sum() <= 24  # the edge at the middle of a point of the mask
