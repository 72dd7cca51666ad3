"""What a picture's first bytes tell, against what OpenCV decodes."""

from __future__ import annotations

import struct
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import FrameError
from agent.frames import headers
from tests.support import pictures

sides = st.integers(1, 300)


def code_of(data: bytes) -> str:
    with pytest.raises(FrameError) as refused:
        headers.read_header(data)
    assert refused.value.hint
    return refused.value.code


@settings(max_examples=150, deadline=None)
@given(
    encoding=st.sampled_from(("jpeg", "png", "webp", "bmp")),
    width=sides,
    height=sides,
    channels=st.sampled_from((1, 3)),
)
def test_the_size_is_the_one_that_opencv_decodes(encoding, width, height, channels):
    data = pictures.picture(encoding, width, height, channels)
    header = headers.read_header(memoryview(data))
    assert header == headers.Header(encoding, width, height)
    assert (header.width, header.height) == pictures.decoded_size(data)


@settings(max_examples=80, deadline=None)
@given(
    encoding=st.sampled_from(("jpeg", "png", "webp")),
    orientation=st.integers(0, 9),
    order=st.sampled_from("<>"),
    width=sides,
    height=sides,
)
def test_a_picture_turned_by_exif_has_its_upright_size(encoding, orientation, order, width, height):
    data = pictures.turned(pictures.picture(encoding, width, height), orientation, order)
    header = headers.read_header(data)
    assert (header.width, header.height) == pictures.decoded_size(data)
    assert header.orientation == (orientation if 1 <= orientation <= 8 else 1)


@pytest.mark.parametrize(
    "options", [(2, 1), (3, 1), (4, 1), (1, 5)], ids=["progressive", "optimised", "restarts", "poor"]
)
def test_every_kind_of_jpeg_tells_its_size(options):
    data = pictures.encode(pictures.pixels(70, 50), "jpeg", *options)
    assert headers.read_header(data) == headers.Header("jpeg", 70, 50)


def test_jpeg_markers_may_have_fill_bytes_and_long_segments_before_them():
    data = pictures.picture("jpeg", 70, 50)
    long_ones = b"".join(pictures.jpeg_segment(0xE2, bytes(size)) for size in (0, 1, 65_000, 65_533))
    padded = data[:2] + b"\xff\xff\xff" + long_ones + b"\xff\x01" + b"\xff" + data[2:]
    assert headers.read_header(padded) == headers.Header("jpeg", 70, 50)
    assert pictures.decoded_size(padded) == (70, 50)


@pytest.mark.parametrize(
    "block",
    [b"", b"II", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", pictures.exif(6)[:30]],
)
def test_a_damaged_exif_block_leaves_the_picture_upright(block):
    data = pictures.picture("jpeg", 70, 50)
    assert headers.read_header(data[:2] + pictures.jpeg_segment(0xE1, b"Exif\0\0" + block) + data[2:]).width == 70


def test_lossless_and_extended_webp_tell_their_size():
    lossless = pictures.encode(pictures.pixels(300, 17), "webp", 64, 101)
    assert lossless[12:16] == b"VP8L"
    assert headers.read_header(lossless) == headers.Header("webp", 300, 17)
    extended = pictures.turned(pictures.picture("webp", 300, 17), 1)
    assert extended[12:16] == b"VP8X"
    assert headers.read_header(extended) == headers.Header("webp", 300, 17)


def test_chunks_of_odd_length_before_the_exif_block_are_passed_over():
    turned = pictures.turned(pictures.picture("webp", 300, 17), 6)
    at = turned.find(b"EXIF")
    chunks = turned[8:at] + pictures.riff_chunk(b"ICCP", b"odd") + turned[at:]
    assert headers.read_header(b"RIFF" + struct.pack("<I", len(chunks)) + chunks) == headers.Header("webp", 17, 300, 6)


def test_a_bmp_may_have_its_rows_from_top_to_bottom_and_a_core_header():
    data = pictures.picture("bmp", 20, 10)
    upside_down = data[:22] + struct.pack("<i", -10) + data[26:]
    assert headers.read_header(upside_down) == headers.Header("bmp", 20, 10)
    assert pictures.decoded_size(upside_down) == (20, 10)
    core = b"BM" + struct.pack("<IHHIIHHHH", 26 + 600, 0, 0, 26, 12, 20, 10, 1, 24) + bytes(600)
    assert headers.read_header(core) == headers.Header("bmp", 20, 10)
    assert pictures.decoded_size(core) == (20, 10)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 3), (48, 64, 4)])
