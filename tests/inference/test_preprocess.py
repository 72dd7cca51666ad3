"""The manifest's ``[input]``, and what a network is given for a picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.decode import Decoded, Fit, decode
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.preprocess import InputSpec, Preprocessor
from tests.support import pictures

BLUE, GREEN, RED = (200, 10, 20), (10, 200, 20), (20, 10, 200)


def tensor(shape=(1, 8, 8, 3), dtype="float32", scale=None, zero_point=0):
    return TensorInfo("images", shape, dtype, scale, zero_point)


def preprocessor(told=None, given=None, **metadata):
    return Preprocessor(InputSpec.parse(told or {}, metadata), given or tensor())


def plain(color=RED, width=8, height=8):
    return Decoded(np.full((height, width, 3), color, np.uint8), width, height)


def noise(width, height, seed=0):
    return Decoded(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), width, height)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("color", "expected"), [("RGB", (200, 10, 20)), ("BGR", (20, 10, 200))])
def test_a_red_picture_lies_in_the_networks_order_of_colours_and_layout(layout, color, expected):
    shape = (1, 8, 8, 3) if layout == "NHWC" else (1, 3, 8, 8)
    array, _ = preprocessor({"color": color, "scale": 1}, tensor(shape))(plain(RED))
    channels = array[0].reshape(-1, 3) if layout == "NHWC" else array[0].reshape(3, -1).T
    assert array.shape == shape
    np.testing.assert_array_equal(channels, [expected] * 64)


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (1, 1, 8, 8), (8, 8, 1)])
def test_a_network_of_one_channel_is_given_grey(shape):
    array, _ = preprocessor({"scale": 1}, tensor(shape))(plain((100, 100, 100)))
    np.testing.assert_array_equal(array, np.full(shape, 100, np.float32))


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "pixel", "stored"),
    [
        ("float32", None, 0, 255, 1.0),
        ("float16", None, 0, 51, np.float16(0.2)),
        ("float64", None, 0, 51, 0.2),
        ("uint8", None, 0, 200, 200),
        ("uint8", 1 / 128, 128, 200, 200),
        ("uint8", 0.0186, 114, 200, 200),
        ("int8", 1 / 255, -128, 200, 72),
        ("int8", None, 0, 200, 72),
        ("int16", 1 / 32768, 0, 51, 6554),
        ("int32", None, 0, 200, 200),
        ("int64", None, 0, 200, 200),
    ],
)
def test_pixels_become_what_each_type_usually_wants_when_nobody_tells(dtype, scale, zero_point, pixel, stored):
    array, _ = preprocessor({}, tensor(dtype=dtype, scale=scale, zero_point=zero_point))(plain((pixel,) * 3))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.full((1, 8, 8, 3), stored, dtype))


@given(
    mean=st.lists(st.floats(-300, 300), min_size=3, max_size=3),
    std=st.lists(st.floats(0.01, 300), min_size=3, max_size=3),
    scale=st.floats(0.0005, 2),
    zero_point=st.integers(-128, 255),
    dtype=st.sampled_from(["uint8", "int8", "int16"]),
    planar=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_quantised_input_holds_the_formula_rounded_and_clipped(mean, std, scale, zero_point, dtype, planar):
    given = tensor((1, 3, 16, 16) if planar else (1, 16, 16, 3), dtype, scale, zero_point)
    picture = noise(16, 16)
    array, _ = preprocessor({"mean": mean, "std": std}, given)(picture)
    real = (picture.pixels[:, :, ::-1].astype(np.float64) - mean) / std
    limits = np.iinfo(dtype)
    expected = np.clip(np.rint(real / scale + zero_point), limits.min, limits.max).astype(dtype)
    np.testing.assert_array_equal(array[0].transpose(1, 2, 0) if planar else array[0], expected)


@given(
    mean=st.lists(st.floats(-300, 300), min_size=3, max_size=3),
    std=st.lists(st.floats(0.01, 300), min_size=3, max_size=3),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    planar=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_float_input_holds_the_formula(mean, std, dtype, planar):
    picture = noise(16, 16)
    array, _ = preprocessor({"mean": mean, "std": std}, tensor((1, 3, 16, 16) if planar else (1, 16, 16, 3), dtype))(
        picture
    )
    expected = ((picture.pixels[:, :, ::-1].astype(np.float64) - mean) / std).astype(dtype)
    np.testing.assert_array_equal(array[0].transpose(1, 2, 0) if planar else array[0], expected)


def test_mean_and_std_of_the_files_metadata_serve_where_the_manifest_is_silent():
    array, _ = preprocessor({}, mean=[127.5], std=[127.5])(plain((255, 255, 255)))
    assert array.max() == array.min() == 1.0
    array, _ = preprocessor({"mean": 0, "std": 1}, mean=[127.5], std=[127.5])(plain((255, 255, 255)))
    assert array.max() == array.min() == 255.0


def test_scale_is_a_factor_after_the_mean():
    array, _ = preprocessor({"mean": 100, "scale": 0.5})(plain((120, 120, 120)))
    assert array.max() == array.min() == 10.0


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((1, 224, 200, 3), "auto"), ((1, 3, 224, 200), "auto"), ((-1, -1, -1, 3), "auto"), ((-1, -1, -1, -1), "NCHW")],
)
def test_what_the_manifest_says_settles_what_the_file_leaves_open(shape, layout):
    array, geometry = preprocessor({"layout": layout, "width": 200, "height": 224}, tensor(shape))(noise(64, 48))
    assert array.shape in ((1, 224, 200, 3), (1, 3, 224, 200))
    assert (geometry.network_width, geometry.network_height) == (200, 224)


def test_a_size_of_the_files_metadata_settles_an_open_shape():
    array, _ = preprocessor({}, tensor((1, 3, -1, -1)), size=(64, 32))(noise(64, 48))
    assert array.shape == (1, 3, 32, 64)


@pytest.mark.parametrize(
    ("told", "shape", "named"),
    [
        ({"widht": 3}, (1, 8, 8, 3), "input.width"),
        ({"width": 9}, (1, 8, 8, 3), "input.width"),
        ({"width": 0.5}, (1, 8, 8, 3), "input.width"),
        ({"layout": "NWHC"}, (1, 8, 8, 3), "NHWC"),
        ({"layout": "NCHW"}, (1, 8, 8, 3), "input.layout"),
        ({"color": "GRAY"}, (1, 8, 8, 3), "input.color"),
        ({"mean": [1, 2]}, (1, 8, 8, 3), "input.mean"),
        ({"std": 0}, (1, 8, 8, 3), "input.std"),
        ({"std": 1, "scale": 1}, (1, 8, 8, 3), "scale"),
        ({"pad": 300, "resize": "letterbox"}, (1, 8, 8, 3), "input.pad"),
        ({"resize": "squash"}, (1, 8, 8, 3), "letterbox"),
        ({}, (1, 3, -1, -1), "input.width"),
        ({}, (1, -1, -1, -1), "input.layout"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused_by_name(told, shape, named):
    with pytest.raises(ModelError) as caught:
        preprocessor(told, tensor(shape))
    assert caught.value.code == "options-wrong"
    assert named in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("given", [tensor((1, 128)), tensor((4, 8, 8, 3)), tensor(dtype="bool"), tensor(dtype="str")])
def test_an_input_that_can_hold_no_single_picture_is_refused(given):
    with pytest.raises(ModelError) as caught:
        preprocessor({}, given)
    assert caught.value.code == "input-unsupported"


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "area"])
def test_a_picture_looks_the_same_to_the_network_however_it_was_encoded_and_at_whatever_scale_decoded(interpolation):
    frame = pictures.pixels(1280, 960)
    frame[::2, ::2] //= 2  # a fine pattern, of which nothing but the mean is left in a small picture
    fill = preprocessor({"interpolation": interpolation, "scale": 1}, tensor((1, 60, 80, 3)))
    seen = []
    for encoding, cover in (("jpeg", (80, 60)), ("jpeg", None), ("png", None), ("npy", None)):
        data = pictures.encode(frame[:, :, ::-1] if encoding == "npy" else frame, encoding)
        seen.append(fill(decode(data, encoding, cover))[0].copy())
    for other in seen[1:]:
        assert np.abs(other - seen[0]).mean() < 2


def test_only_a_letterbox_is_content_with_pixels_for_one_axis():
    assert isinstance(preprocessor({"resize": "letterbox"}).cover, Fit)
    assert not isinstance(preprocessor({"resize": "crop"}).cover, Fit)
    assert preprocessor({}).cover == (8, 8)


def test_a_letterboxed_picture_lies_in_the_middle_of_its_padding():
    fill = preprocessor({"resize": "letterbox", "scale": 1, "pad": [1, 2, 3]})
    array, _ = fill(plain(RED, 16, 8))
    np.testing.assert_array_equal(array[0, 2:6], np.full((4, 8, 3), RED[::-1]))
    np.testing.assert_array_equal(array[0, [0, 1, 6, 7]], np.full((4, 8, 3), (1, 2, 3)))
    array, _ = fill(plain(BLUE, 8, 16))
    np.testing.assert_array_equal(array[0, :, 2:6], np.full((8, 4, 3), BLUE[::-1]))
    np.testing.assert_array_equal(array[0, :, [0, 1, 6, 7]], np.full((4, 8, 3), (1, 2, 3)))


def test_a_crop_takes_the_middle():
    frame = np.full((8, 24, 3), BLUE, np.uint8)
    frame[:, 8:16] = RED
    array, geometry = preprocessor({"resize": "crop", "scale": 1})(Decoded(frame, 24, 8))
    np.testing.assert_array_equal(array, np.full((1, 8, 8, 3), RED[::-1]))
    assert (geometry.offset_x, geometry.extent_x) == pytest.approx((1 / 3, 1 / 3))
    assert (geometry.offset_y, geometry.extent_y) == (0, 1)


@given(
    resize=st.sampled_from(["stretch", "crop", "letterbox"]),
    frame=st.tuples(st.integers(40, 400), st.integers(40, 400)),
    network=st.tuples(st.integers(32, 160), st.integers(32, 160)),
    middle=st.tuples(st.floats(0.4, 0.6), st.floats(0.4, 0.6)),
    reduced=st.sampled_from([1, 2]),
)
@settings(max_examples=80, deadline=None)
def test_a_spot_in_the_frame_is_found_again_through_the_geometry(resize, frame, network, middle, reduced):
    width, height = frame
    pixels = np.zeros((-(-height // reduced), -(-width // reduced), 3), np.uint8)
    h, w = pixels.shape[:2]
    x0, y0 = int(w * middle[0]) - w // 16, int(h * middle[1]) - h // 16
    x1, y1 = x0 + w // 8 + 1, y0 + h // 8 + 1
    pixels[max(y0, 0) : y1, max(x0, 0) : x1] = 255
    fill = preprocessor({"resize": resize, "pad": 0, "interpolation": "area"}, tensor((1, network[1], network[0], 3)))
    array, at = fill(Decoded(pixels, width, height))
    if not array.any():
        return  # cropped away: the frame is much longer than the network is
    rows, columns = array[0, :, :, 0].sum(1), array[0, :, :, 0].sum(0)
    x = at.offset_x + at.extent_x * np.average((np.arange(network[0]) + 0.5) / network[0], weights=columns)
    y = at.offset_y + at.extent_y * np.average((np.arange(network[1]) + 0.5) / network[1], weights=rows)
    seen_x, seen_y = (max(x0, 0) + x1) / 2 / w, (max(y0, 0) + y1) / 2 / h
    inside = resize != "crop" or (columns[[0, -1]].sum() == 0 and rows[[0, -1]].sum() == 0)
    if inside:
        assert abs(x - seen_x) < 1.5 * at.extent_x / network[0] + 0.5 / w
        assert abs(y - seen_y) < 1.5 * at.extent_y / network[1] + 0.5 / h


@given(
    resize=st.sampled_from(["stretch", "crop", "letterbox"]),
    frame=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    network=st.tuples(st.integers(1, 100), st.integers(1, 100)),
)
@settings(max_examples=150, deadline=None)
def test_every_frame_fits_and_the_geometry_spans_what_the_network_sees(resize, frame, network):
    fill = preprocessor({"resize": resize}, tensor((1, network[1], network[0], 3)))
    array, at = fill(plain(RED, *frame))
    assert array.shape == (1, network[1], network[0], 3)
    assert (at.width, at.height) == frame
    left, top, right, bottom = at.offset_x, at.offset_y, at.offset_x + at.extent_x, at.offset_y + at.extent_y
    if resize == "stretch":
        assert (left, top, right, bottom) == (0, 0, 1, 1)
    elif resize == "crop":
        assert min(left, top) >= 0
        assert max(right, bottom) <= 1 + 1e-9
    else:
        assert max(left, top) <= 0
        assert min(right, bottom) >= 1 - 1e-9
