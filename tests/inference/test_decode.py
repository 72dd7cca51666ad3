"""Pictures of every encoding, size and orientation as the worker sees them."""

import io
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime import decode
from agent.inference.runtime.decode import Fit
from agent.inference.runtime.errors import ModelError
from tests.support import pictures
from tests.support.pictures import turned

pytestmark = pytest.mark.arch

RED, GREEN, BLUE, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)


def quarters(height=48, width=64):
    """Red at the top left, green at the top right, blue below it at the left, white at the bottom right."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def encoded(picture, extension=".jpg", *parameters):
    done, data = cv2.imencode(extension, picture, list(parameters))
    assert done
    return data.tobytes()


def corners(pixels):
    """The four quarters' middles, row by row."""
    height, width = pixels.shape[:2]
    return [pixels[y, x] for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]


def npy(array):
    told = io.BytesIO()
    np.save(told, array)
    return told.getvalue()


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[:, ::-1][::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}
"""What a viewer does with the stored pixels of each EXIF orientation."""


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_encoding_gives_contiguous_bgr_bytes_at_full_scale(extension, kind):
    encoding = {".jpg": "jpeg"}.get(extension, extension[1:])
    decoded = decode.decode(kind(encoded(quarters(), extension)), encoding, None)
    assert (decoded.width, decoded.height, decoded.pixels.shape) == (64, 48, (48, 64, 3))
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    np.testing.assert_allclose(corners(decoded.pixels), [RED, GREEN, BLUE, WHITE], atol=6)


