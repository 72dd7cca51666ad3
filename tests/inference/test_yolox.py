"""Heads with one row for each cell: YOLOX, decoded or not, and YOLOv6, each fed as it was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.tasks.decoders.yolox import grid

SIDE = 64
WHOLE = Geometry(SIDE, SIDE, SIDE, SIDE)


def settle(rows: np.ndarray, shape: tuple[int, ...] | None = None, side: int = SIDE, **manifest: Any) -> Any:
    outputs = [rows.astype(np.float32)]
    network = Network(
        [TensorInfo("images", (1, 3, side, side), "float32")],
        [TensorInfo("output", shape or rows.shape, "float32")],
        Labels(),
        {},
        manifest.get("options", {}),
    )
    return recognition.settle(network, manifest, lambda _preprocess: (outputs, WHOLE))


def rows(*, decoded: bool, objectness: float = 0.0) -> np.ndarray:
    """A box of 16 × 24 about the middle of every cell; nothing has a score but cell 9, in column 1 and row 1."""
    lattice = grid(SIDE, SIDE)
    made = np.zeros((1, len(lattice), 7))
    stride = lattice[:, 2:]
    if decoded:
        made[0, :, :2], made[0, :, 2:4] = (lattice[:, :2] + 0.5) * stride, (16, 24)
    else:
        made[0, :, :2], made[0, :, 2:4] = 0.5, np.log((16, 24) / stride)
    made[0, :, 4] = objectness
    made[0, 9, 4:] = max(objectness, 0.9), 0.0, 0.8
    return made


@pytest.mark.parametrize("decoded", [False, True])
def test_whether_the_export_decoded_is_told_by_the_numbers(decoded) -> None:
    told = settle(rows(decoded=decoded))
    assert told.task.decoder == "yolox"
    (found,) = told.task.predictions(*told.first)
    assert found["label_id"] == 1
    assert found["score"] == pytest.approx(0.72)
    assert [found["box"][key] * SIDE for key in ("x", "y", "width", "height")] == pytest.approx(
        [4, 0, 16, 24], abs=1e-4
    )


def test_an_option_may_say_it() -> None:
    told = settle(rows(decoded=True), options={"decoder": "yolox", "decoded": True})
    assert told.task.predictions(*told.first)[0]["box"]["x"] * SIDE == pytest.approx(4, abs=1e-4)


def test_yolox_is_given_blue_green_and_red_as_they_come_in_the_top_left() -> None:
    told = settle(rows(decoded=False))
    assert told.claim.input == {
        "resize": "letterbox", "place": "top-left", "pad": [114], "color": "BGR", "mean": [0.0], "std": [1.0]
    }  # fmt: skip


def test_a_row_with_one_in_place_of_an_objectness_is_yolov6_and_fed_as_other_yolo_are() -> None:
    told = settle(rows(decoded=True, objectness=1.0))
    assert told.task.decoder == "yolov6"
    assert (told.claim.input["color"], told.claim.input.get("place")) == ("RGB", None)
    (found,) = told.task.predictions(*told.first)
    assert found["score"] == pytest.approx(0.8)


def test_an_open_picture_is_of_the_usual_size_and_the_rows_are_counted_when_they_are_there() -> None:
    told = settle(rows(decoded=False), shape=(-1, -1, 7), side=-1, input={"width": SIDE, "height": SIDE})
    assert told.task.decoder == "yolox"
    assert (told.claim.input["width"], told.claim.input["height"]) == (640, 640)
