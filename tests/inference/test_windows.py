"""A frame in parts: every pixel is in one, and what is found in a part lies in the frame where it was seen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.boxes import to_frame
from agent.inference.runtime.decode import Decoded, Fit
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.preprocess import InputSpec, Preprocessor
from agent.inference.runtime.windows import MOST_WINDOWS, Region, Tiles, Windows, grid, region

pytestmark = pytest.mark.arch

COUNTED = st.builds(Tiles, st.integers(1, 7), st.integers(1, 7), overlap=st.floats(0, 0.8), with_whole=st.booleans())
SIZED = st.builds(
    Tiles,
    size=st.tuples(st.integers(16, 900), st.integers(16, 900)),
    overlap=st.floats(0, 0.8),
    with_whole=st.booleans(),
)
TILES = st.one_of(COUNTED, SIZED)
SIZES = st.tuples(st.integers(8, 400), st.integers(8, 400))
REGIONS = st.lists(
    st.builds(
        lambda x, y, w, h: Region(((x, y), (x + w * (1 - x), y), (x, y + h * (1 - y)))),
        st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.1, 1), st.floats(0.1, 1),
    ),
    max_size=1,
)  # fmt: skip


def frame(width: int, height: int) -> Picture:
    """Each pixel says where it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width) % 251, (np.arange(height) % 251)[:, None]
    return Picture.of(pixels)


@given(TILES, SIZES)
def test_every_pixel_of_the_frame_is_in_some_tile(tiles, size) -> None:
    seen = np.zeros(size[::-1], bool)
    for window in Windows(tiles, ()).of(frame(*size)):
        left, top = round(window.picture.x * size[0]), round(window.picture.y * size[1])
        rows, columns = window.picture.pixels.shape[:2]
        seen[top : top + rows, left : left + columns] = True
    assert seen.all()


@given(TILES, SIZES, REGIONS)
def test_a_view_holds_the_pixels_of_the_part_that_it_tells(tiles, size, regions) -> None:
    whole = frame(*size)
    for window in Windows(tiles, regions).of(whole):
        part = window.picture
        left, top = round(part.x * size[0]), round(part.y * size[1])
        rows, columns = part.pixels.shape[:2]
        np.testing.assert_array_equal(part.pixels, whole.pixels[top : top + rows, left : left + columns])


@given(SIZED, st.tuples(st.integers(100, 20_000), st.integers(100, 20_000)))
def test_tiles_of_a_size_are_as_many_as_it_takes_and_never_too_many(tiles, size) -> None:
    boxes = grid(tiles, size, MOST_WINDOWS)
    assert 1 <= len(boxes) <= MOST_WINDOWS
    assert min(min(box[:2]) for box in boxes) == 0
    assert max(box[0] + box[2] for box in boxes) == pytest.approx(1)
    assert max(box[1] + box[3] for box in boxes) == pytest.approx(1)


@given(TILES, st.sampled_from([(640, 480), (1920, 1080), (4000, 300)]))
def test_neighbours_overlap_as_much_as_was_asked(tiles, size) -> None:
    columns = sorted({(box[0], box[2]) for box in grid(tiles, size, MOST_WINDOWS)})
    for (left, width), (following, _) in pairwise(columns):
        assert left + width - following >= tiles.overlap * width - 1e-9


@given(
    st.one_of(st.none(), COUNTED), REGIONS, st.sampled_from(["stretch", "crop", "letterbox"]), SIZES,
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), st.sampled_from([1, 2]),
)  # fmt: skip
def test_a_box_found_in_a_view_lands_where_it_is_in_the_frame(tiles, regions, resize, size, box, reduced) -> None:
    """The pixel under each corner of a box is the same in the network's picture and in the frame, to a pixel."""
    pixels = frame(*size).pixels
    whole = Picture.decoded(Decoded(pixels, size[0] * reduced, size[1] * reduced))
    prepare = Preprocessor(InputSpec.parse({"resize": resize}), TensorInfo("p", (1, 24, 32, 3), "uint8"))
    for window in Windows(tiles, regions).of(whole):
        part = window.picture
        _, inner = prepare(part.part)
        at = part.placed(inner)
        assert (at.width, at.height) == (size[0] * reduced, size[1] * reduced)
        corners = np.array([[min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])]])
        in_part = to_frame(corners, inner)[0]
        placed = to_frame(corners, at)[0]
        for axis in (0, 1):
            start, extent = (part.x, part.width) if axis == 0 else (part.y, part.height)
            expected = start + in_part[axis::2] * extent
            clipped = (in_part[axis::2] <= 0) | (in_part[axis::2] >= 1)
            np.testing.assert_allclose(placed[axis::2][~clipped], expected[~clipped], atol=2e-6)


def test_a_frame_may_be_looked_at_as_a_whole_too() -> None:
    windows = Windows(Tiles(2, 1, overlap=0.0, with_whole=True), ()).of(frame(100, 50))
    assert [window.picture.pixels.shape[:2] for window in windows] == [(50, 50), (50, 50), (50, 100)]
    assert len(Windows(Tiles(with_whole=True), ()).of(frame(100, 50))) == 1


def test_only_edges_beyond_which_the_frame_goes_on_are_inner() -> None:
    left, right = Windows(Tiles(2, 1), ()).of(frame(100, 50))
    assert left.inner == (False, False, True, False)
    assert right.inner == (True, False, False, False)


def test_regions_are_cut_into_tiles_each() -> None:
    regions = [region({"x": 0.5, "y": 0, "width": 0.5, "height": 0.5}), region([[0, 0], [0.25, 0], [0, 0.5]])]
    windows = Windows(Tiles(2, 1, overlap=0.0), regions).of(frame(80, 40))
    assert [(window.picture.x, window.picture.width) for window in windows] == [
        (0.5, 0.25),
        (0.75, 0.25),
        (0, 0.125),
        (0.125, 0.125),
    ]


def test_more_views_of_a_frame_than_are_looked_at_are_refused() -> None:
    square = region({"x": 0, "y": 0, "width": 1, "height": 1})
    for tiles, regions in ((Tiles(9, 8), []), (Tiles(8, 8, with_whole=True), []), (Tiles(5, 1), [square] * 13)):
        with pytest.raises(ModelError, match="parts of each frame"):
            Windows(tiles, regions)


def test_a_polygon_holds_what_is_inside_it() -> None:
    triangle = region([[0, 0], [1, 0], [0, 1]])
    assert triangle.box == (0, 0, 1, 1)
    assert triangle.contains(0.2, 0.2)
    assert triangle.contains(0, 0)
    assert not triangle.contains(0.8, 0.8)
    mask = triangle.cut(np.ones((10, 20), bool))
    assert mask[1, 2]
    assert not mask[8, 18]
    assert 0.4 < mask.mean() < 0.6


@pytest.mark.parametrize(
    ("tiles", "regions", "cover", "wanted"),
    [
        (None, [], (8, 6), (8, 6)),
        (Tiles(2, 2, overlap=0.0), [], (8, 6), (16, 12)),
        (Tiles(3, 1, overlap=0.2), [], (8, 6), (21, 6)),
        (Tiles(2, 1, overlap=0.0), [], Fit((8, 6)), Fit((16, 6))),
        (None, [region({"x": 0, "y": 0, "width": 0.5, "height": 0.25})], (8, 6), (16, 24)),
        (Tiles(size=(64, 64)), [], (8, 6), None),
        (Tiles(2, 2), [], None, None),
    ],
)
def test_so_much_is_decoded_that_each_view_covers_the_input(tiles, regions, cover, wanted) -> None:
    assert Windows(tiles, regions).cover(cover) == wanted
