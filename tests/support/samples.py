"""Greengrass's four inference components as an owner has them: stores of his own, folders of pictures, documents.

Every store holds a network that tells colours: what it says of a picture of one colour shows how the picture got there.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.support import models, tvm
from tests.support.agent import Agent
from tests.support.fleet import deploy, document, recipe
from tests.support.until import until_sync

CLASSIFIER = "aws.greengrass.TensorFlowLiteImageClassification"
DETECTOR = "aws.greengrass.TensorFlowLiteObjectDetection"
DLR_CLASSIFIER = "aws.greengrass.DLRImageClassification"
DLR_DETECTOR = "aws.greengrass.DLRObjectDetection"
TOPICS = {
    CLASSIFIER: "ml/tflite/image-classification",
    DETECTOR: "ml/tflite/object-detection",
    DLR_CLASSIFIER: "ml/dlr/image-classification",
    DLR_DETECTOR: "ml/dlr/object-detection",
}
RUNTIMES = {"variant.TensorFlowLite": "2.5.11", "variant.DLR": "1.6.12"}
COLOURS = ("red", "green", "blue")
STORE_VERSION = "2.1.99"
"""Higher than any that there is, as AWS tells owners of models to do."""

Check = Callable[[Any], bool]

_CPU = os.uname().machine
_MEANS = '''
"""A task whose score is the mean of a channel to the last digit, with a box that a snapshot shows."""

from agent.inference.runtime.base import Task


class Means(Task):
    name = "object-detection"

    def __init__(self, options, labels, inputs, outputs):
        self.labels = labels

    def predictions(self, outputs, geometry):
        means = outputs[0].reshape(-1)
        best = int(means.argmax())
        box = {"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}
        return [{"label": self.labels.name(best), "label_id": best, "score": float(means[best]), "box": box}]
'''


def store(folder: Path, name: str, archive: str, files: Path, version: str = STORE_VERSION) -> dict[str, Any]:
    """A model component as AWS writes them: no type, no scripts, one archive that holds one folder."""
    path = folder / f"{archive}.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(files.iterdir()):
            packed.write(file, f"{archive}/{file.name}")
    digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
    artifact = {"Uri": f"file://{path}", "Unarchive": "ZIP", "Digest": digest, "Algorithm": "SHA-256"}
    manifest = {"Platform": {"os": "linux"}, "Lifecycle": {}, "Artifacts": [artifact]}
    return recipe(name, version, "aws.greengrass.generic", Manifests=[manifest])


def stores(folder: Path) -> list[dict[str, Any]]:
    """A store for each of the four; those of TensorFlow Lite and of the DLR classifier are AWS's layout and no more."""
    made = {kind: folder / kind for kind in ("classifier", "detector", "dlr-classifier", "dlr-detector")}
    for place in made.values():
        place.mkdir(parents=True)
    models.tflite_colours(made["classifier"] / "model.tflite", (224, 224), dtype="uint8", scale=1 / 255)
    models.tflite_colours(made["detector"] / "model.tflite", (224, 224))
    for kind in ("classifier", "detector"):
        (made[kind] / "labels.txt").write_text(repr(list(COLOURS)))
    (made["detector"] / "means.py").write_text(_MEANS)
    (made["detector"] / "manifest.toml").write_text(
        'file = "model.tflite"\nlabels = "labels.txt"\ntask = "means.py:Means"\n'
    )
    tvm.colours(made["dlr-classifier"], (224, 224))
    (made["dlr-classifier"] / "synset.txt").write_text(repr(dict(enumerate(COLOURS))))
    tvm.yolo_triple(made["dlr-detector"])
    tflite, dlr = "variant.TensorFlowLite", "variant.DLR"
    named = {
        "classifier": (f"{tflite}.ImageClassification.ModelStore", "TensorFlowLite-Mobilenet"),
        "detector": (f"{tflite}.ObjectDetection.ModelStore", "TensorFlowLite-SSD"),
        "dlr-classifier": (f"{dlr}.ImageClassification.ModelStore", f"DLR-resnet50-{_CPU}-cpu-ImageClassification"),
        "dlr-detector": (f"{dlr}.ObjectDetection.ModelStore", f"DLR-yolo3-{_CPU}-cpu-ObjectDetection"),
    }
    return [store(folder, *named[kind], made[kind]) for kind in made]


