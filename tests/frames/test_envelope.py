"""A JSON message around a picture: how deep it nests, which value is the picture, what stands beside it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames.envelope import IMAGE_KEYS, MAX_CANDIDATES, nesting, open_envelope
from agent.frames.recognise import recognise
from tests.support import pictures

TEXT = pictures.as_text(pictures.picture("jpeg", 16, 12))
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)

texts = st.text('ab"\\[]{},:', max_size=12) | st.text(max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def opened(**beside: object):
    return recognise(pictures.as_json({**beside, "image": TEXT}), None, FrameLimits())


@settings(max_examples=150, deadline=None)
@given(value=json_values, indent=st.sampled_from((None, 2)), ascii_only=st.booleans())
def test_the_scan_agrees_with_the_real_nesting(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    depth = depth_of(value)
    assert nesting(text, max_depth=100) == depth
    assert nesting(text, max_depth=depth) == depth
    if depth:
        with pytest.raises(FrameError, match=f"deeper than {depth - 1}"):
            nesting(text, max_depth=depth - 1)


@settings(max_examples=300)
@given(st.text('"\\[]{}a', max_size=40))
def test_the_scan_ends_on_text_that_is_no_json(text):
    assert nesting(text.encode(), max_depth=100) <= text.count("[") + text.count("{")


@pytest.mark.parametrize("key", [*IMAGE_KEYS, "Image", "imageBase64", "image_base64", "IMG", "image-base64"])
def test_every_key_of_the_field_holds_a_picture_directly_or_one_object_deeper(key):
    for message in ({key: TEXT}, {"frame": {key: TEXT}}):
        assert recognise(pictures.as_json(message), None, FrameLimits()).width == 16


@pytest.mark.parametrize("key", ["picture_of_the_day", "x", "Foto", "画像"])
def test_what_begins_as_a_picture_is_found_under_any_key(key):
    assert recognise(pictures.as_json({"n": 1, key: TEXT}), None, FrameLimits()).width == 16


@pytest.mark.parametrize("value", ["words", "A" * 80, "{braces}", "[", "x" * 200])
def test_values_under_other_keys_that_begin_as_nothing_are_no_candidates(value):
    with pytest.raises(FrameError) as refused:
        recognise(pictures.as_json({"picture_of_the_day": value}), None, FrameLimits())
    assert refused.value.code == "no-image-key"


def test_small_scalars_beside_the_picture_are_kept():
    picture = opened(camera="line-3", shot=17, score=0.5, night=False)
    assert picture.metadata == {"camera": "line-3", "shot": 17, "score": 0.5, "night": False}


def test_members_of_metadata_and_meta_are_kept_and_the_nearest_to_the_picture_wins():
    message = {
        "camera": "outer",
        "place": "hall",
        "metadata": {"camera": "declared", "lens": 2},
        "frame": {"data": TEXT, "camera": "inner", "meta": {"gain": 4}},
    }
    metadata = recognise(pictures.as_json(message), None, FrameLimits()).metadata
    assert metadata == {"camera": "inner", "gain": 4, "place": "hall", "lens": 2}


def test_the_metadata_of_the_array_shape_is_kept():
    assert recognise(pictures.as_json([{"frame_id": 9}, TEXT]), None, FrameLimits()).metadata == {"frame_id": 9}


def test_large_nested_and_empty_values_are_left_out():
    picture = opened(note="x" * 300, objects=[1, 2], region={"x": 1}, nothing=None, huge=10**30, kept=1)
    assert picture.metadata == {"kept": 1}


def test_at_most_32_facts_are_kept():
    assert len(opened(**{f"key-{number}": number for number in range(100)}).metadata) == 32


def test_the_picture_itself_is_no_metadata():
    tiny = pictures.as_text(pictures.npy((2, 2)))
    assert recognise(pictures.as_json({"image": tiny, "id": 1}), None, FrameLimits()).metadata == {"id": 1}


@pytest.mark.parametrize("key", ["timestamp", "captured_at", "capturedAt", "ts", "time"])
@pytest.mark.parametrize(
    "told",
    [
        MOMENT.timestamp(),
        MOMENT.timestamp() * 1e3,
        int(MOMENT.timestamp() * 1e6),
        int(MOMENT.timestamp() * 1e3) * 10**6,
        str(MOMENT.timestamp()),
        "2026-03-01T12:30:15.250Z",
        "2026-03-01T13:30:15.250+01:00",
        "2026-03-01 12:30:15.250000",
    ],
)
def test_the_moment_of_capture_is_read_in_every_spelling(key, told):
    assert opened(**{key: told}).captured_at == pytest.approx(MOMENT.timestamp(), abs=1e-3)


@pytest.mark.parametrize(
    "told", ["noon", "", 0, -5, 17, True, 1e300, "nan", "inf", "0001-01-01T00:00:00+23:59", "12:30"]
)
def test_what_is_no_moment_of_this_century_tells_nothing(told):
    assert opened(ts=told).captured_at is None


def test_a_moment_without_a_zone_is_utc_wherever_the_agent_stands(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert opened(ts="2026-03-01 12:30:15.250").captured_at == MOMENT.timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_moment_in_the_metadata_counts_and_captured_at_comes_first():
    assert opened(metadata={"timestamp": MOMENT.isoformat()}).captured_at == MOMENT.timestamp()
    later = MOMENT + timedelta(seconds=9)
    assert opened(ts=later.timestamp(), captured_at=MOMENT.timestamp()).captured_at == MOMENT.timestamp()
    assert opened(captured_at="noon", ts=later.timestamp()).captured_at == later.timestamp()


def paths(message: bytes, image_key: str = "") -> list[str]:
    return [candidate.path for candidate in open_envelope(message, 8, image_key)]


def test_what_begins_as_a_picture_comes_before_words_under_a_usual_key_and_the_largest_of_a_kind_first():
    text = pictures.as_text(pictures.picture("jpeg", 16, 12))
    message = {
        "image": "jpeg", "data": "a longer text", "thumbnail": text, "full": text + text, "frame": {"b64": text},
        "inner": '{"image": "…", "and so on": 1}',
    }  # fmt: skip
    assert paths(pictures.as_json(message)) == ["frame.b64", "full", "thumbnail", "data", "image", "inner"]


def test_of_two_equal_candidates_the_first_in_the_message_is_taken():
    one, other = pictures.picture("bmp", 16, 12), pictures.picture("bmp", 12, 16)
    message = pictures.as_json({"before": pictures.as_text(one), "after": pictures.as_text(other)})
    assert len(one) == len(other)
    assert recognise(message, None, FrameLimits()).data == one


def test_with_an_image_key_only_what_stands_there_is_a_candidate():
    message = pictures.as_json({"image": TEXT, "event": {"image": "no", "items": [{"a.b": TEXT}, TEXT]}})
    assert paths(message, "event.image") == ["event.image"]
    assert paths(message, "event.items.1") == ["event.items.1"]
    assert paths(message, "event.items.0.a.b") == ["event.items.0.a.b"]
    assert paths(message, "event.items") == ["event.items.0.a.b", "event.items.1"]
    with pytest.raises(FrameError, match=r"no 'event.picture' in the JSON; its keys: 'image', 'event'") as refused:
        paths(message, "event.picture")
    assert refused.value.code == "no-image-key"


def test_an_image_key_leads_through_json_in_a_text():
    inner = json.dumps({"thumb": pictures.as_text(pictures.picture("jpeg", 40, 30)), "full": TEXT})
    message = pictures.as_json({"payload": inner, "preview": TEXT})
    assert recognise(message, None, FrameLimits(), "payload.full").width == 16
    assert recognise(message, None, FrameLimits(), "payload.thumb").width == 40


def test_one_key_in_many_spellings_gives_a_bounded_number_of_candidates():
    message = pictures.as_json({f"imag{'_' * number}e": "A" for number in range(100)})
    assert len(open_envelope(message, max_depth=8)) == MAX_CANDIDATES
