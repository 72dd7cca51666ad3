"""Packages that Lookout for Vision made: found by their ``manifest.json``, and run as any other model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.config.models import ModelOptions
from agent.errors import ConfigError
from agent.frames.frame import Picture
from agent.inference import original
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.predictions import Anomaly, Classification, Segmentation
from tests.support import inspection
from tests.support.models import onnx_constant


def found(folder: Path) -> ModelSpec:
    return resolve(ModelOptions(source=str(folder)), folder)


def picture(pixels: np.ndarray) -> Picture:
    return Picture(pixels.tobytes(), "rgb", pixels.shape[1], pixels.shape[0])


async def test_a_package_of_both_heads_judges_by_its_classes_and_paints_its_places(tmp_path: Path) -> None:
    spec = found(inspection.original(tmp_path / "package"))
    assert (spec.manifest.task, spec.manifest.anomaly) == (
        "inspection", {"threshold": 0.6, "classes": inspection.CLASSES, "normal": ["normal", "background"]},
    )  # fmt: skip
    whole, spot = np.full((64, 64, 3), (255, 0, 0), np.uint8), inspection.spotted(color=(0, 0, 255))
    async with loaded(spec) as (plane, _):
        wrong, small = [await plane.infer(MODEL, picture(pixels), paint=True) for pixels in (whole, spot)]
    verdict, best, *rest = wrong.predictions
    assert isinstance(verdict, Anomaly)
    assert (verdict.anomalous, verdict.threshold) == (True, 0.6)
    assert isinstance(best, Classification)
    assert (best.label, [one.label for one in rest if isinstance(one, Segmentation)]) == ("red", ["red"])
    # The whole picture is what its class says, whatever there is in a corner of it.
    assert isinstance(small.predictions[0], Anomaly)
    assert small.painting is not None
    assert [one.name for one in small.painting.classes] == ["background", "blue"]


@pytest.mark.parametrize(
    ("heads", "task", "anomaly"),
    [
        (("scores",), "image-classification", {"threshold": 0.6, "normal": ["normal"]}),
        (("planes",), "segmentation", {"classes": inspection.CLASSES, "normal": ["background"]}),
    ],
)
async def test_a_package_of_one_head_is_that_of_its_task(tmp_path: Path, heads, task, anomaly) -> None:
    spec = found(inspection.original(tmp_path / "package", heads))
    assert (spec.manifest.task, spec.manifest.anomaly) == (task, anomaly)
    async with loaded(spec) as (plane, _):
        answer = await plane.infer(MODEL, picture(np.full((64, 64, 3), (0, 255, 0), np.uint8)), paint=True)
    assert isinstance(answer.predictions[0], Anomaly)
    assert answer.predictions[0].anomalous


@pytest.mark.parametrize("places", [True, False])
async def test_the_score_is_that_of_all_classes_but_the_normal_ones_and_the_mask_may_come_first(
    tmp_path: Path, places: bool
) -> None:
    mask = np.zeros((1, 2, 8, 8), np.float32)
    mask[:, 0] = 0.5
    mask[:, 1, :, 4:] = 1
    scores = np.array([[0.75, 0.25]], np.float32)
    stage = {
        "type": "mochi", "threshold": 0.7, "image_width": 8, "image_height": 8, "class_normal_ids": [1],
        "seg_normal_ids": [0], "classification_head_enabled": True, "segmentation_head_enabled": places,
    }  # fmt: skip
    graph = {
        "stages": [stage],
        "image_level_classes": {"names": ["anomaly", "normal"], "normal_ids": [1]},
        "pixel_level_classes": {"names": ["background", "crack"] if places else [], "normal_ids": [0]},
    }
    (tmp_path / "mochi").mkdir()
    onnx_constant(
        tmp_path / "mochi" / "model.onnx", {"output0": mask, "output1": scores} if places else {"output0": scores}
    )
    (tmp_path / "manifest.json").write_text(json.dumps({"model_graph": graph}))
    async with loaded(found(tmp_path)) as (plane, _):
        answer = await plane.infer(MODEL, picture(inspection.dark(64, 64)), paint=True)
    (verdict,) = (one for one in answer.predictions if isinstance(one, Anomaly))
    assert (verdict.anomalous, verdict.score) == (True, pytest.approx(0.75))
    assert (answer.painting is not None) is places
    if answer.painting is not None:
        areas = {one.name: one.area for one in answer.painting.classes}
        assert areas == {"background": pytest.approx(0.5), "crack": pytest.approx(0.5)}


def test_its_picture_is_made_as_the_stage_says(tmp_path: Path) -> None:
    usual = found(inspection.original(tmp_path / "usual", normalize=True)).manifest.input
    assert usual == {
        "width": 64, "height": 64, "layout": "NCHW", "color": "RGB", "resize": "stretch", "interpolation": "area",
        "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
    }  # fmt: skip
    plain = found(inspection.original(tmp_path / "plain", image_range_scale=False)).manifest.input
    assert (plain["mean"], plain["std"]) == ([0.0], [1.0])


def test_its_network_is_a_folder_called_as_the_stage_or_a_file_that_it_names(tmp_path: Path) -> None:
    compiled = inspection.original(tmp_path / "compiled")
    (compiled / "mochi" / "model.onnx").rename(compiled / "mochi" / "compiled.so")
    assert original.told(compiled)["file"] == "mochi"
    named = inspection.original(tmp_path / "named", runtime="onnx", runtime_artifact="net.onnx")
    (named / "mochi" / "model.onnx").rename(named / "net.onnx")
    assert original.told(named)["file"] == "net.onnx"


@pytest.mark.parametrize(
    "change",
    [
        {"model_graph_type": "two_stage_model_graph"},
        {"stages": [{"type": "a"}, {"type": "b"}]},
        {"stages": [{"type": "../../etc"}]},
        {"stages": [{"type": "elsewhere"}]},
    ],
)
def test_a_package_that_cannot_be_run_is_refused_with_what_to_do(tmp_path: Path, change) -> None:
    folder = inspection.original(tmp_path / "package")
    content = json.loads((folder / "manifest.json").read_text())
    content["model_graph"] |= change
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError) as refused:
        found(folder)
    assert (refused.value.code, bool(refused.value.hint)) == ("package-unsupported", True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_graph": 7}', '{"model_graph": {"stages": []}}', '{"a": 1}'])
def test_any_other_manifest_json_is_no_package(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert original.told(tmp_path) is None
