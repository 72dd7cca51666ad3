"""``verge component``: what is begun works as it is, and what is packed is what a device takes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli import packing
from agent.config.load import read
from agent.config.models import ModelOptions
from agent.config.streams import InputOptions, StreamOptions
from agent.doctor.needs import Direction, needs
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.request import ArtifactRequest
from agent.greengrass.artifacts.unpack import unpack
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.golden import GoldenLimits, check, load
from agent.greengrass.ipc.authorization import policies_of
from agent.greengrass.recipes import lifecycle, lint, reader
from agent.greengrass.recipes.recipe import ComponentType
from agent.greengrass.recipes.variables import Context, Values, interpolate
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import SAMPLES, ModelSpec, resolve
from tests.support.commands import invoke
from tests.support.models import onnx_constant, onnx_external

COFFEE = SAMPLES.parent / "images" / "coffee.jpg"
NAME = "com.example.Thing"


@pytest.fixture
def component(tmp_path):
    def run(*arguments, status=0):
        done = invoke(tmp_path, "component", *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def placed(root: Path, name: str, version: str = "1.0.0"):
    """Put a packed component where a device has it; its recipe and the folder of what was unpacked."""
    recipe, warnings = reader.read(root / "recipes" / f"{name}-{version}.json")
    assert (*warnings, *lint.check(recipe)) == ()
    unarchived = root / "device" / name
    for artifact in recipe.manifests[0].artifacts:
        wanted = ArtifactRequest.of(artifact, root / "artifacts" / name / version, unarchived)
        assert Digest.of(wanted.file) == wanted.digest
        unpack(wanted.file, wanted.unpack_to, mode=wanted.mode)
    return recipe, unarchived


async def answers_its_golden_frames(folder: Path, spec: ModelSpec | None = None) -> None:
    async with loaded(spec or resolve(ModelOptions(source=str(folder)), folder)) as (plane, _):
        await check(lambda each: plane.infer(MODEL, each), folder / "golden")


def test_verge_that_was_begun_for_a_nucleus_packs_with_a_model_and_a_configuration(component, tmp_path):
    component("init", "greengrass", NAME, "--model", "detector")
    component("pack", NAME, "--base-uri", "s3://bucket/verge")
    recipe, unarchived = placed(tmp_path / "build", NAME)
    (artifact,) = recipe.manifests[0].artifacts
    assert artifact.uri == f"s3://bucket/verge/{NAME}/1.0.0/verge.zip"
    config = read(unarchived / "verge" / "verge.toml", {"VERGE_THING": "edge"}).config
    assert config.transports["nucleus"].kind == "greengrass"
    assert resolve(config.models["model"], config.folder).manifest.task == "object-detection"
    policies = policies_of(recipe.configuration)
    assert policies.problems == ()
    for need in needs(config):
        local = "SubscribeToTopic", "aws.greengrass.ipc.pubsub"
        cloud = "PublishToIoTCore", "aws.greengrass.ipc.mqttproxy"
        operation, service = local if need.direction is Direction.SUBSCRIBE else cloud
        assert policies.allows(service, operation, need.topic), need


def test_a_model_that_is_not_there_leaves_no_folder_behind(component, tmp_path):
    component("init", "greengrass", NAME, "--model", "missing.onnx", status=2)
    assert not (tmp_path / NAME).exists()


# -- each kind, from nothing to a device -------------------------------------------------------------------------------


def test_a_model_that_was_begun_packs_and_answers_its_golden_frames(component, tmp_path):
    component("init", "model", NAME, "--model", "detector")
    said = json.loads(component("pack", NAME, "--json").stdout)
    assert said[0]["golden_frames"] == 1
    recipe, unarchived = placed(tmp_path / "build", NAME)
    assert recipe.type is ComponentType.MODEL
    assert blocks.model(NAME, recipe.configuration).archive == "model.zip"
    assert len(load(unarchived / "model" / "golden", GoldenLimits())) == 1
    asyncio.run(answers_its_golden_frames(unarchived / "model"))


def test_an_inference_that_was_begun_comes_with_its_model(component, tmp_path):
    begun = component("init", "inference", NAME, "--dir", "here").stdout
    assert f"next: verge component pack here/{NAME} here/{NAME}.Model" in begun
    component("pack", f"here/{NAME}", f"here/{NAME}.Model")
    recipe, _ = placed(tmp_path / "build", NAME)
    model, unarchived = placed(tmp_path / "build", f"{NAME}.Model")
    stream = blocks.inference(NAME, recipe.configuration, recipe.dependencies)
    assert stream.stream.model == f"{NAME}.Model"
    assert stream.stream.input.topic == "cameras/+/frame"
    assert recipe.dependencies[f"{NAME}.Model"].hard
    assert recipe.dependencies[f"{NAME}.Model"].requirement.allows(model.version)
    told = stream.model_options(
        blocks.model(model.name, model.configuration).options(model.name, str(unarchived / "model")), str
    )
    assert resolve(told, tmp_path).manifest.file.endswith("model.tflite")
    asyncio.run(answers_its_golden_frames(unarchived / "model"))


def test_an_inference_for_a_model_that_is_named_comes_alone(component, tmp_path):
    component("init", "inference", NAME, "--model", "com.example.Mine")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    recipe = reader.read(tmp_path / NAME / "recipe.yaml")[0]
    assert list(recipe.dependencies) == ["com.example.Mine"]
    blocks.inference(NAME, recipe.configuration, recipe.dependencies)


def test_a_program_that_was_begun_runs_and_stops_when_told(component, tmp_path):
    component("init", "generic", NAME)
    component("pack", NAME)
    recipe, unarchived = placed(tmp_path / "build", NAME)
    own = Values(recipe.configuration, decompressed=str(unarchived))
    chosen = interpolate(lifecycle.select(recipe, recipe.manifests[0]), Context(own))
    assert chosen.unknown == ()
    read = lifecycle.parse(chosen.lifecycle, NAME)
    script = next(step.script for name, step in read.steps.items() if name is lifecycle.StepName.RUN)
    with subprocess.Popen(
        ["sh", "-c", script], env=dict(read.setenv) | {"PATH": "/usr/bin:/bin"}, stdout=-1
    ) as program:
        assert program.stdout.readline() == f"Hello from {NAME}\n".encode()
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0


# -- beginning ---------------------------------------------------------------------------------------------------------


def test_a_model_of_ones_own_is_copied_with_what_is_known_of_it(component, tmp_path):
    onnx_constant(tmp_path / "mine.onnx", {"scores": np.array([[0.1, 0.7, 0.2]])})
    component("init", "model", NAME, "--model", "mine.onnx")
    folder = tmp_path / NAME / "model"
    assert (
        folder / "manifest.toml"
    ).read_text() == 'name = "mine"\nversion = "1.0.0"\nfile = "mine.onnx"\ntask = "auto"\n'
    expected = json.loads((folder / "golden" / "expected.json").read_text())
    assert expected["pictures"][0]["expect"] == {"label": "class 1", "score": 0.7}
    component("pack", NAME)


def test_a_model_is_copied_with_the_files_that_belong_to_it(component, tmp_path):
    onnx_external(tmp_path / "mine.onnx", {"scores": np.array([[0.1, 0.7, 0.2]])}, "weights/mine.data")
    (tmp_path / "other.onnx").write_bytes(b"x")
    component("init", "model", NAME, "--model", "mine.onnx")
    made = tmp_path / NAME / "model"
    assert {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()} >= {
        "mine.onnx",
        "weights/mine.data",
    }
    assert not (made / "other.onnx").exists()
    component("pack", NAME, "--out", "build")
    _, unarchived = placed(tmp_path / "build", NAME)
    assert (unarchived / "model" / "weights" / "mine.data").is_file()


def test_a_model_of_which_a_part_is_missing_is_not_begun(component, tmp_path):
    onnx_external(tmp_path / "mine.onnx", {"scores": np.array([[0.1, 0.7, 0.2]])}, "mine.data")
    (tmp_path / "mine.data").unlink()
    for how in ((), ("--no-run",)):
        done = component("init", "model", NAME, "--model", "mine.onnx", *how, status=2)
        assert "keeps weights in 'mine.data', which is not there" in done.stderr
        assert not (tmp_path / NAME).exists()


def test_a_folder_is_copied_whole_without_what_is_hidden(component, tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    onnx_constant(source / "model.onnx", {"scores": np.array([[0.1, 0.7, 0.2]])})
    (source / "labels.txt").write_text("red\ngreen\nblue\n")
    (source / ".git").mkdir()
    component("init", "model", NAME, "--model", "mine")
    made = tmp_path / NAME / "model"
    assert sorted(path.name for path in made.iterdir()) == ["golden", "labels.txt", "manifest.toml", "model.onnx"]
    assert json.loads((made / "golden" / "expected.json").read_text())["pictures"][0]["expect"]["label"] == "green"


def test_a_model_that_is_not_run_has_no_golden_frames_and_is_packed_all_the_same(component, tmp_path):
    component("init", "model", NAME, "--no-run")
    assert not (tmp_path / NAME / "model" / "golden").exists()
    assert json.loads(component("pack", NAME, "--no-run", "--json").stdout)[0]["golden_frames"] is None
    assert "a blank frame was answered" in component("pack", NAME).stdout


@pytest.mark.parametrize("name", ["../escape", "a b", "..", "", 'x"y', "a/b", "x" * 129])
@pytest.mark.parametrize("kind", ["generic", "inference", "model"])
def test_what_no_component_can_be_called_is_refused_before_anything_is_written(component, tmp_path, kind, name):
    component("init", kind, name, "--no-run", status=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["model", "inference"])
def test_a_model_that_does_not_load_here_leaves_nothing_behind(component, tmp_path, kind, monkeypatch):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    monkeypatch.setattr("agent.cli.component._SAMPLE", "broken.onnx")
    component("init", kind, NAME, status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]
    if kind == "model":
        component("init", kind, NAME, "--no-run")
        assert (tmp_path / NAME / "model" / "broken.onnx").exists()


def test_nothing_is_overwritten(component, tmp_path):
    (tmp_path / f"{NAME}.Model").mkdir()
    assert "is there already" in component("init", "inference", NAME, status=2).stderr
    assert not (tmp_path / NAME).exists()


def test_a_model_that_is_not_there_is_told_with_a_guess_and_nothing_is_written(component, tmp_path):
    assert "did you mean classifier?" in component("init", "model", NAME, "--model", "clasifier", status=2).stderr
    assert list(tmp_path.iterdir()) == []


# -- golden frames -----------------------------------------------------------------------------------------------------


def test_pictures_are_recorded_with_what_the_model_says_now(component, tmp_path):
    component("init", "model", NAME)
    said = component("pack", NAME, "--record-golden", COFFEE).stdout
    assert "2 frames answered as expected" in said
    golden = tmp_path / NAME / "model" / "golden"
    assert (golden / "coffee.jpg").read_bytes() == COFFEE.read_bytes()
    expected = json.loads((golden / "expected.json").read_text())["pictures"]
    assert [(one["picture"], one["expect"]["label"]) for one in expected] == [
        ("chelsea.jpg", "Egyptian cat"),
        ("coffee.jpg", "espresso"),
    ]
    component("pack", NAME, "--record-golden", golden / "coffee.jpg")
    assert json.loads((golden / "expected.json").read_text())["pictures"] == expected
    with zipfile.ZipFile(tmp_path / "build" / "artifacts" / NAME / "1.0.0" / "model.zip") as archive:
        assert {"golden/chelsea.jpg", "golden/coffee.jpg", "golden/expected.json"} <= set(archive.namelist())


def test_a_model_that_answers_otherwise_is_not_packed(component, tmp_path):
    component("init", "model", NAME)
    golden = tmp_path / NAME / "model" / "golden"
    shutil.copyfile(COFFEE, golden / "chelsea.jpg")
    said = component("pack", NAME, status=2)
    assert "golden/chelsea.jpg: expected Egyptian cat ≥ 0.71, got espresso" in said.stderr
    assert not (tmp_path / "build").exists()


STEP = """
def renamed(predictions, label="default"):
    return [{**each, "label": label} for each in predictions]
