"""A picture in pieces: what a piece looks like, when a set is whole, and when it is given up."""

from __future__ import annotations

import base64
import json
import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames import pieces
from agent.frames.frame import Picture
from agent.frames.pieces import Piece, PieceSets
from agent.frames.recognise import read, recognise
from tests.support import pictures

LIMITS = FrameLimits()
JPEG = pictures.picture("jpeg", 64, 48)
TEXT = pictures.as_text(JPEG)


def cut(data, size: int) -> list:
    return [data[at : at + size] for at in range(0, len(data), size)]


def told(message: object) -> Piece:
    found = read(pictures.as_json(message), None, LIMITS)
    assert isinstance(found, Piece)
    return found


def by_packets(size: int) -> list[dict]:
    parts = cut(TEXT, size)
    return [{"pic_id": "a7", "pos": at, "size": len(parts), "data": part} for at, part in enumerate(parts)]


def from_one(size: int) -> list[dict]:
    parts = cut(TEXT, size)
    return [{"part": at, "total": len(parts), "data": part} for at, part in enumerate(parts, 1)]


def by_characters(size: int) -> list[dict]:
    return [
        {"id": 7, "position": at * size, "size": len(TEXT), "image": part} for at, part in enumerate(cut(TEXT, size))
    ]


def by_bytes(size: int) -> list[dict]:
    return [
        {"id": 7, "offset": at * size, "total_size": len(JPEG), "payload": pictures.as_text(part)}
        for at, part in enumerate(cut(JPEG, size))
    ]


def in_hexadecimal(size: int) -> list[dict]:
    parts = cut(JPEG.hex(), size * 2)
    return [
        {"imageId": "x", "chunk_index": at, "total_chunks": len(parts), "data": part} for at, part in enumerate(parts)
    ]


def as_numbers(size: int) -> list[dict]:
    parts = cut(JPEG, size)
    return [{"seq": at, "count": len(parts), "bytes": list(part)} for at, part in enumerate(parts)]


def within_d(size: int) -> list[dict]:
    return [{"d": message} for message in by_packets(size)]


FORMS = (by_packets, from_one, by_characters, by_bytes, in_hexadecimal, as_numbers, within_d)


def put_together(messages: list[dict], sets: PieceSets[int]) -> list[bytes]:
    pictures_of = []
    for number, message in enumerate(messages):
        taken = sets.put("cam", told(message), number, float(number))
        assert taken.began == (number == 0)
        assert not taken.lost
        if taken.whole is not None:
            pictures_of.append(recognise(taken.whole, None, LIMITS).data)
    return pictures_of


@pytest.mark.parametrize("form", FORMS)
@given(size=st.integers(40, 1500), seed=st.integers(0, 2**32))
@example(size=42, seed=0)  # as many pieces as the first one has bytes
@settings(max_examples=20, deadline=None)
def test_every_form_gives_the_picture_with_its_last_piece(form, size, seed):
    messages = form(size)
    if len(messages) < 2:
        return
    assert put_together(messages, PieceSets(LIMITS.max_bytes)) == [JPEG]
    if form in {by_packets, by_characters, by_bytes, in_hexadecimal}:  # they have an id
        random.Random(seed).shuffle(messages)
        assert put_together(messages, PieceSets(LIMITS.max_bytes)) == [JPEG]


def test_a_whole_picture_is_no_piece_whatever_numbers_stand_beside_it():
    for beside in ({"part": 1, "total": 1}, {"index": 3, "count": 10}, {"position": 0, "size": len(JPEG)}):
        assert isinstance(read(pictures.as_json({**beside, "data": TEXT}), None, LIMITS), Picture)


@pytest.mark.parametrize(
    "message",
    [
        {"part": 1, "data": TEXT[:400]},
        {"part": 5, "total": 4, "data": TEXT[:400]},
        {"part": -1, "total": 4, "data": TEXT[:400]},
        {"part": "one", "total": 4, "data": TEXT[:400]},
        {"part": 1, "total": 4, "data": "not a part of anything"},
        {"part": 1, "total": 4, "state": "open"},
    ],
)
def test_what_says_nothing_of_pieces_is_judged_by_itself(message):
    try:
        found = read(pictures.as_json(message), None, LIMITS)
    except FrameError as refused:
        found = refused
    assert not isinstance(found, Piece)


def test_a_piece_by_itself_is_refused_as_one():
    with pytest.raises(FrameError, match=r"a piece of a picture \(2 of 5\)") as refused:
        recognise(pictures.as_json({"part": 2, "total": 5, "data": TEXT[400:800]}), None, LIMITS)
    assert refused.value.code == "piece-alone"


def test_the_facts_of_the_first_piece_are_the_pictures():
    sets: PieceSets[int] = PieceSets(LIMITS.max_bytes)
    for number, message in enumerate(by_packets(500)):
        taken = sets.put("cam", told({**message, "site": "north", "number": number}), number, 0.0)
    assert taken.facts == {"pic_id": "a7", "size": len(by_packets(500)), "site": "north", "number": 0}


