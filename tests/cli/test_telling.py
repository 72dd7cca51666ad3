"""What a person is told of each kind of prediction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from agent.cli.telling import told
from agent.inference.predictions import KINDS, Anomaly, Box, Image, Keypoints, Mask, Parts, Segmentation, Tensor, Text
from agent.inference.values import Answer
from tests.results.comparison.made import (
    ANSWERS,
    EXAMPLES,
    boxed,
    depth,
    label,
    mask,
    mask_png,
    plane,
    pose,
    strip,
    tensor,
    vector,
)

FRAME = Answer(predictions=(), timing_ms={}, width=200, height=100)


def lines(prediction):
    return [(one.depth, one.name, one.score, *one.details) for one in told(prediction, FRAME)]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (label("cat", 0.5), ("cat", 0.5, "█████")),
        (boxed("cat", 0.1), ("cat", 0.9, "  20, 10    40 × 20")),
        (
            boxed("man", 0.1, mask=strip(0, 20), keypoints=pose((0.1, 0.2)), track_id=3, angle=29.6),
            ("man", 0.9, "  20, 10    40 × 20", "turned by 30°", "mask of 25.0%", "1 point", "track 3"),
        ),
        (
            Segmentation(label="road", label_id=1, area=0.234, mask=strip(0, 20)),
            ("road", None, " 23.4%  ██▍"),
        ),
        (
            Keypoints(pose((0, 0), (1, 1), (0, 1), names=("a", "b", "c"), scores=(0.5, 0.25, 1.0)), "hand", 0, 0.9),
            ("hand", 0.9, "3 points", "best 1.000 c", "worst 0.250 b"),
        ),
        (Keypoints(pose((0, 0), (1, 1))), ("key points", None, "2 points")),
        (
            Anomaly(True, 0.75, threshold=0.5, map=plane([[0, 51]])),
            ("anomaly", 0.75, "≥ threshold 0.5", "map 2 × 1, 0 to 0.2"),
        ),
        (Anomaly(False, 0.25, threshold=0.5), ("normal", 0.25, "< threshold 0.5")),
        (
            Text("AB 12", 0.9, Box(0, 0, 0.5, 0.5), character_scores=(0.9, 0.8, 0.9, 0.4, 0.9)),
            ("AB 12", 0.9, "   0, 0     100 × 50", "least sure of '1': 0.400"),
        ),
        (vector(3, 4), ("embedding", None, "2 numbers, norm 5", "3, 4")),
        (vector(3, 4, 0, 0, 0, name="Ann", similarity=0.7), ("Ann", 0.7, "5 numbers, norm 5", "3, 4, 0, 0, …")),
        (depth([[0, 255], [51, 0]]), ("map", None, "2 × 2, 0 to 5 m")),
        (
            tensor([1.0, -2.0, 0.5, 3.25, 9.0], (5,)),
            ("out", None, "float32 [5]", "-2 to 9", "1, -2, 0.5, 3.25, …"),
        ),
        (
            Tensor("out", (2,), "float32", np.array([1, np.nan], "<f4").tobytes(), "base64"),
            ("out", None, "float32 [2]", "1 to 1", "1, nan", "1 are not finite"),
        ),
        (Tensor("out", (1,), "int64", [7]), ("out", None, "int64 [1]", "7 to 7", "7")),
        (Tensor("out", (1,), "float32", "?", "base64"), ("out", None, "float32 [1]", "no numbers that can be read")),
        (boxed("x", 0.1, mask=Mask(2, 2, "?")), ("x", 0.9, "  20, 10    40 × 20", "mask of 0.0%")),
        (boxed("x", 0.1, mask=Image(2, 2, b"?")), ("x", 0.9, "  20, 10    40 × 20", "mask of 0.0%")),
    ],
)
def test_each_kind_is_told_by_what_matters_of_it(prediction, expected):
    assert lines(prediction) == [(0, *expected)]


def test_parts_are_told_behind_their_detection_and_further_in():
    inner = boxed("plate", 0.5, parts=Parts([Text("AB")]))
    assert [line[:2] for line in lines(boxed("car", 0.1, parts=Parts([inner])))] == [
        (0, "car"),
        (1, "plate"),
        (2, "AB"),
    ]


def test_every_kind_that_there_is_is_told():
    assert EXAMPLES.keys() == KINDS.keys()
    assert all(lines(example)[0][1] for example in EXAMPLES.values())


@given(ANSWERS)
def test_every_prediction_is_told_in_lines_that_are_not_empty(predictions):
    for prediction in predictions:
        for line in told(prediction, FRAME):
            assert all(detail.strip() and "\n" not in detail for detail in line.details)


def test_a_mask_as_png_covers_what_one_of_run_lengths_does():
    pixels = [[1, 0, 1], [0, 0, 1]]
    as_png = boxed("x", 0.1, mask=mask_png(pixels))
    assert lines(as_png) == lines(boxed("x", 0.1, mask=mask(pixels)))
