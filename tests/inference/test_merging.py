"""What several windows of a frame found: each object once, each label once, and what cannot be put together refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.merging import merge
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.windows import Tiles, Windows, region

FRAME = Picture.of(np.zeros((100, 200, 3), np.uint8))
HALVES = Windows(Tiles(2, 1, overlap=0.2), ()).of(FRAME)
"""The left one ends at 0.5556, the right one starts at 0.4444."""
LEFT_END, RIGHT_START = 5 / 9, 4 / 9


def found(left, top, right, bottom, score=0.9, label="cat", **others):
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return {"label": label, "label_id": len(label), "score": score, "box": box, **others}


def sides(prediction) -> tuple[float, ...]:
    box = prediction["box"]
    return pytest.approx((box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]), abs=1e-6)


def test_an_object_in_the_overlap_is_found_once_with_the_better_score() -> None:
    [one] = merge(HALVES, [[found(0.46, 0.2, 0.54, 0.4, 0.6)], [found(0.461, 0.2, 0.541, 0.4, 0.8)]])
    assert (one["score"], (0.461, 0.2, 0.541, 0.4)) == (0.8, sides(one))


def test_an_object_across_the_edge_is_joined_of_its_parts() -> None:
    parts = [[found(0.3, 0.2, LEFT_END, 0.4, 0.7)], [found(RIGHT_START, 0.2, 0.6, 0.4, 0.5)]]
    [one] = merge(HALVES, parts)
    assert (one["score"], (0.3, 0.2, 0.6, 0.4)) == (0.7, sides(one))


def test_a_part_gives_way_to_the_whole_object_and_leaves_it_its_score() -> None:
    windows = Windows(Tiles(2, 1, overlap=0.2, with_whole=True), ()).of(FRAME)
    whole = found(0.1, 0.1, 0.9, 0.9, 0.6)
    parts = [[found(0.1, 0.1, LEFT_END, 0.9, 0.8)], [found(RIGHT_START, 0.1, 0.9, 0.9, 0.4)], [whole]]
    assert merge(windows, parts) == [{**whole, "score": 0.8}]


def test_what_one_view_found_apart_stays_apart() -> None:
    near = [found(0.1, 0.1, 0.3, 0.3, 0.9), found(0.12, 0.1, 0.32, 0.3, 0.8), found(0.15, 0.15, 0.2, 0.2, 0.7)]
    assert merge(HALVES, [near, []]) == near


def test_a_small_object_before_a_large_one_is_not_its_part() -> None:
    large, small = found(0.45, 0.1, 0.55, 0.9), found(0.49, 0.4, 0.52, 0.5, 0.8)
    assert merge(HALVES, [[large], [small]]) == [large, small]


def test_objects_of_other_labels_are_others() -> None:
    cat, dog = found(0.46, 0.2, 0.54, 0.4), found(0.46, 0.2, 0.54, 0.4, 0.8, "doggy")
    assert merge(HALVES, [[cat], [dog]]) == [cat, dog]


def test_masks_of_an_objects_parts_are_joined_at_the_finer_resolution() -> None:
    left, right = np.zeros((10, 20), bool), np.zeros((20, 40), bool)
    left[2:4, 6:11], right[4:8, 18:24] = True, True
    parts = [found(0.3, 0.2, LEFT_END, 0.4, mask=left)], [found(RIGHT_START, 0.2, 0.6, 0.4, 0.5, mask=right)]
    [one] = merge(HALVES, parts)
    expected = np.zeros((20, 40), bool)
    expected[4:8, 12:24] = True
    np.testing.assert_array_equal(one["mask"], expected)


def test_key_points_are_those_of_the_object_that_no_edge_cuts() -> None:
    cut = found(RIGHT_START, 0.2, 0.54, 0.4, 0.9, keypoints=[{"x": 0.5, "y": 0.3}])
    whole = found(0.42, 0.2, 0.54, 0.4, 0.6, keypoints=[{"x": 0.47, "y": 0.3}])
    [one] = merge(HALVES, [[whole], [cut]])
    assert (one["keypoints"], one["score"]) == ([{"x": 0.47, "y": 0.3}], 0.9)


def test_key_points_without_a_box_are_told_apart_by_what_encloses_them() -> None:
    def hand(x: float, score: float):
        return {"score": score, "keypoints": [{"x": x, "y": 0.2}, {"x": x + 0.05, "y": 0.4}]}

    assert merge(HALVES, [[hand(0.48, 0.7), hand(0.1, 0.9)], [hand(0.481, 0.8)]]) == [hand(0.1, 0.9), hand(0.481, 0.8)]


def test_a_line_of_writing_is_read_once_and_writing_without_a_place_stays() -> None:
    box = found(0.46, 0.2, 0.54, 0.4)["box"]
    lines = [{"text": "EXIT", "score": 0.8, "box": box}, {"text": "A"}], [{"text": "EX1T", "score": 0.6, "box": box}]
    assert [line["text"] for line in merge(HALVES, lines)] == ["A", "EXIT"]


def test_each_label_of_a_classification_has_its_best_score() -> None:
    def scores(cat: float, dog: float):
        both = [{"label": "cat", "label_id": 0, "score": cat}, {"label": "dog", "label_id": 1, "score": dog}]
        return sorted(both, key=lambda one: -one["score"])

    assert merge(HALVES, [scores(0.3, 0.6), scores(0.9, 0.1)]) == scores(0.9, 0.6)


def test_the_worst_part_makes_the_frame_an_anomaly() -> None:
    left, right = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.uint8)
    left[:, :4], right[1, 6] = 10, 200
    fine = {"anomalous": False, "score": 0.2, "map": left}
    [told] = merge(HALVES, [[fine], [{"anomalous": True, "score": 0.8, "map": right}]])
    assert (told["anomalous"], told["score"]) == (True, 0.8)
    np.testing.assert_array_equal(told["map"], np.maximum(left, right))


def test_areas_of_one_label_are_joined_and_measured_again() -> None:
    left, right = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
    left[:, :5], right[:, 4:6] = True, True
    area = {"label": "road", "label_id": 1, "score": 0.5}
    [one] = merge(HALVES, [[{**area, "mask": left, "area": 0.625}], [{**area, "mask": right, "area": 0.25}]])
    np.testing.assert_array_equal(one["mask"], left | right)
    assert one["area"] == 0.75


@pytest.mark.parametrize(
    ("kind", "one"),
    [
        ("embedding", {"vector": np.zeros(4, np.float32)}),
        ("map", {"map": np.zeros((4, 4), np.uint8), "minimum": 0.0, "maximum": 1.0}),
        ("tensor", {"name": "out", "shape": [1], "dtype": "float32", "data": [0.0]}),
    ],
)
def test_what_parts_cannot_say_together_is_refused(kind, one) -> None:
    with pytest.raises(ModelError, match=f"one {kind} together") as refused:
        merge(HALVES, [[one], [one]])
    assert "input.tile" in refused.value.hint
    assert merge(HALVES[:1], [[one]]) == [one]


def test_what_has_its_centre_outside_the_region_is_dropped() -> None:
    triangle = region([[0, 0], [1, 0], [0, 1]])
    [window] = Windows(None, [triangle]).of(FRAME)
    inside, outside = found(0.1, 0.1, 0.3, 0.3), found(0.6, 0.6, 0.9, 0.9)
    assert merge([window], [[inside, outside]]) == [inside]


def test_an_area_ends_where_its_region_does() -> None:
    [window] = Windows(None, [region([[0, 0], [0.5, 0], [0.5, 1], [0, 1]])]).of(FRAME)
    [one] = merge(
        [window], [[{"label": "road", "label_id": 1, "score": 0.5, "mask": np.ones((10, 20), bool), "area": 1.0}]]
    )
    assert one["mask"][:, :9].all()
    assert not one["mask"][:, 11:].any()
    assert one["area"] == one["mask"].mean()


BOXES = st.lists(
    st.builds(
        lambda x, y, w, h, score: (x, y, min(x + w, 1.0), min(y + h, 1.0), score),
        st.floats(0, 0.95), st.floats(0, 0.95), st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.floats(0, 1),
    ),
    max_size=12,
)  # fmt: skip


@given(BOXES, BOXES)
def test_nothing_is_made_up_and_the_best_is_never_lost(left, right) -> None:
    each = [[found(*box) for box in boxes] for boxes in (left, right)]
    merged = merge(HALVES, each)
    given_boxes = [one for window in each for one in window]
    assert len(merged) <= len(given_boxes)
    assert bool(merged) == bool(given_boxes)
    for one in merged:
        box = one["box"]
        # A side of what was merged is a side of something that was found.
        assert any(abs(box["x"] - each_one["box"]["x"]) < 2e-6 for each_one in given_boxes)
        assert any(abs(box["y"] - each_one["box"]["y"]) < 2e-6 for each_one in given_boxes)
    if given_boxes:
        assert max(one["score"] for one in merged) == max(one["score"] for one in given_boxes)
