"""Which pictures end workers, and which cameras send such pictures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.frames.frame import Picture
from agent.inference.guilt import CAMERA_HELD, QUARANTINED, Guilt


def picture(number: int) -> Picture:
    return Picture(number.to_bytes(4, "big"), "jpeg", 1, 1)


def convict(guilt: Guilt, number: int, camera: str, now: float) -> None:
    guilt.lost(picture(number), camera, now)
    assert guilt.lost(picture(number), camera, now)


def code(guilt: Guilt, number: int, camera: str, now: float) -> str | None:
    refusal = guilt.refusal(picture(number), camera, now)
    return refusal.code if refusal else None


def test_one_loss_makes_a_suspect_and_a_second_one_over_the_same_bytes_convicts() -> None:
    guilt = Guilt()
    assert not guilt.lost(picture(1), "a", 0)
    assert guilt.is_suspect(picture(1))
    assert code(guilt, 1, "a", 0) is None
    assert guilt.lost(picture(1), "a", 1)
    assert code(guilt, 1, "a", 1) == code(guilt, 1, "another camera", 1e6) == QUARANTINED
    assert code(guilt, 2, "a", 1) is None


def test_a_picture_that_was_answered_after_all_is_acquitted() -> None:
    guilt = Guilt()
    guilt.lost(picture(1), "a", 0)
    guilt.acquit(picture(1))
    assert not guilt.is_suspect(picture(1))
    assert not guilt.lost(picture(1), "a", 1)


def test_a_camera_is_held_after_three_convictions_for_longer_each_time_and_other_cameras_are_not() -> None:
    guilt = Guilt(limit=3, window_s=600, hold_s=30, cap_s=100)
    for number in range(2):
        convict(guilt, number, "bad", now=number)
    assert code(guilt, 9, "bad", 2) is None
    convict(guilt, 2, "bad", now=2)
    assert (code(guilt, 9, "bad", 31.9), code(guilt, 9, "good", 3)) == (CAMERA_HELD, None)
    assert code(guilt, 9, "bad", 32.1) is None
    convict(guilt, 3, "bad", now=40)
    assert (code(guilt, 9, "bad", 99), code(guilt, 9, "bad", 101)) == (CAMERA_HELD, None)
    convict(guilt, 4, "bad", now=110)
    assert (code(guilt, 9, "bad", 209), code(guilt, 9, "bad", 211)) == (CAMERA_HELD, None)


def test_convictions_long_ago_do_not_count() -> None:
    guilt = Guilt(limit=3, window_s=600)
    for number in range(5):
        convict(guilt, number, "a", now=number * 400.0)
        assert code(guilt, 99, "a", number * 400.0) is None


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=120))
def test_it_remembers_no_more_than_it_may(losses) -> None:
    guilt = Guilt(keep=8)
    for number, camera in losses:
        guilt.lost(picture(number), f"camera {camera}", 0.0)
    assert len(guilt._kills) <= 8
    assert len(guilt._sizes) <= 8
    assert len(guilt._cameras) <= 8
