"""The picture that a model's own step changes: it knows where it lies in the frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.inference.runtime import boxes
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.decode import Decoded
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.preprocess import InputSpec, Preprocessor

ROWS, COLUMNS = 90, 130
FRAME = np.arange(ROWS * COLUMNS * 3, dtype=np.uint32).astype(np.uint8).reshape(ROWS, COLUMNS, 3)
fractions = st.floats(0, 1)
parts = st.tuples(fractions, fractions, fractions, fractions)


def cropped(picture: Picture, part: tuple[float, float, float, float]) -> Picture:
    try:
        return picture.crop(*part)
    except ValueError:
        assume(condition=False)
        raise


@settings(max_examples=150)
@given(st.lists(parts, max_size=3))
def test_however_often_a_picture_is_cropped_it_shows_the_part_of_the_frame_that_it_tells(crops) -> None:
    picture = Picture.of(FRAME)
    for part in crops:
        picture = cropped(picture, part)
    left, top = round(picture.x * COLUMNS), round(picture.y * ROWS)
    right, bottom = round((picture.x + picture.width) * COLUMNS), round((picture.y + picture.height) * ROWS)
    np.testing.assert_array_equal(picture.pixels, FRAME[top:bottom, left:right])


@settings(max_examples=150)
@given(parts, st.sampled_from(["stretch", "crop", "letterbox"]), st.integers(1, 3))
def test_the_networks_corners_lie_in_the_frame_where_the_pixels_came_from(part, resize, factor) -> None:
    picture = cropped(Picture.of(FRAME), part)
    shown = picture.replace(np.ascontiguousarray(np.repeat(picture.pixels, factor, axis=0)))
    rows, columns = shown.pixels.shape[:2]
    spec = InputSpec.parse({"resize": resize})
    _, inner = Preprocessor(spec, TensorInfo("p", (1, 16, 24, 3), "uint8"))(Decoded(shown.pixels, columns, rows))
    geometry = shown.placed(inner)
    assert (geometry.width, geometry.height) == (COLUMNS, ROWS)
    # The picture's middle is in the middle of the part, whatever was cut off or padded round it, to a pixel.
    [middle] = boxes.to_frame(np.array([[0.5, 0.5, 0.5, 0.5]]), geometry)
    assert middle[0] == pytest.approx(picture.x + picture.width / 2, abs=geometry.extent_x / 24 + 1 / COLUMNS)
    assert middle[1] == pytest.approx(picture.y + picture.height / 2, abs=geometry.extent_y / 16 + 1 / ROWS)
    if resize == "stretch":
        assert boxes.to_frame(np.array([[0.0, 0.0, 1.0, 1.0]]), geometry)[0] == pytest.approx(
            (picture.x, picture.y, picture.x + picture.width, picture.y + picture.height), abs=1e-5
        )


@pytest.mark.parametrize("part", [(0, 0, 0, 1), (1, 0, 0.5, 1), (100, 50, 640, 480), (0.5, 0.5, -0.2, 0.1)])
def test_a_crop_that_leaves_nothing_is_refused(part) -> None:
    with pytest.raises(ValueError, match="fractions"):
        Picture.of(FRAME).crop(*part)


def test_a_crop_past_the_edge_ends_at_it() -> None:
    picture = Picture.of(FRAME).crop(-1, 0.5, 9, 9)
    assert (picture.x, picture.y, picture.width, picture.height) == (0, 0.5, 1, 0.5)


def test_a_picture_that_was_turned_is_a_frame_of_its_own() -> None:
    turned = Picture.of(FRAME).crop(0.5, 0, 0.5, 1).reframe(np.ascontiguousarray(FRAME.transpose(1, 0, 2)))
    assert (turned.x, turned.width, turned.frame.shape) == (0, 1, (COLUMNS, ROWS, 3))
