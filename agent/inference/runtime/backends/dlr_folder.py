"""The folder of a compiled model: which of its files libdlr is to see, and a clean copy of those.

=============  ==================================  ============================================
kind           files                               made by
=============  ==================================  ============================================
``tvm``        ``.so``, ``.json``, ``.params``     SageMaker Neo, TVM's graph compiler
``relayvm``    ``.so``, ``.ro``, ``.meta``         the same for graphs with dynamic shapes
``treelite``   ``.so`` alone                       decision trees
=============  ==================================  ============================================

libdlr chooses by whatever lies in the folder: it fails over a second ``.json`` (``version.json``, labels) and over
a ``:`` in the path, and takes a ``libdlr.so`` there in place of the installed one.  So the wanted files alone are
staged in a new folder for the time of the load.  Libraries are copied, because they stay mapped and a library
that is overwritten in place under a running model crashes it; the rest is read once, at load, and only linked to,
for weights are large.  A loaded model keeps what it needs when the folder goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass, field
from typing import Any, Collection, Dict, Iterator, List, Mapping, NoReturn, Optional, Sequence

from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError

__all__ = ["RUNTIME", "Folder", "is_model", "read"]

RUNTIME = "libdlr.so"
"""The runtime that a compiled model may bring along."""

_MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64"}
_ELF = b"\x7fELF"
_MACHINE_AT = 18
_HEAD_BYTES = 20


@dataclass(frozen=True)
class Folder:
    """A compiled model's wanted files, by name."""

    path: str
    kind: str
    library: str
    data: Sequence[str]
    """What is read at load: the graph and the weights, or the executable, and metadata that can be used."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    graph: Optional[Mapping[str, Any]] = None

    @property
    def device(self) -> Optional[str]:
        """What the model was compiled for, where its metadata says it: ``cpu``, ``gpu``, ``opencl``."""
        target: Optional[str] = self.metadata.get("Requirements", {}).get("TargetDeviceType")
        return target

    def tensors(self, end: str) -> List[TensorInfo]:
        """The ``Inputs`` or ``Outputs`` of the metadata, as far as they are there."""
        return [_tensor(one) for one in self.metadata.get("Model", {}).get(end, [])]

    def arguments(self, names: Collection[str]) -> List[TensorInfo]:
        """The named tensors that the graph takes, in its order; empty where there is no graph."""
        if self.graph is None:
            return []
        rows, attributes = self.graph["node_row_ptr"], self.graph["attrs"]
        return [
            TensorInfo(node["name"], tuple(attributes["shape"][1][entry]), attributes["dltype"][1][entry])
            for node, entry in zip(self.graph["nodes"], rows)
            if node["op"] == "null" and node["name"] in names
        ]

    @contextlib.contextmanager
    def staged(self, *, runtime: bool) -> Iterator[str]:
        """A new folder with the wanted files, gone afterwards; with the model's own runtime if ``runtime``."""
        if runtime and not os.path.isfile(os.path.join(self.path, RUNTIME)):
            _refuse(self.path, f"use_model_libdlr asks for its {RUNTIME}, and there is none")
        with tempfile.TemporaryDirectory(prefix="verge-dlr-", dir=_workplace()) as stage:
            for name in (self.library, RUNTIME) if runtime else (self.library,):
                shutil.copyfile(os.path.join(self.path, name), os.path.join(stage, name))
            for name in self.data:
                os.symlink(os.path.join(self.path, name), os.path.join(stage, name))
            yield stage


def is_model(path: str) -> bool:
    """Whether a folder looks like a compiled model."""
    if not os.path.isdir(path):
        return False
    names = _names(path)
    return any(name.endswith((".params", ".ro")) for name in names) or len(_ending(names, ".so")) == 1


def read(path: str) -> Folder:
    """The model in a folder; raises ``ModelError`` where its files are not one model for this machine."""
    names, path = _names(path), os.path.abspath(path)
    libraries, weights, executables = (_ending(names, suffix) for suffix in (".so", ".params", ".ro"))
    if _ending(names, ".tensorrt"):
        raise ModelError("model-unsupported", f"{path} is for DLR 1.1 with TensorRT", "compile the model for DLR 1.6")
    if not libraries:
        _refuse(path, "there is no compiled library (.so) in it")
    metadata = _metadata(path, _ending(names, ".meta"))
    meta = [name for name in _ending(names, ".meta")[:1] if metadata]
    if weights:
        parameters = _one(path, weights)
        stem = os.path.splitext(parameters)[0]
        graph = _graph_file(path, _ending(names, ".json"))
        library = _one(path, libraries, stem)
        found = Folder(path, "tvm", library, [graph, parameters, *meta], metadata, _graph(path, graph))
    elif executables:
        executable = _one(path, executables)
        if not meta:
            _refuse(path, "its .meta is missing or broken, and a .ro needs one")
        library = _one(path, libraries, os.path.splitext(executable)[0])
        found = Folder(path, "relayvm", library, [executable, *meta], metadata)
    elif any(_is_graph(_json(os.path.join(path, name))) for name in _ending(names, ".json")):
        _refuse(path, "there is a graph but no weights (.params)")
    else:
        found = Folder(path, "treelite", _one(path, libraries), [])
    _check_machine(os.path.join(path, found.library))
    return found


