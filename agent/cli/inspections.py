"""An export of Anomalib's or a classifier as the model of an anomaly component: found, looked at, written.

An export is a folder with one ONNX or TFLite file, however deep, and perhaps Anomalib's ``metadata.json`` or labels
beside it.  What it is is asked of the model itself, in a worker: a map or a score, areas, or classes, of which somebody
has to say which are normal.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from agent.cli import loop
from agent.cli.pictures import PictureSource
from agent.config.models import ModelOptions
from agent.config.streams import FrameLimits
from agent.errors import ConfigError
from agent.inference import original
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import LABEL_FILES, SAMPLES, ModelSpec, parts, resolve
from agent.inference.predictions import Classification, Segmentation
from agent.inference.runtime import modelinfo, palette
from agent.inference.values import ModelMetadata

__all__ = ["Judging", "write"]

_PICTURE: Final = SAMPLES.parent / "images" / "chelsea.jpg"
_RUN: Final = (".onnx", ".tflite")
_EXPORTS: Final = {
    ".ckpt": "it holds PyTorch's weights: anomalib export --export_type onnx",
    ".pt": "it holds a PyTorch program: export it with torch.onnx.export, or anomalib export --export_type onnx",
    ".pth": "it holds PyTorch's weights: export the network with torch.onnx.export",
    ".keras": "it holds a Keras model: tf.lite.TFLiteConverter.from_keras_model(model).convert()",
    ".h5": "it holds a Keras model: tf.lite.TFLiteConverter.from_keras_model(model).convert()",
    ".xml": "it is OpenVINO's: export the same model as ONNX",
}
"""What cannot be run as it is, and what makes it so."""
_NORMAL: Final = frozenset(("good", "normal", "ok", "pass"))
"""What classes are called that are no anomaly, where nobody says it."""
_METADATA: Final = "metadata.json"
_MANIFEST: Final = "manifest.toml"
_MOST_FILES: Final = 10_000
_EVERY: Final = 1000
"""More classes than a classifier of anomalies has."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What a person says of the model."""

    normal: tuple[str, ...] = ()
    threshold: float | None = None
    task: str = ""


@dataclass(frozen=True, slots=True)
class _Judge:
    """How a model judges: its task, that task's options, and the verdict."""

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    anomaly: Mapping[str, Any] = field(default_factory=dict)


def write(source: str, folder: Path, told: Judging) -> None:
    """Copy the model of an export into a new folder, with a manifest that says how it judges.

    Raises ``ConfigError`` for an export without a model that can be run and judges anything, ``ModelRefusedError`` for
    a model that cannot be loaded.
    """
    path = _found(source)
    if path.is_dir():  # a model as Verge has it, or a package of Lookout for Vision's: it says all that itself
        _check_complete(path, told)
        _copy(path, folder)
        return
    spec = _spec(path, told)
    judge = loop.run(_asked(spec, told))
    folder.mkdir()
    try:
        for part in parts(spec):
            copy = folder / part.relative_to(path.resolve().parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, copy)
        labels = Path(spec.manifest.labels) if spec.manifest.labels else None
        for beside in (labels, path.parent / _METADATA):
            if beside is not None and beside.is_file():
                shutil.copy(beside, folder)
    except OSError as error:
        raise ConfigError(f"{path} cannot be copied: {error.strerror}", code="not-written") from error
    (folder / _MANIFEST).write_text(_manifest(path, labels, judge))


def _found(source: str) -> Path:
    """The model's file, or the folder of one that says all of itself."""
    path = Path(source)
    if not path.exists() and (SAMPLES / source / _MANIFEST).is_file():
        return SAMPLES / source
    if not path.exists():
        raise ConfigError(f"there is no {source}", code="model-missing", hint="name an export's folder or a model file")
    if path.is_file():
        return _runnable([path], source)
    if (path / _MANIFEST).is_file() or original.told(path) is not None:
        return path
    return _runnable(_files(path), source)


def _files(folder: Path) -> list[Path]:
    found = []
    for number, path in enumerate(folder.rglob("*")):
        if number >= _MOST_FILES:
            raise ConfigError(
                f"{folder} has more than {_MOST_FILES} files", code="model-missing", hint="name the model"
            )
        if path.is_file():
            found.append(path)
    return sorted(found)


