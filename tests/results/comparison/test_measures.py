"""How alike two boxes, masks, poses, texts, vectors and maps are: by hand, by an independent count, and by law."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference import masks
from agent.inference.planes import levels
from agent.inference.predictions import Box, Image, Mask
from agent.results.comparison.boxes import corners_of, iou, polygon_iou
from agent.results.comparison.maps import image_likeness, map_likeness, shrunk
from agent.results.comparison.masks import mask_iou
from agent.results.comparison.points import oks
from agent.results.comparison.texts import edits, text_likeness
from agent.results.comparison.vectors import cosine
from tests.results.comparison.made import (
    BITS,
    CORNERS,
    MASKS,
    NUMBERS,
    PIXELS,
    POINTS,
    RECTANGLES,
    depth,
    mask,
    mask_png,
    plane,
    pose,
    strip,
    turned,
    vector,
)

STEPS = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted)
"""A way near and a way far."""
PLACES = st.floats(0.2, 0.8)
LENGTHS = st.floats(0.05, 0.5)
ANGLES = st.floats(0, 360)
TURNED = st.builds(turned, PLACES, PLACES, LENGTHS, LENGTHS, ANGLES)


def moved(points, step, degrees):
    across, down = step * math.cos(math.radians(degrees)), step * math.sin(math.radians(degrees))
    return tuple((x + across, y + down) for x, y in points)


# -- boxes -------------------------------------------------------------------------------------------------------------


@given(RECTANGLES, RECTANGLES)
def test_boxes_overlap_alike_from_either_side_and_never_more_than_wholly(one, other):
    assert iou(one, other) == iou(other, one)
    assert 0 <= iou(one, other) <= 1
    assert iou(one, one) == 1


@given(RECTANGLES, RECTANGLES)
def test_upright_boxes_overlap_as_their_corners_do(one, other):
    assert polygon_iou(corners_of(one), corners_of(other)) == pytest.approx(iou(one, other), abs=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        # A square and itself turned by 45°: an octagon of 2 (√2 - 1) of its area is in both.
        (turned(0.5, 0.5, 0.2, 0.2, 0), turned(0.5, 0.5, 0.2, 0.2, 45), (x := 2 * math.sqrt(2) - 2) / (2 - x)),
        (turned(0.5, 0.5, 0.4, 0.1, 0), turned(0.5, 0.5, 0.4, 0.1, 90), 0.01 / 0.07),
        (turned(0.5, 0.5, 0.4, 0.1, 30), turned(0.5, 0.5, 0.4, 0.1, 210), 1),
        (turned(0.2, 0.2, 0.1, 0.1, 10), turned(0.8, 0.8, 0.1, 0.1, 10), 0),
        (turned(0.5, 0.5, 0, 0.1, 10), turned(0.5, 0.5, 0.1, 0.1, 10), 0),
    ],
)
def test_turned_boxes_overlap_by_what_they_share(one, other, overlap):
    assert polygon_iou(one, other) == pytest.approx(overlap, abs=1e-9)


@given(PLACES, PLACES, LENGTHS, LENGTHS, ANGLES, TURNED)
def test_turned_boxes_overlap_as_another_program_counts(x, y, width, height, degrees, other):
    one = turned(x, y, width, height, degrees)
    shapes = [np.array(corners, np.float32) * 1000 for corners in (one, other)]
    common, _ = cv2.intersectConvexConvex(*shapes)
    union = sum(cv2.contourArea(shape) for shape in shapes) - common
    assert polygon_iou(one, other) == pytest.approx(common / union, abs=2e-3)


@given(TURNED, TURNED, st.floats(-3, 3), st.floats(0.1, 9))
def test_a_wider_frame_changes_no_overlap(one, other, across, factor):
    stretched = [tuple((x * factor + across, y) for x, y in corners) for corners in (one, other)]
    assert polygon_iou(*stretched) == pytest.approx(polygon_iou(one, other), abs=1e-6)


@given(CORNERS.filter(bool), CORNERS.filter(bool))
def test_corners_in_any_order_overlap_alike_from_either_side(one, other):
    assert polygon_iou(one, one) == polygon_iou(one, one[::-1]) == 1
    assert 0 <= polygon_iou(one, other) <= 1
    assert polygon_iou(one, other) == pytest.approx(polygon_iou(other, one[::-1]), abs=1e-9)


@given(TURNED, STEPS, ANGLES)
def test_a_turned_box_that_moves_away_never_covers_more(corners, steps, way):
    near, far = (polygon_iou(corners, moved(corners, step, way)) for step in steps)
    assert far <= near + 1e-9


@given(RECTANGLES, STEPS)
def test_a_box_that_moves_away_never_covers_more(box, steps):
    near, far = (iou(box, Box(box.x + step, box.y - step, box.width, box.height)) for step in steps)
    assert far <= near + 1e-9


# -- masks -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9).flatmap(lambda w: st.tuples(*[st.lists(st.booleans(), min_size=6 * w, max_size=6 * w)] * 2)))
def test_masks_overlap_by_the_pixels_that_they_share(pair):
    one, other = (np.reshape(np.array(bits), (6, -1)) for bits in pair)
    union = (one | other).sum()
    expected = (one & other).sum() / union if union else 1
    assert mask_iou(mask(one), mask(other)) == expected


@given(BITS, BITS)
def test_masks_of_different_sizes_are_laid_over_each_other(one, other):
    height, width = np.lcm(one.shape, other.shape)
    large = [
        np.kron(bits, np.ones((height // bits.shape[0], width // bits.shape[1]), np.bool_)) for bits in (one, other)
    ]
    union = (large[0] | large[1]).sum()
    expected = (large[0] & large[1]).sum() / union if union else 1
    assert mask_iou(mask(one), mask(other)) == pytest.approx(expected, abs=1e-12)


@given(MASKS, MASKS)
def test_masks_overlap_alike_from_either_side_however_they_are_written(one, other):
    assert mask_iou(one, other) == mask_iou(other, one)
    assert mask_iou(one, one) == 1


@given(BITS)
def test_a_mask_is_the_same_as_png_and_as_run_lengths(bits):
    assert mask_iou(mask_png(bits), mask(bits)) == 1


@given(st.integers(1, 40), st.lists(st.integers(0, 40), min_size=2, max_size=2).map(sorted))
def test_a_mask_that_moves_away_never_covers_more(width, steps):
    near, far = (mask_iou(strip(0, width), strip(step, step + width)) for step in steps)
    assert far <= near


@pytest.mark.parametrize(
    "unreadable",
    [
        Mask(80, 6, "0"),
        Mask(80, 6, "é"),
        Mask(-80, -6, ""),
        Mask(80, 6, "o" * 99),
        Image(80, 6, b"?"),
        Image(0, 6, b""),
    ],
)
def test_a_mask_that_cannot_be_read_covers_only_itself(unreadable):
    assert mask_iou(unreadable, strip(0, 80)) == mask_iou(strip(0, 80), unreadable) == 0
    assert mask_iou(unreadable, unreadable) == 1


# -- poses -------------------------------------------------------------------------------------------------------------

BODY = ("nose", "left_hip", "right_ankle")


def test_poses_are_alike_by_cocos_formula():
    box = Box(0.1, 0.1, 0.2, 0.5)
    one = pose((0.2, 0.1), (0.2, 0.3), (0.2, 0.6), names=BODY)
    other = pose((0.21, 0.1), (0.2, 0.33), (0.2, 0.6), names=BODY)
    area = 0.53 * 0.1
    expected = (
        math.exp(-(0.01**2) / (2 * area * (2 * 0.026) ** 2)) + math.exp(-(0.03**2) / (2 * area * (2 * 0.107) ** 2)) + 1
    ) / 3
    assert oks(one, other, (box, box)) == pytest.approx(expected)


def test_a_pose_in_a_wide_frame_is_measured_in_pixels():
    box = Box(0.1, 0.1, 0.2, 0.5)
    one, other = pose((0.2, 0.1), names=["nose"]), pose((0.21, 0.12), names=["nose"])
    # In a frame of 1600 × 400.
    squared, area = 16.0**2 + 8.0**2, 0.53 * 320 * 200
    expected = math.exp(-squared / (2 * area * (2 * 0.026) ** 2))
    assert oks(one, other, (box, box), 4.0) == pytest.approx(expected)


def test_points_that_neither_sees_do_not_count_and_those_of_other_things_count_alike():
    box = Box(0, 0, 1, 1)
    one, other = (pose((0.5, 0.5), place, names=["tip", "root"], scores=[0.9, 0.2]) for place in ((0, 0), (1, 1)))
    assert oks(one, other, (box, box)) == 1
    unsure = [pose((0.5, 0.5), (x, 0.1), scores=[0.1, 0.2]) for x in (0.1, 0.9)]
    assert oks(*unsure, (box, box)) == pytest.approx(0.5)


@given(POINTS, POINTS, st.floats(0.1, 9))
def test_poses_are_alike_from_either_side(one, other, aspect):
    assert oks(one, one, None, aspect) == 1
    assert 0 <= oks(one, other, None, aspect) <= 1
    assert oks(one, other, None, aspect) == oks(other, one, None, aspect)


@given(POINTS, STEPS, ANGLES)
def test_a_pose_that_moves_away_is_never_more_alike(points, steps, way):
    box, places, names = Box(0.1, 0.1, 0.3, 0.4), [(one.x, one.y) for one in points], [one.name for one in points]
    near, far = (oks(points, pose(*moved(places, step, way), names=names), (box, box)) for step in steps)
    assert far <= near + 1e-9


# -- texts, vectors, maps ----------------------------------------------------------------------------------------------

TEXTS = st.text("ABé ", max_size=9)


def levenshtein(one, other):
    """By the table, as it is taught."""
    row = list(range(len(other) + 1))
    for number, mine in enumerate(one, 1):
        last, row[0] = row[0], number
        for place, theirs in enumerate(other, 1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (mine != theirs))
    return row[-1]


@given(TEXTS, TEXTS)
def test_texts_are_apart_by_the_characters_that_have_to_be_edited(one, other):
    assert edits(one, other) == levenshtein(one, other)
    assert text_likeness(one, other) == text_likeness(other, one)
    assert text_likeness(one, one) == 1


@given(TEXTS, st.lists(st.integers(0, 9), min_size=2, max_size=2).map(sorted))
def test_a_text_with_more_characters_wrong_is_never_more_alike(text, wrong):
    near, far = (text_likeness(text, "#" * number + text[number:]) for number in wrong)
    assert far <= near


@given(NUMBERS, NUMBERS, st.floats(0.125, 8))
def test_vectors_are_alike_by_their_angle_alone(one, other, factor):
    assert cosine(vector(*one), vector(*one)) == 1
    assert cosine(vector(*one), vector(*other)) == cosine(vector(*other), vector(*one))
    assert 0 <= cosine(vector(*one), vector(*other)) <= 1
    if any(abs(number) > 1e-3 for number in one):
        assert cosine(vector(*one), vector(*[number * factor for number in one])) == pytest.approx(1)


@given(st.lists(st.floats(0, 180), min_size=2, max_size=2).map(sorted))
def test_a_vector_that_turns_away_is_never_more_alike(degrees):
    near, far = (cosine(vector(1, 0), vector(math.cos(math.radians(a)), math.sin(math.radians(a)))) for a in degrees)
    assert far <= near + 1e-9


@given(PIXELS, PIXELS, st.floats(-9, 9), st.floats(-9, 9))
def test_maps_are_alike_from_either_side(one, other, low, high):
    maps = depth(one, low, high), depth(other, 0, 5)
    assert map_likeness(*maps) == pytest.approx(map_likeness(*reversed(maps)), abs=1e-9)
    assert map_likeness(maps[0], maps[0]) == 1
    assert 0 <= image_likeness(maps[0].map, maps[1].map) <= 1


def test_maps_differ_by_the_mean_of_their_values_in_their_range():
    assert map_likeness(depth([[0, 255]], 0, 10), depth([[0, 255]], 0, 5)) == pytest.approx(1 - 2.5 / 10)
    assert map_likeness(depth([[0, 255]], 0, 10), depth([[0, 51]], 0, 50)) == pytest.approx(1)
    assert map_likeness(depth([[9]], 0, 10), depth([[9]], 0, 10, "cm")) == 0
    assert image_likeness(plane([[0, 255]]), plane([[0, 0]])) == 0.5
    assert image_likeness(plane(np.zeros((2, 2))), plane(np.zeros((200, 300)))) == 1
    assert image_likeness(plane([[0]]), Image(1, 1, b"?")) == 0
    assert image_likeness(plane([[0]]), Image(1 << 20, 1 << 20, plane([[0]]).data)) == 0


@given(PIXELS, st.lists(st.floats(0, 9), min_size=2, max_size=2).map(sorted))
def test_a_map_of_larger_values_is_never_more_alike(pixels, steps):
    near, far = (map_likeness(depth(pixels, 0, 5), depth(pixels, step, 5 + step)) for step in steps)
    assert far <= near + 1e-9


@given(PIXELS, st.integers(1, 9))
def test_a_coarser_map_has_the_pixels_of_the_finer_one(pixels, side):
    small = shrunk(plane(pixels), side)
    assert max(small.width, small.height) <= max(side, 1)
    assert set(levels(small)) <= set(np.ravel(pixels))
    assert image_likeness(small, plane(pixels)) == 1


def test_a_mask_that_claims_more_pixels_than_any_picture_has_is_like_none():
    huge = Mask(1 << 40, 1, "0")
    assert mask_iou(huge, Mask(1, 1, "01")) == 0.0
    with pytest.raises(ValueError, match="no mask has"):
        masks.runs(huge)
