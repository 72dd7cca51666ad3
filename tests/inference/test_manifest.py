"""A model by name, folder or file; what the configuration says goes before what the manifest says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ConfigWrong, ModelRefused
from agent.inference.manifest import SAMPLES, ModelOptions, resolve, sample_names


def test_a_samples_name_finds_its_manifest_and_files() -> None:
    spec = resolve(ModelOptions(source="classifier"), Path("/nowhere"))
    assert (spec.name, spec.manifest.task) == ("efficientnet-lite0", "image-classification")
    assert spec.manifest.file == str(SAMPLES / "classifier" / "model.tflite")
    assert spec.manifest.labels == str(SAMPLES / "classifier" / "labels.txt")


def test_the_configuration_goes_before_the_manifest() -> None:
    options = ModelOptions(source="classifier", task="tensors", options={"top_k": 1}, input={"color": "BGR"})
    manifest = resolve(options, Path()).manifest
    assert (manifest.task, manifest.options["top_k"], manifest.input["color"]) == ("tensors", 1, "BGR")
    assert manifest.input["mean"] == [127.0, 127.0, 127.0]


def test_a_file_alone_is_a_model(tmp_path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"x")
    (tmp_path / "labels.txt").write_text("a\n")
    spec = resolve(ModelOptions(source="net.onnx", labels="labels.txt"), tmp_path)
    assert (spec.name, spec.manifest.file) == ("net", str(tmp_path / "net.onnx"))
    assert (spec.manifest.backend, spec.manifest.task) == ("auto", "auto")
    assert spec.manifest.labels == str(tmp_path / "labels.txt")


@pytest.mark.parametrize("labels", ["labels.txt", "labels.json", "synset.txt"])
def test_a_folder_with_one_model_needs_no_manifest(tmp_path, labels) -> None:
    (tmp_path / "model.tflite").write_bytes(b"x")
    (tmp_path / labels).write_text("a\n")
    manifest = resolve(ModelOptions(source=str(tmp_path)), Path()).manifest
    assert (manifest.file, manifest.labels) == (str(tmp_path / "model.tflite"), str(tmp_path / labels))


def test_a_folder_with_several_models_needs_one(tmp_path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigWrong, match="2 model files") as refused:
        resolve(ModelOptions(source=str(tmp_path)), Path())
    assert refused.value.hint
    assert "manifest.toml" in refused.value.hint


def test_an_unknown_name_is_refused_with_the_nearest_sample() -> None:
    with pytest.raises(ModelRefused) as refused:
        resolve(ModelOptions(source="clasifier"), Path())
    assert (refused.value.code, refused.value.hint) == ("model-missing", "did you mean classifier?")


def test_missing_labels_are_refused_by_name(tmp_path) -> None:
    with pytest.raises(ModelRefused, match=r"there is no label file .*words\.txt"):
        resolve(ModelOptions(source="classifier", labels="words.txt"), tmp_path)


def test_an_unknown_key_of_a_manifest_is_refused_with_the_nearest(tmp_path) -> None:
    (tmp_path / "manifest.toml").write_text('file = "m.tflite"\nlabel = "x"\n')
    with pytest.raises(ConfigWrong) as refused:
        resolve(ModelOptions(source=str(tmp_path)), Path())
    assert refused.value.hint == "did you mean labels?"


def test_every_sample_resolves_and_has_a_version() -> None:
    assert sample_names() == ["classifier", "detector"]
    assert all(resolve(ModelOptions(source=name), Path()).manifest.version for name in sample_names())
