"""A payload is a picture, or it is refused with a code, a sentence and a hint."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agent.frames
from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames.frame import Picture
from agent.frames.recognise import REFUSALS, recognise
from tests.support import pictures

LIMITS = FrameLimits()
JPEG = pictures.picture("jpeg", 16, 12)
SAMPLES = [
    wrap(pictures.picture(encoding, 16, 12)) for encoding in pictures.ENCODINGS for wrap in pictures.WRAPPINGS.values()
]

STARTS = (b"", b"{", b'{"image":"', b"data:,", b"BM", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X", b"\x93NUMPY\x01\0")

MEGABYTE = 1 << 20
BOMB = pictures.as_text(gzip.compress(b" " * 15 * MEGABYTE))


def nested_texts(times: int) -> bytes:
    text = "A" * 64
    for _ in range(times):
        text = json.dumps({"image": text})
    return text.encode()


HOSTILE = {
    "fill bytes": b"\xff\xd8" + b"\xff" * 4 * MEGABYTE,
    "empty segments": b"\xff\xd8" + b"\xff\xe0\0\x02" * MEGABYTE,
    "empty chunks": pictures.png_bomb(100, 100)[:33] + b"\0\0\0\0abcd\0\0\0\0" * (MEGABYTE // 3),
    "brackets": b"[[]" + b",[]" * MEGABYTE + b"]",
    "escaped quotes": b'{"a":"' + b'\\"' * 2 * MEGABYTE + b'"}',
    "backslashes": b'{"a":"' + b"\\" * 4 * MEGABYTE + b'"}',
    "numbers": b'{"image":[' + b"1," * 990_000 + b"1]}",
    "numbers in a pair": b"[{}," + b"0," * 2 * MEGABYTE + b"0]",
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(49_000)) + b"}",
    "many spellings of one key": b"{" + b",".join(b'"imag%se":"A"' % (b"_" * n) for n in range(2_500)) + b"}",
    "percent signs": b"data:," + b"%41" * MEGABYTE,
    "escapes": b'{"image":"' + b"\\u0041" * (MEGABYTE // 2) + b'"}',
    "blanks": b"{" + b" " * 4 * MEGABYTE,
    "base64 of nothing": b"A" * 4 * MEGABYTE,
    "beginnings of JPEG": b"\0" + b"\xff\xd8\xff\xe0\0\x02" * (MEGABYTE // 2),
    "headers without an end": (b"\0" + JPEG[:700]) * 16 + b"A" * 4 * MEGABYTE,
    "beginnings of base64": b"/9j/," * MEGABYTE,
    "base64 without an end": b"a:" + b"/9j/4AAQ" * (MEGABYTE // 2),
    "numbers without an end": b"[{}," + b"1," * 900_000 + b"1]",
    "JSON in JSON": nested_texts(12),
    "texts that open": pictures.as_json({f"k{number}": "[" + " " * 60 for number in range(20_000)}),
    "texts that begin as pictures": pictures.as_json({f"k{number}": "/9j/" + "A" * 60 for number in range(20_000)}),
    "texts that open, among many keys": pictures.as_json(
        {f"k{number}": "[" + " " * 60 if number < 20 else 1 for number in range(45_000)}
    ),
    "a bomb": gzip.compress(bytes(256 * MEGABYTE)),
    "a bomb in a bomb": gzip.compress(gzip.compress(b"{" * 256 * MEGABYTE)),
    "bombs in JSON": pictures.as_json(dict.fromkeys(map(str, range(16)), BOMB)),
    "two bytes a character": ("{" + " " * 2 * MEGABYTE).encode("utf-16"),
    "zeros": bytes(8 * MEGABYTE),
    "white space": b" " * 8 * MEGABYTE,
    "brackets of nothing": b"{" * 4 * MEGABYTE,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("image", "data", "meta", "ts", "url", "x")) | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=8,
)


def refusal(payload: bytes, content_type: str | None = None, limits: FrameLimits = LIMITS) -> FrameError:
    with pytest.raises(FrameError) as refused:
        recognise(payload, content_type, limits)
    assert refused.value.code in REFUSALS
    assert refused.value.hint
    assert len(str(refused.value)) < 1000
    return refused.value


def picture_or_refusal(payload: bytes, content_type: str | None = None) -> None:
    try:
        picture = recognise(payload, content_type, LIMITS)
    except FrameError:
        refusal(payload, content_type)
    else:
        assert isinstance(picture, Picture)
        assert 0 < picture.width * picture.height <= LIMITS.max_pixels


@pytest.mark.parametrize("wrapping", pictures.WRAPPINGS)
@pytest.mark.parametrize("encoding", pictures.ENCODINGS)
def test_every_encoding_comes_out_of_every_wrapping_unchanged(encoding, wrapping):
    data = pictures.picture(encoding, 61, 42)
    picture = recognise(pictures.WRAPPINGS[wrapping](data), None, LIMITS)
    assert picture.data == data
    assert (picture.encoding, picture.width, picture.height) == (encoding, 61, 42)


def test_a_raw_picture_is_handed_on_without_a_copy():
    assert recognise(JPEG, None, LIMITS).data is JPEG


@pytest.mark.parametrize("content_type", ["image/png", "application/json", "text/plain", "nonsense", ""])
def test_the_bytes_decide_whatever_the_content_type_says(content_type):
    assert recognise(JPEG, content_type, LIMITS).encoding == "jpeg"
    assert recognise(base64.b64encode(JPEG), content_type, LIMITS).encoding == "jpeg"


@pytest.mark.parametrize(
    ("payload", "content_type", "code"),
    [
        (b"", None, "empty-payload"),
        (b" \n", None, "empty-payload"),
        (b'{"image": ""}', None, "empty-payload"),
        (b'{"image": []}', None, "empty-payload"),
        (b'{"metadata": {}, "blob": ""}', None, "empty-payload"),
        (bytes(LIMITS.max_bytes + 1), None, "too-many-bytes"),
        (pictures.png_bomb(), None, "too-many-pixels"),
        (base64.b64encode(pictures.png_bomb()), None, "too-many-pixels"),
        (JPEG[:100], None, "truncated"),
        (pictures.as_json({"image": pictures.as_text(JPEG[:99])}), None, "truncated"),
        (b"\x80\x81\x82\x83", None, "not-an-image"),
        (b"plain words, no picture", "image/jpeg", "not-an-image"),
        (base64.b64encode(b"no picture in here"), None, "not-an-image"),
        (b'{"image": [256]}', None, "not-an-image"),
        (b'{"image": [-1]}', None, "not-an-image"),
        (b'{"image": [0.5]}', None, "not-an-image"),
        (b'{"image": ["a"]}', None, "bad-base64"),
        (b'{"image": [[[0, 0, 0], [0, 0, 0]]]}', None, "not-an-image"),
        (b"GIF89a" + bytes(20), None, "unsupported-format"),
        (base64.b64encode(b"GIF89a" + bytes(20)), None, "unsupported-format"),
        (b"plain words, no picture", None, "bad-base64"),
        (b"/9j/4AAQSkZJRg=A", None, "bad-base64"),
        (b"/9j/4AAQSkZJRg======", None, "bad-base64"),
        (b"\\/9j\\/4AAQ", None, "bad-base64"),
        (b"data:image/jpeg;base64", None, "bad-base64"),
        (b"data:image/jpeg,%FF%D8%zz", None, "bad-base64"),
        (b'{"image": "front door"}', None, "bad-base64"),
        (b"{", None, "json-invalid"),
        (b'"abc', None, "json-invalid"),
        (b'{"image": "a"} trailing', None, "json-invalid"),
        (b"[1, 2, 3]", None, "not-an-image"),
        (b'{"\xff": 1}', None, "json-invalid"),
        (b"plain words, no picture", "application/json", "json-invalid"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, None, "json-too-deep"),
        (b"[" * 1_000_000, None, "json-too-deep"),
        (b"[{}" + b",{}" * 60_000 + b"]", None, "too-many-parts"),
        (b'{"image": [1' + b",1" * 1_000_000 + b"]}", None, "too-many-parts"),
        (b'{"temperature": 21.5}', None, "no-image-key"),
        (b'{"image": {"image": {"image": 5}}}', None, "no-image-key"),
        (b'{"image": 5}', None, "no-image-key"),
        (b'{"url": "http://camera/shot.jpg"}', None, "url-not-fetched"),
        (b'{"image": "https://camera/shot.jpg"}', None, "url-not-fetched"),
        (b"http://camera/shot.jpg", None, "url-not-fetched"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_taken_is_refused_by_its_code(payload, content_type, code):
    assert refusal(payload, content_type).code == code


def test_the_table_of_refusals_lists_exactly_the_codes_that_the_package_raises():
    sources = [path.read_text() for path in Path(agent.frames.__path__[0]).glob("*.py")]
    raised = {code for text in sources for code in re.findall(r'code ?= ?"([a-z0-9-]+)"', text)}
    assert raised | {FrameError.default_code} == set(REFUSALS)


def test_a_bomb_is_refused_with_both_numbers():
    assert re.search(
        r"40000 × 25000 = 1000000000 .* limit is 50000000", refusal(pictures.png_bomb(40_000, 25_000)).message
    )


def test_the_limits_of_the_stream_hold():
    assert refusal(JPEG, limits=FrameLimits(max_bytes=len(JPEG) - 1)).code == "too-many-bytes"
    assert refusal(JPEG, limits=FrameLimits(max_pixels=16 * 12 - 1)).code == "too-many-pixels"
    assert recognise(JPEG, None, FrameLimits(max_bytes=len(JPEG), max_pixels=16 * 12)).width == 16
    assert refusal(b'{"image": {"data": ""}}', limits=FrameLimits(max_json_depth=1)).code == "json-too-deep"


def test_a_message_without_a_picture_lists_the_keys_that_would_hold_one():
    refused = refusal(b'{"temperature": 21.5, "place": "hall"}')
    assert "'temperature', 'place'" in refused.message
    assert "image, imagebase64, blob" in refused.hint


def test_the_key_of_a_broken_picture_is_named():
    message = pictures.as_json({"frame": {"jpeg": pictures.as_text(JPEG[:99])}})
    assert "'frame.jpeg'" in refusal(message).message


def test_the_largest_value_is_the_picture():
    small, large = pictures.picture("png", 8, 6), pictures.picture("png", 80, 60)
    message = pictures.as_json({"image": pictures.as_text(small), "data": pictures.as_text(large)})
    assert recognise(message, None, LIMITS).width == 80


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_cannot_hold_the_event_loop(name):
    started = time.process_time()
    with contextlib.suppress(FrameError):
        recognise(HOSTILE[name], None, LIMITS)
    assert time.process_time() - started < 1.0  # measured: 0.3 s at most
    picture_or_refusal(HOSTILE[name])


@settings(max_examples=300)
@given(text=st.text('ABCab/+-_=.,! \\"\n', min_size=1, max_size=24))
def test_base64_is_what_the_standard_says_with_blanks_and_missing_padding_forgiven(text):
    bare = re.sub(r"\s", "", text).replace("-", "+").replace("_", "/")
    payload = text.encode()
    if not bare or text.strip().startswith('"'):
        return
    characters = bare.rstrip("=")
    padding = len(bare) - len(characters)
    legal = re.fullmatch("[A-Za-z0-9+/]+", characters) and len(characters) % 4 != 1 and padding <= -len(characters) % 4
    code = refusal(payload).code  # no such text is a picture
    assert code in (("not-an-image", "truncated", "unsupported-format") if legal else ("bad-base64",))


@settings(max_examples=1200, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=st.binary(max_size=64), start=st.sampled_from(STARTS))
def test_any_bytes_are_a_picture_or_refused(payload, start):
    picture_or_refusal(start + payload)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=json_values, content_type=st.none() | st.text(max_size=12))
def test_any_json_is_a_picture_or_refused(message, content_type):
    picture_or_refusal(pictures.as_json(message), content_type)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_damage_to_a_real_payload_leaves_a_picture_or_a_refusal(seed):
    chance = random.Random(seed)
    for sample in chance.choices(SAMPLES, k=50):
        damaged = bytearray(sample)
        for _ in range(chance.randrange(5)):
            damaged[chance.randrange(min(len(damaged), 200))] = chance.randrange(256)
        cut = chance.choice((len(damaged), chance.randrange(400)))
        picture_or_refusal(bytes(damaged[:cut]))
