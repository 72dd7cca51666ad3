"""Where a stream's model is found among a component's files, and which environment runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.models import ModelOptions, Then
from agent.config.streams import InputOptions, StreamOptions
from agent.errors import ConfigError
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.blocks import InferenceBlock, ManifestBlock, ModelBlock
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.plan import Action, ComponentKind, Planned
from agent.greengrass.deployments.request import RunWith
from agent.greengrass.deployments.target import ModelTarget, model_target, runtime_for
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes.configuration import update
from agent.greengrass.recipes.recipe import Artifact, Recipe, Unarchive
from agent.greengrass.recipes.recipe import Manifest as RecipeManifest
from agent.greengrass.recipes.versions import Version
from agent.inference.environments.spec import Environment
from agent.inference.manifest import SAMPLES, Manifest, ModelSpec

VERSION = Version(1, 0, 0)
ZIP = Artifact("https://shop/cats.zip", unarchive=Unarchive.ZIP)


def planned(name: str, kind: ComponentKind, **block) -> Planned:
    recipe_manifest = RecipeManifest(artifacts=(ZIP,))
    return Planned(
        Action.INSTALL, kind, Recipe(name, VERSION, manifests=(recipe_manifest,)), recipe_manifest, None,
        update(None, reset=(), defaults={}, merge=None, timestamp=1), RunWith(), **block,
    )  # fmt: skip


def keyed(root: Path, model: ModelBlock) -> tuple[str, ModelTarget]:
    stream = StreamOptions(model="cats", input=InputOptions(topic="cameras/+/frame"))
    watch = planned("watch", ComponentKind.INFERENCE, inference=InferenceBlock(stream=stream))
    cats = planned("cats", ComponentKind.MODEL, model=model)
    return model_target(watch, {"cats": cats, "watch": watch}, Layout(root), {})


def found(root: Path, model: ModelBlock) -> ModelTarget:
    return keyed(root, model)[1]


@pytest.mark.parametrize(
    ("folders", "beside"),
    [("", ()), ("cats", ()), ("cats/model", ()), ("cats", ("__MACOSX",)), ("cats", (".DS_Store",))],
)
def test_golden_frames_are_found_however_deep_the_archive_wraps_the_model(tmp_path, folders, beside) -> None:
    unpacked = Layout(tmp_path).unarchived("cats", VERSION) / "cats"
    (unpacked / folders / "golden").mkdir(parents=True)
    (unpacked / folders / "cats.tflite").write_bytes(b"a network")
    for name in beside:
        (unpacked / name).mkdir()
    for model in (ModelBlock(), ModelBlock(manifest=ManifestBlock(file="cats.tflite"))):
        target = found(tmp_path, model)
        assert target.spec.manifest.file == str(unpacked / folders / "cats.tflite")
        assert target.golden == unpacked / folders / "golden"


@pytest.mark.parametrize(
    ("block", "key"),
    [
        (ModelBlock(manifest=ManifestBlock(file="/models/other.tflite")), "File"),
        (ModelBlock(manifest=ManifestBlock(file="../../other/1.0.0/m/other.tflite")), "File"),
        (ModelBlock(manifest=ManifestBlock(labels="/etc/passwd")), "Labels"),
        (ModelBlock(manifest=ManifestBlock(gallery="/home")), "Gallery"),
        (ModelBlock(manifest=ManifestBlock(then=(Then(model="/models/other.tflite"),))), r"Then\[0\]\.Model"),
        (ModelBlock(manifest=ManifestBlock(then=(Then(model="a", labels="../x"),))), r"Then\[0\]\.Labels"),
        (ModelBlock(sample="../models/classifier"), "Sample"),
        (ModelBlock(sample=str(SAMPLES / "classifier")), "Sample"),
    ],
)
def test_a_block_leads_to_nothing_but_what_its_component_or_the_agent_brings(tmp_path, block, key) -> None:
    unpacked = Layout(tmp_path).unarchived("cats", VERSION) / "cats"
    unpacked.mkdir(parents=True)
    (unpacked / "cats.tflite").write_bytes(b"a network")
    with pytest.raises(DeploymentError, match=rf"cats: Verge\.(Manifest\.)?{key} is"):
        found(tmp_path, block)


@pytest.mark.parametrize(
    "says",
    [
        'file = "{outside}/x"',
        'file = "cats.tflite"\nlabels = "{outside}/x"',
        'file = "cats.tflite"\n[[then]]\nmodel = "{outside}/x"',
        'file = "cats.tflite"\n[[then]]\nmodel = "cats.tflite"\ngallery = "{outside}"',
    ],
)
def test_a_manifest_in_an_archive_leads_to_nothing_else_either(tmp_path, says) -> None:
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "x").write_text("x")
    unpacked = Layout(tmp_path).unarchived("cats", VERSION) / "cats"
    unpacked.mkdir(parents=True)
    (unpacked / "cats.tflite").write_bytes(b"a network")
    (unpacked / "manifest.toml").write_text(says.format(outside=outside))
    with pytest.raises(ConfigError, match="which is outside of its folder"):
        found(tmp_path, ModelBlock())


def test_a_model_behind_one_is_found_among_its_component_s_files_and_makes_it_another(tmp_path) -> None:
    unpacked = Layout(tmp_path).unarchived("cats", VERSION) / "cats"
    unpacked.mkdir(parents=True)
    for name in ("cats.tflite", "breeds.tflite"):
        (unpacked / name).write_bytes(b"a network")
    block = {"Verge": {"Manifest": {"File": "cats.tflite", "Then": [{"Model": "breeds.tflite", "Classes": ["cat"]}]}}}
    key, target = keyed(tmp_path, blocks.model("cats", block))
    ((then, behind),) = target.spec.stages
    assert then.classes == ("cat",)
    assert behind.manifest.file == str(unpacked / "breeds.tflite")
    assert keyed(tmp_path, blocks.model("cats", block))[0] == key
    (unpacked / "breeds.tflite").write_bytes(b"another network")
    assert keyed(tmp_path, blocks.model("cats", block))[0] != key


def environment(family: str) -> Environment:
    return Environment(family, f"/environments/{family}/bin/python", {}, family)


HERE = {f"runtime.{family}": environment(family) for family in ("litert", "onnx", "dlr")}


def runs_in(backend: str, file: str, *dependencies: tuple[str, ...]) -> str | None:
    spec = ModelSpec(manifest=Manifest(file=file, backend=backend), run=ModelOptions(source=file))
    environment = runtime_for(spec, HERE, *(tuple(f"runtime.{each}" for each in names) for names in dependencies))
    return environment.family if environment else None


def test_a_model_runs_in_the_runtime_for_its_format_or_for_the_backend_it_names() -> None:
    assert runs_in("auto", "m.tflite", ("dlr", "litert")) == "litert"
    assert runs_in("auto", "m.tflite", ("dlr",)) is None
    assert runs_in("onnx", "m.onnx", (), ("litert", "onnx")) == "onnx"
    assert runs_in("onnx", "m.onnx", ("litert",)) is None


@pytest.mark.parametrize("backend", ["spot", "package.module:Spot", "/models/spot.py:Spot"])
def test_a_backend_of_one_s_own_runs_in_whichever_runtime_its_component_has(backend) -> None:
    assert runs_in(backend, "weights.json", ("dlr",)) == "dlr"
    assert runs_in(backend, "weights.json", (), ("onnx",)) == "onnx"
    assert runs_in(backend, "m.tflite", ("dlr", "litert")) == "litert"
    assert runs_in(backend, "weights.json") is None