def _names(path: str) -> List[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_file())


def _ending(names: Sequence[str], suffix: str) -> List[str]:
    return [name for name in names if name.endswith(suffix) and name != RUNTIME]


def _one(path: str, names: Sequence[str], stem: str = "") -> str:
    """The only one of its kind, or the one called like the weights."""
    chosen = names if len(names) == 1 else [name for name in names if os.path.splitext(name)[0] == stem]
    if len(chosen) != 1:
        _refuse(path, f"it has {' and '.join(names)}, of which one is wanted")
    return chosen[0]


def _graph_file(path: str, names: Sequence[str]) -> str:
    """The file that holds the graph; other ``.json`` files may lie beside it."""
    if len(names) == 1:
        return names[0]
    graphs = [name for name in names if _is_graph(_json(os.path.join(path, name)))]
    if len(graphs) != 1:
        _refuse(path, f"{len(graphs)} of its {len(names)} .json files hold a graph; one is wanted")
    return graphs[0]


def _graph(path: str, name: str) -> Mapping[str, Any]:
    """The graph, checked in what is read here and in what libdlr trusts: a head past the end is a crash."""
    graph = _json(os.path.join(path, name))
    if not _is_graph(graph):
        _refuse(path, f"{name} holds no graph")
    try:
        rows, attributes = graph["node_row_ptr"], graph["attrs"]
        sizes = {len(attributes[key][1]) for key in ("shape", "dltype")} | {rows[-1]}
        whole = (
            len(sizes) == 1
            and len(rows) == len(graph["nodes"]) + 1
            and all(node >= 0 and 0 <= index < rows[node + 1] - rows[node] for node, index, *_ in graph["heads"])
        )
    except (KeyError, IndexError, TypeError, ValueError):
        whole = False
    if not whole:
        _refuse(path, f"{name} contradicts itself: an output or a tensor of the graph does not exist")
    checked: Dict[str, Any] = graph
    return checked


def _is_graph(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), list) for key in ("nodes", "arg_nodes", "heads"))


def _metadata(path: str, names: Sequence[str]) -> Mapping[str, Any]:
    """What the ``.meta`` says; empty where there is none that libdlr can read, which a wrong type would abort."""
    found = _json(os.path.join(path, names[0])) if len(names) == 1 else None
    return found if isinstance(found, dict) and _is_usable(found) else {}


def _is_usable(metadata: Mapping[str, Any]) -> bool:
    needs, model = metadata.get("Requirements", {}), metadata.get("Model", {})
    if not (isinstance(needs, dict) and isinstance(model, dict)):
        return False
    ends = [model.get(end, []) for end in ("Inputs", "Outputs")]
    return isinstance(needs.get("TargetDeviceType", ""), str) and all(
        isinstance(end, list) and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in end)
        for end in ends
    )


def _json(path: str) -> Any:
    """A JSON file's value; None where it holds none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError):
        return None


def _tensor(entry: Mapping[str, Any]) -> TensorInfo:
    shape = entry.get("shape")
    sides = shape if isinstance(shape, list) else []
    known = [side if isinstance(side, int) and side > 0 else -1 for side in sides]
    return TensorInfo(entry["name"], tuple(known), str(entry.get("dtype", "float32")))


def _check_machine(library: str) -> None:
    """Libraries of another processor are the usual mistake, and the system's words for it mislead."""
    theirs, ours = _machine(library), _machine("/proc/self/exe")
    if theirs is not None and ours is not None and theirs != ours:
        name, here = (_MACHINES.get(number, f"machine {number}") for number in (theirs, ours))
        raise ModelError(
            "model-unsupported",
            f"{library} is compiled for {name}, this is {here}",
            hint=f"take the model that was compiled for {here}",
        )


def _machine(path: str) -> Optional[int]:
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES or not head.startswith(_ELF):
        return None
    number: int = struct.unpack_from("<H", head, _MACHINE_AT)[0]
    return number


def _workplace() -> str:
    """A folder for files of the moment from which libraries may be loaded."""
    places = (tempfile.gettempdir(), "/var/tmp", "/dev/shm")  # noqa: S108 - a folder of random name is made there
    return next((place for place in places if _is_workplace(place)), places[0])


def _is_workplace(place: str) -> bool:
    return ":" not in place and os.access(place, os.W_OK) and not os.statvfs(place).f_flag & os.ST_NOEXEC


def _refuse(path: str, what: str) -> NoReturn:
    raise ModelError(
        "model-broken",
        f"{path} is no compiled model: {what}",
        "give the folder as the compiler packed it: is it whole?",
    )
