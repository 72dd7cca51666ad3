"""Components that work as they are written, to begin from: a recipe, its files and a page that says what to do next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from string import Template

from agent.errors import ConfigError
from agent.files import under
from agent.greengrass.recipes.reader import parse
from agent.inference.manifest import SAMPLES, Manifest, ModelSpec

__all__ = ["ARCHIVES", "SkeletonKind", "write", "write_model"]


class SkeletonKind(StrEnum):
    """What kind of component is begun."""

    MODEL = "model"
    INFERENCE = "inference"
    GENERIC = "generic"


ARCHIVES: Mapping[SkeletonKind, str] = {SkeletonKind.MODEL: "model", SkeletonKind.GENERIC: "files"}
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

_RECIPES: Mapping[SkeletonKind, str] = {
    SkeletonKind.MODEL: _HEAD
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
    + _ARTIFACT,
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
    SkeletonKind.INFERENCE: """\
An inference component: its recipe says which topics are read, which model component answers, and where results go.
There is no code. It is deployed together with the model component `$model`.
""",
    SkeletonKind.GENERIC: """\
A generic component: `files/main.py` is started by the recipe's `Run` step, is told to stop by SIGTERM, and gets its
configuration from the recipe by environment variables.
""",
}


def write(kind: SkeletonKind, folder: Path, name: str, model: str = "") -> None:
    """Write a component's recipe, page and program into a new folder; ``model`` is the one that answers.

    Raises ``RecipeError`` for names that are none, ``ConfigError`` where there is something already.
    """
    words = {"name": name, "model": model, "folder": ARCHIVES.get(kind, "")}
    recipe = Template(_RECIPES[kind]).substitute(words)
    parse(recipe, "the recipe")
    page = Template(_PAGE).substitute(words, what=Template(_WHAT[kind]).substitute(words).strip())
    try:
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe)
        (folder / "README.md").write_text(page)
        if kind is SkeletonKind.GENERIC:
            (folder / ARCHIVES[kind]).mkdir()
            (folder / ARCHIVES[kind] / "main.py").write_text(_MAIN)
    except OSError as error:
        hint = "choose another name or --dir"
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", code="not-written", hint=hint) from error


def write_model(spec: ModelSpec, source: str, folder: Path) -> None:
    """Copy a model's files into a new folder with a manifest; ``source`` is the name or path that it was resolved from.

    Raises ``ConfigError`` for files that cannot be copied.
    """
    path = under(Path(), source)
    origin = path if path.exists() else SAMPLES / source
    if Path(spec.manifest.file).is_dir():
        origin = Path(spec.manifest.file)
    try:
        if origin.is_dir():
            shutil.copytree(origin, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        else:
            folder.mkdir()
            for file in filter(None, (spec.manifest.file, spec.manifest.labels)):
                shutil.copy(file, folder)
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