def test_sets_of_several_cameras_and_ids_do_not_mix():
    sets: PieceSets[str] = PieceSets(LIMITS.max_bytes)
    other = pictures.picture("jpeg", 80, 60)
    whole = []
    streams = [("a", "1", TEXT), ("a", "2", pictures.as_text(other)), ("b", "1", pictures.as_text(other))]
    for at in range(4):
        for camera, identity, text in streams:
            part = cut(text, math.ceil(len(text) / 4))[at]
            taken = sets.put(camera, told({"id": identity, "part": at, "total": 4, "data": part}), "", 0.0)
            whole += [(camera, identity, base64.b64decode(taken.whole))] if taken.whole else []
    assert whole == [("a", "1", JPEG), ("a", "2", other), ("b", "1", other)]


def test_a_piece_that_comes_twice_counts_once():
    first, *others = by_packets(500)
    assert put_together([first, first, *others[:-1], *others], PieceSets(LIMITS.max_bytes)) == [JPEG]


def test_a_set_is_given_up_when_nothing_came_for_a_while():
    sets: PieceSets[str] = PieceSets(LIMITS.max_bytes)
    first, second, *_ = by_packets(500)
    sets.put("cam", told(first), "first", 100.0)
    sets.put("cam", told(second), "second", 120.0)
    assert sets.due == 120.0 + pieces.PATIENCE_S
    assert [*sets.expire(120.0 + pieces.PATIENCE_S - 0.1)] == []
    assert [*sets.expire(120.0 + pieces.PATIENCE_S)] == [pieces.Lost("cam", "second", "incomplete")]
    assert sets.due is None


@pytest.mark.parametrize("missing", range(4))
@pytest.mark.parametrize("identity", [{}, {"id": 1}])
def test_halves_of_two_pictures_are_never_put_together(identity, missing):
    """Neither without an id nor with one that is the same for every picture."""
    sets: PieceSets[int] = PieceSets(LIMITS.max_bytes)
    shots = [pictures.picture("jpeg", 64, 48, seed=seed) for seed in range(4)]
    ends = []
    for number, shot in enumerate(shots):
        text = pictures.as_text(shot)
        for at, part in enumerate(cut(text, math.ceil(len(text) / 4))):
            if number != 1 or at != missing:
                taken = sets.put("cam", told({**identity, "part": at, "total": 4, "data": part}), number, 0.0)
                ends += [lost.token for lost in taken.lost]
                ends += [base64.b64decode(taken.whole)] if taken.whole else []
    assert ends == [shots[0], 1, shots[2], shots[3]]


def test_another_number_of_pieces_begins_another_picture():
    sets: PieceSets[str] = PieceSets(LIMITS.max_bytes)
    sets.put("cam", told({"part": 1, "total": 4, "data": TEXT[:400]}), "old", 0.0)
    taken = sets.put("cam", told({"part": 1, "total": 5, "data": TEXT[:400]}), "new", 0.0)
    assert taken.began
    assert [lost.token for lost in taken.lost] == ["old"]


def test_a_picture_that_gets_too_large_is_given_up_once_and_the_next_one_is_taken():
    sets: PieceSets[int] = PieceSets(3 * len(TEXT) // 2)
    large = [{"id": 1, "part": at, "total": 9, "data": TEXT[: 40 * 25]} for at in range(9)]
    lost = [one for at, message in enumerate(large) for one in sets.put("cam", told(message), at, 0.0).lost]
    assert [one.reason for one in lost] == ["pieces-too-large"]
    messages = [{"id": 1, "part": at, "total": 4, "data": part} for at, part in enumerate(cut(TEXT, 600))]
    taken = [sets.put("cam", told({**message, "total": len(messages)}), 0, 0.0) for message in messages]
    assert [one.whole is not None for one in taken] == [False] * (len(messages) - 1) + [True]


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_whatever_comes_what_waits_is_bounded_and_every_set_ends_once(seed):
    chance = random.Random(seed)
    sets: PieceSets[None] = PieceSets(2000)
    began = ended = 0
    for step in range(600):
        place = pieces.Place(chance.randrange(5), chance.choice((3, 4, 5)), chance.choice(("", "a", str(step % 90))))
        data = bytes(chance.choices(b"AB/+=", k=chance.choice((4, 40, 900))))
        taken = sets.put(f"cam-{chance.randrange(3)}", Piece(place, data, {}), None, step * chance.random())
        began += taken.began
        ended += len(taken.lost) + (taken.whole is not None)
        waiting = sets._sets.values()
        assert len(waiting) <= pieces.MAX_SETS
        assert sum(len(part) for known in waiting for part in known.data.values()) <= 4000 + 900
    ended += len([*sets.clear("stopping")])
    assert began == ended


def test_a_set_of_very_many_pieces_is_given_up():
    sets: PieceSets[None] = PieceSets(LIMITS.max_bytes)
    lost = []
    for at in range(pieces.MAX_PIECES + 10):
        place = pieces.Place(at, 10**6, "x")
        lost += sets.put("cam", Piece(place, b"A", {}), None, 0.0).lost
    assert [one.reason for one in lost] == ["pieces-too-large"]


def test_json_split_into_pieces_is_no_picture_in_pieces():
    half = json.dumps({"image": TEXT})[:500]
    with pytest.raises(FrameError):
        recognise(pictures.as_json({"part": 1, "total": 2, "data": half}), None, LIMITS)
