"""Pictures in more than one wrapping, or in one that nobody knows; and what is said of messages that hold none."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames import recognise as recognition
from agent.frames.recognise import recognise
from tests.support import pictures

LIMITS = FrameLimits()
JPEG = pictures.picture("jpeg", 16, 12)

LAYERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "base64 for URLs": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "lines": pictures.as_lines,
    "hexadecimal": lambda data: data.hex().encode(),
    "data URI": lambda data: b"data:;base64," + base64.b64encode(data),
    "JSON": lambda data: pictures.as_json({"id": 7, "image": pictures.as_text(data)}),
    "JSON in an array": lambda data: pictures.as_json({"inputs": [{"data": [pictures.as_text(data)]}]}),
    "JSON text": lambda data: pictures.as_json(pictures.as_text(data)),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "line's end": lambda data: b"\r\n" + data,
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}


def refusal(payload: bytes, content_type: str | None = None) -> FrameError:
    with pytest.raises(FrameError) as refused:
        recognise(payload, content_type, LIMITS)
    assert refused.value.code in recognition.REFUSALS
    return refused.value


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from(pictures.ENCODINGS),
    innermost=st.sampled_from(sorted(pictures.WRAPPINGS)),
    around=st.lists(st.sampled_from(sorted(LAYERS)), max_size=3),
)
def test_a_picture_comes_out_of_several_layers_as_it_went_in(encoding, innermost, around):
    data = pictures.picture(encoding, 16, 12)
    payload = functools.reduce(lambda wrapped, name: LAYERS[name](wrapped), around, pictures.WRAPPINGS[innermost](data))
    assert recognise(payload, None, LIMITS).data == data


def test_what_is_wrapped_too_often_is_refused():
    payload = functools.reduce(lambda wrapped, _: base64.b64encode(wrapped), range(recognition.MAX_LAYERS + 1), JPEG)
    assert refusal(payload).code == "too-many-layers"
    payload = functools.reduce(lambda wrapped, _: base64.b64encode(wrapped), range(recognition.MAX_LAYERS), JPEG)
    assert recognise(payload, None, LIMITS).data == JPEG


@settings(max_examples=300, deadline=None)
@given(before=st.binary(max_size=40), after=st.binary(max_size=40), encoding=st.sampled_from(pictures.ENCODINGS))
def test_a_picture_among_other_bytes_is_cut_out_exactly(before, after, encoding):
    data = pictures.picture(encoding, 16, 12)
    assert recognise(b"\x01\xfe" + before + data + after, None, LIMITS).data == data


@pytest.mark.parametrize("encoding", pictures.ENCODINGS)
def test_what_is_cut_off_among_other_bytes_is_no_picture(encoding):
    data = pictures.picture(encoding, 16, 12)
    assert refusal(b"\x01" + data[:-3]).code == "not-an-image"
    assert refusal(b"<image>" + base64.b64encode(data)[:-8] + b"</image>").code in {"bad-base64", "not-an-image"}


def test_of_several_pictures_among_other_bytes_the_largest_is_taken():
    small, large = pictures.picture("png", 8, 6), pictures.picture("jpeg", 80, 60)
    assert recognise(b"\0\1" + small + b"--" + large + b"--" + small, None, LIMITS).data == large


def test_the_preview_inside_a_picture_is_not_mistaken_for_it():
    preview = pictures.picture("jpeg", 8, 6)
    data = JPEG[:2] + pictures.jpeg_segment(0xE1, b"Exif\0\0" + pictures.exif(1) + preview) + JPEG[2:]
    assert recognise(b"\0\0\4\0" + data + b"\0\0", None, LIMITS).data == data


def test_of_json_before_a_picture_the_facts_are_kept():
    told = pictures.as_json({"camera": "line-3", "ts": 1_790_000_000, "meta": {"lens": 2}})
    for between in (b"", b"\n", b"\0\0", struct.pack("<I", len(JPEG))):
        found = recognise(struct.pack(">I", len(told)) + told + between + JPEG, None, LIMITS)
        assert found.metadata == {"camera": "line-3", "ts": 1_790_000_000, "lens": 2}
        assert found.captured_at == 1_790_000_000


def test_facts_of_the_inner_message_come_before_those_of_the_outer_one():
    inner = json.dumps({"camera": "inner", "image": pictures.as_text(JPEG), "ts": 1_790_000_000})
    found = recognise(pictures.as_json({"camera": "outer", "site": "north", "payload": inner, "ts": 5}), None, LIMITS)
    assert found.metadata == {"camera": "inner", "ts": 1_790_000_000, "site": "north"}
    assert found.captured_at == 1_790_000_000


def test_nothing_that_is_decompressed_is_larger_than_a_payload_may_be():
    payload = gzip.compress(pictures.png_bomb() + bytes(2000))
    assert refusal(payload).code == "too-many-pixels"
    with pytest.raises(FrameError) as refused:
        recognise(payload, None, FrameLimits(max_bytes=1000))
    assert refused.value.code == "too-many-bytes"


def test_damaged_gzip_is_said_to_be_gzip():
    payload = bytearray(gzip.compress(JPEG))
    payload[20:40] = bytes(20)
    assert "gzip" in refusal(bytes(payload)).message


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"offline", "this is the text 'offline'"),
        (b"ON", "this is the text 'ON'"),
        (b"21.5", "this is the text '21.5'"),
        ("Tür offen\n".encode(), "this is the text 'Tür offen'"),
        (b"BMS offline", "this is the text 'BMS offline'"),
        (b"P1 offline", "this is the text 'P1 offline'"),
        (b"ID3 offline", "this is the text 'ID3 offline'"),
        (b"BZhalt", "this is the text 'BZhalt'"),
        (b"GIF8 offline", "this is the text 'GIF8 offline'"),
        (b"\x1b[2J error: camera busy", "are no picture"),
        (
            b"the camera said that it cannot take a picture now",
            "this is the text 'the camera said that it cannot take a pi'…",
        ),
        (b'{"image": "offline"}', "under the key 'image': this is the text 'offline'"),
        (b'"offline"', "this is the text 'offline'"),
        (b"\0" * 500, "this is 500 zero bytes"),
        (b"\x80\x81" * 100, "200 bytes that start with 80 81 80 81 80 81 80 81 are no picture"),
        (bytes([200, 3]) * 160 * 120, "raw pixels of 160 × 120 with 2 bytes"),
        (bytes([200, 3, 9]) * 640 * 480, r"raw pixels of 640 × 480 with 3 bytes \(RGB\)"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\x01" + bytes(20), "this looks like JPEG-LS"),
    ],
)
def test_what_is_no_picture_is_told_by_what_it_is(payload, told):
    with pytest.raises(FrameError, match=told) as refused:
        recognise(payload, None, LIMITS)
    assert refused.value.hint.startswith("send JPEG, PNG, WebP, BMP or .npy")


ISO = b"\0\0\0\x1cftyp"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0", "an icon (ICO)"),
        (b"\0\0\2\0\1\0\x10\x10\0\0\1\0\x20\0", "a cursor (CUR)"),
        (ISO + b"heic\0\0\0\0mif1heic", "HEIC"),
        (ISO + b"mif1\0\0\0\0mif1heic", "HEIC"),
        (ISO + b"mif1\0\0\0\0mif1avif", "AVIF"),
        (ISO + b"mif1\0\0\0\0mif1miaf", "HEIF"),
        (ISO + b"avif\0\0\0\0mif1avif", "AVIF"),
        (ISO + b"isom\0\0\2\0isommp41", "an MP4 video"),
        (ISO + b"qt  \0\0\0\0qt  ", "a QuickTime video"),
        (b"\0\0\0\x18styp" + b"msdh", "an MP4 video"),
        (b"\0\0\1\0moof\0\0\0\x10mfhd", "an MP4 video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\0\0\0\1\x67\x42\0\x1e", "a H.264 stream"),
        (b"\0\0\1\x65\x88\x84", "a H.264 stream"),
        (b"\0\0\0\1\x09\xf0\0\0\0\1\x67", "a H.264 stream"),
        (b"\0\0\0\1\x40\1\x0c\1", "a H.265 stream"),
        (b"\0\0\0\1\x26\1\xaf", "a H.265 stream"),
        (b"\0\0\1\xba\x44", "an MPEG stream"),
        (b"\x47\x40\0\x10" + b"\xff" * 184 + b"\x47\x40\0\x10", "an MPEG transport stream"),
        (b"\x1a\x45\xdf\xa3\x9f", "a WebM or Matroska video"),
        (b"RIFF\x24\0\0\0AVI LIST", "an AVI video"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "WAV audio"),
        (b"FLV\1\5\0\0\0\x09", "a Flash video"),
        (b"OggS\0\2", "Ogg"),
        (b"fLaC\0\0\0\x22", "FLAC audio"),
        (b"DKIF\0\0\x20\0VP80", "an IVF video"),
        (b"ID3\3\0", "MP3 audio"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\3\4\x14\0", "a ZIP archive"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"P6\n64 48\n255\n", "PNM"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web page"),
        (b"b'\\xff\\xd8\\xff\\xe0\\x00\\x10JFIF'", "Python's way to print bytes"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05numpy", "a Python pickle"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0" * 128 + b"DICM", "DICOM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_known_format_that_is_not_taken_is_named_however_it_is_wrapped(data, name):
    for wrap in (
        lambda plain: plain,
        base64.b64encode,
        lambda plain: pictures.as_json({"img": pictures.as_text(plain)}),
    ):
        if wrap is not pictures.as_json and data.isascii() and data[:1] == b"<" and wrap(data) != data:
            continue
        refused = refusal(wrap(data + bytes(64) if data[:1] != b"<" else data))
        assert f"this looks like {name}".replace("\\", "") in refused.message
        assert refused.code == "unsupported-format"


def test_a_video_is_pointed_to_the_camera_that_plays_it():
    assert "input is a camera" in refusal(b"\0\0\0\1\x67\x42\0\x1e" + bytes(64)).hint


@pytest.mark.parametrize(
    ("content_type", "code"),
    [("application/json", "json-invalid"), ("image/jpeg", "not-an-image"), ("text/plain", "bad-base64")],
)
def test_a_refusal_says_what_the_bytes_were_declared_to_be(content_type, code):
    refused = refusal(b"plain words, no picture", content_type)
    assert refused.code == code
    assert refused.message == f"declared as {content_type!r}, this is the text 'plain words, no picture'"