def test_an_npy_picture_tells_its_size(version, shape):
    assert headers.read_header(pictures.npy(shape, version=version)) == headers.Header("npy", 64, 48)


def test_what_numpy_saves_is_read():
    assert headers.read_header(pictures.picture("npy", 64, 48)) == headers.Header("npy", 64, 48)


@pytest.mark.parametrize(
    "data",
    [
        pictures.npy((48, 64, 3), "<f4"),
        pictures.npy((48, 64, 3), "|i1"),
        pictures.npy((48, 64, 2)),
        pictures.npy((48,)),
        pictures.npy((1, 48, 64, 3)),
    ],
    ids=["float32", "int8", "two channels", "a row", "a batch"],
)
def test_an_npy_that_no_worker_takes_is_refused_with_what_to_send(data):
    with pytest.raises(FrameError, match="uint8 of height × width") as refused:
        headers.read_header(data)
    assert refused.value.code == "unsupported-format"


def test_an_npy_may_have_its_columns_first():
    assert headers.read_header(pictures.npy((48, 64, 3), fortran=True)) == headers.Header("npy", 64, 48)


def test_an_npy_with_fewer_bytes_than_its_shape_is_truncated():
    assert code_of(pictures.npy((48, 64, 3), body=48 * 64 * 3 - 1)) == "truncated"


@pytest.mark.parametrize("encoding", pictures.ENCODINGS)
def test_every_cut_within_the_header_is_refused_as_truncated(encoding):
    data = pictures.turned(pictures.picture("jpeg"), 6) if encoding == "jpeg" else pictures.picture(encoding)
    assert encoding != "webp" or data[12:16] == b"VP8 "
    first = {"jpeg": 3, "png": 8, "webp": 12, "bmp": 2, "npy": 6}[encoding]
    needed = {"jpeg": data.find(b"\xff\xc0") + 9, "png": 24, "webp": 30, "bmp": 26, "npy": len(data)}[encoding]
    assert {code_of(data[:cut]) for cut in range(first, min(needed, 2000))} == {"truncated"}
    assert headers.read_header(data[:needed]).encoding == encoding


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\0\x08\0\0\0\0\0\0\0\0",
        b"\xff\xd8\xff\xe0\0\x01\0\0",
        b"\xff\xd8\xff\xe0\0\x02\0\0",
        b"\xff\xd8\xff" + b"\xff" * 100_000,
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 100_000,
        pictures.png_bomb(0, 10),
        pictures.png_bomb(10, 2**31),
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT" + bytes(20),
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(40),
        b"RIFF\0\0\0\0WEBPVP8L" + bytes(40),
        b"RIFF\0\0\0\0WEBPALPH" + bytes(40),
        b"BM" + bytes(100),
        b"\x93NUMPY\x09\0" + bytes(100),
        b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(100),
        pictures.npy((48, 64), body=48 * 64 + 1),
        b"\0\x01\x02\x03",
        b"",
    ],
)
def test_nonsense_is_no_image(data):
    assert code_of(data) == "not-an-image"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(20), "GIF"),
        (b"II*\0" + bytes(20), "TIFF"),
        (b"MM\0*" + bytes(20), "TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(20), "AVIF"),
        (b"\0\0\0\x20ftypisom" + bytes(20), "MP4"),
        (b"\0\0\0\x01\x67\x64" + bytes(20), r"H\.264"),
        (b"\0\0\x01\x65" + bytes(20), r"H\.264"),
    ],
)
def test_a_known_format_that_is_not_taken_is_named(data, name):
    with pytest.raises(FrameError, match=rf"{name}.*send JPEG, PNG, WebP, BMP or \.npy") as refused:
        headers.read_header(data)
    assert refused.value.code == "unsupported-format"


def test_reading_a_jpeg_header_costs_microseconds():
    data = pictures.turned(pictures.picture("jpeg", 640, 480), 1)
    best = min(timeit.repeat(lambda: headers.read_header(data), number=200, repeat=5)) / 200
    assert best < 100e-6  # measured: 5 µs; the margin is for a busy machine
