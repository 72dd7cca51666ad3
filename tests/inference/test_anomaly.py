"""Whether a picture is unlike the usual: scores, maps, and what scales them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agent.inference.runtime import filemeta, modelinfo
from agent.inference.runtime.base import NAMED, SAID, Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.tasks.anomaly import AnomalyDetection

FRAME = Geometry(64, 64, 16, 16)
NAMES = ("pred_score", "pred_label", "anomaly_map", "pred_mask")
NEW = [
    TensorInfo("pred_score", (1,), "float32"),
    TensorInfo("pred_label", (1,), "bool"),
    TensorInfo("anomaly_map", (1, 1, 16, 16), "float32"),
    TensorInfo("pred_mask", (1, 1, 16, 16), "bool"),
]
OLD = [TensorInfo("output", (1, 1, 16, 16), "float32")]


def verdict(outputs, infos, geometry=FRAME, **options) -> dict:
    (told,) = AnomalyDetection(options, Labels(), [], infos).predictions(outputs, geometry)
    return told


def newer(score: float) -> list[np.ndarray]:
    plane = np.zeros((1, 1, 16, 16), np.float32)
    plane[..., 4:8, 4:8] = score
    return [np.array([score], np.float32), np.array([score > 0.5]), plane, plane > 0.5]


def test_a_network_that_scales_its_own_score_is_taken_at_its_word() -> None:
    told = verdict(newer(0.8), NEW)
    assert (told["anomalous"], told["score"], told["threshold"]) == (True, pytest.approx(0.8), 0.5)
    assert told["map"].dtype == np.uint8
    assert (told["map"][5, 5], told["map"][0, 0]) == (204, 0)
    assert verdict(newer(0.3), NEW)["anomalous"] is False
    assert verdict(newer(0.3), NEW, threshold=0.2)["anomalous"] is True


def test_a_map_alone_is_scaled_by_the_thresholds_and_its_largest_value_is_the_score() -> None:
    plane = np.full((1, 1, 16, 16), 10.0, np.float32)
    plane[..., 3, 3] = 30
    told = verdict([plane], OLD, image_threshold=25.0, pixel_threshold=20.0, scale=40.0)
    # (30 - 25) / 40 + 0.5, and the map by the pixels' threshold.
    assert (told["anomalous"], told["score"]) == (True, 0.625)
    assert told["map"][3, 3] == round(255 * 0.75)
    assert told["map"][0, 0] == round(255 * 0.25)


def test_padding_is_no_part_of_the_map() -> None:
    # A frame twice as wide as high, letterboxed: the middle half of the network's picture is the frame.
    plane = np.zeros((1, 1, 16, 16), np.float32)
    plane[..., 4:12, :] = 1
    told = verdict([plane], OLD, Geometry(128, 64, 16, 16, 0.0, -0.5, 1.0, 2.0))
    assert told["map"].shape == (8, 16)
    assert told["map"].min() == 255


def test_names_or_figures_make_it_an_anomaly_and_other_planes_are_none() -> None:
    inputs = [TensorInfo("input", (1, 3, 256, 256), "float32")]
    (claim,) = AnomalyDetection.claims(Network(inputs, NEW, Labels()))
    assert (claim.strength, dict(claim.input)) == (NAMED, {})
    figures = {"anomaly": {"image_threshold": 25.0, "pixel_threshold": 20.0, "scale": 40.0}}
    (claim,) = AnomalyDetection.claims(Network(inputs, OLD, Labels(), figures))
    assert claim.strength == SAID
    assert claim.options["scale"] == 40.0
    assert "mean" in claim.input
    assert not AnomalyDetection.claims(Network(inputs, OLD, Labels()))


def test_a_score_that_nobody_scales_is_doubted() -> None:
    task = AnomalyDetection({}, Labels(), [], OLD)
    plane = np.full((1, 1, 16, 16), 30.0, np.float32)
    assert "its score is 30" in task.doubt([plane], FRAME, NAMED)
    assert task.doubt([plane / 60], FRAME, NAMED) == ""


# What Anomalib and OpenVINO say of it


def test_the_figures_beside_a_model_scale_its_score(tmp_path) -> None:
    said = {"image_threshold": 25.0, "pixel_threshold": 20.0, "pred_scores.min": 5.0, "pred_scores.max": 45.0,
            "anomaly_maps.min": 0.0, "anomaly_maps.max": 80.0, "transform": {"__version__": "1.3"}}  # fmt: skip
    (tmp_path / "metadata.json").write_text(json.dumps(said))
    told = modelinfo.beside(str(tmp_path / "model.onnx"))["anomaly"]
    assert told == {"image_threshold": 25.0, "pixel_threshold": 20.0, "scale": 40.0, "pixel_scale": 80.0}
    plane = np.full((1, 1, 16, 16), 20.0, np.float32)
    plane[..., 3, 3] = 35
    verdict_of = verdict([plane], OLD, **told)
    assert (verdict_of["score"], verdict_of["map"][0, 0]) == (0.75, 128)


@pytest.mark.parametrize("text", ["", "[]", "not json", '{"image_threshold": "high"}', '{"image_threshold": NaN}'])
def test_a_file_that_says_nothing_of_anomalies_is_passed_over(tmp_path, text) -> None:
    (tmp_path / "metadata.json").write_text(text)
    assert modelinfo.beside(str(tmp_path / "model.onnx")) == {}
    assert modelinfo.beside(str(tmp_path / "elsewhere" / "model.onnx")) == {}


def test_a_model_s_own_info_says_how_its_picture_is_made_and_its_score_scaled() -> None:
    told = filemeta.properties({
        "model_info mean_values": "123.675 116.28 103.53", "model_info scale_values": "58.395 57.12 57.375",
        "model_info reverse_input_channels": "True", "model_info labels": "Good Defect",
        "model_info image_threshold": "13.5", "model_info normalization_scale": "30",
    })  # fmt: skip
    assert (told["mean"][0], told["std"][2], told["color"], told["labels"]) == (
        123.675,
        57.375,
        "RGB",
        ["Good", "Defect"],
    )
    assert told["anomaly"] == {"image_threshold": 13.5, "scale": 30.0}
    assert "std" not in filemeta.properties({"model_info scale_values": "1 0 1"})
    assert "mean" not in filemeta.properties({"model_info mean_values": "1 two"})
