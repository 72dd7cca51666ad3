"""A child in the model's own interpreter that prints what could run it: one line of JSON.

::

    PYTHON probe.py RUNTIME packages                      {"python": …, "packages": {name: version}}
    PYTHON probe.py RUNTIME backends                      {"backends": [names]}
    PYTHON probe.py RUNTIME backend NAME FILE OPTIONS …   {"reads": …, "accelerators": […]}

or ``{"error": {"code", "message", "hint"}}``.  RUNTIME is the folder of the worker side, grafted as the workers'
launcher does it; anyone reads an empty FILE; OPTIONS is the manifest's ``backend_options`` as JSON, and folders to
import from may follow.  Python 3.9 reads this program; whatever is native is imported by a call, for it belongs to this
child and never to the core.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import platform
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

__all__: list[str] = []

_RUNTIME = "agent.inference.runtime"
_GROUP = "verge.backends"
_PREFIXES = ("ai-edge-litert", "tflite-runtime", "tensorflow", "onnxruntime", "opencv", "dlr", "numpy")


def _packages() -> dict[str, Any]:
    """The versions of whatever may run a model, without importing any of it."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(_PREFIXES) or any(point.group == _GROUP for point in distribution.entry_points):
            # Of two that are installed, the first on the path is the one that is imported.
            versions.setdefault(name, distribution.version)
    return {"python": platform.python_version(), "packages": versions}


def _backends() -> dict[str, Any]:
    return {"backends": importlib.import_module(f"{_RUNTIME}.plugins").backend_names()}


def _backend(name: str, path: str, options: str, *folders: str) -> dict[str, Any]:
    sys.path[:0] = folders
    kind = importlib.import_module(f"{_RUNTIME}.plugins").backend(name)
    if path and not _accepts(kind, path):
        return {"reads": False, "accelerators": []}
    kind.version()
    accelerators = _ACCELERATORS.get(name)
    # Only a stranger's backend itself knows what it can run on.
    return {"reads": True, "accelerators": accelerators(json.loads(options)) if accelerators else ["auto"]}


def _accepts(kind: Any, path: str) -> bool:
    try:
        return bool(kind.accepts(path))
    except OSError as error:
        sys.stderr.write(f"the backend {kind.name!r} cannot look at {path}: {error}\n")
        return False


def _litert(options: Mapping[str, Any]) -> list[str]:
    delegates = importlib.import_module(f"{_RUNTIME}.backends.litert").DELEGATES
    # A delegate that is named is what "auto" takes.
    named = ["auto"] if options.get("delegate") else []
    return ["cpu", *named, *(name for name, libraries in delegates.items() if any(map(_loads, libraries)))]


def _onnx(options: Mapping[str, Any]) -> list[str]:
    del options
    here = importlib.import_module("onnxruntime").get_available_providers()
    providers = importlib.import_module(f"{_RUNTIME}.backends.onnx").PROVIDERS
    return ["cpu", *(name for name, known in providers.items() if set(known) & set(here))]


def _opencv(options: Mapping[str, Any]) -> list[str]:
    del options
    return ["cpu", "gpu"] if importlib.import_module("cv2").cuda.getCudaEnabledDeviceCount() > 0 else ["cpu"]


_ACCELERATORS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "litert": _litert,
    "onnx": _onnx,
    "opencv": _opencv,
}
_PROBES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "packages": _packages,
    "backends": _backends,
    "backend": _backend,
}


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _graft(runtime: str) -> None:
    """Let the worker side be imported without running the core's ``agent/__init__``."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 a child starts without pathlib
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
    inference = os.path.dirname(runtime)  # noqa: PTH120
    for name, path in (("agent", os.path.dirname(inference)), ("agent.inference", inference)):  # noqa: PTH120
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package


def _main(arguments: Sequence[str]) -> None:
    # What a library prints is not the answer: it goes to standard error.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        _graft(arguments[0])
        result = _PROBES[arguments[1]](*arguments[2:])
    except Exception as error:  # noqa: BLE001 whatever an import raises is the answer
        message = getattr(error, "message", f"{type(error).__name__}: {error}")
        code, hint = getattr(error, "code", "probe-failed"), getattr(error, "hint", None)
        result = {"error": {"code": code, "message": message, "hint": hint}}
    with answer:
        answer.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
