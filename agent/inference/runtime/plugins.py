"""Backends and tasks by name: built in, from an entry point, or as ``module:Class``.

Nothing is imported until it is asked for.  A stranger's backend or task comes by an entry point of the
group ``verge.backends`` or ``verge.tasks``, or is named outright as ``module:Class``.
"""

from __future__ import annotations

import difflib
import importlib
from importlib import metadata
from typing import Any, Dict, Iterable, List, Mapping, NoReturn, Sequence, Type

from agent.inference.runtime.base import Backend, Task, TensorInfo
from agent.inference.runtime.errors import ModelError, Unavailable

__all__ = ["BACKENDS", "TASKS", "backend", "backend_for", "backend_names", "task", "task_for", "task_names"]

_HERE = "agent.inference.runtime"

BACKENDS: Mapping[str, str] = {
    "litert": f"{_HERE}.backends.litert:LiteRT",
    "onnx": f"{_HERE}.backends.onnx:Onnx",
    "opencv": f"{_HERE}.backends.opencv:OpenCV",
}
"""In the order in which ``auto`` tries them."""

TASKS: Mapping[str, str] = {
    "image-classification": f"{_HERE}.tasks.classification:Classification",
    "object-detection": f"{_HERE}.tasks.detection:Detection",
    "tensors": f"{_HERE}.tasks.tensors:Tensors",
}
"""In the order in which ``auto`` asks them; the last one takes anything."""


def backend(name: str) -> Type[Backend]:
    """The backend class called ``name``; raises ``Unavailable`` when there is none or it cannot be imported."""
    found: Type[Backend] = _find(Backend, "backend", name, BACKENDS, "verge.backends")
    return found


def task(name: str) -> Type[Task]:
    """The task class called ``name``; raises ``Unavailable`` when there is none or it cannot be imported."""
    found: Type[Task] = _find(Task, "task", name, TASKS, "verge.tasks")
    return found


def backend_names() -> List[str]:
    """Every backend that can be asked for by name, installed or not."""
    return _names(BACKENDS, "verge.backends")


def task_names() -> List[str]:
    """Every task that can be asked for by name."""
    return _names(TASKS, "verge.tasks")


def backend_for(path: str) -> Type[Backend]:
    """The first backend that takes the file and is installed here; raises ``Unavailable`` or ``ModelError``."""
    missing: List[Unavailable] = []
    for name in backend_names():
        try:
            found = backend(name)
            if found.accepts(path):
                found.version()
                return found
        except Unavailable as error:
            missing.append(error)
    if missing:
        raise missing[0]
    raise ModelError(
        "model-format-unknown",
        f"no backend takes {path}",
        f"name one with backend = …; known: {', '.join(backend_names())}",
    )


def task_for(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Type[Task]:
    """The first task that recognises the outputs."""
    for name in task_names():
        found = task(name)
        if found.recognises(inputs, outputs):
            return found
    return task("tensors")


def _find(kind: Any, word: str, name: str, builtin: Mapping[str, str], group: str) -> Any:
    target = builtin.get(name) or _entry_points(group).get(name) or (name if ":" in name else None)
    if target is None:
        _unknown(word, name, _names(builtin, group))
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise Unavailable(
            f"{word}-unavailable", f"the {word} {name!r} cannot be imported: {error}", f"is {module_name} installed?"
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise Unavailable(
            f"{word}-unavailable", f"{target} is not a {kind.__name__}", f"derive it from {_HERE}.base.{kind.__name__}"
        )
    return found


def _unknown(word: str, name: str, known: Iterable[str]) -> NoReturn:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise Unavailable(f"{word}-unknown", f"no {word} is called {name!r}", f"{guess}known: {', '.join(names)}")


def _names(builtin: Mapping[str, str], group: str) -> List[str]:
    return [*builtin, *(name for name in sorted(_entry_points(group)) if name not in builtin)]


def _entry_points(group: str) -> Dict[str, str]:
    # Python 3.9 gives a dict of groups, later ones something that selects.
    found: Any = metadata.entry_points()
    chosen = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
    return {point.name: point.value for point in chosen}
