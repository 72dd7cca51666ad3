"""MediaPipe's detectors with key points, decoded by hand: 1 row of many, and every anchor against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.tasks.decoders.blaze import Blaze
from agent.inference.runtime.tasks.detection import ObjectDetection

# Size, width of a row, and the layers of the detector's configuration: strides, and anchors of a cell in each layer.
DETECTORS = {
    "face short": (128, 16, [8, 16, 16, 16], 2),
    "face back": (256, 16, [16, 32, 32, 32], 2),
    "face full": (192, 16, [4], 1),
    "palm": (192, 18, [8, 16, 16, 16], 2),
    "person": (224, 12, [8, 16, 32, 32, 32], 2),
}


def centres(size, strides, each):
    """As the configuration says it: layers of one stride share their cells."""
    made = []
    for stride in dict.fromkeys(strides):
        for row in range(size // stride):
            for column in range(size // stride):
                place = ((column + 0.5) * stride / size, (row + 0.5) * stride / size)
                made += [place] * (each * strides.count(stride))
    return made


def task(size, *shapes, names=None, labels=(), **options):
    names = names or [f"out{n}" for n in range(len(shapes))]
    inputs = [TensorInfo("input", (1, size, size, 3), "float32")]
    outputs = [TensorInfo(name, tuple(shape), "float32") for name, shape in zip(names, shapes, strict=True)]
    claim = Blaze.claim(Network(inputs, outputs, Labels()))
    return claim, lambda: ObjectDetection(options, Labels(dict(enumerate(labels))), inputs, outputs)


def told(size, width, rows, geometry=None, **options):
    """What is found where the rows {number: (logit, numbers)} alone have a score."""
    count = rows.pop("count")
    boxes, scores = np.zeros((1, count, width), np.float32), np.full((1, count, 1), -100.0, np.float32)
    for row, (score, numbers) in rows.items():
        boxes[0, row], scores[0, row] = numbers, score
    _, made = task(size, boxes.shape, scores.shape, **options)
    return made().predictions([boxes, scores], geometry or Geometry(size, size, size, size))


@pytest.mark.parametrize("name", DETECTORS)
def test_each_row_is_relative_to_the_centre_of_its_cell(name):
    size, width, strides, each = DETECTORS[name]
    places = centres(size, strides, each)
    numbers = [0.0, 0.0, 0.02 * size, 0.04 * size, *([0.01 * size, 0.03 * size] * (width // 2 - 2))]
    for row in (0, 7, len(places) // 2, len(places) - 1):
        (found,) = told(size, width, {row: (3.0, numbers), "count": len(places)})
        x, y = places[row]
        left, top, right, bottom = (max(0.0, x - 0.01), max(0.0, y - 0.02), min(1.0, x + 0.01), min(1.0, y + 0.02))
        assert found["box"] == pytest.approx(
            {"x": left, "y": top, "width": right - left, "height": bottom - top}, abs=2e-6
        )
        assert found["score"] == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-6)
        assert len(found["keypoints"]) == width // 2 - 2
        assert all(point["x"] == pytest.approx(x + 0.01, abs=1e-6) for point in found["keypoints"])
        assert all(point["y"] == pytest.approx(y + 0.03, abs=1e-6) for point in found["keypoints"])


def test_faces_palms_and_people_have_labels_and_points_with_names():
    row = (3.0, [0, 0, 9, 9, *[1] * 12])
    (face,) = told(128, 16, {0: row, "count": 896})
    assert (face["label"], face["label_id"]) == ("face", 0)
    assert [point["name"] for point in face["keypoints"]] == [
        "right_eye", "left_eye", "nose_tip", "mouth_center", "right_ear", "left_ear",
    ]  # fmt: skip
    assert told(192, 18, {0: (3.0, [0, 0, 9, 9, *[1] * 14]), "count": 2016})[0]["label"] == "palm"
    assert told(224, 12, {0: (3.0, [0, 0, 9, 9, *[1] * 8]), "count": 2254})[0]["label"] == "person"
    assert told(128, 16, {0: row, "count": 896}, labels=["visage"])[0]["label"] == "visage"


def test_overlapping_boxes_are_one_weighted_by_their_scores():
    # The anchors of the cell around (68, 68) of 128: logits 0 and ln 3 are scores 1/2 and 3/4, weights 2 and 3 of 5.
    first = (8 * 16 + 8) * 2
    rows = {
        first: (0.0, [0, 0, 40, 40, *[10] * 12]),
        first + 1: (math.log(3), [5, 0, 40, 40, *[20] * 12]),
        "count": 896,
    }
    # The network's picture shows a frame that is half as wide as high, between two bars.
    (found,) = told(128, 16, rows, geometry=Geometry(64, 128, 128, 128, -0.5, 0.0, 2.0, 1.0))
    assert found["score"] == pytest.approx(0.75)
    assert found["box"] == pytest.approx({"x": 0.296875, "y": 0.375, "width": 0.625, "height": 0.3125})
    assert found["keypoints"][0]["x"] == pytest.approx(2 * (68 + 16) / 128 - 0.5)
    assert found["keypoints"][0]["y"] == pytest.approx((68 + 16) / 128)


def test_layers_in_outputs_of_their_own_are_joined_the_finest_first():
    whole = np.random.default_rng(3).normal(0, 20, (1, 896, 17)).astype(np.float32)
    _, joined = task(128, (1, 896, 16), (1, 896, 1))
    _, apart = task(128, (1, 384, 16), (1, 512, 1), (1, 384, 1), (1, 512, 16))
    frame = Geometry(128, 128, 128, 128)
    expected = joined().predictions([whole[..., :16], whole[..., 16:]], frame)
    fine, coarse = whole[:, :512], whole[:, 512:]
    parts = [coarse[..., :16], fine[..., 16:], coarse[..., 16:], fine[..., :16]]
    assert expected
    assert apart().predictions(parts, frame) == expected


def test_the_claim_brings_the_letterbox_and_the_range_of_each_family():
    claim, _ = task(128, (1, 896, 16), (1, 896, 1), names=["regressors", "classificators"])
    assert claim is not None
    assert claim.strength == 2
    assert claim.input == {"resize": "letterbox", "pad": [0], "color": "RGB", "mean": [127.5], "std": [127.5]}
    palm, _ = task(192, (1, 2016, 18), (1, 2016, 1))
    assert palm is not None
    assert (palm.strength, palm.input["mean"], palm.input["std"]) == (1, [0.0], [255.0])


def test_a_number_of_rows_that_no_grid_has_is_said_in_the_claim():
    claim, _ = task(128, (1, 900, 16), (1, 900, 1))
    assert claim is not None
    assert claim.against == "its 900 boxes are not one for each anchor of an input of 128 × 128"


@pytest.mark.parametrize("shapes", [[(1, 896, 16)], [(1, 896, 16), (1, 800, 1)], [(1, 896, 4), (1, 896, 1)], [(1, 16)]])
def test_other_networks_have_no_claim(shapes):
    assert task(128, *shapes)[0] is None
