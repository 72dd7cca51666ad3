"""libdlr through its C interface.

The library comes with the ``dlr`` package, whose Python wrapper is left aside: it checks neither shapes nor
missing inputs, casts silently, knows no input's shape and refuses more inputs than outputs.  Importing the
package reports the machine to its maker over the network, at once and at every load; the module that does so is
replaced by an empty one first, which leaves the installation as it is.

libdlr says why a load failed on standard error alone (its "last error" is empty, or an older one), and a broken
model may as well kill the process.  ``Library.trial`` therefore loads a model first in a forked child, whose
standard error is kept: whatever becomes of the child, there is a reason to report.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import types
import warnings
from typing import IO, Any, Callable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import UnavailableError

__all__ = ["DlrNetwork", "Library", "LibraryError", "hushed", "installed"]

_REPORTER = "dlr.counter.phone_home"
_PREFIX = re.compile(r"\[\d\d:\d\d:\d\d\] |/?\S+\.(?:cc|h):\d+: |\w*Error: |Check failed: .*?: (?=\S)")
_NOISE = ("No metadata file was found", "Stack trace", "[bt]")
_SAID_BYTES = 64 * 1024


class LibraryError(Exception):
    """What libdlr has against a model or an input, in one line."""


@functools.cache
def installed() -> Library:
    """The library of the ``dlr`` package; raises ``UnavailableError`` where there is none."""
    hint = "pip install dlr==1.6.0; beside x86-64, take the runtime that came with the model: use_model_libdlr = true"
    try:
        sys.modules.setdefault(_REPORTER, _silent())
        search = importlib.import_module("dlr.libpath")
    except ImportError as error:
        raise UnavailableError("backend-unavailable", f"dlr cannot be imported: {error}", hint) from error
    try:
        return Library(search.find_lib_path())
    except (OSError, LibraryError, search.DLRLibraryNotFound) as error:
        raise UnavailableError(
            "backend-unavailable", f"libdlr.so cannot be loaded: {_line(str(error))}", hint
        ) from error


def _silent() -> types.ModuleType:
    """A stand-in for the module that reports: what it decorates stays as it is."""
    module = types.ModuleType(_REPORTER)
    module.__dict__["call_phone_home"] = lambda function: function
    return module


class Library:
    """One libdlr.so in this process; raises ``OSError`` where it cannot be loaded."""

    def __init__(self, path: str) -> None:
        self._functions = ctypes.CDLL(path)
        self._functions.DLRGetLastError.restype = ctypes.c_char_p
        version = ctypes.c_char_p()
        self.call("GetDLRVersion", ctypes.byref(version))
        self.version = _text(version)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the library; raises ``LibraryError`` with the first line of its reason."""
        if getattr(self._functions, function)(*arguments):
            said = self._functions.DLRGetLastError() or b""
            raise LibraryError(_line(said.decode(errors="replace")) or f"{function} failed")

    def trial(self, folder: str, device: int) -> Optional[str]:
        """Why the model cannot be loaded; None where it can.  A crash stays in a child process."""
        sys.stderr.flush()
        with tempfile.TemporaryFile() as said:
            # Threads that other libraries keep here do not exist in the child, which needs none of them.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                _sacrifice(lambda: DlrNetwork(self, folder, device), said)
            _, status = os.waitpid(child, 0)
            said.seek(0)
            words = _reason(said.read(_SAID_BYTES).decode(errors="replace"), folder)
        if os.WIFSIGNALED(status):
            cause = f"loading it crashes the runtime ({signal.Signals(os.WTERMSIG(status)).name})"
            return f"{cause}: {words}" if words else cause
        return (words or f"the runtime gave up with status {os.WEXITSTATUS(status)}") if status else None


class DlrNetwork:
    """A model that libdlr has loaded; one thread at a time.  Raises ``LibraryError``."""

    def __init__(self, library: Library, folder: str, device: int) -> None:
        self._library = library
        self._handle = ctypes.c_void_p()
        self._reference = ctypes.byref(self._handle)
        library.call("CreateDLRModel", self._reference, folder.encode(), device, 0)

    def __del__(self) -> None:
        if self._handle:
            self._call("DeleteDLRModel")

    def inputs(self) -> List[TensorInfo]:
        """The inputs by name; of a graph, the shapes and types are those of its first arguments."""
        return [self._tensor("Input", index) for index in range(self._count("Input"))]

    def outputs(self) -> List[TensorInfo]:
        """The outputs; named by their place where the model does not name them."""
        return [self._tensor("Output", index) for index in range(self._count("Output"))]

    def run(self, given: Mapping[str, np.ndarray], types: Sequence[str]) -> List[np.ndarray]:
        """One inference of contiguous arrays; ``types`` are the outputs', whose shapes are asked for after it."""
        for name, array in given.items():
            shape = (ctypes.c_int64 * array.ndim)(*array.shape)
            self._call("SetDLRInput", name.encode(), shape, ctypes.c_void_p(array.ctypes.data), array.ndim)
        self._call("RunDLRModel")
        results = []
        for index, dtype in enumerate(types):
            result = np.empty(self._shape("Output", index), dtype)
            self._call("GetDLROutput", index, ctypes.c_void_p(result.ctypes.data))
            results.append(result)
        return results

    def _tensor(self, end: str, index: int) -> TensorInfo:
        try:
            name = self._word(f"GetDLR{end}Name", index)
        except LibraryError:
            name = f"{end.lower()}{index}"
        return TensorInfo(name, self._shape(end, index), self._word(f"GetDLR{end}Type", index))

    def _shape(self, end: str, index: int) -> Tuple[int, ...]:
        size, rank = ctypes.c_int64(), ctypes.c_int()
        self._call(f"GetDLR{end}SizeDim", index, ctypes.byref(size), ctypes.byref(rank))
        shape = (ctypes.c_int64 * rank.value)()
        self._call(f"GetDLR{end}Shape", index, shape)
        return tuple(shape)

    def _count(self, end: str) -> int:
        count = ctypes.c_int()
        self._call(f"GetDLRNum{end}s", ctypes.byref(count))
        return count.value

    def _word(self, function: str, index: int) -> str:
        word = ctypes.c_char_p()
        self._call(function, index, ctypes.byref(word))
        return _text(word)

    def _call(self, function: str, *arguments: Any) -> None:
        self._library.call(function, self._reference, *arguments)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nothing reaches standard error meanwhile: the library chats as it loads."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _text(word: ctypes.c_char_p) -> str:
    return (word.value or b"").decode(errors="replace")


def _sacrifice(load: Callable[[], object], said: IO[bytes]) -> NoReturn:
    """In the child: load, and end by it or after it."""
    status = 1
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
        load()
        status = 0
    except BaseException as error:  # noqa: BLE001 the child of a fork must never return to its parent's code
        os.write(2, f"\n{error}".encode())
    finally:
        os._exit(status)


def _reason(said: str, folder: str) -> str:
    """The first line that says something, without the library's own places and the staging folder."""
    lines = (_line(line) for line in said.replace(f"{folder}/", "").splitlines())
    return next((line for line in lines if line and not line.startswith(_NOISE)), "")


def _line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    while True:
        match = _PREFIX.match(line)
        if match is None or match.end() == len(line):
            return line.strip(" :")
        line = line[match.end() :]
