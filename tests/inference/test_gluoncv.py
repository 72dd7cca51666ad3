"""Detection heads that suppress inside the network: GluonCV's three outputs, and rows of six numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime.base import Geometry, Labels, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.detection import ObjectDetection

SEEDS = st.integers(0, 2**32 - 1)
WIDTH, HEIGHT = 512, 256


def detect(outputs, *, classes=(), geometry=None, **options):
    outputs = [np.asarray(output, np.float32) for output in outputs]
    told = [TensorInfo(f"output{n}", output.shape, "float32") for n, output in enumerate(outputs)]
    given = [TensorInfo("data", (1, 3, HEIGHT, WIDTH), "float32")]
    task = ObjectDetection({"max_detections": 1000, **options}, Labels(dict(enumerate(classes))), given, told)
    return task.predictions(outputs, geometry or Geometry(1024, 768, WIDTH, HEIGHT))


def corners(prediction):
    box = prediction["box"]
    return [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]


def made(seed, count=12, *, used=0.7, pixels=True):
    """Rows (class, score, left, top, right, bottom) of a plausible answer; some of them unused."""
    random = np.random.default_rng(seed)
    rows = np.full((count, 6), -1.0)
    for n in np.flatnonzero(random.random(count) < used):
        left, top = random.uniform(-0.05, 0.6, 2)
        width, height = random.uniform(0.1, 0.5, 2)
        extent = np.array([WIDTH, HEIGHT] * 2) if pixels else 1.0
        box = np.array([left, top, left + width, top + height]) * extent
        rows[n] = [random.integers(0, 20), random.uniform(0.01, 1.0), *box]
    return rows.astype(np.float32)


def triple(rows):
    return [rows[None, :, :1], rows[None, :, 1:2], rows[None, :, 2:]]


def one_by_one(rows, threshold, extent):
    found = []
    for label, score, *box in rows.tolist():
        if label >= 0 and score >= threshold:
            found.append((label, score, [min(max(side / extent[n % 2], 0.0), 1.0) for n, side in enumerate(box)]))
    return sorted(found, key=lambda one: -one[1])


def assert_same(told, expected):
    assert [one["label_id"] for one in told] == [int(label) for label, _, _ in expected]
    for one, (_, score, box) in zip(told, expected, strict=True):
        assert one["score"] == pytest.approx(score, abs=2e-6)
        assert corners(one) == pytest.approx(box, abs=3e-6)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.0, 1.0))
def test_gluoncvs_triple_is_decoded_as_a_plain_loop_decodes_it(seed, threshold):
    rows = made(seed)
    assert_same(detect(triple(rows), threshold=threshold), one_by_one(rows, threshold, (WIDTH, HEIGHT)))


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.0, 1.0), st.sampled_from(["box-first", "class-first"]), st.booleans(), st.booleans())
def test_rows_of_six_are_decoded_as_a_plain_loop_decodes_them_in_either_order(seed, threshold, columns, pixels, said):
    rows = made(seed, pixels=pixels)
    output = rows if columns == "class-first" else rows[:, [2, 3, 4, 5, 1, 0]]
    told = detect([output[None]], threshold=threshold, **({"columns": columns} if said else {}))
    assert_same(told, one_by_one(rows, threshold, (WIDTH, HEIGHT) if pixels else (1, 1)))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.permutations(range(12)))
def test_the_order_of_the_rows_and_unused_rows_do_not_matter(seed, order):
    rows = made(seed)
    padded = np.concatenate([rows[order], np.full((5, 6), -1, np.float32)])
    assert detect(triple(padded)) == detect(triple(rows))
    assert detect([padded[None]]) == detect([rows[None]])


def test_ids_and_scores_the_other_way_round_are_told_by_their_numbers():
    rows = np.array([[0, 0.9, 100, 100, 200, 200], [3, 0.8, 10, 10, 90, 90], [-1] * 6], np.float32)
    ids, scores, boxes = triple(rows)
    for count in (1, 3):
        kept = [part[:, :count] for part in (scores, ids, boxes)]
        assert detect(kept) == detect([kept[1], kept[0], kept[2]])


def test_a_label_a_score_and_a_box_in_fractions_of_the_frame_come_out():
    rows = np.array([[1, 0.75, 128, 64, 256, 192], [-1] * 6], np.float32)
    expected = {
        "label": "dog",
        "label_id": 1,
        "score": 0.75,
        "box": {"x": 0.25, "y": 0.25, "width": 0.25, "height": 0.5},
    }
    assert detect(triple(rows), classes=["cat", "dog"]) == [expected]
    assert detect([rows[None]], classes=["cat", "dog"]) == [expected]


def test_a_letterboxed_frame_gets_its_boxes_back():
    # A square frame in a network of 2 : 1 has a quarter of padding on the left and on the right.
    geometry = Geometry(600, 600, WIDTH, HEIGHT, -0.5, 0.0, 2.0, 1.0)
    rows = np.array([[0, 0.9, 128, 0, 384, 256], [0, 0.8, 0, 0, 64, 256]], np.float32)
    told = detect(triple(rows), geometry=geometry)
    assert [corners(one) for one in told] == [[0, 0, 1, 1]]


def test_nothing_found_is_no_prediction():
    nothing = np.full((1, 100, 6), -1, np.float32)
    assert detect(triple(nothing[0])) == []
    assert detect([nothing], threshold=0.0) == []
    assert detect([np.zeros((1, 100, 6))], threshold=0.0) == []


def test_boxes_overlap_as_the_network_gave_them_unless_suppression_is_asked_for():
    rows = np.array([[0, 0.9, 100, 100, 200, 200], [0, 0.8, 101, 100, 200, 200]], np.float32)
    assert len(detect(triple(rows))) == 2
    assert len(detect(triple(rows), nms="class")) == 1


def test_pixels_and_fractions_can_be_said():
    rows = np.array([[0, 0.9, 0, 0, 1, 1]], np.float32)
    assert corners(detect(triple(rows))[0]) == [0, 0, 1, 1]
    assert corners(detect(triple(rows), normalized=False)[0]) == pytest.approx([0, 0, 1 / WIDTH, 1 / HEIGHT], abs=1e-6)
    assert corners(detect([rows[None]], normalized=False)[0]) == pytest.approx([0, 0, 1 / WIDTH, 1 / HEIGHT], abs=1e-6)


def test_whole_sides_of_a_single_box_do_not_make_it_a_class():
    """A box that ends at the picture's edge looks like class 1 with score 0.8 until its sides are compared."""
    row = [0, 0.9, 0.1, 0.2, 0.8, 1.0]
    (told,) = detect([[[row]]])
    assert (told["label_id"], told["score"], corners(told)) == (0, 0.9, pytest.approx([0.1, 0.2, 0.8, 1.0]))


def test_three_outputs_of_other_shapes_are_refused_with_what_is_read():
    with pytest.raises(ModelError, match=r"reads ids \[1,N,1\], scores \[1,N,1\] and corners"):
        detect([np.zeros((1, 9, 1)), np.zeros((1, 8, 1)), np.zeros((1, 9, 4))], decoder="gluoncv")
    with pytest.raises(ModelError, match=r"unknown key options\.columns"):
        detect(triple(made(1)), columns="box-first")
