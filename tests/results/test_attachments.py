from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.inference.predictions import (
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Mask,
    Parts,
    Prediction,
    Segmentation,
    Tensor,
    numbers_of,
)
from agent.inference.runtime.planes import rle
from agent.results import attachments
from agent.results.attachments import BYTES, LARGE, MAX_ATTACHMENTS, PNG, Detacher
from tests.results.made_results import LATER, TENSORS
from tests.support.answers import received
from tests.support.given import PREDICTIONS

BOX = Box(0.25, 0.25, 0.5, 0.5)
SQUARE = np.pad(np.ones((20, 20), bool), 10)
MASK = Mask(40, 40, rle(SQUARE))
FACE = Embedding("float32", 512, bytes(2048))


class Topics:
    """Takes attachments, but for those of some numbers."""

    def __init__(self, refused=()):
        self.taken = {}
        self._refused = list(refused)

    def __call__(self, number, data, content_type):
        if self._refused and self._refused.pop(0):
            return False
        assert number == len(self.taken)
        self.taken[number] = (data, content_type)
        return True


def detached(*predictions, form="rle", refused=()):
    topics = Topics(refused)
    detacher = Detacher(form, topics)
    return detacher.predictions(predictions), topics.taken, detacher.left_out


def rejoined(value, taken):
    """A prediction with its attachments' data in their places again."""
    if isinstance(value, tuple):
        return type(value)([rejoined(one, taken) for one in value])
    if not isinstance(value, Prediction | Image):
        return value
    joined = replace(value, **{key: rejoined(getattr(value, key), taken) for key in value.__struct_fields__})
    number = getattr(joined, "attachment", None)
    return joined if number is None else replace(joined, attachment=None, data=taken[number][0])


@given(st.lists(LATER, max_size=3) | st.lists(TENSORS, max_size=2) | st.lists(PREDICTIONS, max_size=3).map(received))
def test_a_result_and_its_attachments_are_the_whole(given):
    kept, taken, left_out = detached(*given)
    assert left_out == 0
    assert rejoined(kept, taken) == tuple(given)


@given(st.lists(LATER, max_size=3))
def test_without_a_place_for_it_everything_stays(given):
    detacher = Detacher("rle", None)
    given = tuple(given)
    assert detacher.predictions(given) is given


def test_a_map_is_a_png_of_its_own():
    (told,) = received([{"map": np.full((2, 3), 7, np.uint8), "minimum": 0, "maximum": 1}])
    (kept,), taken, _ = detached(told)
    assert kept == replace(told, map=Image(3, 2, attachment=0))
    data, content_type = taken[0]
    assert content_type == PNG
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).tolist() == [[7] * 3] * 2


def test_vectors_and_tensors_leave_when_their_bytes_are_many():
    small, large = (Embedding("float32", n // 4, bytes(n)) for n in (LARGE, LARGE + 4))
    kept, taken, _ = detached(small, large)
    assert kept == (small, replace(large, data=b"", attachment=0))
    assert taken == {0: (large.data, BYTES)}
    tensor = Tensor("out", (1, 512), "float32", bytes(2048), "base64")
    (kept,), taken, _ = detached(tensor)
    assert (kept.data, kept.attachment, taken[0]) == (None, 0, (tensor.data, BYTES))
    assert numbers_of(kept) is None


def test_what_has_nothing_large_is_the_very_same():
    given = (Classification("cat", 1, 0.9), Detection("cat", 1, 0.9, BOX, MASK), Detection("cat", 1, 0.8, BOX))
    detacher = Detacher("rle", Topics())
    assert detacher.predictions(given) is given


def test_masks_are_written_as_run_lengths_as_png_or_not_at_all():
    cat = Detection("cat", 1, 0.9, BOX, MASK)
    sky = Segmentation(label="sky", label_id=2, area=0.25, mask=MASK)
    kept, taken, _ = detached(cat, sky, form="none")
    assert (kept, taken) == ((replace(cat, mask=None), replace(sky, mask=None)), {})
    kept, taken, _ = detached(cat, sky, form="png")
    assert [one.mask for one in kept] == [Image(40, 40, attachment=0), Image(40, 40, attachment=1)]
    for data, content_type in taken.values():
        assert content_type == PNG
        assert ((cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) > 0) == SQUARE).all()


def test_png_may_stay_in_the_result():
    (kept,) = Detacher("png", None).predictions((Detection("cat", 1, 0.9, BOX, MASK),))
    assert kept.mask.data.startswith(b"\x89PNG")


def test_the_parts_of_a_detection_leave_too():
    face = Detection("face", 0, 0.9, BOX, parts=Parts([FACE]))
    (person, other), taken, _ = detached(Detection("person", 0, 0.9, BOX, parts=Parts([face])), FACE)
    assert person.parts[0].parts[0].attachment == 0
    assert other.attachment == 1
    assert len(taken) == 2


def test_what_has_no_room_is_spoken_of_without_a_number_and_the_next_one_takes_it():
    kept, taken, left_out = detached(FACE, FACE, FACE, refused=[True, False, True])
    assert [one.attachment for one in kept] == [None, 0, None]
    assert [one.data for one in kept] == [b"", b"", b""]
    assert (len(taken), left_out) == (1, 0)


def test_a_result_has_a_bounded_number_of_attachments_and_the_rest_is_counted():
    kept, taken, left_out = detached(*[FACE] * (MAX_ATTACHMENTS + 3))
    assert [one.attachment for one in kept] == [*range(MAX_ATTACHMENTS), None, None, None]
    assert (len(taken), left_out) == (MAX_ATTACHMENTS, 3)


def test_masks_of_mere_noise_cost_a_bounded_time(monkeypatch):
    monkeypatch.setattr(attachments, "MAX_RUN_LENGTHS", 2 * len(MASK.data))
    kept, taken, left_out = detached(*[Detection("cat", 1, 0.9, BOX, MASK)] * 3, form="png")
    assert [one.mask for one in kept] == [Image(40, 40, attachment=0), Image(40, 40, attachment=1), None]
    assert (len(taken), left_out) == (2, 1)


@pytest.mark.parametrize(("form", "kept"), [("rle", MASK), ("png", None), ("none", None)])
def test_what_is_no_mask_at_all_is_left_out(form, kept):
    broken = Mask(40, 40, "no run lengths")
    (told,), _, left_out = detached(Detection("cat", 1, 0.9, BOX, broken), form=form)
    assert told.mask == (broken if kept else None)
    assert left_out == (form == "png")
