"""Backends, tasks and a model's own steps by name: built in, from an entry point, or the user's own code.

Nothing is imported until it is asked for.  A user's code is named by an entry point of its group
(``verge.backends``, ``verge.tasks``, ``verge.preprocess``, ``verge.postprocess``), as ``module:Class`` of
what is installed, or as ``file.py:Name`` of a file beside the model (``custom.py``).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from importlib import metadata
from typing import Any, Callable, Dict, Iterable, List, Mapping, NoReturn, Sequence, Type

from agent.inference.runtime import custom
from agent.inference.runtime.base import Backend, Claim, Network, Task
from agent.inference.runtime.errors import ModelError, UnavailableError

__all__ = [
    "BACKENDS",
    "STEPS",
    "TASKS",
    "backend",
    "backend_for",
    "backend_names",
    "claims",
    "is_own",
    "step",
    "task",
    "task_names",
]

_HERE = "agent.inference.runtime"

BACKENDS: Mapping[str, str] = {
    "litert": f"{_HERE}.backends.litert:LiteRT",
    "onnx": f"{_HERE}.backends.onnx:Onnx",
    "opencv": f"{_HERE}.backends.opencv:OpenCV",
    "dlr": f"{_HERE}.backends.dlr:Dlr",
}
"""In the order in which ``auto`` tries them."""

TASKS: Mapping[str, str] = {
    "image-classification": f"{_HERE}.tasks.classification:ImageClassification",
    "object-detection": f"{_HERE}.tasks.detection:ObjectDetection",
    "anomaly-detection": f"{_HERE}.tasks.anomaly:AnomalyDetection",
    "embedding": f"{_HERE}.tasks.embedding:ImageEmbedding",
    "text-recognition": f"{_HERE}.tasks.text:TextRecognition",
    "keypoints": f"{_HERE}.tasks.keypoints:KeypointDetection",
    "segmentation": f"{_HERE}.tasks.segmentation:SemanticSegmentation",
    "inspection": f"{_HERE}.tasks.inspection:BothHeads",
    "map": f"{_HERE}.tasks.maps:Maps",
    "tensors": f"{_HERE}.tasks.tensors:Tensors",
}
"""In the order in which ``auto`` asks them; the last one takes anything."""

STEPS: Mapping[str, str] = {"preprocess": "verge.preprocess", "postprocess": "verge.postprocess"}
"""The steps that a model may bring of its own, and the groups of their entry points."""


def backend(name: str) -> Type[Backend]:
    """The backend class called ``name``; raises ``UnavailableError`` when there is none or it cannot be imported."""
    kind: Type[Backend] = _find(Backend, "backend", name, BACKENDS, "verge.backends")
    return kind


def task(name: str) -> Type[Task]:
    """The task class called ``name``; raises ``UnavailableError`` when there is none or it cannot be imported."""
    kind: Type[Task] = _find(Task, "task", name, TASKS, "verge.tasks")
    return kind


def step(word: str, name: str, options: Mapping[str, Any]) -> Callable[[Any], Any]:
    """A model's own ``preprocess`` or ``postprocess``, made with its options.

    Raises ``UnavailableError`` when there is none of that name, ``ModelError`` when it cannot be made.
    """
    return custom.made(name, _named(word, name, {}, STEPS[word]), options, word)


def is_own(kind: type) -> bool:
    """Whether a class is the agent's own."""
    return kind.__module__.startswith(f"{_HERE}.")


def backend_names() -> List[str]:
    """Every backend that can be asked for by name, installed or not."""
    return _names(BACKENDS, "verge.backends")


def task_names() -> List[str]:
    """Every task that can be asked for by name."""
    return _names(TASKS, "verge.tasks")


def backend_for(path: str) -> Type[Backend]:
    """The first backend that takes the file and is installed here; raises ``UnavailableError`` or ``ModelError``."""
    missing: List[UnavailableError] = []
    for name in backend_names():
        try:
            kind = backend(name)
            if _accepts(kind, path):
                kind.version()
                return kind
        except UnavailableError as error:
            missing.append(error)
    if missing:
        raise missing[0]
    raise ModelError(
        "model-format-unknown",
        f"no backend takes {path}",
        f"name one with backend = …; known: {', '.join(backend_names())}",
    )


def claims(name: str, network: Network) -> Sequence[Claim]:
    """What the task makes of a network; a user's that cannot even look is passed over."""
    try:
        return task(name).claims(network)
    except Exception as error:
        if name in TASKS:
            raise
        print(f"the task {name!r} cannot look at the outputs: {error}", file=sys.stderr)
        return []


def _accepts(kind: Type[Backend], path: str) -> bool:
    """Whether the backend takes the file; a user's that cannot even look is passed over."""
    try:
        return kind.accepts(path)
    except Exception as error:
        if is_own(kind):
            raise
        print(f"the backend {kind.name!r} cannot look at {path}: {error}", file=sys.stderr)
        return False


def _find(base: Any, word: str, name: str, builtin: Mapping[str, str], group: str) -> Any:
    named = _named(word, name, builtin, group)
    if not (isinstance(named, type) and issubclass(named, base)):
        hint = f"derive it from {_HERE}.base.{base.__name__}"
        raise UnavailableError(f"{word}-unavailable", f"{custom.shown(name)} is not a {base.__name__}", hint)
    if missing := _undefined(named):
        hint = f"look at {_HERE}.base.{base.__name__}"
        raise UnavailableError(f"{word}-unavailable", f"{custom.shown(name)} does not define {missing}", hint)
    return named


def _undefined(named: Any) -> str:
    """What a class leaves abstract."""
    return ", ".join(sorted(named.__abstractmethods__)) if inspect.isabstract(named) else ""


def _named(word: str, name: str, builtin: Mapping[str, str], group: str) -> Any:
    """What the name stands for, whatever it is."""
    if custom.is_file(name):
        return custom.find(name)
    target = builtin.get(name) or _entry_points(group).get(name) or (name if ":" in name else None)
    if target is None:
        _unknown(word, name, _names(builtin, group))
    module_name, _, attribute = target.partition(":")
    try:
        named: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise UnavailableError(
            f"{word}-unavailable", f"the {word} {name!r} cannot be imported: {error}", f"is {module_name} installed?"
        ) from error
    for part in attribute.split("."):
        named = getattr(named, part, None)
    if named is None:
        raise UnavailableError(f"{word}-unavailable", f"{module_name} has no {attribute!r}", f"check {word} = …")
    if name not in builtin:
        custom.watch(named)
    return named


def _unknown(word: str, name: str, known: Iterable[str]) -> NoReturn:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    known = f"{guess}known: {', '.join(names) or 'none'}; or file.py:Name for a file beside the model"
    raise UnavailableError(f"{word}-unknown", f"no {word} is called {name!r}", known)


def _names(builtin: Mapping[str, str], group: str) -> List[str]:
    return [*builtin, *(name for name in sorted(_entry_points(group)) if name not in builtin)]


def _entry_points(group: str) -> Dict[str, str]:
    # Python 3.9 gives a dict of groups, later ones something that selects.
    points: Any = metadata.entry_points()
    chosen = points.select(group=group) if hasattr(points, "select") else points.get(group, ())
    return {point.name: point.value for point in chosen}
