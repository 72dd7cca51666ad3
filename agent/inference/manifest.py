"""What a model is: its file, task, labels, input and options, from a manifest or from the file alone.

A model is named by the name of a sample, by a folder (with ``manifest.toml``, or with one model file in it
and perhaps ``labels.txt``) or by the model file itself.  What the file tells need not be said.  What the
configuration says goes before what the manifest says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agent.errors import ConfigWrong, ModelRefused
from agent.strict import build, nearest

__all__ = [
    "LABEL_FILES",
    "MODEL_SUFFIXES",
    "SAMPLES",
    "Manifest",
    "ModelOptions",
    "ModelSpec",
    "resolve",
    "sample_names",
]

SAMPLES = Path(__file__).parent.parent / "samples" / "models"
MODEL_SUFFIXES = (".tflite", ".onnx", ".pb", ".caffemodel", ".xml")
LABEL_FILES = ("labels.txt", "labels.json", "synset.txt")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model folder's ``manifest.toml``; paths are relative to the folder."""

    file: str
    name: str = ""
    version: str = ""
    backend: str = "auto"
    task: str = "auto"
    labels: str = ""
    input: dict[str, Any] = {}
    options: dict[str, Any] = {}
    backend_options: dict[str, Any] = {}


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model in the configuration: which one, what to override, and how to run it."""

    source: str
    """The name of a sample, a folder, or a model file."""
    backend: str = ""
    task: str = ""
    labels: str = ""
    input: dict[str, Any] = {}
    options: dict[str, Any] = {}
    backend_options: dict[str, Any] = {}
    accelerator: str = "auto"
    workers: int = 1
    threads: int = 0
    """Per worker; 0 shares the machine's processors between the workers."""
    memory_mb: int = 0
    """How much a worker may take beyond the loaded model; 0 is no limit."""
    deadline_s: float = 2.0
    """At least this long may a picture take before its worker counts as hung."""
    load_timeout_s: float = 120.0
    interpreter: str = ""
    """Another Python for the workers; empty is the agent's own."""
    python_path: tuple[str, ...] = ()
    """Folders in which a worker finds backends and tasks named ``module:Class``."""
    environment: dict[str, str] = {}


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model ready to be loaded: the manifest with overrides applied and paths made absolute."""

    manifest: Manifest
    run: ModelOptions

    @property
    def name(self) -> str:
        """What results call the model."""
        return self.manifest.name

    def request(self, threads: int) -> dict[str, Any]:
        """What a worker is told to load."""
        model = msgspec.to_builtins(self.manifest) | {"threads": threads, "accelerator": self.run.accelerator}
        return {"model": model, "memory_mb": self.run.memory_mb, "python_path": self.run.python_path}


def sample_names() -> list[str]:
    """The models that ship with the package."""
    return sorted(path.parent.name for path in SAMPLES.glob("*/manifest.toml"))


def resolve(options: ModelOptions, base: Path) -> ModelSpec:
    """Find the model and read its manifest; relative paths start at ``base``.

    Raises ``ConfigWrong`` for a manifest or override that cannot be used, ``ModelRefused`` where there is no model.
    """
    path = _locate(options.source, base)
    manifest = _manifest(path)
    folder = path if path.is_dir() else path.parent
    labels = (base / options.labels) if options.labels else (folder / manifest.labels if manifest.labels else None)
    if labels is not None and not labels.is_file():
        raise ModelRefused(f"there is no label file {labels}", code="labels-missing", hint="check labels = …")
    merged = msgspec.structs.replace(
        manifest,
        file=str((folder / manifest.file).resolve()),
        name=manifest.name or path.stem,
        labels=str(labels.resolve()) if labels else "",
        backend=options.backend or manifest.backend,
        task=options.task or manifest.task,
        input=manifest.input | options.input,
        options=manifest.options | options.options,
        backend_options=manifest.backend_options | options.backend_options,
    )
    python_path = tuple(str((base / entry).resolve()) for entry in options.python_path)
    return ModelSpec(manifest=merged, run=msgspec.structs.replace(options, python_path=python_path))


def _locate(source: str, base: Path) -> Path:
    path = base / Path(source).expanduser()
    if path.exists():
        return path
    sample = SAMPLES / source
    if source and "/" not in source and sample.is_dir():
        return sample
    known = sample_names()
    raise ModelRefused(
        f"there is no model {source!r}: neither a file or folder {path}, nor a sample",
        code="model-missing",
        hint=nearest(source, known) or f"samples: {', '.join(known)}",
    )


def _manifest(path: Path) -> Manifest:
    if path.is_file():
        return Manifest(file=path.name, labels=_labels_beside(path.parent) if path.name.startswith("model.") else "")
    written = path / "manifest.toml"
    if written.is_file():
        return build(Manifest, written.read_bytes(), str(written))
    models = sorted(entry for entry in path.iterdir() if entry.suffix in MODEL_SUFFIXES)
    if len(models) != 1:
        raise ConfigWrong(
            f"{path} has no manifest.toml and {len(models)} model files",
            code="manifest-missing",
            hint="write a manifest.toml with file = …, or name the model file itself",
        )
    return Manifest(file=models[0].name, name=path.name, labels=_labels_beside(path))


def _labels_beside(folder: Path) -> str:
    return next((name for name in LABEL_FILES if (folder / name).is_file()), "")