def plain(colour: str, height: int, width: int) -> np.ndarray:
    """BGR."""
    rgb = [230 if each == colour else 10 for each in COLOURS]
    return np.full((height, width, 3), rgb[::-1], np.uint8)


class Pictures:
    """A folder of pictures; each comes whole, in place of what was there under its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes | np.ndarray, name: str = "cat.png") -> Path:
        data = content if isinstance(content, bytes) else cv2.imencode(".png", content)[1].tobytes()
        beside = self.folder / f".{name}.part"
        beside.write_bytes(data)
        return beside.replace(self.folder / name)

    def colour(self, name: str, file: str = "cat.png", side: int = 256) -> Path:
        """A picture of one colour."""
        return self.put(plain(name, side, side), file)


def film(path: Path, colour: str, codec: str = "MJPG") -> Path:
    """A second of video in one colour; ``FFV1`` is no JPEG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    assert writer.isOpened()
    for _ in range(25):
        writer.write(plain(colour, 48, 64))
    writer.release()
    return path


class Site:
    """An agent with Greengrass's components on it, told by documents that name everything they want."""

    _numbers = itertools.count(1)

    def __init__(self, agent: Agent, recipes: Iterable[dict[str, Any]] = ()) -> None:
        self.agent = agent
        self.recipes = list(recipes)
        self.wanted: dict[str, dict[str, Any]] = {name: {"UseInstaller": "false"} for name in RUNTIMES}
        agent.peer.subscribe("ml/#")

    def document(self) -> dict[str, Any]:
        """What is wanted, as a document; a configuration replaces what was there before."""
        versions = {name: RUNTIMES.get(name, "2.1.4") for name in self.wanted}
        made = document(f"told-{next(self._numbers)}", self.recipes, versions)
        for name, configuration in self.wanted.items():
            made["components"][name]["configurationUpdate"]["merge"] = configuration
        return made

    def try_out(self, component: str, keys: dict[str, Any]) -> dict[str, Any]:
        """Deploy with these keys of a component; the result is how that ended.  What failed is not wanted any more."""
        before = self.wanted
        self.wanted = {**before, component: keys}
        ended = deploy(self.agent, self.document())
        if ended["status"] != "SUCCEEDED":
            self.wanted = before
        return ended

    def configure(self, component: str, **keys: Any) -> None:
        """As ``try_out``, of what must go well."""
        ended = self.try_out(component, keys)
        assert ended["status"] == "SUCCEEDED", ended

    def report(self, component: str, check: Check = lambda _: True) -> Any:
        """What the component's stream says last, once it is as wanted."""
        return self._latest(self.agent.topic(f"streams/{component}"), check)

    def status(self, component: str, check: Check = lambda _: True) -> Any:
        """What is retained of a component, once it is as wanted."""
        return self._latest(self.agent.topic(f"components/{component}"), check)

    def next(self, topic: str, check: Check = lambda _: True, count: int = 1) -> list[Any]:
        """The first ``count`` messages on a topic that come from now on and pass."""
        return [json.loads(message.payload) for message in self.heard(topic, check, count)]

    def heard(self, topic: str, check: Check = lambda _: True, count: int = 1) -> list[Any]:
        """As ``next``, with their times."""
        told, looked, found = self.agent.peer.heard, len(self.agent.peer.heard), []

        def enough() -> bool:
            nonlocal looked
            while looked < len(told) and len(found) < count:
                message = told[looked]
                looked += 1
                if message.topic == topic and check(json.loads(message.payload)):
                    found.append(message)
            return len(found) == count

        until_sync(enough, why=lambda: f"{len(found)} of {count} fitting messages on {topic}")
        return found

    def _latest(self, topic: str, check: Check) -> Any:
        def last() -> Any:
            heard = reversed(self.agent.peer.heard)
            return next((json.loads(message.payload) for message in heard if message.topic == topic), None)

        def fitting() -> Any:
            told = last()
            return told if told is not None and check(told) else None

        return until_sync(fitting, why=lambda: f"last on {topic}: {last()}")
