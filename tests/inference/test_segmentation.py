"""Masks of classes and maps of numbers, by planes small enough to be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.inference.runtime import kinds, recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.maps import Maps
from agent.inference.runtime.tasks.segmentation import SemanticSegmentation

SIDE = 16
WHOLE = Geometry(640, 480, SIDE, SIDE)
TALL = Geometry(8, 16, SIDE, SIDE, -0.5, 0.0, 2.0, 1.0)
"""A frame half as wide as high, between two bars."""


def network(*outputs, names=None, labels=(), facts=None, side=SIDE, image="image", planar=False):
    names = names or [f"out{n}" for n in range(len(outputs))]
    infos = [TensorInfo(name, np.shape(each), each.dtype.name) for name, each in zip(names, outputs, strict=True)]
    inputs = [TensorInfo(image, (1, 3, side, side) if planar else (1, side, side, 3), "float32")]
    return Network(inputs, infos, Labels(dict(enumerate(labels))), facts or {})


def told(*outputs, labels=(), geometry=WHOLE, kind=SemanticSegmentation, **options):
    given = network(*outputs, labels=labels)
    return kind(options, given.labels, given.inputs, given.outputs).predictions(list(outputs), geometry)


def settled(*outputs, geometry=WHOLE, **how):
    given = network(*outputs, **how)
    return recognition.settle(given, {}, lambda _: (list(outputs), geometry))


def logits(*rows):
    """Three classes: class 0 with a logit of 1 everywhere, the others with 3 in their rows."""
    values = np.full((1, 3, SIDE, SIDE), -1.0, np.float32)
    values[0, 0] = 1.0
    for number, (first, last) in enumerate(rows, 1):
        values[0, number, first:last] = 3.0
    return values


def test_each_pixel_belongs_to_its_likeliest_class():
    found = told(logits((0, 4), (12, 16)), labels=["floor", "cat", "dog"])
    assert [(one["label"], one["label_id"], one["area"]) for one in found] == [
        ("floor", 0, 0.5), ("cat", 1, 0.25), ("dog", 2, 0.25),
    ]  # fmt: skip
    cat = found[1]
    assert cat["mask"].dtype == np.bool_
    assert cat["mask"].sum() == cat["mask"][:4].sum() == 4 * SIDE
    assert cat["score"] == pytest.approx(math.exp(3) / (math.exp(3) + math.exp(1) + math.exp(-1)), abs=1e-6)
    assert kinds.kind_of(cat) == "segmentation"


def test_channels_last_give_the_same():
    first = told(logits((0, 4), (12, 16)))
    last = told(np.ascontiguousarray(logits((0, 4), (12, 16)).transpose(0, 2, 3, 1)))
    assert [one["area"] for one in first] == [one["area"] for one in last]
    assert all((a["mask"] == b["mask"]).all() for a, b in zip(first, last, strict=True))


def test_a_class_that_is_nowhere_is_not_told():
    assert [one["label_id"] for one in told(logits((0, 4)))] == [0, 1]


@pytest.mark.parametrize(("labels", "options"), [(["background", "cat", "dog"], {}), ([], {"background": True})])
def test_the_background_is_left_out_where_it_is_named_or_said(labels, options):
    assert [one["label_id"] for one in told(logits((0, 4)), labels=labels, **options)] == [1]
    assert len(told(logits((0, 4)), labels=labels, background=False)) == 2


def test_probabilities_are_not_made_probabilities_again():
    values = np.zeros((1, 2, SIDE, SIDE), np.float32)
    values[0, 0], values[0, 1] = 0.2, 0.8
    (found,) = told(values)
    assert (found["label_id"], found["score"], found["area"]) == (1, 0.8, 1.0)


@pytest.mark.parametrize("shape", [(1, SIDE, SIDE), (1, 1, SIDE, SIDE), (1, SIDE, SIDE, 1)])
def test_whole_numbers_are_the_classes_themselves(shape):
    ids = np.zeros((SIDE, SIDE), np.int64)
    ids[:8] = 7
    ids[0, 0] = 2
    found = told(ids.reshape(shape))
    assert [(one["label"], one["area"]) for one in found] == [
        ("class 0", 0.5), ("class 7", round(127 / 256, 6)), ("class 2", round(1 / 256, 6)),
    ]  # fmt: skip
    assert all("score" not in one for one in found)


@pytest.mark.parametrize("shape", [(1, SIDE, SIDE), (1, 1, SIDE, SIDE), (1, SIDE, SIDE, 1)])
def test_one_plane_is_the_mask_of_one_class(shape):
    plane = np.zeros((SIDE, SIDE), np.float32)
    plane[:, :4], plane[:, 4:8] = 0.9, 0.4
    (found,) = told(plane.reshape(shape))
    assert (found["label"], found["score"], found["area"]) == ("foreground", 0.9, 0.25)
    (found,) = told(plane.reshape(shape), threshold=0.3, labels=["selfie"])
    assert (found["label"], found["score"], found["area"]) == ("selfie", 0.65, 0.5)
    assert told(np.zeros(shape, np.float32)) == []


def test_one_plane_of_logits_passes_through_sigmoid():
    plane = np.full((1, SIDE, SIDE, 1), -5.0, np.float32)
    plane[0, :4] = math.log(3)
    (found,) = told(plane)
    assert (found["score"], found["area"]) == (pytest.approx(0.75), 0.25)


def test_classes_beside_each_other_may_be_true_at_once():
    values = np.zeros((1, 2, SIDE, SIDE), np.float32)
    values[0, 0], values[0, 1] = 2.0, 1.0
    assert [one["area"] for one in told(values, activation="sigmoid")] == [1.0, 1.0]


def test_masks_cover_the_frame_without_the_padding():
    plane = np.zeros((1, SIDE, SIDE), np.float32)
    plane[0, :8] = 1.0
    (found,) = told(plane, geometry=TALL)
    assert found["mask"].shape == (16, 8)
    assert found["area"] == 0.5
    plane[:] = 0.0
    plane[0, :, :4] = 1.0  # in the bar
    assert told(plane, geometry=TALL) == []


def test_what_the_network_did_not_see_of_the_frame_belongs_to_nothing():
    (found,) = told(np.ones((1, SIDE, SIDE), np.float32), geometry=Geometry(64, 64, SIDE, SIDE, 0.25, 0.5, 0.5, 0.25))
    assert found["mask"].shape == (64, 32)
    assert found["mask"].sum() == found["mask"][32:48, 8:24].sum() == 256


def test_scores_above_one_are_an_error_and_no_result():
    with pytest.raises(ModelError, match="no score is above 1"):
        told(np.full((1, SIDE, SIDE), 3.0, np.float32), activation="none")


# Recognition


def test_numbers_for_each_pixel_are_believed_when_they_can_be_nothing_else():
    assert settled(logits((0, 4))).task.decoder == "class-scores"
    assert settled(np.full((1, SIDE, SIDE, 1), 0.5, np.float32)).task.decoder == "mask"
    assert settled(np.full((1, SIDE, SIDE), 3, np.int32)).task.decoder == "class-ids"


def test_smaller_planes_want_a_name_or_as_many_labels():
    small = logits((0, 4))[..., ::2, ::2]
    assert settled(small, side=SIDE).task.name == "tensors"
    assert settled(small, labels=["a", "b", "c"]).task.name == "segmentation"
    found = settled(small, names=["logits"], image="pixel_values")
    assert (found.task.name, found.describe()["evidence"]) == ("segmentation", "named")
    assert found.describe()["input"]["mean"] == [123.675, 116.28, 103.53]


@pytest.mark.parametrize(
    ("outputs", "note"),
    [
        (np.random.default_rng(1).uniform(0, 1, (1, 3, SIDE, SIDE)), "its 3 planes may be a picture"),
        (np.random.default_rng(1).uniform(0, 9, (1, 5, SIDE, SIDE)), "neither probabilities nor logits"),
    ],
)
def test_planes_that_may_be_something_else_stay_tensors(outputs, note):
    found = settled(outputs.astype(np.float32))
    assert found.task.name == "tensors"
    assert note in found.notes[0]


def test_classes_beyond_the_labels_speak_against_it():
    ids = np.full((1, SIDE, SIDE), 3, np.int64)
    for outputs in (ids, logits((0, 4))):
        with pytest.raises(ModelError, match="without them the network is taken for class-") as caught:
            settled(outputs, labels=["a", "b"])
        assert caught.value.code == "labels-count-wrong"


def test_further_outputs_of_the_same_classes_are_not_read():
    found = settled(logits((0, 4)), logits(), names=["out", "aux"])
    assert found.task.name == "segmentation"
    assert found.describe()["input"]["std"] == [58.395, 57.12, 57.375]
    assert settled(logits((0, 4)), np.zeros((1, 5, SIDE, SIDE), np.float32)).task.name == "tensors"


def test_mediapipe_s_selfie_is_told_by_its_output_and_fed_from_0_to_1():
    found = settled(np.full((1, SIDE, SIDE, 1), 0.5, np.float32), names=["activation_10"])
    assert (found.describe()["evidence"], found.describe()["input"]["std"]) == ("named", [255.0])


def test_a_plane_that_paddleocr_names_is_writing_and_no_mask():
    found = settled(np.zeros((1, 1, SIDE, SIDE), np.float32), names=["sigmoid_0.tmp_0"], planar=True)
    assert (found.task.name, found.task.decoder) == ("object-detection", "dbnet")


# Maps


def test_depth_is_told_with_what_its_ends_stand_for():
    plane = np.linspace(100, 300, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    (found,) = told(plane, kind=Maps)
    assert (found["minimum"], found["maximum"]) == (100.0, 300.0)
    assert (found["map"].dtype, found["map"].shape) == (np.uint8, (SIDE, SIDE))
    assert (found["map"].flat[0], found["map"].flat[-1]) == (0, 255)
    assert kinds.kind_of(found) == "map"


def test_names_say_depth_and_how_it_is_fed():
    plane = np.ones((1, 1, SIDE, SIDE), np.float32)
    found = settled(plane, names=["predicted_depth"])
    assert (found.task.name, found.task.decoder, found.describe()["evidence"]) == ("map", "depth", "named")
    assert found.describe()["input"]["mean"] == [123.675, 116.28, 103.53]


def test_one_plane_of_other_numbers_is_a_map_of_whatever_they_are():
    found = settled(np.full((1, SIDE, SIDE), 42.0, np.float32))
    assert (found.task.name, found.task.decoder) == ("map", "other")


def test_shares_of_the_foreground_go_from_0_to_1_always():
    plane = np.full((1, 1, SIDE, SIDE), 0.5, np.float32)
    found = settled(plane, names=["alpha"])
    assert (found.task.name, found.task.decoder) == ("map", "alpha")
    (told_of,) = found.task.predictions([plane], WHOLE)
    assert (told_of["minimum"], told_of["maximum"], int(told_of["map"][0, 0])) == (0.0, 1.0, 128)
    assert "are no shares" in settled(plane * 9, names=["alpha"]).notes[0]


def test_a_map_covers_the_frame_without_the_padding():
    (found,) = told(np.ones((1, SIDE, SIDE), np.float32), kind=Maps, geometry=TALL)
    assert found["map"].shape == (16, 8)
    (found,) = told(np.ones((1, SIDE, SIDE), np.float32), kind=Maps, geometry=TALL)
    assert found["map"].shape == (16, 8)


def test_a_picture_stays_a_tensor_and_the_note_says_so():
    found = settled(np.random.default_rng(1).uniform(0, 1, (1, 3, 2 * SIDE, 2 * SIDE)).astype(np.float32))
    assert found.task.name == "tensors"
    assert "a picture is no prediction" in found.notes[0]
