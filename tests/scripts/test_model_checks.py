"""What holds Verge against other people's models: the table is whole, and its judgement is strict."""

import json

import numpy as np
import pytest

from agent.inference.runtime.planes import rle
from scripts.model_checks import judging
from scripts.model_checks.__main__ import EXPECTED, reference
from scripts.model_checks.packages import table
from scripts.model_checks.pictures import MAKERS, SAMPLES

FACE = {"label": "face", "score": 0.9, "box": {"x": 0.2, "y": 0.2, "width": 0.4, "height": 0.4}}
CAT = {"label": "cat", "label_id": 281, "score": 0.8}


def test_each_model_has_a_loop_with_numbers_for_each_picture_or_a_reason_why_not():
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    for model in table():
        assert model.why or set(expected[model.key]) == set(model.pictures), model.key
        assert not model.loop or callable(reference(model.loop))


def test_no_model_is_in_the_table_twice():
    keys = [each.key for each in table()]
    assert len(keys) == len(set(keys))


def test_each_picture_can_be_made():
    for model in table():
        for picture in model.pictures:
            base = picture.partition("@")[0].partition("-")[0]
            assert picture.partition("@")[0] in MAKERS or base in MAKERS or (SAMPLES / f"{base}.jpg").exists()


def test_an_answer_agrees_with_itself():
    assert judging.differs([FACE], [FACE]) == ""
    assert judging.differs([CAT], [CAT]) == ""


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "face 0.900 is missing"),
        ([FACE | {"score": 0.86}], "a score of 0.860 instead of 0.900"),
        ([FACE | {"box": FACE["box"] | {"x": 0.21}}], "a box with an IoU of 0.951"),
        ([FACE, FACE | {"box": FACE["box"] | {"y": 0.6}}], "face 0.900 is too much"),
        ([CAT], "classification instead of detection"),
    ],
)
def test_a_box_is_where_and_as_sure_as_the_reference_has_it(found, told):
    assert judging.differs([FACE], found) == told


def test_what_a_threshold_decides_may_be_missing():
    assert judging.differs([FACE, FACE | {"score": 0.51, "box": FACE["box"] | {"y": 0.6}}], [FACE]) == ""


def test_other_numbers_of_the_same_classes_are_told_from_another_kind():
    assert judging.read_otherwise([CAT], [CAT | {"score": 0.4}])
    assert not judging.read_otherwise([FACE], [CAT])
    assert not judging.read_otherwise([FACE], [FACE | {"score": 0.4}])


def test_a_vector_is_compared_by_its_direction():
    one = {"vector": [1.0, 2.0, 3.0]}
    assert judging.differs([one], [{"vector": [2.0, 4.0, 6.0]}]) == ""
    assert judging.differs([one], [{"vector": [3.0, 2.0, 1.0]}]) == "a cosine of 0.7143"


def test_a_text_may_have_one_wrong_character_of_twenty():
    assert judging.differs([{"text": "twelve green apples!"}], [{"text": "twelve green app1es!"}]) == ""
    assert judging.differs([{"text": "apples"}], [{"text": "app1es"}]) == "83% of the characters: 'app1es'"


def test_masks_are_the_same_pixels_however_their_runs_are_written():
    covered = np.random.default_rng(7).random((31, 47)) < 0.3
    flat = covered.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    mine = {"width": 47, "height": 31, "runs": [0, *runs] if flat[0] else runs}
    assert (judging.pixels(mine) == covered).all()
    assert (judging.pixels({"width": 47, "height": 31, "encoding": "rle", "data": rle(covered)}) == covered).all()
