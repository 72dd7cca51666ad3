"""The files that a model is made of: the one that it is named by, and those without which it is none.

===============  ===========================================================================================
``.onnx``        the files in its folder in which it says that it keeps weights (ONNX's external data)
``.xml``         OpenVINO's: the ``.bin`` of the same name
``.caffemodel``  the ``.prototxt``, ``.weights`` the ``.cfg``: the one that ``backend_options.config`` names,
                 the one of the same name, or the only one in the folder
``.pb``          the ``.pbtxt`` of the same name, if there is one
a folder         every file in it, but for hidden ones and what Python leaves behind
===============  ===========================================================================================

Labels are no part: what they call an answer is in every result, and a network is the same in every language.  What a
file of external data is called comes from the model, and leads nowhere out of its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

from agent.inference.runtime import protobuf
from agent.inference.runtime.errors import ModelError

__all__ = ["beside", "digest", "joined", "of"]

_CHUNK = 1 << 20
_MOST_FIELDS = 5_000_000
_MOST_FILES = 10_000
_DEEPEST = 32
"""Messages inside messages: a graph in the branch of a condition is three below the one round it."""


@dataclass(frozen=True)
class _Pair:
    """A kind of file that comes in pairs."""

    other: str
    """What the name of the file beside it ends in."""
    is_known: bool = True
    """Whether the suffix means this kind and no other, so that one without the other is none."""
    may_differ: bool = True
    """Whether the other may have another name."""


_PAIRS: Mapping[str, _Pair] = {
    ".caffemodel": _Pair(".prototxt"),
    ".weights": _Pair(".cfg", is_known=False),
    ".xml": _Pair(".bin", may_differ=False),
    ".pb": _Pair(".pbtxt", is_known=False, may_differ=False),
}

# ONNX's schema: which fields hold what in which weights can be, from the model down.
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_KEY, _VALUE = 1, 2


def of(path: str, config: str = "") -> List[str]:
    """The files of the model at ``path``, itself first; ``config`` is what its backend options call so.

    Raises ``ModelError``: ``model-incomplete`` for a part that is not there, ``model-outside`` for one elsewhere; and
    ``OSError`` for a model that is not there.
    """
    if stat.S_ISDIR(os.stat(path).st_mode):
        return [os.path.join(path, name) for name in _files(path)]
    partner = beside(path, config)
    return [path, *([partner] if partner else []), *_external(path)]


def digest(path: str, config: str = "") -> str:
    """``sha256:…`` of the files that a model is made of; raises as ``of``, and ``OSError``.

    Of one file it is that of its contents; of several, that of their names and their digests, in the names' order.
    """
    files = of(path, config)
    if files == [path]:
        return _digest(path)
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    whole = hashlib.sha256()
    for name, file in sorted((os.path.relpath(file, folder), file) for file in files):
        whole.update(f"{name}\0{_digest(file)}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{whole.hexdigest()}"


def joined(digests: Sequence[str]) -> str:
    """The digest of models that answer together: of one its own."""
    if len(digests) == 1:
        return digests[0]
    return "sha256:" + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def beside(path: str, config: str = "") -> str:
    """The other file of a pair; empty where there need be none.  Raises ``ModelError`` (``model-incomplete``)."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    pair = _PAIRS.get(suffix.lower())
    if pair is None or (suffix.lower() == ".xml" and not _is_network(path)):
        return ""
    wanted = os.path.join(folder, config or stem + pair.other)
    if os.path.isfile(wanted):
        return wanted
    others = [other for other in os.listdir(folder or ".") if other.lower().endswith((pair.other, f"{pair.other}.txt"))]
    if pair.may_differ and not config and len(others) == 1:
        return os.path.join(folder, others[0])
    if not (config or pair.is_known):
        return ""
    hint = "put it beside the model" + (", or name it: backend_options.config" if pair.may_differ else "")
    raise ModelError("model-incomplete", f"{path} goes with {config or stem + pair.other}, which is not there", hint)


def _is_network(path: str) -> bool:
    """Whether an ``.xml`` is a network of OpenVINO's, and no other page."""
    with open(path, "rb") as file:
        return b"<net" in file.read(4096)


# -- the external data of ONNX -----------------------------------------------------------------------------------------


def _external(path: str) -> List[str]:
    """The files of an ONNX model's external data, sorted."""
    if not path.endswith(".onnx") or not os.path.getsize(path):
        return []
    folder = os.path.dirname(os.path.abspath(path))
    return [_inside(path, folder, location) for location in sorted(_locations(path))]


def _inside(path: str, folder: str, location: str) -> str:
    """A location's file, in the model's folder and nowhere else."""
    file = os.path.normpath(os.path.join(folder, location))
    real, within = os.path.realpath(file), os.path.realpath(folder)
    if os.path.isabs(location) or ".." in location.split("/") or os.path.commonpath([real, within]) != within:
        hint = "save the model again with its weights beside it"
        raise ModelError("model-outside", f"{path} keeps weights in {location!r}, outside of its folder", hint)
    if not os.path.isfile(file):
        hint = "put that file beside the model, as it was saved: the two are one model"
        raise ModelError("model-incomplete", f"{path} keeps weights in {location!r}, which is not there", hint)
    return file


def _locations(path: str) -> List[str]:
    """What an ONNX file names its external data; nothing where it is no whole ONNX file, which its backend says."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(path, data)
        # What is no whole ONNX file is for its backend to say.
        with contextlib.suppress(IndexError, ValueError):
            walk.message("model", 0, len(data), 0)
        return list(walk.locations)


class _Walk:
    """Looks at every tensor of a model, and at no weight."""

    def __init__(self, path: str, data: protobuf.Data) -> None:
        self._path, self._data = path, data
        self._left = _MOST_FIELDS
        self.locations: Dict[str, None] = {}

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Look at what is in a message; raises ``ValueError`` and ``IndexError`` for what is none."""
        if kind == "tensor":
            self._tensor(start, end)
            return
        if depth > _DEEPEST:
            self._refuse("is nested too deeply")
        inside = _INSIDE[kind]
        for number, first, last in self._fields(start, end):
            if number in inside and last >= 0:
                self.message(inside[number], first, last, depth + 1)

    def _fields(self, start: int, end: int) -> Iterator[Tuple[int, int, int]]:
        for field in protobuf.fields(self._data, start, end):
            self._left -= 1
            if self._left < 0:
                self._refuse("has too many parts")
            yield field

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError("model-broken", f"{self._path} {what}", "save the model again, simplified")

    def _tensor(self, start: int, end: int) -> None:
        location: Optional[str] = None
        is_external = False
        for number, first, last in self._fields(start, end):
            if number == _DATA_LOCATION:
                is_external = first == _EXTERNAL
            elif number == _EXTERNAL_DATA and last >= 0:
                key, value = (
                    protobuf.text(self._data, protobuf.last(self._data, first, last, each)) for each in (_KEY, _VALUE)
                )
                location = value if key == "location" else location
        if is_external and location and location not in self.locations:
            if len(self.locations) >= _MOST_FILES:
                self._refuse("keeps its weights in too many files")
            self.locations[location] = None


# -- digests -----------------------------------------------------------------------------------------------------------


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def _files(folder: str) -> List[str]:
    """The files of a model's folder, relative to it; without hidden ones and what Python leaves behind."""
    found: List[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        paths = (os.path.join(place, name) for name in names if not name.startswith("."))
        found += [os.path.relpath(path, folder) for path in paths if os.path.isfile(path)]
    return sorted(found)
