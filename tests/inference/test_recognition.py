"""What a network is taken for, on what that rests, and what the numbers of its first run say to it."""

from __future__ import annotations

import numpy as np
import pytest

from agent.inference.runtime import recognition
from agent.inference.runtime.base import Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.recognition import Settled

SIDE = 64
FRAME = Geometry(640, 480, SIDE, SIDE)
CELLS = 84
"""Of strides 8, 16 and 32 in a picture of 64 × 64."""


def settled(*outputs: np.ndarray, names=None, labels=(), facts=None, **manifest) -> Settled:
    names = names or [f"out{n}" for n in range(len(outputs))]
    arrays = [np.asarray(output, np.float32) for output in outputs]
    network = Network(
        [TensorInfo("image", (1, SIDE, SIDE, 3), "float32")],
        [TensorInfo(name, array.shape, "float32") for name, array in zip(names, arrays, strict=True)],
        Labels(dict(enumerate(labels)), len(labels)),
        facts or {},
        manifest.get("options", {}),
    )
    return recognition.settle(network, manifest, lambda _preprocess: (arrays, FRAME))


def rows(scores: float, classes: int = 2) -> np.ndarray:
    """A head of the YOLOv8 kind: boxes in pixels all over the picture, every score the same."""
    boxes = np.random.default_rng(1).uniform(8, 56, (1, 4, CELLS))
    return np.concatenate([boxes, np.full((1, classes, CELLS), scores)], axis=1)


def test_a_vector_of_probabilities_is_a_classification() -> None:
    told = settled([[0.1, 0.7, 0.2]])
    assert told.task.name == "image-classification"
    assert told.describe()["evidence"] == "fits"


def test_a_vector_of_other_numbers_that_nothing_names_stays_a_tensor_and_the_note_says_why() -> None:
    told = settled([[306.0, 12.0, -4.0]])
    assert told.task.name == "tensors"
    assert told.notes[0] == (
        "no task fits; the nearest is image-classification (its output is one vector), "
        "but its 3 numbers are no probabilities, and nothing names them scores"
    )


@pytest.mark.parametrize(
    ("name", "output"),
    [("pred_bbox", [[0.2, 0.3, 0.4, 0.1]]), ("flow", np.random.default_rng(1).normal(0, 5, (1, 2, SIDE, SIDE)))],
)
def test_what_its_name_says_to_be_a_place_or_a_direction_is_no_score_by_its_shape(name, output) -> None:
    told = settled(output, names=[name])
    assert told.task.name == "tensors"
    assert told.notes[0].endswith(f"but its output is called {name}")
    task = "segmentation" if name == "flow" else "image-classification"
    assert settled(output, names=[name], task=task).task.name == task


@pytest.mark.parametrize("how", [{"labels": ["a", "b", "c"]}, {"facts": {"task": "classify"}}, {"names": ["logits"]}])
def test_logits_are_scores_where_labels_metadata_or_a_name_say_so(how) -> None:
    assert settled([[306.0, 12.0, -4.0]], **how).task.name == "image-classification"


def test_a_classifier_of_ultralytics_is_fed_the_middle_of_the_frame_and_no_other_one_is() -> None:
    told = settled([[0.1, 0.7, 0.2]], facts={"task": "classify"})
    assert told.claim.input == {"resize": "crop", "color": "RGB", "mean": [0.0], "std": [255.0]}
    assert settled([[0.1, 0.7, 0.2]], facts={"task": "image-classification"}).claim.input == {}


def test_a_head_whose_scores_are_above_one_is_not_taken_and_is_named() -> None:
    assert settled(rows(0.5)).task.decoder == "yolov8"
    told = settled(rows(1.317))
    assert told.task.name == "tensors"
    assert "the nearest is yolov8" in told.notes[0]
    assert "a score is 1.317" in told.notes[0]


def test_a_head_whose_boxes_lie_outside_the_picture_is_not_taken() -> None:
    outputs = rows(0.5)
    outputs[:, :4] *= 40
    told = settled(outputs)
    assert told.task.name == "tensors"
    assert "of the boxes lie outside the picture" in told.notes[0]


def test_what_the_manifest_names_is_an_error_where_the_numbers_are_no_scores() -> None:
    with pytest.raises(ModelError, match=r"not what yolov8 reads: a score is 1\.317"):
        settled(rows(1.317), task="object-detection")


def test_a_decoder_that_the_manifest_names_is_an_error_where_the_numbers_speak_against_it() -> None:
    with pytest.raises(ModelError, match=r"not what yolov8 reads: a score is 1\.317"):
        settled(rows(1.317), options={"decoder": "yolov8"})


def test_what_the_manifest_names_is_told_and_not_guessed() -> None:
    assert settled(rows(0.5), options={"decoder": "yolov8"}).describe()["evidence"] == "told"
    assert settled(rows(0.5), task="object-detection").describe()["evidence"] == "fits"
    assert settled([[0.1, 0.7, 0.2]], task="image-classification").describe()["evidence"] == "told"


def test_options_of_the_task_tensors_hold_where_no_other_task_fits() -> None:
    assert settled([[306.0, 12.0, -4.0]], options={"format": "base64"}).task.name == "tensors"


def test_a_normalisation_that_nobody_says_is_noted_and_one_that_somebody_says_is_not() -> None:
    (note,) = settled([[0.1, 0.7, 0.2]]).notes
    assert "0 to 1 is assumed" in note
    assert settled([[0.1, 0.7, 0.2]], input={"std": 255}).notes == ()
    assert settled([[0.1, 0.7, 0.2]], facts={"mean": [127.5], "std": [127.5]}).notes == ()


def test_a_second_head_that_holds_as_well_is_noted() -> None:
    # Boxes, one column between and one class: an objectness and a class, or two classes.
    outputs = np.concatenate([rows(0.5, 1), np.full((1, 1, CELLS), 0.5)], axis=1).transpose(0, 2, 1)
    told = settled(outputs)
    assert told.task.decoder
    assert all("would fit too" in note or "assumed" in note for note in told.notes)


@pytest.mark.parametrize("how", [{}, {"task": "image-classification"}, {"options": {"top_k": 1}}])
def test_labels_that_are_not_as_many_as_the_scores_are_an_error_that_names_both_numbers(how) -> None:
    with pytest.raises(ModelError, match="names 2 classes, and the network has 4") as refused:
        settled([[0.1, 0.6, 0.2, 0.1]], labels=["cat", "dog"], **how)
    assert refused.value.code == "labels-count-wrong"


@pytest.mark.parametrize("how", [{}, {"task": "object-detection"}])
def test_labels_that_are_not_as_many_as_a_heads_classes_are_an_error_and_hide_no_head(how) -> None:
    with pytest.raises(
        ModelError, match=r"names 3 classes, and without them .* yolov8: its output has 4 \+ 2"
    ) as refused:
        settled(rows(0.5), labels=["cat", "dog", "cow"], **how)
    assert refused.value.code == "labels-count-wrong"


def test_labels_of_a_network_that_is_nothing_without_them_either_are_no_error() -> None:
    assert settled(rows(1.317), labels=["cat", "dog", "cow"]).task.name == "tensors"
