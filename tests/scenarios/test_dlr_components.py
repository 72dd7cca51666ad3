"""Greengrass's DLR components on model stores of one's own: compiled networks in AWS's layout, run by a real libdlr.

A store is published as AWS documents it: under the name of AWS's, with a higher version, one ZIP archive a processor.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.support import tvm
from tests.support.device import Owner, device

CLASSIFIER, DETECTOR = "aws.greengrass.DLRImageClassification", "aws.greengrass.DLRObjectDetection"
STORE, BLOB_STORE = "variant.DLR.ImageClassification.ModelStore", "variant.DLR.ObjectDetection.ModelStore"
RESNET, YOLO = "DLR-resnet50-x86_64-cpu-ImageClassification", "DLR-yolo3-x86_64-cpu-ObjectDetection"
TOPICS = {CLASSIFIER: "ml/dlr/image-classification", DETECTOR: "ml/dlr/object-detection"}
BLOBS = {"red": (64, 48, 192, 144), "blue": (320, 240, 480, 432)}
SIDE, WIDTH, HEIGHT = 512, 640, 480


@pytest.fixture(scope="module")
def owner(broker, tmp_path_factory) -> Iterator[Owner]:
    tvm.require()
    with device(f"neo-{uuid.uuid4().hex[:8]}", broker.port, tmp_path_factory.mktemp("neo")) as agent:
        agent.peer.subscribe("ml/#")
        owner = Owner(agent, broker.port)
        owner.deploy({"variant.DLR": "1.6.9"}, {"UseInstaller": "false"})
        yield owner


class Shelf:
    """Recipes and archives in two folders, as ``verge deploy --recipes … --artifacts …`` takes them."""

    def __init__(self, folder: Path) -> None:
        self.recipes, self.artifacts = folder / "recipes", folder / "artifacts"
        self.recipes.mkdir()

    def publish(self, name: str, version: str, archives: dict[str, dict[str, Path]]) -> None:
        """A store as AWS writes its recipes; an archive is what lies in it, by place."""
        place = self.artifacts / name / version
        place.mkdir(parents=True)
        for archive, inside in archives.items():
            with zipfile.ZipFile(place / f"{archive}.zip", "w") as packed:
                for prefix, folder in inside.items():
                    for path in folder.iterdir():
                        packed.write(path, f"{prefix}{path.name}")
        uris = [{"Uri": f"s3://bucket/{name}/{version}/{archive}.zip", "Unarchive": "ZIP"} for archive in archives]
        platform = {"os": "linux", "architecture": "amd64"}
        told = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentType": "aws.greengrass.generic",
            "ComponentDependencies": {
                "aws.greengrass.Nucleus": {"VersionRequirement": ">=2.0.0 <3.0.0", "DependencyType": "SOFT"}
            },
            "Manifests": [{"Platform": platform, "Name": "Linux - amd64", "Lifecycle": {}, "Artifacts": uris}],
            "Lifecycle": {},
        }
        (self.recipes / f"{name}-{version}.json").write_text(json.dumps(told))

    @property
    def options(self) -> tuple[object, ...]:
        return "--recipes", self.recipes, "--artifacts", self.artifacts


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(tmp_path)


def deploy(owner: Owner, wanted: dict[str, str], told: dict[str, Any], *more: object) -> str:
    """Deploy a component with this configuration and nothing of an earlier one."""
    update = {next(iter(wanted)): {"RESET": [""], "MERGE": told}}
    return owner.deploy(wanted, update, *more).stdout


def named(folder: Path, *names: str) -> Path:
    """The classifier with these names for its classes."""
    made = tvm.classifier(folder).folder
    (made / "synset.txt").write_text(repr(list(names)))
    return made


def payload(owner: Owner, component: str, check: Any = lambda _: True) -> dict[str, Any]:
    return owner.agent.peer.wait(TOPICS[component], check)


def best(told: dict[str, Any]) -> str:
    return told["inference-results"][0]["Label"] if told["inference-results"] else ""


def test_a_classifier_published_over_the_store_of_aws_answers_pictures_of_a_folder(owner, shelf, tmp_path):
    shelf.publish(STORE, "2.1.25", {RESNET: {f"{RESNET}/": tvm.classifier(tmp_path / "resnet").folder}})
    (tmp_path / "pictures").mkdir()
    told = {"InferenceInterval": "0.25", "ImageDirectory": str(tmp_path / "pictures"), "ImageName": "cat.jpeg"}
    for number, (label, picture) in enumerate(tvm.SAMPLES.items()):
        shutil.copy(tvm.IMAGES / picture, tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / "pictures" / "cat.jpeg")
        if number == 0:
            printed = deploy(owner, {CLASSIFIER: "2.1.6"}, told, *shelf.options)
            assert re.search(rf"{re.escape(STORE)} +(install|update) +2\.1\.25", printed)
        heard = payload(owner, CLASSIFIER, lambda told, label=label: best(told) == label)
        assert heard["inference-type"] == "image-classification"
        assert heard["inference-description"] == "Top 5 predictions with score 0.3 or above "
        (result,) = heard["inference-results"]
        assert list(result) == ["Label", "Score"]
        assert 0.9 < float(result["Score"]) <= 1
    model = owner.status(STORE, lambda told: told["version"] == "2.1.25" and told["state"] == "RUNNING")["model"]
    assert (model["backend"], model["task"]) == ("dlr 1.6.0", "image-classification")


def test_model_resource_key_says_which_of_a_stores_archives_it_is(owner, shelf, tmp_path):
    usual, own, arm = (named(tmp_path / each, *(f"{each} {n}" for n in range(4))) for each in ("usual", "own", "arm"))
    inside = {f"{each}/": named(tmp_path / f"in-{each}", *(f"{each} {n}" for n in range(4))) for each in "ab"}
    archives = {
        "DLR-resnet50-aarch64-cpu-ImageClassification": {"": arm}, RESNET: {"": usual}, "my.net-1.0": {"": own},
        "several": inside,
    }  # fmt: skip
    shelf.publish(STORE, "2.1.26", archives)
    wanted = {CLASSIFIER: "2.1.6", STORE: "2.1.26"}
    for key, expected in (
        (None, "usual"),
        ({"x86_64": "my.net-1.0", "aarch64": RESNET}, "own"),
        ("several/b", "b"),
        ({"model": "my.net-1.0.zip"}, "usual"),  # AWS's key for this processor is still there, and goes before it
    ):
        told = {"InferenceInterval": 0.25} | ({"ModelResourceKey": key} if key else {})
        deploy(owner, wanted, told, *shelf.options)
        owner.agent.peer.forget()
        assert best(payload(owner, CLASSIFIER)).startswith(f"{expected} ")
    update = {CLASSIFIER: {"MERGE": {"ModelResourceKey": {"x86_64": "missing"}}}}
    refused = owner.verge_deploy("--component", f"{CLASSIFIER}=2.1.6", "--config", json.dumps(update), status=1)
    assert "missing" in refused.stdout + refused.stderr
    assert "my.net-1.0.zip" in refused.stdout + refused.stderr
    owner.agent.peer.forget()
    assert best(payload(owner, CLASSIFIER)).startswith("usual ")


@pytest.mark.parametrize("way", ["a folder", "a topic"])
def test_a_detector_of_three_outputs_tells_boxes_in_pixels_of_512(owner, shelf, tmp_path, way):
    shelf.publish(BLOB_STORE, "2.1.30", {YOLO: {f"{YOLO}/": tvm.yolo_triple(tmp_path / "yolo").folder}})
    scene = cv2.imencode(".png", tvm.scene(*BLOBS.items(), width=WIDTH, height=HEIGHT))[1].tobytes()
    (tmp_path / "objects.png").write_bytes(scene)
    topic = f"{owner.agent.thing}/cameras/door/frame"
    told: dict[str, Any] = {"InferenceInterval": "0.25", "ImageDirectory": str(tmp_path), "ImageName": "objects.png"}
    if way == "a topic":
        told = {"Verge": {"Input": {"Topic": topic.replace("door", "+")}}}
    deploy(owner, {DETECTOR: "2.1.6"}, told, *shelf.options)
    owner.agent.peer.forget()
    if way == "a topic":
        owner.agent.peer.publish(topic, scene)
    heard = payload(owner, DETECTOR)
    assert heard["inference-type"] == "object-detection"
    assert heard["inference-description"] == "Top 5 predictions with score 0.3 or above "
    assert [list(result) for result in heard["inference-results"]] == [["Label", "Score", "Boundaries"]] * 2
    found = {result["Label"]: numbers(result["Boundaries"]) for result in heard["inference-results"]}
    assert found.keys() == BLOBS.keys()
    across, down = SIDE / WIDTH, SIDE / HEIGHT
    for label, (left, top, right, bottom) in BLOBS.items():
        assert found[label] == pytest.approx([left * across, top * down, right * across, bottom * down], abs=2)


def numbers(boundaries: str) -> list[float]:
    """The text of NumPy's array, blank-separated."""
    assert boundaries.startswith("[")
    assert boundaries.endswith("]")
    assert "," not in boundaries
    return [float(number) for number in boundaries[1:-1].split()]
