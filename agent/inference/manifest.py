"""What a model is: its file, task, labels, input and options, from a manifest or from the file alone.

A model is named by the name of a sample, by a folder or by the model file itself.  A folder has a
``manifest.toml``, or one model file, or is what a compiler of TVM's family wrote (SageMaker Neo) and a
model as a whole; ``labels.txt`` and the like may lie beside.  A folder in which there is nothing but one
folder stands for that one, as archives are often made.  What the model's file says itself need not be
repeated.  What the configuration says goes before what the manifest says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from agent.config.bounds import PathText, Text
from agent.config.models import CODE, ModelOptions, ModelSettings
from agent.config.strict import build, nearest
from agent.errors import ConfigError, ModelRefusedError
from agent.files import under

__all__ = ["LABEL_FILES", "MODEL_SUFFIXES", "SAMPLES", "Manifest", "ModelSpec", "resolve", "sample_names", "unwrapped"]

Settings = TypeVar("Settings", bound=ModelSettings)

SAMPLES = Path(__file__).parent.parent / "samples" / "models"
MODEL_SUFFIXES = (".tflite", ".onnx", ".pb", ".caffemodel", ".xml")
LABEL_FILES = ("labels.txt", "labels.json", "synset.txt")
_DEEPEST = 3
"""How many folders may be wrapped round a model's."""


class Manifest(ModelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model folder's ``manifest.toml``; paths are relative to the folder."""

    file: PathText
    name: Text = ""
    version: Text = ""
    backend: Text = "auto"
    task: Text = "auto"


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model ready to be loaded: the manifest with overrides applied and paths made absolute."""

    manifest: Manifest
    run: ModelOptions

    @property
    def name(self) -> str:
        """What results call the model."""
        return self.manifest.name

    def request(self, threads: int) -> dict[str, Any]:
        """The load request that a worker gets."""
        model = msgspec.to_builtins(self.manifest) | {"threads": threads, "accelerator": self.run.accelerator}
        return {"model": model, "memory_mb": self.run.memory_mb, "python_path": self.run.python_path}


def sample_names() -> list[str]:
    """The models that ship with the package."""
    return sorted(path.parent.name for path in SAMPLES.glob("*/manifest.toml"))


def resolve(options: ModelOptions, base: Path) -> ModelSpec:
    """Find the model and read its manifest; relative paths start at ``base``.

    Raises ``ConfigError`` for a manifest or override that cannot be used, ``ModelRefusedError`` where none is.
    """
    path = _locate(options.source, base)
    called = path.name if path.is_dir() else path.stem
    path = unwrapped(path)
    try:
        manifest = _manifest(path)
    except ConfigError as error:
        error.path = "source"  # its path is one of the manifest's
        raise
    folder = path if path.is_dir() else path.parent
    usual = {} if ":" in (options.task or manifest.task) else options.usual_options
    # Code that is not run need not be there.
    own = replace(manifest, **{key: "" for key in CODE if getattr(options, key)})
    merged = _placed(options, base).over(_placed(own, folder, within=folder)).settings()
    if merged["labels"] and not Path(merged["labels"]).is_file():
        raise ModelRefusedError(
            f"there is no label file {merged['labels']}", code="labels-missing", hint="check labels = …", path="labels"
        )
    merged["options"] = {**usual, **merged["options"]}
    merged["autotune"] = bool(merged["autotune"])
    manifest = replace(manifest, file=str((folder / manifest.file).resolve()), name=manifest.name or called, **merged)
    python_path = tuple(str((base / entry).resolve()) for entry in options.python_path)
    return ModelSpec(manifest=manifest, run=replace(options, python_path=python_path))


def unwrapped(path: Path) -> Path:
    """The folder that a folder stands for: the one in it, where there is nothing else, as archives are often made."""
    for _ in range(_DEEPEST):
        inside = [entry for entry in path.iterdir() if not entry.name.startswith((".", "__"))] if path.is_dir() else []
        if len(inside) != 1 or not inside[0].is_dir():
            break
        path = inside[0]
    return path


def _placed(settings: Settings, folder: Path, *, within: Path | None = None) -> Settings:
    """The settings with absolute paths: files of labels and code are found beside what names them."""
    code = {key: _file(getattr(settings, key), folder, key, within=within) for key in CODE}
    labels = str((folder / settings.labels).resolve()) if settings.labels else ""
    return replace(settings, labels=labels, **code)


def _file(name: str, folder: Path, key: str, *, within: Path | None = None) -> str:
    """``file.py:Name`` with the file's absolute path; any other name as it is."""
    file, _, attribute = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    if not file.endswith(".py"):
        return name
    if not attribute:
        raise ConfigError(
            f"{key} is {name!r}",
            code="code-missing",
            hint=f"add what of the file it is: {Path(file).name}:Name",
            path=key,
        )
    path = under(folder, file).resolve()
    if within is not None and not path.is_relative_to(within.resolve()):
        hint = "put the file into the model's folder"
        raise ConfigError(f"{key} is {name!r}: that is outside {within}", code="code-outside", hint=hint, path=key)
    if not path.is_file():
        raise ModelRefusedError(
            f"{key} is {name!r}: there is no file {path}", code="code-missing", hint=f"check {key} = …", path=key
        )
    return f"{path}:{attribute}"


def _locate(source: str, base: Path) -> Path:
    path = under(base, source)
    if path.exists():
        return path
    sample = SAMPLES / source
    if source and "/" not in source and sample.is_dir():
        return sample
    known = sample_names()
    raise ModelRefusedError(
        f"there is no model {source!r}: neither a file or folder {path}, nor a sample",
        code="model-missing",
        hint=nearest(source, known) or f"samples: {', '.join(known)}",
        path="source",
    )


def _manifest(path: Path) -> Manifest:
    if path.is_file():
        return Manifest(file=path.name, labels=_labels_beside(path.parent) if path.name.startswith("model.") else "")
    written = path / "manifest.toml"
    if written.is_file():
        return build(Manifest, written.read_bytes(), str(written))
    models = sorted(entry for entry in path.iterdir() if entry.suffix in MODEL_SUFFIXES)
    if len(models) == 1 or (not models and _is_compiled(path)):
        return Manifest(file=models[0].name if models else ".", labels=_labels_beside(path))
    raise ConfigError(
        f"{path} has no manifest.toml and {len(models)} model files",
        code="manifest-missing",
        hint="write a manifest.toml with file = …, or name the model file itself",
        path="source",
    )


def _is_compiled(folder: Path) -> bool:
    """Whether a folder is what TVM, its virtual machine or treelite was compiled to."""
    names = [entry.name for entry in folder.iterdir() if entry.is_file() and entry.name != "libdlr.so"]
    suffixes = {Path(name).suffix for name in names}
    if ".params" in suffixes:
        return {".so", ".json"} <= suffixes
    return ".so" in suffixes and (".ro" in suffixes or sum(name.endswith(".so") for name in names) == 1)


def _labels_beside(folder: Path) -> str:
    return next((name for name in LABEL_FILES if (folder / name).is_file()), "")
