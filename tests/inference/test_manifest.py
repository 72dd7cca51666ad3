"""A model by name, folder or file; what the configuration says goes before what the manifest says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.models import ModelOptions
from agent.errors import ConfigError, ModelRefusedError
from agent.inference.manifest import SAMPLES, resolve, sample_names
from agent.inference.runtime import labels


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


@pytest.mark.parametrize("name", ["labels.txt", "labels.json", "synset.txt"])
def test_a_folder_with_one_model_needs_no_manifest(tmp_path, name) -> None:
    (tmp_path / "model.tflite").write_bytes(b"x")
    (tmp_path / name).write_text("a\n")
    manifest = resolve(ModelOptions(source=str(tmp_path)), Path()).manifest
    assert (manifest.file, manifest.labels) == (str(tmp_path / "model.tflite"), str(tmp_path / name))


def test_a_folder_with_several_models_needs_one(tmp_path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match="2 model files") as refused:
        resolve(ModelOptions(source=str(tmp_path)), Path())
    assert refused.value.hint
    assert "manifest.toml" in refused.value.hint


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("model.so", "model.json", "model.params"), "synset.txt"),
        (("compiled.so", "compiled_model.json", "compiled.params", "compiled.meta", "libdlr.so"), "labels.txt"),
        (("code.ro", "compiled.so", "compiled.meta"), "labels.txt"),
        (("predictor.so", "version.json"), ""),
        (("predictor.so", "libdlr.so"), ""),
    ],
)
def test_a_folder_that_a_compiler_wrote_is_a_model_as_a_whole(tmp_path, files, names) -> None:
    folder = tmp_path / "DLR-resnet50-x86_64-cpu"
    folder.mkdir()
    for name in filter(None, (*files, names)):
        (folder / name).write_bytes(b"x")
    manifest = resolve(ModelOptions(source=str(folder)), Path()).manifest
    assert (manifest.name, manifest.file) == (folder.name, str(folder))
    assert manifest.labels == (str(folder / names) if names else "")


@pytest.mark.parametrize(
    "files",
    [
        (),
        ("libdlr.so",),
        ("a.so", "b.so"),
        ("a.params", "a.json"),
        ("a.params", "a.so"),
        ("a.params", "libdlr.so", "a.json"),
        ("a.ro",),
        ("labels.txt", "a.json"),
    ],
)
def test_a_folder_with_a_part_of_what_a_compiler_writes_is_none(tmp_path, files) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError) as refused:
        resolve(ModelOptions(source=str(tmp_path)), Path())
    assert refused.value.code == "manifest-missing"


def test_a_manifest_may_name_its_folder(tmp_path) -> None:
    (tmp_path / "manifest.toml").write_text('file = "."\nbackend = "dlr"\n')
    manifest = resolve(ModelOptions(source=str(tmp_path)), Path()).manifest
    assert (manifest.file, manifest.name) == (str(tmp_path), tmp_path.name)


@pytest.mark.parametrize("wraps", [(), ("TensorFlowLite-Mobilenet",), ("artifacts", "TensorFlowLite-Mobilenet")])
def test_the_layout_of_aws_is_read_as_it_is_however_it_was_packed(tmp_path, wraps) -> None:
    folder = tmp_path.joinpath("archive", *wraps)
    folder.mkdir(parents=True)
    (tmp_path / "archive" / "__MACOSX").mkdir()
    (tmp_path / "archive" / ".DS_Store").write_bytes(b"x")
    (folder / "model.tflite").write_bytes(b"x")
    (folder / "labels.txt").write_text("{0: 'background', 1: 'tench, Tinca tinca'}")
    manifest = resolve(ModelOptions(source="archive"), tmp_path).manifest
    assert (manifest.file, manifest.labels) == (str(folder / "model.tflite"), str(folder / "labels.txt"))
    assert manifest.name == "archive"
    assert labels.read(manifest.labels).name(1) == "tench, Tinca tinca"


def test_an_unknown_name_is_refused_with_the_nearest_sample() -> None:
    with pytest.raises(ModelRefusedError) as refused:
        resolve(ModelOptions(source="clasifier"), Path())
    assert (refused.value.code, refused.value.hint) == ("model-missing", "did you mean classifier?")


def test_missing_labels_are_refused_by_name(tmp_path) -> None:
    with pytest.raises(ModelRefusedError, match=r"there is no label file .*words\.txt"):
        resolve(ModelOptions(source="classifier", labels="words.txt"), tmp_path)


def test_an_unknown_key_of_a_manifest_is_refused_with_the_nearest(tmp_path) -> None:
    (tmp_path / "manifest.toml").write_text('file = "m.tflite"\nlabel = "x"\n')
    with pytest.raises(ConfigError) as refused:
        resolve(ModelOptions(source=str(tmp_path)), Path())
    assert refused.value.hint == "did you mean labels?"


def test_every_sample_resolves_and_has_a_version() -> None:
    assert sample_names() == ["classifier", "detector", "inspector"]
    assert all(resolve(ModelOptions(source=name), Path()).manifest.version for name in sample_names())
