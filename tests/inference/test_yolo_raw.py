"""YOLO heads before their boxes are decoded: levels in every layout, of versions 3 and 5."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.detection import ObjectDetection

WIDTH, HEIGHT, CLASSES = 128, 64, 3
WHOLE = Geometry(WIDTH, HEIGHT, WIDTH, HEIGHT)
ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
LAYOUTS = ("split", "flat", "last", "split last")


def levels(seed: int = 0) -> list[np.ndarray]:
    """[anchor, row, column, 5+C] of strides 8, 16 and 32; few objects."""
    random = np.random.default_rng(seed)
    made = []
    for stride in (8, 16, 32):
        rows = random.normal(size=(3, HEIGHT // stride, WIDTH // stride, 5 + CLASSES)) * 1.5
        rows[..., 4] -= 1
        made.append(rows.astype(np.float32))
    return made


def laid_out(rows: np.ndarray, layout: str) -> np.ndarray:
    anchors, height, width, features = rows.shape
    if layout == "split":
        return rows[None]
    if layout == "flat":
        return rows.transpose(0, 3, 1, 2).reshape(1, anchors * features, height, width)
    last = rows.transpose(1, 2, 0, 3)[None]
    return last if layout == "split last" else last.reshape(1, height, width, anchors * features)


def network(outputs: list[np.ndarray], options: Any = None) -> Network:
    infos = [TensorInfo(f"out{n}", array.shape, "float32") for n, array in enumerate(outputs)]
    return Network([TensorInfo("images", (1, 3, HEIGHT, WIDTH), "float32")], infos, Labels(), {}, options or {})


def detect(outputs: list[np.ndarray], **options: Any) -> list[dict[str, Any]]:
    known = network(outputs)
    options = {"decoder": "yolo-raw", "nms": "none", "threshold": 0.3, "max_detections": 1000, **options}
    return ObjectDetection(options, known.labels, known.inputs, known.outputs).predictions(outputs, WHOLE)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def one_by_one(made: list[np.ndarray], version: str, anchors: Any = ANCHORS) -> list[tuple[int, float, list[float]]]:
    """Box by box: (class, score, corners in pixels)."""
    found = []
    for rows, stride, sizes in zip(made, (8, 16, 32), anchors, strict=True):
        for anchor, row, column in np.ndindex(rows.shape[:3]):
            x, y, w, h, objectness, *classes = rows[anchor, row, column].tolist()
            best = max(range(CLASSES), key=lambda n: classes[n])
            score = sigmoid(objectness) * sigmoid(classes[best])
            if score < 0.3:
                continue
            across, down = sizes[2 * anchor], sizes[2 * anchor + 1]
            if version == "5":
                centre = (2 * sigmoid(x) - 0.5 + column) * stride, (2 * sigmoid(y) - 0.5 + row) * stride
                size = (2 * sigmoid(w)) ** 2 * across, (2 * sigmoid(h)) ** 2 * down
            else:
                centre = (sigmoid(x) + column) * stride, (sigmoid(y) + row) * stride
                size = math.exp(w) * across, math.exp(h) * down
            corners = [
                centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2
            ]  # fmt: skip
            limits = (WIDTH, HEIGHT, WIDTH, HEIGHT)
            left, top, right, bottom = (min(max(c, 0), limit) for c, limit in zip(corners, limits, strict=True))
            if right - left > 1e-4 and bottom - top > 1e-4:  # what is outside the frame is not wanted
                found.append((best, score, [left, top, right, bottom]))
    return sorted(found, key=lambda one: -one[1])


def assert_same(told: list[dict[str, Any]], expected: list[tuple[int, float, list[float]]]) -> None:
    assert expected
    assert [one["label_id"] for one in told] == [label for label, _, _ in expected]
    assert [one["score"] for one in told] == pytest.approx([score for _, score, _ in expected], abs=1e-5)
    for one, (_, _, corners) in zip(told, expected, strict=True):
        box = one["box"]
        placed = [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]
        assert np.multiply(placed, [WIDTH, HEIGHT] * 2) == pytest.approx(corners, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(LAYOUTS), st.permutations(range(3)), st.sampled_from(["3", "5"]))
def test_levels_in_any_layout_and_order_are_decoded_as_a_plain_loop_decodes_them(seed, layout, order, version) -> None:
    made = levels(seed)
    outputs = [laid_out(made[n], layout) for n in order]
    assert_same(detect(outputs, version=version), one_by_one(made, version))


def test_the_version_follows_from_the_layout_where_nothing_says_it() -> None:
    made = levels()
    assert_same(detect([laid_out(level, "flat") for level in made]), one_by_one(made, "5"))
    assert_same(detect([laid_out(level, "last") for level in made]), one_by_one(made, "3"))


def test_numbers_that_went_through_a_sigmoid_already_are_seen() -> None:
    made = levels()
    outputs = [laid_out(1 / (1 + np.exp(-level)), "split") for level in made]
    assert_same(detect(outputs), one_by_one(made, "5"))


def test_anchors_may_be_others() -> None:
    anchors = [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146], [142, 110, 192, 243, 459, 401]]
    made = levels()
    told = detect([laid_out(level, "split") for level in made], anchors=anchors)
    assert_same(told, one_by_one(made, "5", anchors))


@pytest.mark.parametrize("anchors", [[[1, 2, 3]], [ANCHORS[0], ANCHORS[1]], "all", [[0, 1, 2, 3, 4, 5]] * 3])
def test_anchors_that_are_none_are_refused(anchors) -> None:
    with pytest.raises(ModelError, match=r"anchors"):
        detect([laid_out(level, "split") for level in levels()], anchors=anchors)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_levels_are_told_by_their_shapes_and_fed_a_letterbox(layout) -> None:
    outputs = [laid_out(level, layout) for level in levels()]
    told = recognition.settle(network(outputs), {}, lambda _preprocess: (outputs, WHOLE))
    assert told.task.decoder == "yolo-raw"
    assert told.claim.input["resize"] == "letterbox"
    assert "of 5 + 3 numbers" in told.claim.why


def test_grids_of_other_things_are_no_levels() -> None:
    outputs = [np.zeros((1, channels, HEIGHT // stride, WIDTH // stride), np.float32) for channels, stride in
               ((1, 8), (2, 16), (4, 32))]  # fmt: skip
    with pytest.raises(ModelError, match="decoder yolo-raw reads"):
        detect(outputs)