def _runnable(files: Iterable[Path], source: str) -> Path:
    listed = list(files)
    models = [path for path in listed if path.suffix in _RUN]
    described = [path for path in models if (path.parent / _METADATA).is_file()]
    if len(chosen := described or models) == 1:
        return chosen[0]
    if models:
        names = ", ".join(str(path) for path in chosen[:5])
        raise ConfigError(f"{source} has {len(chosen)} models", code="model-missing", hint=f"name one of {names}")
    hint = next((hint for suffix, hint in _EXPORTS.items() if any(path.suffix == suffix for path in listed)), None)
    raise ConfigError(
        f"{source} has no ONNX or TFLite file", code="model-missing", hint=hint or "export the model as ONNX"
    )


def _check_complete(path: Path, told: Judging) -> None:
    if told != Judging():
        hint = f"edit {_MANIFEST} of the new folder in place of --normal, --threshold or --task"
        raise ConfigError(f"{path} says itself how it judges", code="option-wrong", hint=hint)


def _copy(path: Path, folder: Path) -> None:
    try:
        shutil.copytree(path, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    except (OSError, shutil.Error) as error:
        raise ConfigError(f"{path} cannot be copied: {error}", code="not-written") from error


def _spec(path: Path, told: Judging) -> ModelSpec:
    labels = next((path.parent / name for name in LABEL_FILES if (path.parent / name).is_file()), None)
    options = ModelOptions(source=str(path), task=told.task, labels=str(labels or ""))
    return resolve(options, Path.cwd())


async def _asked(spec: ModelSpec, told: Judging) -> _Judge:
    """What the model itself says that it is."""
    picture = PictureSource(str(_PICTURE)).read(FrameLimits())
    async with loaded(spec) as (plane, facts):
        predictions = (await plane.infer(MODEL, picture)).predictions
    threshold = {} if told.threshold is None else {"threshold": told.threshold}
    if facts.task == "image-classification":
        names = [one.label for one in predictions if isinstance(one, Classification)]
        if facts.labels > len(names):
            names = await _every_class(spec)
        return _Judge(facts.task, {}, {"threshold": 0.5, **threshold, "normal": _normal(names, told.normal)})
    if facts.task == "anomaly-detection":
        figures = dict(facts.recognition.options) or modelinfo.beside(spec.manifest.file).get("anomaly", {})
        return _Judge(
            facts.task, figures, {"threshold": 0.5, **threshold, "pixel_threshold": 0.5} | _classes(["anomaly"])
        )
    if facts.task == "segmentation":
        names = [one.label for one in predictions if isinstance(one, Segmentation)] if not facts.labels else []
        return _Judge(facts.task, {}, {**threshold, **({"normal": list(told.normal)} if told.normal else {})})
    raise ConfigError(
        f"{spec.manifest.file} is taken for a model of the task {facts.task}, which judges no picture",
        code="no-verdict",
        hint=_hint(facts),
    )


def _hint(facts: ModelMetadata) -> str:
    outputs = ", ".join(f"{one.name} {list(one.shape)}" for one in facts.outputs)
    return f"its outputs are {outputs}; --task anomaly-detection takes a score or a map for what they are"


async def _every_class(spec: ModelSpec) -> list[str]:
    every = replace(spec, manifest=replace(spec.manifest, options={**spec.manifest.options, "top_k": _EVERY}))
    async with loaded(every) as (plane, _):
        answer = await plane.infer(MODEL, PictureSource(str(_PICTURE)).read(FrameLimits()))
    return [one.label for one in answer.predictions if isinstance(one, Classification)]


def _normal(names: Sequence[str], told: Sequence[str]) -> list[str]:
    """Which of the classes are normal: those that are told, or called so."""
    normal = list(told) or [name for name in names if name.lower() in _NORMAL]
    strange = next((name for name in normal if name not in names), None)
    if strange is not None or not normal or len(normal) == len(names):
        what = f"no class is called {strange!r}" if strange else "which of the classes are normal?"
        raise ConfigError(
            what, code="option-wrong", hint=f"say it with --normal; classes: {', '.join(sorted(names)[:20])}"
        )
    return normal


def _classes(names: Sequence[str]) -> dict[str, Any]:
    listed = ["background", *names]
    return {"classes": listed, "colors": [palette.color(place) for place in range(len(listed))]}


def _manifest(path: Path, labels: Path | None, judge: _Judge) -> str:
    head = {"name": path.parent.name if path.stem == "model" else path.stem, "version": "1.0.0", "file": path.name,
            "task": judge.task, "labels": labels.name if labels else ""}  # fmt: skip
    lines = _lines({key: value for key, value in head.items() if value})
    for table, values in (("options", judge.options), ("anomaly", judge.anomaly)):
        if values:
            lines += ["", f"[{table}]", *_lines(values)]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Any]) -> list[str]:
    # JSON's texts, numbers and lists are TOML's.
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]
