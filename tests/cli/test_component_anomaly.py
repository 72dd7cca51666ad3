"""``verge component init anomaly``: exports become components that pack, deploy and judge."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from agent.config.models import ModelOptions
from agent.frames.frame import Picture
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import resolve
from agent.inference.predictions import Anomaly
from tests.support import inspection, models
from tests.support.commands import invoke

NAME = "com.example.Inspector"


def begin(folder: Path, *arguments: object, status: int = 0) -> str:
    done = invoke(folder, "component", "init", "anomaly", NAME, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def manifest(folder: Path) -> dict:
    return tomllib.loads((folder / NAME / "model" / "manifest.toml").read_text())


def verdict(folder: Path, pixels: np.ndarray) -> Anomaly:
    return asyncio.run(judged_by(folder, pixels))


async def judged_by(folder: Path, pixels: np.ndarray) -> Anomaly:
    spec = resolve(ModelOptions(source=str(folder)), folder)
    picture = Picture(pixels.tobytes(), "rgb", pixels.shape[1], pixels.shape[0])
    async with loaded(spec) as (plane, _):
        first = (await plane.infer(MODEL, picture)).predictions[0]
    assert isinstance(first, Anomaly)
    return first


def anomalib(folder: Path, outputs: dict[str, np.ndarray], metadata: dict | None = None) -> Path:
    """An export as Anomalib lays it out."""
    place = folder / "results" / "Padim" / "weights" / "onnx"
    place.mkdir(parents=True)
    models.onnx_constant(place / "model.onnx", outputs)
    (place.parent / "torch").mkdir()
    (place.parent / "torch" / "model.pt").write_bytes(b"PK")
    if metadata is not None:
        (place / "metadata.json").write_text(json.dumps(metadata))
    return folder / "results"


def test_an_export_that_scales_itself_gets_a_manifest_with_threshold_classes_and_colours(tmp_path: Path) -> None:
    plane = np.zeros((1, 1, 16, 16), np.float32)
    plane[..., :8] = 0.9
    export = anomalib(tmp_path, {"pred_score": np.float32([0.8]), "anomaly_map": plane})
    begin(tmp_path, "--model", export, "--threshold", "0.7")
    told = manifest(tmp_path)
    assert told["task"] == "anomaly-detection"
    assert told["anomaly"] == {
        "threshold": 0.7, "pixel_threshold": 0.5, "classes": ["background", "anomaly"],
        "colors": ["#FFFFFF", "#23A436"],
    }  # fmt: skip
    judged = verdict(tmp_path / NAME / "model", inspection.dark())
    assert (judged.anomalous, judged.score, judged.threshold) == (True, pytest.approx(0.8), 0.7)


def test_an_older_export_brings_its_figures(tmp_path: Path) -> None:
    plane = np.full((1, 1, 16, 16), 35.0, np.float32)
    figures = {"image_threshold": 25.0, "pixel_threshold": 20.0, "min": 5.0, "max": 45.0}
    begin(tmp_path, "--model", anomalib(tmp_path, {"output": plane}, figures))
    assert manifest(tmp_path)["options"] == {"image_threshold": 25.0, "pixel_threshold": 20.0, "scale": 40.0}
    judged = verdict(tmp_path / NAME / "model", inspection.dark())
    assert (judged.anomalous, judged.score) == (True, 0.75)


@pytest.mark.parametrize(("labels", "said"), [("good\nbad\n", ()), ("intact\nbroken\n", ("--normal", "intact"))])
def test_a_classifier_judges_by_the_classes_that_are_called_normal_or_told(tmp_path: Path, labels, said) -> None:
    export = tmp_path / "export"
    export.mkdir()
    models.tflite_constant(export / "parts.tflite", {"probabilities": np.float32([[0.2, 0.8]])})
    (export / "labels.txt").write_text(labels)
    begin(tmp_path, "--model", export, *said)
    told = manifest(tmp_path)
    assert (told["task"], told["labels"]) == ("image-classification", "labels.txt")
    assert told["anomaly"] == {"threshold": 0.5, "normal": [labels.split()[0]]}
    assert (verdict(tmp_path / NAME / "model", inspection.dark())).score == pytest.approx(0.8)


def test_a_network_with_one_score_is_told_what_that_is(tmp_path: Path) -> None:
    models.tflite_constant(tmp_path / "parts.tflite", {"dense": np.float32([[0.9]])})
    said = begin(tmp_path, "--model", "parts.tflite", status=2)
    assert "--task anomaly-detection" in said
    begin(tmp_path, "--model", "parts.tflite", "--task", "anomaly-detection")
    assert (verdict(tmp_path / NAME / "model", inspection.dark())).anomalous


def test_what_was_begun_packs_and_a_package_of_lookout_s_is_taken_as_it_is(tmp_path: Path) -> None:
    begin(tmp_path, "--model", inspection.original(tmp_path / "package"))
    assert (tmp_path / NAME / "model" / "manifest.json").is_file()
    done = invoke(tmp_path, "component", "pack", NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    (recipe,) = (tmp_path / "build" / "recipes").iterdir()
    assert json.loads(recipe.read_text())["ComponentType"] == "verge.model"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"model.pt": b"PK"}, "torch.onnx.export"),
        ({"model.xml": b"<net/>", "model.bin": b""}, "export the same model as ONNX"),
        ({"a.onnx": b"x", "b.onnx": b"x"}, "name one of"),
        ({"notes.txt": b"x"}, "export the model as ONNX"),
    ],
)
def test_an_export_without_one_model_that_can_be_run_says_what_to_do(tmp_path: Path, files, says) -> None:
    (tmp_path / "export").mkdir()
    for name, content in files.items():
        (tmp_path / "export" / name).write_bytes(content)
    assert says in begin(tmp_path, "--model", "export", status=2)
    assert not (tmp_path / NAME).exists()


def test_classes_of_which_none_is_known_to_be_normal_are_listed(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    models.onnx_constant(tmp_path / "export" / "model.onnx", {"probabilities": np.float32([[0.2, 0.8]])})
    (tmp_path / "export" / "labels.txt").write_text("left\nright\n")
    said = begin(tmp_path, "--model", "export", status=2)
    assert "--normal" in said
    assert "left, right" in said
    assert "no class is called" in begin(tmp_path, "--model", "export", "--normal", "up", status=2)
    assert not (tmp_path / NAME).exists()


def test_what_only_an_anomaly_has_is_refused_for_other_kinds(tmp_path: Path) -> None:
    done = invoke(tmp_path, "component", "init", "model", NAME, "--normal", "good")
    assert (done.returncode, "for the kind anomaly" in done.stderr) == (2, True)
    assert "comes from --model" in begin(tmp_path, status=2)
