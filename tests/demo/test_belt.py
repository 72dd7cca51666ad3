"""Pictures of parts: what a scratch changes, and that numbers draw everything."""

from __future__ import annotations

import itertools
import json

import cv2
import numpy as np
import pytest

from agent.config.streams import FrameLimits
from agent.demo import belt
from agent.demo.camera import Line
from agent.frames.recognise import recognise

NUMBERS = range(6)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_gives_the_same_picture_each_time(number):
    one, other = (belt.part(7, number, scratched=True) for _ in range(2))
    assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(one.mask, other.mask)


def test_no_two_parts_look_alike():
    seen = [belt.part(series, number, scratched=False).pixels for series in (7, 8) for number in range(3)]
    assert all(np.abs(one.astype(int) - other).mean() > 5 for one, other in itertools.combinations(seen, 2))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_scratch_changes_the_part_where_its_mask_says_and_nowhere_far_from_it(number):
    good, bad = (belt.part(7, number, scratched=scratched) for scratched in (False, True))
    assert (good.scratched, bad.scratched) == (False, True)
    assert good.pixels.shape == bad.pixels.shape == (belt.SIDE, belt.SIDE, 3)
    change = np.abs(good.pixels.astype(int) - bad.pixels).max(axis=2)
    near = cv2.dilate(bad.mask.astype(np.uint8), np.ones((25, 25))).astype(bool)
    assert change[bad.mask].mean() > 8
    assert 0 < bad.mask.mean() < 0.02
    assert change[near].sum() > 0.9 * change.sum()


def test_a_camera_above_a_belt_sends_the_truth_beside_each_picture():
    line = Line(0)
    messages = [line.message(0.0) for _ in range(12)]
    assert [json.loads(message)["part"] for message in messages] == list(range(1, 13))
    assert {json.loads(message)["scratched"] for message in messages} == {False, True}
    picture = recognise(messages[0], None, FrameLimits())
    assert (picture.width, picture.height) == (belt.SIDE, belt.SIDE)
    assert set(picture.metadata) == {"part", "scratched"}
