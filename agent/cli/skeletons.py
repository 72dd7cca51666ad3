"""Components that work as they are written, to begin from: a recipe, its files and a page that says what to do next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from string import Template

from agent import __version__
from agent.errors import ConfigError
from agent.files import under
from agent.greengrass.recipes.reader import parse
from agent.inference.manifest import SAMPLES, Manifest, ModelSpec, keep_within, parts

__all__ = ["ARCHIVES", "SkeletonKind", "write", "write_model"]


class SkeletonKind(StrEnum):
    """What kind of component is begun."""

    MODEL = "model"
    ANOMALY = "anomaly"
    """A model that judges pictures."""
    INFERENCE = "inference"
    GENERIC = "generic"
    GREENGRASS = "greengrass"
    """Verge itself, for a Greengrass nucleus."""


ARCHIVES: Mapping[SkeletonKind, str] = {
    SkeletonKind.MODEL: "model", SkeletonKind.ANOMALY: "model", SkeletonKind.GENERIC: "files",
    SkeletonKind.GREENGRASS: "verge",
}  # fmt: skip
"""The folder that is packed into the artifact of the same name."""

_HEAD = """\
RecipeFormatVersion: "2020-01-25"
ComponentName: "$name"
ComponentVersion: 1.0.0
"""

_ARTIFACT = """\
    Artifacts:
      # `verge component pack` makes it from the folder $folder/ and fills in its digest.
      - Uri: file:$folder.zip
        Unarchive: ZIP
"""

_MODEL = (
    _HEAD
    + """\
ComponentType: verge.model
ComponentDescription: A model, its labels and its golden frames
ComponentConfiguration:
  DefaultConfiguration:
    Verge:
      # The artifact whose folder is the model's; its manifest.toml says the rest.
      Archive: $folder.zip
Manifests:
  - Name: any
"""
    + _ARTIFACT
)

_RECIPES: Mapping[SkeletonKind, str] = {
    SkeletonKind.MODEL: _MODEL,
    SkeletonKind.ANOMALY: _MODEL.replace("A model, its labels", "An anomaly model, its classes"),
    SkeletonKind.INFERENCE: _HEAD
    + """\
ComponentType: verge.inference
ComponentDescription: Frames from topics, through a model, to results
ComponentConfiguration:
  DefaultConfiguration:
    Verge:
      # A model component, which is among the dependencies below.
      Model: "$model"
      # A wildcard makes one camera of each topic.
      Input: {topic: cameras/+/frame}
      Outputs:
        - topic: "verge/{thing}/results/{stream}"
      # The task's options, before those of the model: {threshold: 0.4}, {top_k: 3} …
      Options: {}
      Run: {workers: 1}
ComponentDependencies:
  "$model":
    VersionRequirement: ">=1.0.0"
    DependencyType: HARD
Manifests:
  - Name: any
""",
    SkeletonKind.GENERIC: _HEAD
    + """\
ComponentType: aws.greengrass.generic
ComponentDescription: A program that says something every few seconds
ComponentConfiguration:
  DefaultConfiguration:
    message: "Hello from $name"
    interval_s: 10
Manifests:
  - Name: Linux
    Platform: {os: linux}
    Lifecycle:
      # By the environment, where no quote in a value can end the script's own.
      Setenv:
        MESSAGE: "{configuration:/message}"
        INTERVAL_S: "{configuration:/interval_s}"
      Run: exec python3 -u "{artifacts:decompressedPath}/$folder/main.py"
"""
    + _ARTIFACT
    + """\
        # The program runs as another user than the agent.
        Permission: {Read: ALL}
""",
    SkeletonKind.GREENGRASS: _HEAD
    + """\
ComponentType: aws.greengrass.generic
ComponentDescription: Verge, which answers frames of this device and talks through the nucleus
ComponentConfiguration:
  DefaultConfiguration:
    accessControl:
      # Frames come from local publish/subscribe: what local_topics of verge.toml name.
      aws.greengrass.ipc.pubsub:
        "$name:pubsub:1":
          policyDescription: Frames of this device
          operations: ["aws.greengrass#SubscribeToTopic"]
          resources: ["cameras/*"]
      # Results and the agent's status go to AWS IoT Core.
      aws.greengrass.ipc.mqttproxy:
        "$name:mqttproxy:1":
          policyDescription: Results and status of Verge
          operations: ["aws.greengrass#PublishToIoTCore"]
          resources: ["verge/*"]
Manifests:
  - Name: Linux
    Platform: {os: linux}
    Lifecycle:
      Setenv:
        VERGE_DATA_DIR: "{work:path}/data"
      Install:
        Timeout: 1800
        # What is in $folder/wheels comes first, and needs no index if it is everything.
        Script: |-
          set -e
          python3 -m venv "{work:path}/venv"
          "{work:path}/venv/bin/pip" install --disable-pip-version-check \\
              --find-links "{artifacts:decompressedPath}/$folder/wheels" "verge-edge==$version"
      Run:
        Script: |-
          export VERGE_THING="$$AWS_IOT_THING_NAME"
          exec "{work:path}/venv/bin/verge" run -c "{artifacts:decompressedPath}/$folder/verge.toml"
"""
    + _ARTIFACT
    + """\
        Permission: {Read: ALL}
""",
}

_MAIN = '''\
"""Says something every few seconds, until it is told to stop."""

import os
import signal
import threading

stop = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stop.set())

while True:
    print(os.environ["MESSAGE"])
    if stop.wait(float(os.environ["INTERVAL_S"])):
        break
'''

_CONFIGURATION = """\
# Verge as a component of Greengrass; the thing's name and the data folder come from the recipe.

