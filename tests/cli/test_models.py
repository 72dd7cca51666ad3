"""``verge models``: what models are, and what runs them here."""

from __future__ import annotations

import json

import numpy as np

from tests.support.models import onnx_constant, onnx_external, onnx_identity, tflite_colours


def by_backend(told):
    return {trial["backend"]: trial for trial in told["backends"]}


def test_the_samples_are_listed_with_a_line_each(verge):
    done = verge("models", COLUMNS="80")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["classifier", "detector", "inspector"]
    assert "image-classification" in lines[1]
    assert max(map(len, lines)) <= 80
    listed = json.loads(verge("models", "--json").stdout)
    assert [(one["sample"], one["name"]) for one in listed] == [
        ("classifier", "efficientnet-lite0"),
        ("detector", "ssd-mobilenet-v2"),
        ("inspector", "part-inspector"),
    ]


def test_a_sample_tells_its_tensors_and_what_runs_it(verge):
    done = verge("models", "classifier", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr == ""
    assert told["task"] == "image-classification"
    assert told["labels"] == 1000
    assert told["digest"].startswith("sha256:")
    assert told["inputs"][0]["shape"] == [1, 224, 224, 3]
    litert = by_backend(told)["litert"]
    assert litert["runs"]
    assert litert["version"].startswith("litert ")
    assert litert["load_ms"] > 0
    assert litert["infer_ms"] > 0
    assert by_backend(told)["onnx"]["error"]["message"] == "it does not read .tflite files"


def test_a_strange_file_is_recognised_and_tried_in_each_backend_that_reads_it(verge, tmp_path):
    onnx_constant(tmp_path / "mine.onnx", {"scores": np.zeros((1, 3))})
    told = json.loads(verge("models", "mine.onnx", "--json").stdout)
    assert told["task"] == "image-classification"
    assert {name for name, trial in by_backend(told).items() if trial["runs"]} == {"onnx", "opencv"}
    assert (told["recognition"]["evidence"], bool(told["recognition"]["why"])) == ("named", True)
    assert {"key": "width", "value": 8, "source": "shape"} in told["input"]
    shown = verge("models", "mine.onnx", COLUMNS="80").stdout
    assert "known by the names of its tensors: " in shown
    assert ["width", "8", "the", "network's", "own", "shape"] in [line.split() for line in shown.splitlines()]
    assert max(map(len, shown.splitlines())) <= 80


def test_the_files_that_belong_to_a_model_are_told_and_count(verge, tmp_path):
    path = onnx_external(tmp_path / "mine.onnx", {"scores": np.zeros((1, 3))}, "mine.data")
    told = json.loads(verge("models", "mine.onnx", "--json").stdout)
    assert told["parts"] == [str(tmp_path / "mine.data")]
    assert told["bytes"] == path.stat().st_size + (tmp_path / "mine.data").stat().st_size
    assert "with " in (shown := verge("models", "mine.onnx", COLUMNS="120").stdout)
    assert "mine.data" in shown


def test_quantisation_is_told(verge, tmp_path):
    tflite_colours(tmp_path / "mine.tflite", dtype="uint8", scale=0.5, zero_point=3)
    done = verge("models", "mine.tflite")
    assert "uint8 [1, 8, 8, 3], scale 0.5, zero point 3" in done.stdout


def test_what_does_not_run_is_told_with_the_reason_and_the_fix(verge, tmp_path, without):
    onnx_constant(tmp_path / "mine.onnx", {"scores": np.zeros((1, 3))})
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 100)
    told = json.loads(verge("models", "mine.onnx", "--json", PYTHONPATH=without("onnxruntime")).stdout)
    assert by_backend(told)["onnx"]["error"]["hint"] == "pip install 'verge-edge[onnx]'"
    assert by_backend(told)["opencv"]["runs"]
    done = verge("models", "broken.onnx")
    assert done.returncode == 1
    assert "cannot be loaded" in " ".join(done.stdout.split())


def test_a_manifest_without_its_file_is_told(verge, tmp_path):
    (tmp_path / "manifest.toml").write_text('file = "gone.tflite"\n')
    done = verge("models", ".")
    assert done.returncode == 2
    assert "gone.tflite cannot be read" in done.stderr
    assert "manifest.toml" in done.stderr


def test_a_network_that_takes_no_pictures_is_told_and_tried_where_it_is_served_raw(verge, tmp_path):
    path = onnx_identity(tmp_path / "model.onnx", (1, 6, 10, 10))
    told = json.loads(verge("models", str(path), "--task", "raw", "--json").stdout)
    assert (told["task"], told["inputs"][0]["shape"]) == ("raw", [1, 6, 10, 10])
    assert {backend for backend, trial in by_backend(told).items() if trial["runs"]} == {"onnx", "opencv"}
