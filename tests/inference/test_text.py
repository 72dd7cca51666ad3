"""Where something is written, and what: the plane of a text detector, and the steps of a reader."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from agent.inference.runtime.base import NAMED, SAID, Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.detection import ObjectDetection
from agent.inference.runtime.tasks.text import TextRecognition

WIDTH, HEIGHT = 320, 240
FRAME = Geometry(640, 480, WIDTH, HEIGHT)
PICTURE = [TensorInfo("x", (-1, 3, -1, -1), "float32")]
PLANE = [TensorInfo("sigmoid_0.tmp_0", (-1, 1, -1, -1), "float32")]


def places(plane: np.ndarray, **options) -> list[dict]:
    task = ObjectDetection({"decoder": "dbnet", **options}, Labels(), PICTURE, PLANE)
    return task.predictions([plane[None, None]], FRAME)


def plane_with(centre, size, degrees: float, likely: float = 0.9) -> np.ndarray:
    plane = np.zeros((HEIGHT, WIDTH), np.float32)
    corners = cv2.boxPoints((centre, size, degrees))
    cv2.fillPoly(plane, [np.round(corners).astype(np.int32)], likely)
    return plane


def test_a_line_is_its_outline_grown_to_what_it_was_before_training_shrank_it() -> None:
    (line,) = places(plane_with((160, 120), (100, 20), 0))
    # 101 × 21 pixels, grown by area × 1.6 / circumference at each side; one more by spreading.
    distance = 101 * 21 * 1.6 / (2 * (101 + 21))
    assert line["label"] == "text"
    assert line["score"] == pytest.approx(0.9, abs=0.05)
    assert line["box"]["width"] * WIDTH == pytest.approx(101 + 2 * distance, abs=2.5)
    assert line["box"]["height"] * HEIGHT == pytest.approx(21 + 2 * distance, abs=2.5)
    assert line["angle"] == 0


@pytest.mark.parametrize("degrees", [-30, -10, 10, 30])
def test_a_slanted_line_keeps_its_corners_and_its_angle(degrees) -> None:
    (line,) = places(plane_with((160, 120), (120, 16), degrees))
    assert line["angle"] == pytest.approx(degrees, abs=2)
    right = np.subtract(line["corners"][1], line["corners"][0]) * (WIDTH, HEIGHT)
    assert math.hypot(*right) == pytest.approx(121 + 2 * 121 * 17 * 1.6 / (2 * 138), abs=4)


def test_specks_and_what_is_unlikely_are_no_writing() -> None:
    plane = plane_with((160, 120), (100, 20), 0, likely=0.4)
    plane[10:12, 10:12] = 1
    assert places(plane) == []
    assert len(places(plane, threshold=0.3)) == 1


def test_a_plane_that_holds_no_probabilities_is_an_error() -> None:
    with pytest.raises(ModelError, match="no score is above 1"):
        places(plane_with((160, 120), (100, 20), 0, likely=7.5))
    assert len(places(plane_with((160, 120), (100, 20), 0, likely=7.5) - 4, activation="sigmoid")) == 1


def test_an_open_plane_of_a_known_name_is_taken_for_writing_and_another_is_not() -> None:
    claims = ObjectDetection.claims(Network(PICTURE, PLANE, Labels()))
    assert [claim.options["decoder"] for claim in claims] == ["dbnet"]
    depth = [TensorInfo("depth", (-1, 1, -1, -1), "float32")]
    assert not ObjectDetection.claims(Network(PICTURE, depth, Labels()))


# Reading


ABC = Labels(dict(enumerate("abcdefghij")))


def steps(best: str, alphabet: str = "-abcdefghij ", likely: float = 0.89) -> np.ndarray:
    rest = (1 - likely) / (len(alphabet) - 1)
    rows = [[likely if sign == one else rest for one in alphabet] for sign in best]
    return np.array([rows], np.float32)


def read(array: np.ndarray, labels: Labels = ABC, **options) -> list[dict]:
    info = [TensorInfo("softmax", (1, -1, array.shape[-1]), "float32")]
    return TextRecognition(options, labels, PICTURE, info).predictions([array], FRAME)


def test_repeats_are_one_character_and_a_blank_between_makes_them_two() -> None:
    (line,) = read(steps("--aab-b  cc-"))
    assert line["text"] == "abb c"
    assert line["character_scores"] == [pytest.approx(0.89)] * 5
    assert line["score"] == pytest.approx(0.89)


def test_a_network_without_the_space_and_one_with_the_blank_last_are_read() -> None:
    assert read(steps("-a-b", "-abcdefghij"))[0]["text"] == "ab"
    assert read(steps("-a-b", "abcdefghij-"), blank="last")[0]["text"] == "ab"


def test_logits_pass_through_softmax_and_steps_may_come_before_the_batch() -> None:
    assert read(np.log(steps("-a-b")) + 3)[0]["text"] == "ab"
    turned = steps("-a-b").transpose(1, 0, 2)
    info = [TensorInfo("out", (-1, 1, turned.shape[-1]), "float32")]
    assert TextRecognition({}, ABC, PICTURE, info).predictions([turned], FRAME)[0]["text"] == "ab"


def test_what_is_hardly_legible_is_left_out_and_an_empty_line_is_nothing() -> None:
    assert read(steps("-a-b", likely=0.4)) == []
    assert read(steps("-a-b", likely=0.4), threshold=0.3)[0]["text"] == "ab"
    assert read(steps("----")) == []


def test_a_list_of_characters_of_another_length_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError, match="knows 12 characters with the blank, and the labels are 7") as refused:
        read(steps("-a-b"), Labels(dict(enumerate("abcdefg"))))
    assert refused.value.code == "labels-count-wrong"


def test_as_many_steps_as_there_are_characters_are_said_to_be_text() -> None:
    info = [TensorInfo("out", (-1, -1, 12), "float32")]
    (claim,) = TextRecognition.claims(Network(PICTURE, info, ABC))
    assert (claim.strength, claim.against) == (SAID, "")
    assert claim.input["height"] == 48
    (claim,) = TextRecognition.claims(Network(PICTURE, info, Labels()))
    assert claim.against == "nobody says which characters it knows"
    beside = [*info, TensorInfo("boxes", (-1, -1, 4), "float32")]
    assert not TextRecognition.claims(Network(PICTURE, beside, ABC))
    strip = [TensorInfo("x", (-1, 3, 48, -1), "float32")]
    (claim,) = TextRecognition.claims(Network(strip, info, Labels()))
    assert claim.strength == NAMED


def test_a_network_that_has_the_space_twice_is_read() -> None:
    assert read(steps("-a-b", "-abcdefghij  "))[0]["text"] == "ab"
