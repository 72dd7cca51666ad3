"""NanoDet and PicoDet: distances as distributions, from grids in one output or in two for each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.detection import ObjectDetection

WIDTH, HEIGHT = 152, 96
"""With half a cell at the end of the grids of strides 16, 32 and 64."""
FOUR, THREE = (8, 16, 32, 64), (8, 16, 32)
WHOLE = Geometry(WIDTH, HEIGHT, WIDTH, HEIGHT)


def grids(strides, classes: int, bins: int = 8, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and distributions of each grid, all made up."""
    random = np.random.default_rng(seed)
    made = []
    for stride in strides:
        cells = math.ceil(WIDTH / stride) * math.ceil(HEIGHT / stride)
        scores = random.random((1, cells, classes)) * 0.6
        scores[0, random.integers(0, cells, 2)] += 0.35
        made.append((scores.astype(np.float32), random.normal(size=(1, cells, 4 * bins)).astype(np.float32) * 2))
    return made


def one_by_one(made, strides, threshold: float, offset: float) -> list[tuple[int, float, list[float]]]:
    """Every row by itself: (class, score, corners in pixels, clipped to the picture)."""
    found = []
    for (scores, distances), stride in zip(made, strides, strict=True):
        across = math.ceil(WIDTH / stride)
        for cell, row in enumerate(scores[0].tolist()):
            best = max(range(len(row)), key=lambda n: row[n])
            if row[best] < threshold:
                continue
            bins = distances.shape[2] // 4
            reach = []
            for side in range(4):
                powers = [math.exp(value) for value in distances[0, cell, side * bins : (side + 1) * bins].tolist()]
                reach.append(sum(n * power for n, power in enumerate(powers)) / sum(powers))
            x, y = cell % across + offset, cell // across + offset
            corners = [(x - reach[0]), (y - reach[1]), (x + reach[2]), (y + reach[3])]
            limits = (WIDTH, HEIGHT, WIDTH, HEIGHT)
            placed = [min(max(side * stride, 0), limit) for side, limit in zip(corners, limits, strict=True)]
            found.append((best, row[best], placed))
    return sorted(found, key=lambda one: -one[1])


def network(outputs: dict[str, np.ndarray], *, classes: int = 0, given: str = "image") -> Network:
    infos = [TensorInfo(name, array.shape, "float32") for name, array in outputs.items()]
    labels = Labels({n: f"class {n}" for n in range(classes)})
    return Network([TensorInfo(given, (1, 3, HEIGHT, WIDTH), "float32")], infos, labels)


def settle(outputs: dict[str, np.ndarray], **how: Any) -> Any:
    arrays = list(outputs.values())
    return recognition.settle(network(outputs, **how), {}, lambda _preprocess: (arrays, WHOLE))


def check(outputs: dict[str, np.ndarray], decoder: str, expected, classes: int = 0) -> None:
    known = network(outputs, classes=classes)
    options = {"decoder": decoder, "nms": "none", "threshold": 0.5, "max_detections": 1000}
    task = ObjectDetection(options, known.labels, known.inputs, known.outputs)
    told = task.predictions(list(outputs.values()), WHOLE)
    assert [one["label_id"] for one in told] == [label for label, _, _ in expected]
    assert [one["score"] for one in told] == pytest.approx([score for _, score, _ in expected], abs=1e-5)
    for one, (_, _, corners) in zip(told, expected, strict=True):
        box = one["box"]
        placed = [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]
        assert np.multiply(placed, [WIDTH, HEIGHT] * 2) == pytest.approx(corners, abs=1e-3)


def apart(made, name: str = "transpose") -> dict[str, np.ndarray]:
    scores = {f"{name}_{2 * n}.tmp_0": pair[0] for n, pair in enumerate(made)}
    return {**scores, **{f"{name}_{2 * n + 1}.tmp_0": pair[1] for n, pair in enumerate(made)}}


@pytest.mark.parametrize("bins", [8, 12])
def test_picodets_grids_are_decoded_as_a_plain_loop_decodes_them(bins) -> None:
    made = grids(FOUR, 10, bins)
    assert settle(apart(made), classes=10).task.decoder == "picodet"
    check(apart(made), "picodet", one_by_one(made, FOUR, 0.5, 0.5), classes=10)


def test_as_many_scores_as_distances_are_told_by_the_order_or_by_names() -> None:
    made = grids(THREE, 32)
    check(apart(made), "picodet", one_by_one(made, THREE, 0.5, 0.5))
    named = {f"bbox_{n}": pair[1] for n, pair in enumerate(made)}
    check(
        {**named, **{f"cls_{n}": pair[0] for n, pair in enumerate(made)}}, "picodet", one_by_one(made, THREE, 0.5, 0.5)
    )


@pytest.mark.parametrize(("strides", "offset"), [(FOUR, 0.0), (THREE, 0.5)])
def test_one_output_of_nanodet_has_four_grids_that_count_from_the_corner_or_three_from_the_middle(
    strides, offset
) -> None:
    made = grids(strides, 6)
    rows = np.concatenate([np.concatenate(pair, axis=2) for pair in made], axis=1)
    check({"output": rows}, "nanodet", one_by_one(made, strides, 0.5, offset), classes=6)
    assert settle({"output": rows}, classes=6).task.decoder == "nanodet"


def test_rows_of_other_heads_are_not_taken_for_scores_and_distances() -> None:
    rows = np.concatenate([np.concatenate(pair, axis=2) for pair in grids(FOUR, 80)], axis=1)
    assert settle({"output": rows}).task.decoder == "nanodet"
    told = settle({"output": rows - 1})
    assert told.task.name == "tensors"
    assert "none is below 0" in told.notes[0]


def test_paddle_reads_red_first_and_nanodet_blue() -> None:
    made = grids(THREE, 5)
    assert settle(apart(made)).claim.input == {
        "color": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]
    }  # fmt: skip
    named = {f"cls_pred_stride_{n}": pair[0] for n, pair in zip(THREE, made, strict=True)}
    named |= {f"dis_pred_stride_{n}": pair[1] for n, pair in zip(THREE, made, strict=True)}
    told = settle(named)
    assert told.task.decoder == "nanodet"
    assert (told.claim.input["color"], told.claim.input["mean"][0]) == ("BGR", 103.53)


def test_grids_that_are_no_pictures_are_refused() -> None:
    outputs = apart(grids(FOUR, 10))
    outputs.pop("transpose_6.tmp_0")
    known = network(outputs)
    with pytest.raises(ModelError, match="decoder picodet reads"):
        ObjectDetection({"decoder": "picodet"}, known.labels, known.inputs, known.outputs)