[transports.nucleus]
type = "greengrass"
# Topics of this device, which local publish/subscribe carries; all others are AWS IoT Core's. The recipe's
# accessControl has to allow both.
local_topics = ["cameras/#"]

[models.model]
source = "model"

[streams.cameras]
model = "model"
input = { topic = "cameras/+/frame" } # a wildcard makes one camera of each topic

[[streams.cameras.outputs]]
topic = "verge/{thing}/results/{stream}"
"""

_FILES: Mapping[SkeletonKind, tuple[str, str]] = {
    SkeletonKind.GENERIC: ("main.py", _MAIN),
    SkeletonKind.GREENGRASS: ("verge.toml", _CONFIGURATION),
}
"""What is written into the folder that is packed: a name and a text."""

_PAGE = """\
# $name

$what

    verge recipe check $name/recipe.yaml
    verge component pack $name --out build
"""

_WHAT: Mapping[SkeletonKind, str] = {
    SkeletonKind.MODEL: """\
A model component: `model/` holds the model, its `manifest.toml`, its labels and, in `golden/`, pictures with the
answers that the model has to give before a deployment commits.

    verge infer --model $name/model PICTURE
    verge component pack $name --record-golden PICTURE

The first answers a picture here, the second makes its answer one that is expected. Then:
""",
    SkeletonKind.ANOMALY: """\
An anomaly model: `model/` holds the model and its `manifest.toml`, whose table `[anomaly]` says from which score on a
picture is anomalous, and which classes there are in which colours. Clients of Lookout for Vision's edge agent start it
by the name `$name`; a stream that uses it gets its verdict before its predictions.

    verge infer --model $name/model PICTURE
    verge component pack $name --record-golden PICTURE

The first answers a picture here, the second makes its answer one that is expected. Then:
""",
    SkeletonKind.INFERENCE: """\
An inference component: its recipe says which topics are read, which model component answers, and where results go.
There is no code. It is deployed together with the model component `$model`.
""",
    SkeletonKind.GENERIC: """\
A generic component: `files/main.py` is started by the recipe's `Run` step, is told to stop by SIGTERM, and gets its
configuration from the recipe by environment variables.
""",
    SkeletonKind.GREENGRASS: """\
Verge as a component of AWS IoT Greengrass: `verge/verge.toml` is its configuration and `verge/model/` its model. Frames
that other components publish locally on `cameras/<name>/frame` are answered on `verge/<thing>/results/cameras` of AWS
IoT Core, through the nucleus. The device needs Python 3.11 or newer with `venv`.

Verge is installed on the device, from its package index or from the wheels in `verge/wheels`, for which an index is not
needed where these are all:

    pip wheel --wheel-dir $name/verge/wheels verge-edge==$version

A nucleus has no retained messages, properties and QoS for local topics, and publishes no last will: an agent that is
killed is still said to be online. Then, with the bucket that the devices read:
""",
}


def write(kind: SkeletonKind, folder: Path, name: str, model: str = "") -> None:
    """Write a component's recipe, page and program into a new folder; ``model`` is the one that answers.

    Raises ``RecipeError`` for names that are none, ``ConfigError`` where there is something already.
    """
    words = {"name": name, "model": model, "folder": ARCHIVES.get(kind, ""), "version": __version__}
    recipe = Template(_RECIPES[kind]).substitute(words)
    parse(recipe, "the recipe")
    page = Template(_PAGE).substitute(words, what=Template(_WHAT[kind]).substitute(words).strip())
    try:
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe)
        (folder / "README.md").write_text(page)
        if kind in _FILES:
            file, text = _FILES[kind]
            (folder / ARCHIVES[kind]).mkdir()
            (folder / ARCHIVES[kind] / file).write_text(text)
    except OSError as error:
        hint = "choose another name or --dir"
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", code="not-written", hint=hint) from error


def write_model(spec: ModelSpec, source: str, folder: Path) -> None:
    """Copy a model's files into a new folder with a manifest; ``source`` is the name or path that it was resolved from.

    Raises ``ConfigError`` for files that cannot be copied or lie outside of the model's folder, ``ModelRefusedError``
    where a part of the model is missing.
    """
    path = under(Path(), source)
    origin = path if path.exists() else SAMPLES / source
    if Path(spec.manifest.file).is_dir():
        origin = Path(spec.manifest.file)
    if origin.is_dir():
        keep_within(spec, origin)
    try:
        if origin.is_dir():
            shutil.copytree(origin, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        else:
            folder.mkdir()
            for part in parts(spec):
                copy = folder / part.relative_to(Path(spec.manifest.file).parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(part, copy)
            if spec.manifest.labels:
                shutil.copy(spec.manifest.labels, folder)
    except (OSError, shutil.Error) as error:
        raise ConfigError(f"{origin} cannot be copied: {error}", code="not-written") from error
    if not (folder / "manifest.toml").exists():
        (folder / "manifest.toml").write_text(_manifest(spec.manifest))


def _manifest(manifest: Manifest) -> str:
    """A manifest for a model that came without one."""
    values = {
        "name": manifest.name,
        "version": "1.0.0",
        "file": "." if Path(manifest.file).is_dir() else Path(manifest.file).name,
        "task": manifest.task,
        "labels": Path(manifest.labels).name if manifest.labels else "",
    }
    # JSON's texts are TOML's.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value)
