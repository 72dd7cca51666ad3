from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime import anchors, boxes
from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Candidates

pytestmark = pytest.mark.arch

UNIT = st.floats(0, 1, width=32)


@st.composite
def crowds(draw):
    """Candidates in clusters, so that many overlap; sides of at least a thousandth."""
    count = draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner = random.choice(random.random((4, 2)) * 0.7, count) + random.normal(0, 0.03, (count, 2))
    size = 0.05 + random.random((count, 2)) * 0.3
    found = np.round(np.clip(np.concatenate([corner, corner + size], axis=1), 0, 1), 6)
    found = found[(found[:, 2:] - found[:, :2]).min(axis=1, initial=1) >= 0.001]
    return Candidates(found, random.random(len(found)), random.integers(0, 3, len(found)))


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def suppress_one_by_one(found, iou, nms):
    kept = []
    for n in sorted(range(len(found.scores)), key=lambda n: -found.scores[n]):
        rivals = [k for k in kept if nms == "agnostic" or found.label_ids[k] == found.label_ids[n]]
        if all(overlap(found.boxes[k], found.boxes[n]) <= iou for k in rivals):
            kept.append(n)
    return kept


@settings(max_examples=150, deadline=None)
@given(crowds(), st.floats(0.05, 0.95), st.sampled_from(["class", "agnostic"]))
def test_suppression_keeps_what_a_plain_loop_keeps(found, iou, nms):
    kept = boxes.suppress(found, iou=iou, nms=nms, top_k=1000, limit=1000).tolist()
    assert kept == suppress_one_by_one(found, iou, nms)


@settings(max_examples=150, deadline=None)
@given(crowds(), st.floats(0.05, 0.95))
def test_no_two_boxes_of_a_class_that_remain_overlap_above_the_limit(found, iou):
    kept = boxes.suppress(found, iou=iou, nms="class", top_k=1000, limit=1000)
    for n, first in enumerate(kept):
        for second in kept[n + 1 :]:
            if found.label_ids[first] == found.label_ids[second]:
                assert overlap(found.boxes[first], found.boxes[second]) <= iou + 1e-9


@settings(max_examples=60, deadline=None)
@given(crowds(), st.integers(1, 10), st.integers(1, 10), st.sampled_from(boxes.NMS))
def test_what_remains_is_bounded_and_best_first(found, top_k, limit, nms):
    kept = boxes.suppress(found, iou=0.5, nms=nms, top_k=top_k, limit=limit)
    scores = found.scores[kept]
    assert len(kept) <= min(top_k, limit)
    assert np.all(np.diff(scores) <= 0)
    if len(found.scores):
        assert scores[0] == found.scores.max()


def test_without_suppression_every_box_stays():
    found = Candidates(np.array([[0, 0, 1, 1]] * 3, float), np.array([0.5, 0.9, 0.7]), np.zeros(3, int))
    assert boxes.suppress(found, iou=0.5, nms="none", top_k=10, limit=10).tolist() == [1, 2, 0]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 3)), min_size=1, max_size=40))
def test_an_older_opencv_suppresses_the_same(placed):
    corners = np.array([[x, y, x + 0.1, y + 0.1] for x, y, _ in placed])
    scores, groups = np.linspace(0.9, 0.1, len(placed)), np.array([group for _, _, group in placed])
    found = Candidates(corners, scores, groups)
    with pytest.MonkeyPatch.context() as patch:
        now = boxes.suppress(found, iou=0.5, nms="class", top_k=100, limit=100).tolist()
        patch.delattr(cv2.dnn, "NMSBoxesBatched", raising=False)
        assert boxes.suppress(found, iou=0.5, nms="class", top_k=100, limit=100).tolist() == now


def test_boxes_of_far_apart_classes_do_not_meet():
    found = Candidates(np.array([[0.1, 0.1, 0.9, 0.9]] * 2), np.array([0.9, 0.8]), np.array([0, 90_000]))
    assert boxes.suppress(found, iou=0.5, nms="class", top_k=10, limit=10).tolist() == [0, 1]
    assert boxes.suppress(found, iou=0.5, nms="agnostic", top_k=10, limit=10).tolist() == [0]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(UNIT, UNIT, UNIT, UNIT), max_size=8), st.integers(1, 4000), st.integers(1, 4000))
def test_a_letterboxed_box_comes_back_to_where_it_was(corners, width, height):
    # As a letterbox does: the longer side fills the network's square, the shorter is padded on both ends.
    extent_x, extent_y = max(1.0, height / width), max(1.0, width / height)
    geometry = Geometry(width, height, 320, 320, (1 - extent_x) / 2, (1 - extent_y) / 2, extent_x, extent_y)
    in_frame = np.array(corners, dtype=float).reshape(-1, 4)
    offset, extent = np.array([geometry.offset_x, geometry.offset_y] * 2), np.array([extent_x, extent_y] * 2)
    in_network = (in_frame - offset) / extent
    assert in_network.min(initial=0) >= -1e-9
    assert in_network.max(initial=1) <= 1 + 1e-9
    assert np.allclose(boxes.to_frame(in_network, geometry), in_frame, atol=2e-6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e30, 1e30)] * 4), max_size=8),
    st.floats(-3, 1),
    st.floats(0.01, 8),
)
def test_a_box_in_the_frame_lies_within_it(corners, offset, extent):
    geometry = Geometry(640, 480, 320, 320, offset, -offset, extent, extent)
    placed = boxes.to_frame(np.array(corners).reshape(-1, 4), geometry)
    assert np.all((placed >= 0) & (placed <= 1))


