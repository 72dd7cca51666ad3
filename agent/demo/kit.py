"""The components of ``verge demo --deploy``: two models that are well, four that are not, and the stream over them.

Every model brings a golden frame, as ``verge component pack --record-golden`` writes it.  Archives lie in a folder and
are named by ``file:`` URIs with their digests; recipes go along in the document.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.inference.manifest import SAMPLES

__all__ = ["BAD", "CLASSIFIER", "DETECTOR", "Kit"]

CLASSIFIER, DETECTOR = "verge.demo.Classifier", "verge.demo.Detector"
_PICTURE = "chelsea.jpg"
_SAMPLES = {CLASSIFIER: "classifier", DETECTOR: "detector"}
_STREAMS = {CLASSIFIER: "1.0.0", DETECTOR: "2.0.0"}
"""The version of the stream that each model answers."""
_CAT = {"x": 0.0065, "y": 0.0003, "width": 0.9547, "height": 0.9977}
_EXPECTED: Mapping[str, Any] = {
    CLASSIFIER: {"label": "Egyptian cat", "score": 0.81, "tolerance": 0.3},
    DETECTOR: {"boxes": [{"label": "Cat", "score": 0.85, "box": _CAT}], "tolerance": 0.3},
}

BAD: Mapping[str, str] = {
    "wrong-labels": "1.1.0",
    "corrupt-archive": "1.2.0",
    "truncated-model": "1.3.0",
    "crashing-model": "1.4.0",
}
"""What is wrong with a detector, and its version."""

Files = dict[str, bytes]
Recipe = dict[str, Any]


class Kit:
    """Makes components below ``folder``; ``stream`` is the configuration of the demo's stream but for its model."""

    def __init__(self, folder: Path, name: str, stream: Mapping[str, Any]) -> None:
        self._folder = folder
        self._name = name
        self._stream = stream
        folder.mkdir()
        self._recipes = {
            (model, version): self._model(model, version, wrong)
            for model, version, wrong in (
                (CLASSIFIER, "1.0.0", ""),
                (DETECTOR, "1.0.0", ""),
                *((DETECTOR, version, wrong) for wrong, version in BAD.items()),
            )
        }

    def document(self, model: str, version: str = "1.0.0") -> dict[str, Any]:
        """The document that has the stream answered by this version of a model."""
        components = {
            # What an earlier version of the stream was configured with gives way to the defaults of this one.
            self._name: {"version": _STREAMS[model], "configurationUpdate": {"reset": [""]}},
            model: {"version": version},
        }
        return {"components": components, "recipes": [self._recipes[model, version], self._inference(model)]}

    def _inference(self, model: str) -> Recipe:
        return _recipe(self._name, _STREAMS[model], "verge.inference") | {
            "ComponentDependencies": {model: {"VersionRequirement": "*"}},
            "ComponentConfiguration": {"DefaultConfiguration": {"Verge": {"Model": model, **self._stream}}},
            "Manifests": [{}],
        }

    def _model(self, name: str, version: str, wrong: str) -> Recipe:
        files = {path.name: path.read_bytes() for path in (SAMPLES / _SAMPLES[name]).iterdir()}
        files["golden/" + _PICTURE] = (SAMPLES.parent / "images" / _PICTURE).read_bytes()
        files["golden/expected.json"] = json.dumps(
            {"pictures": [{"picture": _PICTURE, "expect": _EXPECTED[name]}]}
        ).encode()
        # Each archive has a digest of its own: one that the agent has already is not fetched, however it is now.
        files["about.txt"] = f"{name} {version}".encode()
        archive = self._folder / f"{name}-{version}.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for path, content in _spoiled(files, wrong).items():
                packed.writestr(path, content)
        digest = base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode()
        if wrong == "corrupt-archive":
            content = archive.read_bytes()
            archive.write_bytes(content[: len(content) // 2])
        artifact = {"Uri": archive.as_uri(), "Unarchive": "ZIP", "Digest": digest, "Algorithm": "SHA-256"}
        return _recipe(name, version, "verge.model") | {"Manifests": [{"Artifacts": [artifact]}]}


def _spoiled(files: Files, wrong: str) -> Files:
    """The files with what is to be wrong inside the archive."""
    if wrong == "wrong-labels":
        labels = files["labels.txt"].splitlines()
        return files | {"labels.txt": b"\n".join([*labels[1:], labels[0]]) + b"\n"}
    if wrong == "truncated-model":
        return files | {"model.tflite": files["model.tflite"][: len(files["model.tflite"]) // 2]}
    if wrong == "crashing-model":
        crashing = 'file = "model.tflite"\ntask = "tensors"\nbackend = "agent.demo.crashing:Crashing"\n'
        return files | {"manifest.toml": crashing.encode()}
    return files


def _recipe(name: str, version: str, kind: str) -> Recipe:
    head = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
    return head | {"ComponentType": kind}
