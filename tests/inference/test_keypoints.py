"""Key points alone, decoded by hand: each family's numbers, names, scores and what is not read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.inference.runtime import kinds, recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.keypoints import KeypointDetection

SIDE = 200


def network(outputs, *, names=None, size=SIDE, facts=None):
    names = names or [f"out{n}" for n in range(len(outputs))]
    infos = [TensorInfo(name, np.shape(output), "float32") for name, output in zip(names, outputs, strict=True)]
    return Network([TensorInfo("image", (1, size, size, 3), "float32")], infos, Labels(), facts or {})


def told(*outputs, names=None, geometry=None, labels=(), size=SIDE, **options):
    given = network(outputs, names=names, size=size)
    task = KeypointDetection(options, Labels(dict(enumerate(labels))), given.inputs, given.outputs)
    arrays = [np.asarray(output, np.float32) for output in outputs]
    return task.predictions(arrays, geometry or Geometry(640, 480, size, size))


def settled(*outputs, **facts):
    given = network(outputs, facts=facts)
    arrays = [np.asarray(output, np.float32) for output in outputs]
    return recognition.settle(given, {}, lambda _: (arrays, Geometry(640, 480, SIDE, SIDE)))


def hand(presence=0.9, handedness=0.8, metres=0.01):
    places = np.zeros((1, 63))
    places[0, -3:] = (50, 150, -20)
    return [places, [[presence]], [[handedness]], np.full((1, 63), metres)]


def test_a_hand_has_21_named_points_with_depth_a_presence_and_a_side():
    (found,) = told(*hand())
    assert (found["label"], found["label_id"], found["score"]) == ("Left", 0, 0.9)
    points = found["keypoints"]
    assert len(points) == 21
    assert points[0] == {"x": 0.0, "y": 0.0, "z": 0.0, "name": "wrist"}
    # The depth of a hand is trained at 0.4 of the scale of x.
    assert points[20] == {"x": 0.25, "y": 0.75, "z": -0.25, "name": "pinky_tip"}
    assert [point["name"] for point in points[4:9:4]] == ["thumb_tip", "index_finger_tip"]
    assert kinds.kind_of(found) == "keypoints"
    assert told(*hand(handedness=0.2), labels=["links", "rechts"])[0]["label"] == "rechts"


def test_a_hand_that_is_not_there_is_not_told():
    assert told(*hand(presence=0.4)) == []
    assert len(told(*hand(presence=0.4), threshold=0.3)) == 1


def test_points_follow_the_crop_in_the_frame():
    (found,) = told(*hand(), geometry=Geometry(640, 480, SIDE, SIDE, 0.5, 0.0, 0.5, 0.5))
    assert found["keypoints"][20] == {"x": 0.625, "y": 0.375, "z": -0.125, "name": "pinky_tip"}


def test_outputs_that_the_converter_numbered_are_read_in_that_order():
    shuffled = [hand()[place] for place in (3, 2, 1, 0)]
    assert told(*shuffled, names=["Identity_3", "Identity_2", "Identity_1", "Identity"]) == told(*hand())
    assert told(*shuffled, names=["Identity_3:0", "Identity_2:0", "Identity_1:0", "Identity:0"]) == told(*hand())


@pytest.mark.parametrize(("count", "extra"), [(468, []), (478, [[[0.0]]])])
def test_the_presence_of_a_face_passes_through_sigmoid(count, extra):
    (found,) = told(np.full((1, 1, 1, count * 3), 100.0), [[[[math.log(3)]]]], *extra)
    assert found["score"] == pytest.approx(0.75, abs=1e-6)
    assert found["keypoints"] == [{"x": 0.5, "y": 0.5, "z": 0.5}] * count
    assert told(np.zeros((1, 1, 1, count * 3)), [[[[-1.0]]]], *extra) == []


def test_irises_follow_the_face_where_the_network_refines_them():
    iris = np.arange(10.0).reshape(1, 10)
    parts = [np.full((1, 1404), 20.0), np.zeros((1, 160)), np.zeros((1, 142)), np.zeros((1, 142)), iris, iris, [[9.0]]]
    (found,) = told(*parts)
    assert len(found["keypoints"]) == 478
    assert found["keypoints"][469] == {"x": 0.01, "y": 0.015}


def test_a_body_has_33_points_and_a_point_s_score_is_that_it_can_be_seen():
    points = np.tile([40.0, 60.0, -100.0, math.log(4), 5.0], 39)
    (found,) = told(points[None], [[0.75]], np.zeros((1, 256, 256, 1)), np.zeros((1, 64, 64, 39)), np.zeros((1, 117)))
    assert found["score"] == 0.75
    assert "label" not in found
    names = [point["name"] for point in found["keypoints"]]
    assert len(names) == len(set(names)) == 33
    assert (names[0], names[2], names[11], names[16], names[32]) == (
        "nose", "left_eye", "left_shoulder", "right_wrist", "right_foot_index",
    )  # fmt: skip
    assert found["keypoints"][0] == {"x": 0.2, "y": 0.3, "z": -0.5, "score": 0.8, "name": "nose"}


def test_an_eye_and_its_iris_have_no_score():
    (found,) = told(np.full((1, 213), 20.0), np.full((1, 15), 40.0))
    assert set(found) == {"keypoints"}
    assert len(found["keypoints"]) == 76
    assert found["keypoints"][0] == {"x": 0.1, "y": 0.1, "z": 0.1}
    assert found["keypoints"][71] == {"x": 0.2, "y": 0.2, "z": 0.2, "name": "iris_center"}


def test_a_box_in_space_stays_a_tensor_and_the_note_says_so():
    arrays = [np.full((1, 18), 112.0, np.float32), np.full((1, 1), 0.9, np.float32)]
    found = recognition.settle(network(arrays, size=224), {}, lambda _: (arrays, Geometry(640, 480, 224, 224)))
    assert found.task.name == "tensors"
    assert "its 9 points are a box in space" in found.notes[0]


def test_movenet_says_y_before_x_in_fractions():
    (found,) = told(np.tile([0.25, 0.75, 0.5], 17).reshape(1, 1, 17, 3))
    assert found["keypoints"][16] == {"x": 0.75, "y": 0.25, "score": 0.5, "name": "right_ankle"}


@pytest.mark.parametrize("unit", [1.0, SIDE])
def test_points_of_a_face_alone_are_fractions_or_pixels_by_their_numbers(unit):
    (found,) = told(np.tile([0.5 * unit, 0.25 * unit], 68)[None])
    assert found["keypoints"] == [{"x": 0.5, "y": 0.25}] * 68


def test_106_points_of_a_face_go_from_minus_one_to_one_and_its_pixels_from_0_to_255():
    (found,) = told(np.tile([0.5, -0.5], 106)[None])
    assert found["keypoints"] == [{"x": 0.75, "y": 0.25}] * 106
    assert settled(np.full((1, 212), 0.5)).describe()["input"]["std"] == [1.0]


def test_mxnet_s_last_layer_is_points_where_their_number_is_known_and_no_embedding():
    found = settled(np.full((1, 212), 0.5), names=["fc1"])
    assert (found.task.name, found.task.decoder) == ("keypoints", "face-points")
    assert settled(np.full((1, 3309), 0.5), names=["fc1"]).task.name == "tensors"


def test_a_presence_above_one_is_an_error_and_no_result():
    with pytest.raises(ModelError, match="no score is above 1"):
        told(*hand(presence=1.5))


# Recognition


def test_what_the_outputs_are_is_said_in_the_claim():
    found = settled(*hand())
    assert (found.task.name, found.task.decoder) == ("keypoints", "hand-landmarks")
    assert found.describe()["why"] == "its outputs are 21 points with depth and whether there is a hand"
    assert found.describe()["evidence"] == "fits"
    assert found.describe()["input"] == {"resize": "stretch", "color": "RGB", "mean": [0.0], "std": [255.0]}
    assert settled(*hand(), description="Predicts hand landmarks").describe()["evidence"] == "named"


@pytest.mark.parametrize(
    ("outputs", "doubt"),
    [(hand(presence=7), "its presence is 7"), (hand(presence=-7), "its presence is -7")],
)
def test_numbers_that_are_no_presence_speak_against_it(outputs, doubt):
    found = settled(*outputs)
    assert found.task.name == "tensors"
    assert doubt in found.notes[0]


def test_points_outside_the_picture_speak_against_it():
    found = settled(np.full((1, 136), 9e4))
    assert found.task.name == "tensors"
    assert settled(np.full((1, 136), 90.0)).task.name == "keypoints"


def test_a_crop_for_another_network_stays_a_tensor_and_the_note_says_so():
    given = network([[[[[128.0, 130.0, 137.0, 216.0]]]]], names=["output_crop"])
    arrays = [np.full((1, 1, 1, 4), 128.0, np.float32)]
    found = recognition.settle(given, {}, lambda _: (arrays, Geometry(640, 480, SIDE, SIDE)))
    assert found.task.name == "tensors"
    assert "its 4 numbers are a crop for another network, not points" in found.notes[0]


def test_other_outputs_are_refused_with_what_is_known():
    given = network([np.zeros((1, 7))])
    with pytest.raises(ModelError, match=r"out0 \[1, 7\]: no points are known") as caught:
        KeypointDetection({}, Labels(), given.inputs, given.outputs)
    assert "21 points with depth" in caught.value.hint