@pytest.mark.parametrize(
    ("cover", "shape"),
    [
        (None, (480, 640)),
        ((641, 480), (480, 640)),
        ((321, 240), (480, 640)),
        ((320, 240), (240, 320)),
        ((224, 224), (240, 320)),
        ((160, 120), (120, 160)),
        ((160, 121), (240, 320)),
        ((80, 60), (60, 80)),
        ((1, 1), (60, 80)),
        (Fit((320, 320)), (240, 320)),
        (Fit((300, 240)), (240, 320)),
        (Fit((640, 640)), (480, 640)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_covers_and_reports_its_full_size(cover, shape):
    decoded = decode.decode(encoded(quarters(480, 640)), "jpeg", cover)
    assert decoded.pixels.shape[:2] == shape
    assert (decoded.width, decoded.height) == (640, 480)
    np.testing.assert_allclose(corners(decoded.pixels), [RED, GREEN, BLUE, WHITE], atol=6)


@given(
    width=st.integers(1, 200), height=st.integers(1, 200), cover=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    orientation=st.integers(1, 8), fit=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_reduced_pixels_cover_whenever_the_full_picture_does(width, height, cover, orientation, fit):
    jpeg = turned(encoded(np.full((height, width, 3), 90, np.uint8)), orientation)
    decoded = decode.decode(jpeg, "jpeg", Fit(cover) if fit else cover)
    assert (decoded.width, decoded.height) == ((width, height) if orientation < 5 else (height, width))
    had = [decoded.pixels.shape[1] >= cover[0], decoded.pixels.shape[0] >= cover[1]]
    could = [decoded.width >= cover[0], decoded.height >= cover[1]]
    assert (any(had) == any(could)) if fit else (had == could)


def test_a_nearly_square_picture_that_exif_turns_keeps_its_width_and_height_apart():
    decoded = decode.decode(turned(encoded(quarters(639, 640)), 6), "jpeg", (224, 224))
    assert (decoded.width, decoded.height) == (639, 640)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("cover", [None, (20, 20)])
def test_exif_turns_of_the_same_picture_give_the_same_pixels(orientation, order, cover):
    upright = decode.decode(encoded(quarters(96, 128)), "jpeg", cover)
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(TURNS[back](quarters(96, 128)))
    decoded = decode.decode(turned(encoded(stored), orientation, order), "jpeg", cover)
    assert (decoded.width, decoded.height) == (128, 96)
    assert decoded.pixels.shape == upright.pixels.shape
    np.testing.assert_allclose(corners(decoded.pixels), [RED, GREEN, BLUE, WHITE], atol=6)


def test_grey_and_transparent_and_deep_pictures_become_three_bytes_a_pixel():
    grey = decode.decode(encoded(np.full((8, 8), 77, np.uint8), ".png"), "png", None)
    assert grey.pixels.tolist() == np.full((8, 8, 3), 77).tolist()
    alpha = np.dstack([quarters(), np.full((48, 64), 128, np.uint8)])
    np.testing.assert_array_equal(decode.decode(encoded(alpha, ".png"), "png", None).pixels, quarters())
    deep = quarters().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode.decode(encoded(deep, ".png"), "png", None).pixels, quarters())


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_of_one_three_or_four_channels_is_a_picture_in_rgb(channels, order):
    rgb = np.ascontiguousarray(quarters()[:, :, ::-1])
    array = {None: rgb[:, :, 0], 1: rgb[:, :, :1], 3: rgb, 4: np.dstack([rgb, rgb[:, :, 0]])}[channels]
    pixels = decode.decode(npy(np.array(array, order=order)), "npy", (4, 4)).pixels
    expected = quarters() if channels in (3, 4) else np.repeat(rgb[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((8,), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.array([{"a": 1}], object),
    ],
)
def test_an_npy_that_is_no_picture_is_refused(array):
    with pytest.raises(ModelError) as caught:
        decode.decode(npy(array), "npy", None)
    assert caught.value.code == "undecodable"
    assert "uint8" in caught.value.hint


def test_an_npy_that_promises_more_than_it_holds_is_refused_before_anything_is_allocated():
    with pytest.raises(ModelError):
        decode.decode(pictures.npy((10**9, 10**9, 3), body=192), "npy", None)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".npy"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_picture_that_is_cut_off_is_undecodable(extension, kept):
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    data = npy(picture) if extension == ".npy" else encoded(picture, extension)
    with pytest.raises(ModelError) as caught:
        decode.decode(data[: int(len(data) * kept)], {".jpg": "jpeg"}.get(extension, extension[1:]), (16, 16))
    assert caught.value.code == "undecodable"


NOISE = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
PHOTOGRAPH = encoded(cv2.GaussianBlur(NOISE, (5, 5), 0), ".jpg")
MIDDLE = len(PHOTOGRAPH) // 2


@pytest.mark.parametrize("behind", [bytes(48_000), b"\xff" * 48_000, PHOTOGRAPH[3000:] * 3, b"\r\n--frame\r\n" * 900])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_a_whole_jpeg_is_answered_whatever_its_buffer_holds_behind_it(behind, kind):
    decoded = decode.decode(kind(PHOTOGRAPH + behind), "jpeg", None)
    np.testing.assert_array_equal(decoded.pixels, decode.decode(PHOTOGRAPH, "jpeg", None).pixels)
    assert not decoded.damaged


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_jpeg_that_is_cut_off_is_undecodable_whatever_its_buffer_holds_behind_it(kept):
    with pytest.raises(ModelError, match="cut off"):
        decode.decode(PHOTOGRAPH[: int(len(PHOTOGRAPH) * kept)] + bytes(48_000), "jpeg", None)


@pytest.mark.parametrize("cover", [None, (16, 16)])
@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data, at: data[:at] + b"\xff\xd9",
        lambda data, at: data[:at] + data[at + 900 :],
        lambda data, at: data[:at] + b"\x55" * 900 + data[at + 900 :],
    ],
    ids=["ends early", "a gap", "overwritten"],
)
def test_a_jpeg_whose_decoder_complains_is_damaged(damage, flags, cover, capfd):
    data = encoded(cv2.GaussianBlur(NOISE, (5, 5), 0), ".jpg", *flags)
    decoded = decode.decode(damage(data, len(data) // 2), "jpeg", cover)
    assert decoded.damaged
    assert decoded.pixels.shape[2] == 3
    assert not decode.decode(data, "jpeg", cover).damaged  # the complaint is that picture's alone
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".npy"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_whole_pictures_are_not_damaged(extension, orientation):
    data = npy(quarters()) if extension == ".npy" else encoded(quarters(), extension)
    if extension in {".jpg", ".png", ".webp"}:
        data = turned(data, orientation)
    assert not decode.decode(data, {".jpg": "jpeg"}.get(extension, extension[1:]), (8, 8)).damaged


def test_what_others_print_while_a_picture_is_decoded_is_passed_on(monkeypatch, capfd):
    def chatty(*arguments):
        os.write(2, b"a word of a library\nCorrupt JPEG data: bad Huffman code\n")
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(cv2, "imdecode", chatty)
    assert decode.decode(PHOTOGRAPH, "jpeg", None).damaged
    assert capfd.readouterr().err == "a word of a library\n"


def test_a_picture_is_decoded_where_there_is_no_standard_error():
    code = (
        "import os, sys; os.close(2); from agent.inference.runtime import decode;"
        "sys.exit(decode.decode(sys.stdin.buffer.read(), 'jpeg', None).width)"
    )
    assert subprocess.run([sys.executable, "-c", code], input=PHOTOGRAPH, check=False).returncode == 128


def test_an_encoding_without_decoder_is_refused_with_those_there_are():
    with pytest.raises(ModelError, match="tiff") as caught:
        decode.decode(b"II*\0", "tiff", None)
    assert "jpeg" in caught.value.hint


SEEDS = [encoded(quarters(16, 16), extension) for extension in (".jpg", ".png", ".webp", ".bmp")] + [
    npy(quarters(4, 4))
]
PNG_HEADER = 33


@given(
    encoding=st.sampled_from(["jpeg", "png", "webp", "bmp", "npy"]), seed=st.sampled_from([b"", *SEEDS]),
    cut=st.integers(0, 300), junk=st.binary(max_size=200), cover=st.sampled_from([None, (1, 1), (9, 9)]),
)  # fmt: skip
@settings(max_examples=250, deadline=None)
def test_any_bytes_give_a_picture_or_undecodable(encoding, seed, cut, junk, cover):
    if seed.startswith(b"\x89PNG"):
        cut = max(cut, PNG_HEADER)  # OpenCV fills whatever size a PNG promises: the core refuses large ones first
    try:
        decoded = decode.decode(seed[:cut] + junk + seed[cut + len(junk) :], encoding, cover)
    except ModelError as error:
        assert error.code == "undecodable"  # noqa: PT017 - either outcome is right
    else:
        assert decoded.pixels.shape[2] == 3
        assert decoded.width > 0
        assert decoded.height > 0


def test_configured_threads_are_opencvs():
    before = cv2.getNumThreads()
    try:
        decode.configure(1)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