"""
BLOCK = "Archive: model.zip\n      Manifest: {Postprocess: 'step.py:renamed', PostprocessOptions: {label: from-recipe}}"


def test_what_is_recorded_is_what_a_device_answers_with_the_recipe_s_own_steps(component, tmp_path):
    component("init", "model", NAME)
    folder = tmp_path / NAME
    (folder / "model" / "step.py").write_text(STEP)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("Archive: model.zip", BLOCK))
    shutil.rmtree(folder / "model" / "golden")
    component("pack", NAME, "--record-golden", COFFEE)
    expected = json.loads((folder / "model" / "golden" / "expected.json").read_text())["pictures"]
    assert [one["expect"]["label"] for one in expected] == ["from-recipe"]

    packed, unarchived = placed(tmp_path / "build", NAME)
    model = blocks.model(NAME, packed.configuration).options(NAME, str(unarchived / "model"))
    on_device = blocks.InferenceBlock(stream=StreamOptions(model=NAME, input=InputOptions(topic="t")))
    spec = resolve(on_device.model_options(model, str), unarchived / "model")
    asyncio.run(answers_its_golden_frames(unarchived / "model", spec))


EVERYTHING = """
import numpy as np

MASK = np.zeros((48, 64), bool)
MASK[10:30, 10:40] = True
HEAT = np.add.outer(np.arange(480), np.arange(640)).astype(np.uint8)
BOX = {"x": 0.1, "y": 0.2, "width": 0.5, "height": 0.5}


