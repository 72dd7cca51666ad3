"""What a model is: its file, task, labels, input and options, from a manifest or from the file alone.

A model is named by the name of a sample, by a folder or by the model file itself.  A folder has a
``manifest.toml``, or one model file, or is what a compiler of TVM's family wrote (SageMaker Neo) and a
model as a whole; ``labels.txt`` and the like may lie beside.  A folder in which there is nothing but one
folder stands for that one, as archives are often made.  What the model's file says itself need not be
repeated.  What the configuration says goes before what the manifest says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from agent.config.bounds import PathText, Text
from agent.config.models import CODE, RUN_KEYS, ModelOptions, ModelSettings, Then
from agent.config.strict import build, convert, nearest
from agent.errors import ConfigError, ModelRefusedError, VergeError
from agent.files import head, under
from agent.inference import original
from agent.inference.runtime import parts as modelparts
from agent.inference.runtime.errors import ModelError
from agent.users import Identity, may_read

__all__ = [
    "LABEL_FILES",
    "MODEL_SUFFIXES",
    "RAW",
    "SAMPLES",
    "Manifest",
    "ModelSpec",
    "digest",
    "files",
    "for_user",
    "keep_within",
    "parts",
    "raw",
    "resolve",
    "sample_names",
    "stamp",
    "unwrapped",
]

Settings = TypeVar("Settings", bound=ModelSettings)
Answer = TypeVar("Answer")

SAMPLES = Path(__file__).parent.parent / "samples" / "models"
RAW = "raw"
"""The task of a model that is served for tensors alone (``runtime/rawsession.py``)."""
MODEL_SUFFIXES = (".tflite", ".onnx", ".pb", ".caffemodel", ".weights", ".xml")
LABEL_FILES = (
    "labels.txt", "labels.json", "labels.csv", "labelmap.txt", "labelmap.pbtxt", "label_map.pbtxt", "classes.txt",
    "synset.txt", "imagenet_class_index.json",
)  # fmt: skip
"""What is a model's label file where it lies beside it and nothing else is said, best first."""
_BESIDE = ("labels", "gallery")
"""Paths that are relative to what says them."""
_MOST_STAGES = 3
_MOST_MANIFEST = 16 << 20
"""Bytes of a manifest: names and numbers of every class are a small part of that."""
_STAGE_KEYS = ("classes", "align", "margin", "most", "turn", "instead")
_DEEPEST = 3
"""How many folders may be wrapped round a model's."""