def test_a_cropped_picture_covers_the_middle_of_the_frame():
    geometry = Geometry(640, 480, 224, 224, 0.125, 0.0, 0.75, 1.0)
    assert boxes.to_frame(np.array([[0.0, 0.0, 1.0, 1.0]]), geometry).tolist() == [[0.125, 0.0, 0.875, 1.0]]


def test_the_anchors_of_the_usual_detector_are_1917():
    assert anchors.maps(300, 300) == [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    made = lattice()
    assert made.shape == (1917, 4)
    # First cell of the finest map: the small square, then the two elongated boxes at scale 0.2.
    assert made[:3] == pytest.approx(
        np.array(
            [
                [0.5 / 19, 0.5 / 19, 0.1, 0.1],
                [0.5 / 19, 0.5 / 19, 0.2 / 2**0.5, 0.2 * 2**0.5],
                [0.5 / 19, 0.5 / 19, 0.2 * 2**0.5, 0.2 / 2**0.5],
            ]
        )
    )
    # The last one is the square between the coarsest map's scale and the whole picture.
    assert made[-1] == pytest.approx([0.5, 0.5, 0.95**0.5, 0.95**0.5])


def test_anchors_are_square_on_a_picture_that_is_not():
    made = anchors.ssd(
        [(2, 4)], min_scale=0.5, max_scale=0.9, ratios=(1.0,), reduce_lowest=False, interpolated=False, aspect=2.0
    )
    assert made[:, 2:] == pytest.approx(np.array([[0.5, 0.25]] * 8))
    assert made[:5, 1] == pytest.approx([0.125, 0.375, 0.625, 0.875, 0.125])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_decoding_undoes_the_encoding_relative_to_anchors(seed):
    random = np.random.default_rng(seed)
    made = lattice()[random.integers(0, 1917, 20)]
    centre, size = random.random((20, 2)), 0.01 + random.random((20, 2))
    scale = np.array([10.0, 10.0, 5.0, 5.0])
    encoded = np.concatenate([(centre - made[:, :2]) / made[:, 2:], np.log(size / made[:, 2:])], axis=1) * scale
    top_left, bottom_right = centre - size / 2, centre + size / 2
    expected = np.concatenate([top_left[:, ::-1], bottom_right[:, ::-1]], axis=1)
    assert np.allclose(anchors.decode(encoded.astype(np.float32), made, tuple(scale)), expected, atol=1e-4)


def lattice():
    return anchors.ssd(
        anchors.maps(300, 300),
        min_scale=0.2,
        max_scale=0.95,
        ratios=(1.0, 2.0, 0.5, 3.0, 1 / 3),
        reduce_lowest=True,
        interpolated=True,
    )


def test_points_and_masks_stay_with_their_candidates() -> None:
    def masks(rows, _geometry):
        return [np.full((1, 1), row) for row in rows]

    points = np.arange(18).reshape(3, 2, 3)
    made = Candidates(np.zeros((3, 4)), np.zeros(3), np.arange(3), points, points[:, :, :2], masks)
    last = made.take(np.array([False, True, True])).take(np.array([1]))
    assert last.label_ids.tolist() == [2]
    assert last.keypoints is not None
    assert last.keypoints.tolist() == points[2:].tolist()
    assert last.masks is not None
    assert [mask.item() for mask in last.masks(np.array([0]), Geometry(1, 1, 1, 1))] == [2]


def merge_one_by_one(found, iou):
    left = sorted(range(len(found.scores)), key=lambda n: -found.scores[n])
    told = []
    while left:
        group = [n for n in left if n == left[0] or overlap(found.boxes[left[0]], found.boxes[n]) > iou]
        total = sum(found.scores[n] for n in group)
        told.append((found.scores[left[0]], sum(found.boxes[n] * found.scores[n] for n in group) / total))
        left = [n for n in left if n not in group]
    return told


@settings(max_examples=150, deadline=None)
@given(crowds(), st.floats(0.05, 0.95))
def test_merging_gives_what_a_plain_loop_gives(found, iou):
    merged = boxes.merged(found, iou=iou, top_k=1000)
    expected = merge_one_by_one(found, iou)
    assert merged.scores.tolist() == [score for score, _ in expected]
    assert merged.boxes == pytest.approx(np.reshape([box for _, box in expected], (-1, 4)))


def test_what_has_no_score_at_all_is_merged_evenly():
    found = Candidates(np.array([[0.0, 0, 1, 1], [0.2, 0, 1, 1]]), np.zeros(2), np.zeros(2, np.int64))
    assert boxes.merged(found, iou=0.5, top_k=10).boxes.tolist() == [[0.1, 0, 1, 1]]


def test_boxes_of_two_classes_far_outside_the_picture_do_not_meet():
    found = Candidates(
        np.array([[0.0, 0.0, 0.5, 0.5], [-1.5, -1.5, -1.0, -1.0]]), np.array([0.9, 0.8]), np.array([0, 1])
    )
    assert boxes.suppress(found, iou=0.1, nms="class", top_k=10, limit=10).tolist() == [0, 1]
