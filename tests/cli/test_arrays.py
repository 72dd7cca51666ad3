"""What ``verge infer --out`` writes: every number of an answer, as NumPy reads it without pickles."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.arrays import arrays
from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Keypoint,
    Keypoints,
    Mask,
    Parts,
    Segmentation,
    Tensor,
    Text,
)
from agent.inference.tensors import write_npy
from tests.results.comparison.made import ANSWERS, boxed, depth, mask, plane, pose, tensor, vector


def loaded(predictions, place=""):
    """The arrays as NumPy reads them from the file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for array in arrays(predictions, place):
            write_npy(archive, array)
    file.seek(0)
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def test_the_outputs_of_a_network_have_their_own_names_types_and_shapes():
    raw = Tensor("a/b:0", (2, 2), "uint8", bytes([1, 2, 3, 255]), "base64")
    told = loaded([raw, tensor([[0.5, 1.5]], (1, 2))])
    assert told["a_b:0"].tolist() == [[1, 2], [3, 255]]
    assert (told["a_b:0"].dtype, told["out"].dtype) == (np.uint8, np.float32)
    assert told["out"].tolist() == [[0.5, 1.5]]


def test_predictions_of_a_kind_are_rows_below_its_word():
    points = pose((0.1, 0.2), (0.3, 0.4), scores=(0.5, 0.75))
    told = loaded(
        [
            Classification("é猫", 3, 0.5),
            Classification("x", 4, 0.25),
            boxed("cat", 0.25, keypoints=points, mask=mask([[1, 0], [0, 1]]), track_id=7),
            boxed("dog", 0.5, keypoints=points, mask=mask([[1, 1], [0, 0]])),
            Anomaly(True, 0.9, map=plane([[0, 255]])),
            vector(1.0, 2.0, name="Ann", similarity=0.5),
            vector(3.0, 4.0),
            depth([[1, 2]], 0.5, 2.5),
        ]
    )
    assert told["classification/labels"].tolist() == ["é猫", "x"]
    assert told["classification/label_ids"].tolist() == [3, 4]
    assert told["detection/boxes"].tolist() == [[0.25, 0.1, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2]]
    assert told["detection/masks"].tolist() == [[[True, False], [False, True]], [[True, True], [False, False]]]
    assert told["detection/points"].shape == (2, 2, 4)
    assert told["detection/points"][0, :, [0, 1, 3]].T.tolist() == [[0.1, 0.2, 0.5], [0.3, 0.4, 0.75]]
    assert np.isnan(told["detection/points"][..., 2]).all()
    assert told["detection/track_ids"].tolist() == [7, -1]
    assert (told["anomaly/anomalous"].tolist(), told["anomaly/maps"].tolist()) == ([True], [[[0, 255]]])
    assert told["embedding/vectors"].tolist() == [[1, 2], [3, 4]]
    assert told["embedding/names"].tolist() == ["Ann", ""]
    assert np.isnan(told["embedding/similarities"]).tolist() == [False, True]
    assert told["map/maps"].tolist() == [[[1, 2]]]
    assert (told["map/minima"].tolist(), told["map/maxima"].tolist()) == ([0.5], [2.5])


def test_rows_of_different_sizes_are_numbered_and_parts_stand_below_their_detection():
    told = loaded(
        [
            boxed("cat", 0.25, mask=mask([[1, 0]])),
            boxed("dog", 0.5),
            boxed("car", 0.5, mask=mask([[1], [1]]), parts=Parts([Text("AB", character_scores=(0.5, 0.25))])),
        ],
        "street/",
    )
    assert told["street/detection/masks/0"].tolist() == [[True, False]]
    assert told["street/detection/masks/2"].tolist() == [[True], [True]]
    assert "street/detection/masks/1" not in told
    assert told["street/detection/parts/2/text/texts"].tolist() == ["AB"]
    assert told["street/detection/parts/2/text/character_scores"].tolist() == [[0.5, 0.25]]


def test_what_cannot_be_read_is_left_out_and_an_empty_answer_is_an_empty_file():
    unreadable = [
        Segmentation(label="x", label_id=0, area=0.5, mask=Mask(2, 2, "?")),
        Keypoints((Keypoint(0.5, 0.5),)),
        Anomaly(False, 0.1, map=Image(1, 1, b"?")),
        Tensor("out", (1,), "float32", "?", "base64"),
        Embedding("float32", 1, b""),
        Tensor("odd", (2,), "float32", [0.5]),
        Tensor("strange", (1,), "O", b"1234"),
    ]
    left_out = {"out", "odd", "strange", "anomaly/maps", "segmentation/masks"}
    assert left_out.isdisjoint(loaded(unreadable))
    assert loaded([]) == {}


@given(ANSWERS, st.sampled_from(["", "a/"]))
def test_every_answer_is_read_by_numpy_with_a_row_for_each_prediction(predictions, place):
    told = loaded(predictions, place)
    found = [one for one in predictions if isinstance(one, Detection)]
    if found:
        boxes = told[f"{place}detection/boxes"]
        assert [Box(*row) for row in boxes.tolist()] == [one.box for one in found]
        assert told[f"{place}detection/scores"].tolist() == [one.score for one in found]
        assert told[f"{place}detection/labels"].tolist() == [one.label for one in found]
    for name, array in told.items():
        assert name.startswith(place)
        assert array.dtype != object