class Manifest(ModelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model folder's ``manifest.toml``; paths are relative to the folder."""

    file: PathText
    name: Text = ""
    version: Text = ""
    backend: Text = "auto"
    task: Text = "auto"

    @property
    def config(self) -> str:
        """What the backend's options call the file beside the model's."""
        return str(self.backend_options.get("config") or "")


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model ready to be loaded: the manifest with overrides applied and paths made absolute."""

    manifest: Manifest
    run: ModelOptions
    user: Identity | None = None
    """Whom its workers run as; None is the agent's own user."""
    stages: tuple[tuple[Then, ModelSpec], ...] = ()
    """The models that look at what this one detects."""

    @property
    def own_code(self) -> bool:
        """Whether code that is not the agent's runs in its workers."""
        named = any(":" in getattr(self.manifest, key) for key in CODE)
        behind = any(stage.own_code for _, stage in self.stages)
        return named or behind or bool(self.manifest.preprocess or self.manifest.postprocess or self.run.python_path)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where a worker finds what belongs to the model: its files, its labels, its code."""
        files = [self.manifest.file, self.manifest.labels, self.manifest.gallery]
        files += [name.rpartition(":")[0] for key in CODE if ".py:" in (name := getattr(self.manifest, key))]
        places = [Path(file) if Path(file).is_dir() else Path(file).parent for file in files if file]
        behind = [folder for _, stage in self.stages for folder in stage.folders]
        return tuple(dict.fromkeys([*places, *map(Path, self.run.python_path), *behind]))

    @property
    def name(self) -> str:
        """What results call the model."""
        return self.manifest.name

    def request(self, threads: int) -> dict[str, Any]:
        """The load request that a worker gets."""
        model = self.description({"threads": threads, "accelerator": self.run.accelerator})
        return {"model": model, "memory_mb": self.run.memory_mb, "python_path": self.run.python_path}

    def description(self, how: dict[str, Any]) -> dict[str, Any]:
        """The model for a worker, with those behind it; ``how`` they are run is the same for all."""
        stages = [
            {key: getattr(then, key) for key in _STAGE_KEYS} | {"model": spec.description(how)}
            for then, spec in self.stages
        ]
        described: dict[str, Any] = msgspec.to_builtins(self.manifest)
        return described | how | {"then": stages}


def sample_names() -> list[str]:
    """The models that ship with the package."""
    return sorted(path.parent.name for path in SAMPLES.glob("*/manifest.toml"))


def resolve(options: ModelOptions, base: Path, *, depth: int = 0) -> ModelSpec:
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
    own = replace(manifest.for_task(options.task), **{key: "" for key in CODE if getattr(options, key)})
    merged = _placed(options, base).over(_placed(own, folder, within=folder)).settings()
    if merged["labels"] and not Path(merged["labels"]).is_file():
        raise ModelRefusedError(
            f"there is no label file {merged['labels']}", code="labels-missing", hint="check labels = …", path="labels"
        )
    if merged["gallery"] and not Path(merged["gallery"]).is_dir():
        raise ModelRefusedError(
            f"there is no folder {merged['gallery']}", code="gallery-missing", hint="check gallery = …", path="gallery"
        )
    merged["options"] = {**usual, **merged["options"]}
    merged["autotune"] = bool(merged["autotune"])
    manifest = replace(manifest, file=str((folder / manifest.file).resolve()), name=manifest.name or called, **merged)
    python_path = tuple(str((base / entry).resolve()) for entry in options.python_path)
    stages = []
    for place, then in enumerate(manifest.then):
        with _at(f"then[{place}]"):
            stages.append((then, _behind(then, options, python_path, depth)))
    return ModelSpec(
        manifest=replace(manifest, then=()), run=replace(options, python_path=python_path), stages=tuple(stages)
    )


def _behind(then: Then, options: ModelOptions, python_path: tuple[str, ...], depth: int) -> ModelSpec:
    """The model of a stage, run as the one before it."""
    if depth >= _MOST_STAGES:
        raise ConfigError(
            f"more than {_MOST_STAGES} models look at each other's detections",
            code="stages-too-many",
            hint="give the model one that has no then = … of its own",
            path="then",
        )
    run = {key: getattr(options, key) for key in RUN_KEYS}
    own = ModelOptions(source=then.model, **{**run, **then.settings(), "autotune": False}, python_path=python_path)
    return resolve(own, Path("/"), depth=depth + 1)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Errors inside name the place of the stage that they are about."""
    try:
        yield
    except VergeError as error:
        inner = "model" if error.path == "source" else error.path
        error.path = f"{place}.{inner}" if inner else place
        raise


def raw(spec: ModelSpec) -> ModelSpec:
    """The same network for tensors alone: nothing is decoded, recognised or interpreted."""
    manifest = Manifest(
        file=spec.manifest.file, name=spec.manifest.name, version=spec.manifest.version,
        backend=spec.manifest.backend, backend_options=spec.manifest.backend_options, task=RAW,
    )  # fmt: skip
    return replace(spec, manifest=manifest, stages=())


def keep_within(spec: ModelSpec, *folders: Path) -> None:
    """Refuse a model that uses what is neither in ``folders`` nor ships with the agent: it would not go along.

    Raises ``ConfigError`` naming the first such file or folder.
    """
    known = [folder.resolve() for folder in (*folders, SAMPLES)]
    for each in (spec.manifest.file, spec.manifest.labels, spec.manifest.gallery):
        if each and not any(Path(each).resolve().is_relative_to(folder) for folder in known):
            raise ConfigError(
                f"the model uses {each}, which is outside of its folder {folders[0]}",
                code="model-outside",
                hint="put it there and name it by its place there: a component brings nothing else",
            )
    for place, (_, stage) in enumerate(spec.stages):
        with _at(f"then[{place}]"):
            keep_within(stage, *folders)


def for_user(spec: ModelSpec, user: Identity | None) -> ModelSpec:
    """A model of the configuration, whose workers are to run as ``user``.

    Its own code is the owner's, who may have it do anything: that, and what the user may not read, stays the agent's.
    """
    if user is None or spec.own_code or not all(may_read(file, user) for file in files(spec) if file.exists()):
        return spec
    return replace(spec, user=user)


def parts(spec: ModelSpec) -> tuple[Path, ...]:
    """The files that a model and those behind it are made of, its own first (``runtime/parts.py``).

    Raises ``ModelRefusedError`` for what is not there or cannot be read.
    """
    own = _read(spec, lambda: modelparts.of(spec.manifest.file, spec.manifest.config))
    return (*map(Path, own), *(part for _, stage in spec.stages for part in parts(stage)))


def digest(spec: ModelSpec) -> str:
    """The digest of these files, as the worker describes the model; raises as ``parts``."""
    own = _read(spec, lambda: modelparts.digest(spec.manifest.file, spec.manifest.config))
    return modelparts.joined([own, *(digest(stage) for _, stage in spec.stages)])


def files(spec: ModelSpec) -> list[Path]:
    """Everything that a model and those behind it read: their parts, labels and galleries.

    Where parts are missing, those that are named: what is not there is for its worker to say.
    """
    try:
        found = list(parts(spec))
    except ModelRefusedError:
        found = [Path(spec.manifest.file)]
    for each in (spec, *(stage for _, stage in spec.stages)):
        found += [Path(each.manifest.labels)] if each.manifest.labels else []
        found += (
            sorted(path for path in Path(each.manifest.gallery).rglob("*") if path.is_file())
            if each.manifest.gallery
            else []
        )
    return found


def stamp(spec: ModelSpec) -> frozenset[tuple[str, int, int]]:
    """What tells whether a model's files are those that they were: their places, times and sizes.

    A gallery that gets a picture more has another; so has one with a picture less.
    """
    found = ((str(path), path.stat()) for path in files(spec) if path.exists())
    return frozenset((path, told.st_mtime_ns, told.st_size) for path, told in found)


def _read(spec: ModelSpec, ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except ModelError as error:
        raise ModelRefusedError(error.message, code=error.code, hint=error.hint) from error
    except OSError as error:
        raise ModelRefusedError(
            f"the model file {error.filename or spec.manifest.file} cannot be read: {error.strerror}",
            code="model-missing",
            hint="check file = … in its manifest.toml",
        ) from error


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
    beside = {key: str((folder / value).resolve()) for key in _BESIDE if (value := getattr(settings, key))}
    then = []
    for place, stage in enumerate(settings.then):
        with _at(f"then[{place}]"):
            then.append(replace(_placed(stage, folder, within=within), model=str(_locate(stage.model, folder))))
    return replace(settings, then=tuple(then), **beside, **code)


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
        return build(Manifest, head(written, _MOST_MANIFEST), str(written))
    if (said := original.told(path)) is not None:
        return convert(Manifest, said, str(path / original.FILE))
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
