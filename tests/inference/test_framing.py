"""How a frame lies on a network's canvas: every way of resizing, as laws and in the families' own numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.runtime.decode import Fit
from agent.inference.runtime.framing import PLACES, RESIZES, Way, cover, framed

SIDES = st.integers(1, 3000)
SIZES = st.tuples(SIDES, SIDES)
WAYS = st.builds(
    Way,
    width=st.integers(1, 1200),
    height=st.integers(1, 1200),
    open_width=st.booleans(),
    open_height=st.booleans(),
    resize=st.sampled_from(RESIZES),
    place=st.sampled_from(PLACES),
    crop=st.floats(0.05, 1),
    upscale=st.booleans(),
    downscale=st.booleans(),
    multiple=st.sampled_from([1, 8, 32]),
    max_side=st.integers(32, 2048),
)


@given(WAYS, SIZES)
def test_what_is_drawn_lies_inside_the_canvas_and_what_is_drawn_from_inside_the_frame(way, frame) -> None:
    found = framed(way, frame, frame)
    for (x, y, width, height), (most_x, most_y) in ((found.inside, found.canvas), (found.part, frame)):
        assert min(x, y) >= 0
        assert min(width, height) >= 1
        assert x + width <= most_x
        assert y + height <= most_y


@given(WAYS, SIZES)
def test_the_geometry_leads_the_corners_of_what_is_drawn_to_the_corners_of_the_part(way, frame) -> None:
    found = framed(way, frame, frame)
    at, (x, y, width, height), part = found.geometry, found.inside, found.part
    left = at.offset_x + at.extent_x * x / found.canvas[0]
    right = at.offset_x + at.extent_x * (x + width) / found.canvas[0]
    top = at.offset_y + at.extent_y * y / found.canvas[1]
    bottom = at.offset_y + at.extent_y * (y + height) / found.canvas[1]
    assert (left * frame[0], top * frame[1]) == pytest.approx(part[:2], abs=1e-6)
    assert (right * frame[0], bottom * frame[1]) == pytest.approx((part[0] + part[2], part[1] + part[3]), abs=1e-6)
    assert (at.network_width, at.network_height) == found.canvas


@given(WAYS, SIZES)
def test_sides_that_the_file_settles_are_the_canvass(way, frame) -> None:
    canvas = framed(way, frame, frame).canvas
    if not way.is_open:
        assert canvas == (way.width, way.height)
    if way.resize == "height":
        assert canvas[1] == way.height


@given(WAYS, SIZES)
def test_open_sides_keep_to_their_bounds_and_multiples(way, frame) -> None:
    way = replace(way, open_width=True, open_height=True)
    width, height = framed(way, frame, frame).canvas
    if way.resize in ("shortest", "longest"):
        assert max(width, height) <= max(way.max_side, way.multiple)
        assert width % way.multiple == height % way.multiple == 0


@given(WAYS, SIZES, st.sampled_from([2, 4, 8]))
def test_fewer_decoded_pixels_change_nothing_but_what_is_drawn_from(way, frame, factor) -> None:
    pixels = (-(-frame[0] // factor), -(-frame[1] // factor))
    whole, reduced = framed(way, frame, frame), framed(way, pixels, frame)
    assert (whole.canvas, whole.inside) == (reduced.canvas, reduced.inside)
    # A crop begins and ends with a pixel of those that there are.
    one, other = whole.geometry, reduced.geometry
    start, end = (1 / pixels[0] + 1 / frame[0], 1 / pixels[1] + 1 / frame[1])
    assert other.offset_x == pytest.approx(one.offset_x, abs=start)
    assert other.offset_y == pytest.approx(one.offset_y, abs=end)


@given(WAYS, SIZES)
def test_a_limit_of_the_scale_is_kept(way, frame) -> None:
    found = framed(way, frame, frame)
    if way.resize in ("letterbox", "shortest", "longest") and not way.is_open and not way.upscale:
        assert found.inside[2] <= frame[0]
        assert found.inside[3] <= frame[1]


@pytest.mark.parametrize(
    ("way", "frame", "canvas", "inside"),
    [
        # Ultralytics: round(height × 0.5) = 360, and (640 - 360) / 2 above
        (Way(640, 640, resize="letterbox"), (1280, 720), (640, 640), (0, 140, 640, 360)),
        (Way(640, 640, resize="letterbox"), (333, 500), (640, 640), (107, 0, 426, 640)),
        # its scaleup = False: a small frame stays as it is
        (Way(640, 640, resize="letterbox", upscale=False), (320, 200), (640, 640), (160, 220, 320, 200)),
        # YOLOX: at the top left
        (Way(416, 416, resize="letterbox", place="top-left"), (640, 480), (416, 416), (0, 0, 416, 312)),
        # PaddleOCR, limit_type min, 736: a larger page keeps its size, to the nearest multiple of 32
        (Way(736, 736, True, True, "shortest", downscale=False, multiple=32), (1000, 1400), (992, 1408), None),
        (Way(736, 736, True, True, "shortest", downscale=False, multiple=32), (300, 200), (1088, 736), None),
        # limit_type max, 960
        (Way(960, 960, True, True, "longest", upscale=False, multiple=32), (1920, 1080), (960, 544), None),
        (Way(960, 960, True, True, "longest", upscale=False, multiple=32), (320, 240), (320, 256), None),
        # recognition: 48 high, at least 320 wide, what is short padded at the right
        (Way(320, 48, True, resize="height", place="top-left"), (200, 100), (320, 48), (0, 0, 96, 48)),
        (Way(320, 48, True, resize="height", place="top-left"), (1000, 100), (480, 48), (0, 0, 480, 48)),
        # what is too long for a fixed input is squeezed into it
        (Way(320, 48, resize="height", place="top-left"), (1000, 100), (320, 48), (0, 0, 320, 48)),
        # torchvision's detectors: the shorter side 800, the longer 1333 at most
        (Way(800, 800, True, True, "shortest", max_side=1333), (640, 480), (1067, 800), None),
        (Way(800, 800, True, True, "shortest", max_side=1333), (1920, 1080), (1333, 750), None),
        # MiDaS: the longer side 384
        (Way(384, 384, True, True, "longest", multiple=32), (640, 480), (384, 288), None),
        # what asks for the frame's proportions is a letterbox where the file settles the sides
        (Way(800, 800, resize="shortest"), (640, 480), (800, 800), (0, 100, 800, 600)),
    ],
)
def test_frames_are_placed_as_the_families_do(way, frame, canvas, inside) -> None:
    found = framed(way, frame, frame)
    assert found.canvas == canvas
    assert found.inside == (inside or (0, 0, *canvas))


def test_a_crop_share_is_the_way_of_torchvision_and_timm_256_to_224() -> None:
    # Shorter side 480 → 256, then the middle 224 × 224: 420 of the frame's pixels.
    found = framed(Way(224, 224, resize="crop", crop=224 / 256), (640, 480), (640, 480))
    assert found.part == (110, 30, 420, 420)


@pytest.mark.parametrize(
    ("way", "size"),
    [
        (Way(8, 6), (8, 6)),
        (Way(8, 6, resize="crop"), (8, 6)),
        (Way(224, 224, resize="crop", crop=0.875), (256, 256)),
        (Way(8, 6, resize="letterbox"), Fit((8, 6))),
        (Way(8, 6, downscale=False), None),
        (Way(800, 900, True, True, "shortest"), (800, 800)),
        (Way(800, 900, True, True, "longest"), Fit((800, 900))),
        (Way(320, 48, True, resize="height"), (1, 48)),
    ],
)
def test_no_fewer_pixels_are_decoded_than_the_canvas_shows(way, size) -> None:
    assert cover(way) == size
    assert isinstance(cover(way), Fit) == isinstance(size, Fit)