def everything(predictions):
    thing = {"label": "thing", "label_id": 0, "score": 0.9}
    nose = [{"x": 0.2, "y": 0.3, "score": 0.9, "name": "nose"}]
    return [
        {**thing, "box": BOX, "mask": MASK, "keypoints": nose, "parts": [{"text": "AB 12", "score": 0.8}]},
        {**thing, "mask": MASK},
        {"keypoints": nose},
        {"anomalous": True, "score": 0.9, "threshold": 0.5, "map": HEAT},
        {"text": "EXIT", "score": 0.9, "box": BOX},
        {"vector": np.arange(512, dtype=np.float32), "name": "Ann", "similarity": 0.7},
        {"map": HEAT, "minimum": 0.0, "maximum": 5.0, "unit": "m"},
        *predictions,
    ]
"""


def test_answers_of_every_kind_are_recorded_small_and_asked_for(component, tmp_path):
    component("init", "model", NAME)
    folder = tmp_path / NAME
    (folder / "model" / "step.py").write_text(EVERYTHING)
    recipe = folder / "recipe.yaml"
    manifest = "Archive: model.zip\n      Manifest: {Postprocess: 'step.py:everything'}"
    recipe.write_text(recipe.read_text().replace("Archive: model.zip", manifest))
    shutil.rmtree(folder / "model" / "golden")
    component("pack", NAME, "--record-golden", COFFEE)
    expected = folder / "model" / "golden" / "expected.json"
    (entry,) = json.loads(expected.read_text())["pictures"]
    kinds = [one.get("kind") for one in entry["expect"]["predictions"]]
    assert kinds[:7] == [None, "segmentation", "keypoints", "anomaly", "text", "embedding", "map"]
    assert expected.stat().st_size < 24_000
    for was, comes, words in (
        ("EXIT", "EX1T", "expected EXIT ≥ 0.80 at (0.10, 0.20, 0.50 × 0.50), got EX1T 0.90"),
        ("AB 12", "AB 13", "got thing 0.90 with other parts (expected AB 12 ≥ 0.70, got AB 13 0.80)"),
        ("10:30", "20:48", "got thing 0.90 with another mask (IoU 0.263, at least 0.5 is wanted)"),
        ('0.5, "map": HEAT', '0.5, "map": HEAT // 2', "with another map (likeness 0.748, at least 0.9 is wanted)"),
    ):
        (folder / "model" / "step.py").write_text(EVERYTHING.replace(was, comes))
        assert words in component("pack", NAME, status=2).stderr.replace("\n", " ")


def test_a_block_that_leads_out_of_the_model_s_folder_is_not_packed(component, tmp_path):
    component("init", "model", NAME, "--no-run")
    recipe = tmp_path / NAME / "recipe.yaml"
    block = "Archive: model.zip\n      Manifest: {Labels: ../../labels.txt}"
    recipe.write_text(recipe.read_text().replace("Archive: model.zip", block))
    assert "leads out of the model's folder" in component("pack", NAME, status=2).stderr


@pytest.mark.parametrize(
    ("manifest", "outside"),
    [
        ('file = "model.tflite"\n[[then]]\nmodel = "../behind.onnx"\n', "behind.onnx"),
        ('file = "../behind.onnx"\n', "behind.onnx"),
        ('file = "model.tflite"\nlabels = "../words.txt"\n', "words.txt"),
        ('file = "model.tflite"\n[[then]]\nmodel = "classifier"\ngallery = "../people"\n', "people"),
    ],
)
def test_a_model_that_uses_what_is_outside_of_its_folder_is_neither_begun_nor_packed(
    component, tmp_path, manifest, outside
):
    component("init", "model", NAME, "--no-run")
    onnx_constant(tmp_path / NAME / "behind.onnx", {"scores": np.array([[0.1, 0.7, 0.2]])})
    (tmp_path / NAME / "words.txt").write_text("one\n")
    (tmp_path / NAME / "people").mkdir()
    (tmp_path / NAME / "model" / "manifest.toml").write_text(manifest)
    for arguments in (("pack", NAME), ("init", "model", "com.example.Other", "--model", f"{NAME}/model", "--no-run")):
        told = component(*arguments, status=2).stderr.replace("\n", " ")
        assert f"{outside}, which is outside of its folder" in told
    assert not (tmp_path / "build").exists()
    assert not (tmp_path / "com.example.Other").exists()


def test_pictures_are_recorded_only_for_one_component_with_a_model(component):
    component("init", "generic", NAME)
    assert "brings no model" in component("pack", NAME, "--record-golden", COFFEE, status=2).stderr
    component("pack", NAME, NAME, "--record-golden", COFFEE, status=2)


# -- packing -----------------------------------------------------------------------------------------------------------


def written(folder: Path, recipe: str, **files: str) -> packing.ComponentSource:
    folder.mkdir(parents=True, exist_ok=True)
    head = f"RecipeFormatVersion: 2020-01-25\nComponentName: {NAME}\nComponentVersion: 1.2.3\n"
    (folder / "recipe.yaml").write_text(head + recipe)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return packing.find(folder)


ZIP = "Manifests: [{Artifacts: [{Uri: 'file:files.zip', Unarchive: ZIP}]}]"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_folder_gives_the_same_bytes_whenever_and_wherever_it_is_packed(tmp_path):
    files = {"files__b_py": "b", "files__a__c_py": "c" * 9999, "files__a_py": ""}
    one = packing.pack(written(tmp_path / "one", ZIP, **files), tmp_path / "out1")
    source = written(tmp_path / "other", ZIP, **dict(reversed(files.items())))
    for path in source.folder.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (0, 0))
    other = packing.pack(source, tmp_path / "out2")
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")
    assert one.recipe == other.recipe
    assert packing.pack(source, tmp_path / "out2").recipe == one.recipe


TREES = st.dictionaries(st.from_regex(r"[a-z]{1,6}(\.txt)?", fullmatch=True), st.binary(max_size=300), max_size=5)


@settings(max_examples=25)
@given(TREES)
def test_what_is_packed_unpacks_to_the_same_files(tmp_path_factory, tree):
    tmp_path = tmp_path_factory.mktemp("tree")
    source = written(tmp_path / "in", ZIP)
    (tmp_path / "in" / "files").mkdir()
    for name, data in tree.items():
        (tmp_path / "in" / "files" / name).write_bytes(data)
    packed = packing.pack(source, tmp_path / "out")
    unpack(packed.artifacts[0], tmp_path / "back")
    assert contents(tmp_path / "back") == tree


def test_hidden_files_and_pythons_leftovers_stay_at_home(tmp_path):
    files = {"files__a_py": "", "files__.secret": "", "files__.git__x": ""}
    source = written(tmp_path, ZIP, **files)
    (tmp_path / "files" / "__pycache__").mkdir()
    (tmp_path / "files" / "__pycache__" / "a.pyc").write_text("")
    with zipfile.ZipFile(packing.pack(source, tmp_path / "out").artifacts[0]) as archive:
        assert archive.namelist() == ["a.py"]


def test_a_single_file_is_copied_and_what_is_elsewhere_is_left_alone(tmp_path):
    recipe = "Manifests: [{Artifacts: [{Uri: 'file:run.sh'}, {Uri: 'https://example.com/x.zip', Unarchive: ZIP}]}]"
    source = written(tmp_path, recipe, **{"run.sh": "echo\n"})
    packed = packing.pack(source, tmp_path / "out", "https://files.example.com/a")
    own, other = packed.recipe.manifests[0].artifacts
    assert own.uri == f"https://files.example.com/a/{NAME}/1.2.3/run.sh"
    assert Digest.parse(own.digest, own.algorithm) == Digest.of(packed.artifacts[0])
    assert other == source.recipe.manifests[0].artifacts[1]
    assert [path.relative_to(tmp_path / "out") for path in packed.artifacts] == [
        Path("artifacts", NAME, "1.2.3", "run.sh")
    ]


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (ZIP, "there is no folder"),
        ("Manifests: [{Artifacts: [{Uri: 'file:none.sh'}]}]", "there is no file"),
        ("Manifests: [{Artifacts: [{Uri: 'file:..%2Fx'}]}]", "is not beside the recipe"),
        ("Manifests: [{Platform: {os: '?'}}]", "matches no device"),
    ],
)
def test_what_cannot_be_packed_is_told(component, tmp_path, recipe, sentence):
    folder = tmp_path / "c"
    folder.mkdir()
    head = f"RecipeFormatVersion: 2020-01-25\nComponentName: {NAME}\nComponentVersion: 1.2.3\n"
    (folder / "recipe.yaml").write_text(head + recipe)
    assert sentence in component("pack", "c", status=2).stderr


def test_a_link_is_not_followed(component, tmp_path):
    written(tmp_path / "c", ZIP, files__a_py="")
    (tmp_path / "c" / "files" / "link").symlink_to("/etc/hostname")
    assert "is a link" in component("pack", "c", status=2).stderr
    assert not list((tmp_path / "build").rglob("*.zip"))


def test_what_devices_would_not_unpack_is_not_packed(component, tmp_path):
    written(tmp_path / "c", ZIP)
    (tmp_path / "c" / "files").mkdir()
    (tmp_path / "c" / "files" / "zeros").write_bytes(bytes(4 << 20))
    assert "the archive is not unpacked" in component("pack", "c", status=2).stderr
    assert contents(tmp_path / "build") == {}


def test_a_folder_without_a_recipe_is_told_how_to_begin(component):
    assert "verge component init" in component("pack", ".", status=2).stderr


def test_a_block_that_no_device_would_take_is_told_before_it_is_packed(component, tmp_path):
    component("init", "inference", NAME, "--model", "com.example.Mine")
    recipe = tmp_path / NAME / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("      Input:", "      Inputt:"))
    assert "Inputt" in component("pack", NAME, status=2).stderr
