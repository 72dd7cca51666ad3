"""The forms in which the backends take one network; what a model does not come in is made of its TFLite file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from agent.config.models import ModelOptions
from agent.inference.manifest import Manifest, ModelSpec, resolve
from scripts.benchmarks import onnxcopy, tflite

FORMS: Mapping[str, tuple[str, str]] = {
    "litert": ("litert", ".tflite"),
    "onnx": ("onnx", "float"),
    "onnx:int8": ("onnx", "int8"),
    "opencv": ("opencv", "float"),
    "opencv:int8": ("opencv", "int8"),
    "dlr": ("dlr", "folder"),
}
"""By the contestant's name: the backend, and the file it takes or the kind of copy that is made for it."""


class NoFormatError(Exception):
    """The model neither comes in a format of the backend nor can be copied into one."""


def spec(model: str, name: str, work: Path) -> ModelSpec:
    """The model for one contestant, one thread; raises ``NoFormatError``, or ``VergeError`` for no model."""
    backend, kind = FORMS[name]
    given = resolve(ModelOptions(source=model, backend=backend, threads=1), Path.cwd())
    file = Path(given.manifest.file)
    form = "folder" if file.is_dir() else file.suffix
    if form == kind or (form == ".onnx" and kind == "float"):
        return given
    if form != ".tflite":
        raise NoFormatError(f"it takes no {form} here, and what it takes is made of .tflite files alone")
    try:
        manifest = _compiled(given.manifest, work) if backend == "dlr" else _onnx(given.manifest, kind, work)
    except tflite.UnknownOperatorError as error:
        raise NoFormatError(f"the copier from TFLite does not know {error}") from None
    return msgspec.structs.replace(given, manifest=manifest)


def _onnx(manifest: Manifest, kind: str, work: Path) -> Manifest:
    path = work / f"{kind}.onnx"
    if not path.exists():
        onnxcopy.write(tflite.read(Path(manifest.file)), path, kind)
    return msgspec.structs.replace(manifest, file=str(path), input=manifest.input | {"layout": "NCHW"})


def _compiled(manifest: Manifest, work: Path) -> Manifest:
    # Imported here: it wants what only the tests want.
    from scripts.benchmarks import tvmcopy  # noqa: PLC0415

    tvmcopy.write(tflite.read(Path(manifest.file)), work / "compiled")
    return msgspec.structs.replace(manifest, file=str(work / "compiled"))
