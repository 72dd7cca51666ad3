"""A user's own code: a Python file beside the model, named ``file.py:Name``; nothing is packaged or installed.

The file becomes a module of a private package that stands for its folder.  It finds its neighbours by
``from .neighbour import …``, whatever they are called, and by ``import neighbour`` where neither Python nor
an installed package has a module of that name: the folder is the last place that is searched.

Whatever goes wrong is reported with the file and line of that code, and stays an error of the model or of the
picture: the worker lives.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from types import ModuleType
from typing import Any, Callable, List, Mapping

from agent.inference.runtime.errors import ModelError

__all__ = ["find", "is_file", "made", "refusal", "shown", "watch"]

_PLACES: List[str] = []
"""Where users' code lies: folders with a separator at the end, and single files."""


def is_file(name: str) -> bool:
    """Whether a name is ``file.py:Name``."""
    return name.rpartition(":")[0].endswith(".py")


def shown(name: str) -> str:
    """The name as errors show it: without the path of the file's folder."""
    path, _, attribute = name.rpartition(":")
    return f"{os.path.basename(path)}:{attribute}" if is_file(name) else name


def find(name: str) -> Any:
    """What the file calls so; raises ``ModelError`` for a file that cannot be run or does not have it."""
    path, _, attribute = name.rpartition(":")
    module = _module(os.path.abspath(path))
    thing: Any = module
    for part in attribute.split("."):
        thing = getattr(thing, part, None)
    if thing is None:
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        near = difflib.get_close_matches(attribute, own, 1)
        guess = f"did you mean {near[0]}? " if near else ""
        hint = f"{guess}it has {', '.join(own) or 'no class and no function'}"
        raise ModelError("code-missing", f"{path} has no {attribute!r}", hint)
    return thing


def made(name: str, code: Any, options: Mapping[str, Any], key: str) -> Callable[[Any], Any]:
    """A class's instance, or a function, with its options as keyword arguments; takes one argument when called."""
    is_class = isinstance(code, type)
    if not callable(code):
        raise _uncallable(name, key)
    try:
        inspect.signature(code).bind(*([] if is_class else [None]), **options)
    except (TypeError, ValueError) as error:
        hint = f"it is defined as {shown(name)}{_signature(code)}"
        raise ModelError("options-wrong", f"{key}_options do not fit {shown(name)}: {error}", hint) from error
    result: Any = code(**options) if is_class else functools.partial(code, **options)
    if not callable(result):
        raise _uncallable(name, key)
    called: Callable[[Any], Any] = result
    return called


def watch(code: Any) -> None:
    """Have errors name the lines of a user's class that came as ``module:Class`` or by an entry point."""
    path = getattr(sys.modules.get(getattr(code, "__module__", "")), "__file__", None)
    if path and path not in _PLACES:
        _PLACES.append(path)


def refusal(error: BaseException) -> ModelError:
    """An exception that is no ``ModelError``, as one: with the line of the user's code that it came through."""
    message = f"{type(error).__name__}: {error}".rstrip(": ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(tuple(_PLACES)):
            where = f"{os.path.basename(frame.filename)}, line {frame.lineno}, in {frame.name}"
            return ModelError("model-failed", f"{message} ({where})", f"mend {frame.filename}")
    return ModelError("model-failed", message)


def _module(path: str) -> ModuleType:
    folder, file = os.path.split(path)
    package = "_verge_" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    name = f"{package}.{file[: -len('.py')].replace('.', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    if package not in sys.modules:
        _admit(package, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError("code-missing", f"{path} cannot be run as Python", "name a file that ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (MemoryError, KeyboardInterrupt)):
            raise
        raise _broken(path, error) from error
    return module


def _admit(package: str, folder: str) -> None:
    """Make a folder a package, and the last place where modules are looked for."""
    stand_in = ModuleType(package)
    stand_in.__path__ = [folder]
    sys.modules[package] = stand_in
    sys.path.append(folder)
    _PLACES.append(os.path.join(folder, ""))


def _broken(path: str, error: BaseException) -> ModelError:
    if isinstance(error, ModelError):
        return error
    if isinstance(error, FileNotFoundError) and error.filename == path:
        return ModelError("code-missing", f"there is no file {path}", "check its name in the manifest")
    if isinstance(error, SyntaxError):
        where = f"{os.path.basename(error.filename or path)}, line {error.lineno}"
        version = ".".join(map(str, sys.version_info[:2]))
        hint = f"mend {error.filename or path}; the model's worker runs Python {version}"
        return ModelError("code-broken", f"{type(error).__name__}: {error.msg} ({where})", hint)
    refused = refusal(error)
    hint = refused.hint or f"mend {path}"
    if isinstance(error, ModuleNotFoundError):
        hint = f"install {error.name} for {sys.executable}, or put {error.name}.py beside {os.path.basename(path)}"
    return ModelError("code-broken", refused.message, hint)


def _uncallable(name: str, key: str) -> ModelError:
    hint = f"write def {key}(…), or a class with __call__(self, …)"
    return ModelError("code-wrong", f"{shown(name)} cannot be called with what it is to change", hint)


def _signature(found: Any) -> str:
    try:
        return str(inspect.signature(found))
    except (TypeError, ValueError):
        return "(…)"
