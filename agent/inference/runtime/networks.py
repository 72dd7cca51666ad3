"""A model's network, opened by its backend: what is the matter with its file, how it is run, what it is."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import contracts, parts, plugins
from agent.inference.runtime.base import Backend
from agent.inference.runtime.errors import ModelError

__all__ = ["Run", "called", "described", "digest", "opened", "runner"]

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

_HEAD = 64
_WEB_PAGE = ("a web page", "download the file itself, and not the page that shows it")
_INSTEAD = (
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file that it points to: git lfs pull"),
    (b"<!doctype html", *_WEB_PAGE),
    (b"<html", *_WEB_PAGE),
)
"""How what is often found in a model's place begins, what it is, and what to do."""


def opened(model: Mapping[str, Any]) -> Backend:
    """The network of a model, whose manifest with absolute paths this is.

    Raises ``ModelError`` for a file that is not there, is no model or has no input, and ``UnavailableError``.
    """
    path = str(model["file"])
    if not os.path.exists(path):
        raise ModelError("model-missing", f"there is no model at {path}", "check the path in the manifest")
    parts.of(path, _config(model))
    backend = _open(path, int(model.get("threads", 1)), model)
    if not backend.inputs:
        raise ModelError("model-without-input", f"{path} has no input", None)
    return backend


def runner(backend: Backend) -> Run:
    """How the network is run: a user's backend is checked whenever it answers."""
    if plugins.is_own(type(backend)):
        return backend.run
    return lambda given: contracts.arrays(backend.run(given), len(backend.outputs), called(backend))


def digest(model: Mapping[str, Any]) -> str:
    """Of the model's files."""
    return parts.digest(str(model["file"]), _config(model))


def described(backend: Backend) -> Dict[str, Any]:
    """What runs the network, its inputs and outputs, as JSON."""
    return {
        "backend": f"{called(backend)} {backend.version()}".rstrip(),
        "accelerator": backend.accelerator,
        "inputs": [tensor.as_dict() for tensor in backend.inputs],
        "outputs": [tensor.as_dict() for tensor in backend.outputs],
    }


def called(part: Any) -> str:
    """What a backend or task calls itself."""
    return str(part.name or type(part).__name__)


def _config(model: Mapping[str, Any]) -> str:
    return str((model.get("backend_options") or {}).get("config") or "")


def _open(path: str, threads: int, model: Mapping[str, Any]) -> Backend:
    name = model.get("backend") or "auto"
    kind = plugins.backend_for(path) if name == "auto" else plugins.backend(name)
    try:
        backend = kind(path, threads, model.get("accelerator") or "auto", model.get("backend_options") or {})
    except ModelError as error:
        if error.code == "model-broken" and (what := _instead(path)):
            raise ModelError(error.code, f"{path} holds no model: it is {what[0]}", what[1]) from error
        raise
    if not plugins.is_own(kind):
        contracts.network(backend, called(backend))
    return backend


def _instead(path: str) -> Optional[Tuple[str, str]]:
    """What lies in a model's place, by its first bytes, and what to do; None for what only the backend can judge."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        head = file.read(_HEAD).lstrip().lower()
    if not head:
        return "empty", "copy it again"
    return next(((what, hint) for sign, what, hint in _INSTEAD if head.startswith(sign)), None)
