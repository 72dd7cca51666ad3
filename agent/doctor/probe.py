"""A child process for imports that may crash: imports what its arguments name and answers with one line of JSON.

::

    python -m agent.doctor.probe module NAME             {"version": …}
    python -m agent.doctor.probe backends                {"backends": [names]}
    python -m agent.doctor.probe backend NAME [FILE]     {"version": …, "accepts": …}

or ``{"error": {"code", "message", "hint"}}``.  The imports are written as calls: nothing native belongs to the
core, which this module is never part of.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

__all__: list[str] = []

_RUNTIME = "agent.inference.runtime"


def _module(name: str) -> dict[str, Any]:
    return {"version": str(importlib.import_module(name).__version__)}


def _backends() -> dict[str, Any]:
    return {"backends": importlib.import_module(f"{_RUNTIME}.plugins").backend_names()}


def _backend(name: str, path: str = "") -> dict[str, Any]:
    kind = importlib.import_module(f"{_RUNTIME}.plugins").backend(name)
    return {"version": kind.version(), "accepts": bool(path) and kind.accepts(path)}


_PROBES: dict[str, Callable[..., dict[str, Any]]] = {"module": _module, "backends": _backends, "backend": _backend}


def _main(arguments: list[str]) -> None:
    # A library's prints are not the answer: they go to standard error.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        result = _PROBES[arguments[0]](*arguments[1:])
    except Exception as error:  # noqa: BLE001 whatever an import raises is what is asked for
        problem = f"{type(error).__name__}: {error}"
        code, hint = getattr(error, "code", "import-failed"), getattr(error, "hint", None)
        result = {"error": {"code": code, "message": getattr(error, "message", problem), "hint": hint}}
    with answer:
        answer.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
