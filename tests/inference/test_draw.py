from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime import contracts, draw
from tests.support.given import PREDICTIONS

pytestmark = pytest.mark.arch


def blank(width=640, height=480, grey=127):
    return np.full((height, width, 3), grey, np.uint8)


def thing(label="cat", label_id=3, score=0.9, box=(0.25, 0.25, 0.5, 0.5)):
    told = {"label": label, "label_id": label_id, "score": score}
    return told if box is None else {**told, "box": dict(zip(("x", "y", "width", "height"), box, strict=True))}


def touched(before, after):
    """(left, top, right, bottom) of the pixels that differ."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_the_given_picture_is_never_drawn_into():
    picture = blank()
    picture.flags.writeable = False
    for predictions in ([], [thing()], [thing(box=None)]):
        drawn = draw.annotate(picture, predictions)
        assert drawn is not picture
        assert not np.shares_memory(drawn, picture)
    assert (picture == 127).all()


def test_without_predictions_the_picture_stays_as_it_is():
    assert np.array_equal(draw.annotate(blank(), []), blank())


def test_a_box_is_drawn_where_it_lies_in_the_colour_of_its_class():
    drawn = draw.annotate(blank(), [thing()])
    left, top, right, bottom = touched(blank(), drawn)
    assert (left, right, bottom) == pytest.approx((160, 480, 360), abs=3)
    assert 80 < top < 120  # the label's plate stands on the box
    for x, y in ((160, 240), (480, 240), (320, 360), (320, 120)):
        assert tuple(drawn[y, x]) == draw.colour(3)
    assert (drawn[240, 320] == 127).all()


def test_a_class_keeps_its_colour_and_neighbours_differ():
    assert draw.colour(7) == draw.colour(7)
    near = [(draw.colour(n), draw.colour(n + 1)) for n in range(100)]
    assert min(sum(abs(a - b) for a, b in zip(one, other, strict=True)) for one, other in near) > 100


@pytest.mark.parametrize("label_id", range(24))
def test_text_is_told_from_its_plate_on_any_colour(label_id):
    drawn = draw.annotate(blank(), [thing(label="WWWW", label_id=label_id)])
    plate = cv2.cvtColor(drawn, cv2.COLOR_BGR2GRAY)[100:118, 162:210].astype(int)
    assert plate.max() - plate.min() > 85


def test_plates_do_not_hide_each_other():
    one, other = thing(label_id=0), thing(label_id=1, score=0.5)
    drawn = draw.annotate(blank(), [one, other])
    for label_id in (0, 1):
        assert (drawn == draw.colour(label_id)).all(axis=2).sum() > 300


def test_the_label_of_a_box_at_the_edge_stays_in_the_picture():
    for box in ((0.0, 0.0, 1.0, 1.0), (0.95, 0.0, 0.05, 0.05), (0.9, 0.95, 0.1, 0.05)):
        drawn = draw.annotate(blank(), [thing(box=box)])
        assert (drawn == draw.colour(3)).all(axis=2).sum() > 400


def test_classes_are_listed_in_a_corner():
    left, top, right, bottom = touched(blank(), draw.annotate(blank(), [thing(box=None), thing(box=None, score=0.05)]))
    assert max(left, top) < 20
    assert right < 320
    assert bottom < 120


def test_text_grows_with_the_picture():
    heights = []
    for size in (320, 640, 2560):
        _, top, _, bottom = touched(blank(size, size), draw.annotate(blank(size, size), [thing(box=None)]))
        heights.append((bottom - top) / size)
    assert max(heights) < 1.6 * min(heights)


def test_the_longer_side_is_bounded_and_never_enlarged():
    assert draw.annotate(blank(1920, 1080), [thing()], 640).shape == (360, 640, 3)
    assert draw.annotate(blank(320, 240), [thing()], 640).shape == (240, 320, 3)
    assert draw.annotate(blank(4000, 2), [], 100).shape == (1, 100, 3)


def test_a_grey_picture_becomes_one_with_colours():
    assert draw.annotate(np.zeros((48, 64), np.uint8), [thing()]).shape == (48, 64, 3)


def test_what_is_neither_box_nor_class_is_not_drawn():
    tensor = {"name": "out", "shape": [1], "dtype": "float32", "data": [1.0]}
    assert np.array_equal(draw.annotate(blank(), [tensor]), blank())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Kaffee", "Kaffee"),
        ("café à la crème", "cafe a la creme"),
        ("猫 2", "? 2"),
        ("a\nb", "a?b"),
        ("x" * 99, "x" * 45 + "..."),
    ],
)
def test_text_falls_back_to_what_the_font_has(text, shown):
    assert draw.ascii_text(text) == shown


def test_a_snapshot_is_a_jpeg_of_the_picture():
    picture = draw.annotate(blank(), [thing()])
    data = draw.encode(picture, quality=90)
    assert data.startswith(b"\xff\xd8\xff")
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).mean() < 3
    assert len(draw.encode(picture, quality=30)) < len(data)


SIDE = st.integers(0, 1_000_000).map(lambda n: n / 1_000_000)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.lists(
        st.builds(
            lambda label, label_id, score, x, y, w, h, boxed: thing(
                label, label_id, score, (x, y, w * (1 - x), h * (1 - y)) if boxed else None
            ),
            st.text(max_size=60),
            st.integers(0, 2000),
            SIDE,
            *[SIDE] * 4,
            st.booleans(),
        ),
        max_size=6,
    ),
    st.one_of(st.none(), st.integers(1, 200)),
)
def test_any_predictions_can_be_drawn_on_any_picture(width, height, predictions, max_side):
    drawn = draw.annotate(blank(width, height), predictions, max_side)
    assert drawn.dtype == np.uint8
    assert max(drawn.shape[:2]) <= (max_side or 300)


def test_a_mask_is_tinted_where_it_is_set_and_a_map_where_it_is_strong():
    mask = np.zeros((4, 4), bool)
    mask[:, 2:] = True
    for one in ({**thing(box=None), "mask": mask}, {"anomalous": True, "score": 1.0, "map": mask * np.uint8(255)}):
        drawn = draw.annotate(blank(), [one])
        assert (drawn[400, 600] != 127).any()
        assert (drawn[400, 40] == 127).all()


def test_a_mask_is_outlined_along_its_edge():
    mask = np.zeros((48, 64), bool)
    mask[12:36, 16:48] = True
    drawn = draw.annotate(blank(), [{**thing(), "mask": mask}])
    assert tuple(drawn[240, 160]) == draw.colour(3)
    inside = drawn[240, 320].astype(int)
    assert np.abs(inside - (127 * 0.6 + 0.4 * np.array(draw.colour(3)))).max() <= 1


def test_the_class_for_what_is_nothing_else_leaves_its_part_of_the_picture_as_it_is():
    sky = {"label": "sky", "label_id": 1, "mask": np.ones((2, 2), bool)}
    assert (draw.annotate(blank(), [sky])[470, 630] != 127).any()
    for label in ("background", "__background__", "Background"):
        assert (draw.annotate(blank(), [{**sky, "label": label}])[470, 630] == 127).all()


def test_a_turned_box_is_drawn_along_its_corners():
    corners = [(0.5, 0.25), (0.75, 0.5), (0.5, 0.75), (0.25, 0.5)]
    drawn = draw.annotate(blank(400, 400), [{**thing(), "corners": corners, "angle": 45.0}])
    for x, y in ((150, 150), (250, 150), (250, 250), (150, 250)):  # the middles of its sides
        assert tuple(drawn[y, x]) == draw.colour(3)
    assert (drawn[200, 200] == 127).all()
    assert (drawn[295, 105] == 127).all()  # a corner of the upright box around it


def points(*places, names=(), scores=()):
    made = [{"x": x, "y": y} for x, y in places]
    for key, values in (("name", names), ("score", scores)):
        for point, value in zip(made, values, strict=False):
            point[key] = value
    return {"keypoints": made}


def test_key_points_of_a_body_are_joined_by_its_limbs():
    arm = points((0.25, 0.5), (0.5, 0.5), (0.75, 0.5), names=["left_shoulder", "left_elbow", "left_wrist"])
    drawn = draw.annotate(blank(), [arm])
    assert (drawn[240, 240] != 127).any()
    assert (drawn[240, 400] != 127).any()
    assert (drawn[240, 500] == 127).all()
    for names in (["left_shoulder", "right_knee"], ["left_eye", "left_ear"]):
        others = points((0.25, 0.5), (0.5, 0.5), names=names)
        assert (draw.annotate(blank(), [others])[240, 240] == 127).all()


def test_seventeen_points_without_names_are_a_body_and_others_are_dots():
    places = [(0.1, 0.1)] * 5 + [(0.25, 0.5), (0.9, 0.9), (0.5, 0.5)] + [(0.9, 0.9)] * 9
    assert (draw.annotate(blank(), [points(*places)])[240, 240] != 127).any()
    assert (draw.annotate(blank(), [points(*places[:-1])])[240, 240] == 127).all()


def test_a_key_point_that_is_hardly_seen_is_not_drawn_nor_are_its_limbs():
    names = ["left_hip", "left_knee"]
    hidden = points((0.25, 0.5), (0.5, 0.5), names=names, scores=[0.9, 0.1])
    drawn = draw.annotate(blank(), [hidden])
    assert (drawn[240, 160] != 127).any()
    assert (drawn[240, 240] == 127).all()
    assert (drawn[240, 320] == 127).all()


def test_an_anomaly_is_red_where_the_map_is_high_and_enclosed_where_it_passes_the_threshold():
    levels = np.zeros((48, 64), np.uint8)
    levels[12:36, 16:48] = 255
    found = {"anomalous": True, "score": 0.9, "threshold": 0.5, "map": levels}
    drawn = draw.annotate(blank(), [found])
    blue, green, red = drawn[240, 320].astype(int)
    assert red > 110
    assert max(blue, green) < 60
    rows = drawn[240].astype(int)
    assert (rows[155:166] > 240).all(axis=1).any()
    calm = draw.annotate(blank(), [{**found, "anomalous": False}])
    assert not (calm[240, 155:166] > 240).all(axis=1).any()


def test_a_map_is_a_scale_of_colours_from_its_minimum_to_its_maximum():
    levels = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    told = {"map": levels, "minimum": 0.25, "maximum": 12.5, "unit": "m"}
    drawn = draw.annotate(blank(), [told]).astype(int)
    brightness = drawn[400].sum(axis=1)
    assert brightness[20] + 100 < brightness[320] < brightness[620] - 50
    assert not np.array_equal(drawn, draw.annotate(blank(), [{**told, "maximum": 13.5}]))


def test_the_parts_of_a_detection_are_drawn_where_they_are_or_named_in_its_caption():
    def touched_by(*parts):
        return touched(draw.annotate(blank(), [thing()]), draw.annotate(blank(), [{**thing(), "parts": list(parts)}]))

    left, top, right, bottom = touched_by({"text": "AB 123", "box": {"x": 0.4, "y": 0.6, "width": 0.2, "height": 0.1}})
    assert (left, right) == pytest.approx((256, 384), abs=4)
    assert 250 < top < bottom < 345
    for part in ({"vector": np.ones(3), "name": "Ada", "similarity": 0.8}, thing("new", box=None), {"text": "AB 123"}):
        _, top, _, bottom = touched_by(part)
        assert 80 < top < bottom < 125


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.lists(PREDICTIONS, max_size=3), st.none() | st.integers(1, 99))
def test_predictions_of_any_kind_can_be_drawn_on_any_picture(width, height, predictions, max_side):
    drawn = draw.annotate(blank(width, height), contracts.predictions(predictions, "task"), max_side)
    assert drawn.dtype == np.uint8
    assert max(drawn.shape[:2]) <= (max_side or 200)


def test_text_is_drawn_in_its_box_and_what_is_not_for_eyes_is_not():
    box = {"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}
    left, _, right, _ = touched(blank(), draw.annotate(blank(), [{"text": "EXIT", "box": box}]))
    assert (left, right) == pytest.approx((160, 480), abs=3)
    unseen = [{"vector": np.ones(3)}, {"name": "x", "shape": [1], "dtype": "float32", "data": np.ones(1)}]
    assert np.array_equal(draw.annotate(blank(), unseen), blank())
    assert not np.array_equal(draw.annotate(blank(), [{"text": "EXIT"}]), blank())
