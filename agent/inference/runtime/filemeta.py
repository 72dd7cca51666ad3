"""What model files say beyond their tensors, read without the libraries that wrote them.

=============  ======================================================================================
file           what is read
=============  ======================================================================================
``.tflite``    the metadata table (a FlatBuffer in a buffer called ``TFLITE_METADATA``) and the label
               file in the zip that is appended to the model; the ``metadata.json`` or literal that
               Ultralytics puts there
``.onnx``      ``metadata_props``, which the backend hands over: Ultralytics' ``names``, ``imgsz`` …, the
               ``labels``, ``classes``, ``id2label`` of others, Paddle's ``character``
=============  ======================================================================================

The result has at most: ``labels`` (list of str), ``mean`` and ``std`` (lists of float), ``color``, ``size``
(width, height), ``threshold``, ``task``, ``head``, ``stride``, ``keypoints`` (count, numbers of each),
``keypoint_names``, ``anomaly`` (``modelinfo.py``),
``name``, ``description``, ``version``, ``author``, ``license``; and ``problem`` where metadata is
there but broken: the network itself may well run.
"""

from __future__ import annotations

import ast
import json
import mmap
import struct
import zipfile
import zlib
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from agent.inference.runtime import labels, modelinfo
from agent.inference.runtime.base import Labels
from agent.inference.runtime.errors import ModelError

__all__ = ["properties", "tflite"]

Data = Union[bytes, mmap.mmap]

_LABELS_LIMIT = 1 << 20
_LONGEST_LITERAL = 1 << 18
"""Characters: Python's own parser takes microseconds and a hundred bytes for each."""
_NAMES = (
    "names", "labels", "class_names", "classes", "class_labels", "label_names", "label_list", "id2label", "label_map",
)  # fmt: skip
"""Properties in which exporters keep the names of classes, best first."""
_CHARACTERS = "character"
"""Paddle's: what a network can read, one character on each line."""
_ABOUT = {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5}
_BROKEN = (struct.error, IndexError, ValueError, OverflowError)

# TFLite's and TFLite metadata's schema: numbers of fields, union members and enumerations.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_SUBGRAPHS, _ASSOCIATED_FILES = 3, 6
_INPUTS, _OUTPUTS, _GRAPH_FILES = 2, 3, 4
_CONTENT, _PROCESS_UNITS, _TENSOR_FILES = 3, 4, 6
_NORMALIZATION, _THRESHOLDING = 1, 3
_IMAGE = 2
_COLORS = {1: "RGB", 2: "GRAY"}
_LABELS = (2, 3)


def tflite(path: str) -> Dict[str, Any]:
    """What a TFLite file's metadata says; empty where it has none."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            facts = _tflite(data)
        except _BROKEN as error:
            facts = {"problem": f"the metadata table is broken: {error}"}
    label_files = facts.pop("files", [])
    return {**facts, **_appended(path, label_files)}


def properties(entries: Mapping[str, str], description: str = "") -> Dict[str, Any]:
    """What a model's string properties say; literals, JSON and lists are parsed, never evaluated."""
    facts: Dict[str, Any] = {key: entries[key] for key in (*_ABOUT, "task", "head") if entries.get(key)}
    if description:
        facts.setdefault("description", description)
    names = next(filter(None, (_names(entries[key]) for key in _NAMES if key in entries)), None)
    if names is None and entries.get(_CHARACTERS, "").strip():
        names = entries[_CHARACTERS].replace("\r\n", "\n").rstrip("\n").split("\n")
    if names:
        facts["labels"] = names
    size, stride = (_literal(entries.get(key)) for key in ("imgsz", "stride"))
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size):  # noqa: PLR2004 - height, width
        facts["size"] = (size[1], size[0])
    if isinstance(stride, int):
        facts["stride"] = stride
    return {**modelinfo.info(entries), **facts, **_points(entries)}


def _points(entries: Mapping[str, str]) -> Dict[str, Any]:
    """Of a pose: how many key points and numbers of each, and the names that the first class's have."""
    facts: Dict[str, Any] = {}
    shape, names = _literal(entries.get("kpt_shape")), _literal(entries.get("kpt_names"))
    if isinstance(shape, (list, tuple)) and len(shape) == 2 and all(isinstance(each, int) for each in shape):  # noqa: PLR2004 - count, numbers
        facts["keypoints"] = list(shape)
    first = next(iter(names.values()), None) if isinstance(names, dict) else names
    if isinstance(first, (list, tuple)) and first and all(isinstance(name, str) for name in first):
        facts["keypoint_names"] = list(first)
    return facts


def _names(text: str) -> Optional[List[str]]:
    """The labels in a property; None where it holds a number of classes, the name of a file or nothing that is read."""
    text = text.strip()
    if text[:1] not in "[{" and not any(mark in text for mark in "\n,;"):
        return None
    try:
        return _in_order(labels.parse(text))
    except ModelError:
        return None


def _in_order(found: Labels) -> List[str]:
    """Labels as a list in the order of the classes."""
    count = max(found.names) + 1 if found.count is None else found.count
    return [found.names.get(number, "") for number in range(count)]


class _Table:
    """A table of a FlatBuffer; fields by their number in the schema."""

    def __init__(self, data: Data, at: int) -> None:
        self._data, self._at = data, at

    @classmethod
    def root(cls, data: Data) -> _Table:
        return cls(data, _unpack("<I", data, 0))

    def number(self, field: int, form: str) -> Any:
        """A number in ``struct``'s form; 0, which every schema read here has as default, where it is left out."""
        at = self._field(field)
        return _unpack(form, self._data, at) if at else 0

    def table(self, field: int) -> Optional[_Table]:
        at = self._field(field)
        return _Table(self._data, self._follow(at)) if at else None

    def tables(self, field: int) -> List[_Table]:
        start, count = self._vector(field)
        return [_Table(self._data, self._follow(start + 4 * place)) for place in range(count)]

    def floats(self, field: int) -> List[float]:
        start, count = self._vector(field)
        return list(struct.unpack_from(f"<{count}f", self._data, start)) if count else []

    def bytes(self, field: int) -> bytes:
        start, count = self._vector(field)
        return bytes(self._data[start : start + count])

    def text(self, field: int) -> str:
        return self.bytes(field).decode("utf-8")

    def _vector(self, field: int) -> Tuple[int, int]:
        """Where a vector's items start, and how many there are: never more than bytes are left."""
        at = self._field(field)
        if not at:
            return 0, 0
        start = self._follow(at)
        count = _unpack("<I", self._data, start)
        if start + 4 + count > len(self._data):
            raise ValueError("a list runs past the end")
        return start + 4, count

    def _follow(self, at: int) -> int:
        return at + int(_unpack("<I", self._data, at))

    def _field(self, field: int) -> int:
        index = self._at - _unpack("<i", self._data, self._at)
        size = _unpack("<H", self._data, index)
        entry = 4 + 2 * field
        offset = _unpack("<H", self._data, index + entry) if entry + 2 <= size else 0
        return self._at + int(offset) if offset else 0


def _unpack(form: str, data: Data, at: int) -> Any:
    if at < 0:
        raise ValueError("an offset before the beginning")
    return struct.unpack_from(form, data, at)[0]


def _tflite(data: Data) -> Dict[str, Any]:
    model = _Table.root(data)
    for entry in model.tables(_MODEL_METADATA):
        if entry.text(0) == "TFLITE_METADATA":
            buffer = model.tables(_MODEL_BUFFERS)[entry.number(1, "<I")]
            return _about(_Table.root(buffer.bytes(0)))
    return {}


def _about(table: _Table) -> Dict[str, Any]:
    """What the root of the metadata says of the first subgraph's first input and of its outputs."""
    facts: Dict[str, Any] = {key: table.text(field) for key, field in _ABOUT.items() if table.text(field)}
    files = table.tables(_ASSOCIATED_FILES)
    for graph in table.tables(_SUBGRAPHS)[:1]:
        for tensor in graph.tables(_INPUTS)[:1]:
            facts.update(_image(tensor))
        files += graph.tables(_GRAPH_FILES)
        for tensor in graph.tables(_OUTPUTS):
            files = tensor.tables(_TENSOR_FILES) + files
            facts.update(_threshold(tensor))
    facts["files"] = [file.text(0) for file in files if file.number(2, "<b") in _LABELS]
    return facts


def _image(tensor: _Table) -> Dict[str, Any]:
    facts: Dict[str, Any] = {}
    for unit in tensor.tables(_PROCESS_UNITS):
        options = unit.table(1)
        if unit.number(0, "<B") == _NORMALIZATION and options and options.floats(0) and all(options.floats(1)):
            facts.update(mean=options.floats(0), std=options.floats(1) or [1.0])
    content = tensor.table(_CONTENT)
    image = content.table(1) if content and content.number(0, "<B") == _IMAGE else None
    color = _COLORS.get(image.number(0, "<b")) if image else None
    return {**facts, "color": color} if color else facts


def _threshold(tensor: _Table) -> Dict[str, Any]:
    for unit in tensor.tables(_PROCESS_UNITS):
        options = unit.table(1)
        if unit.number(0, "<B") == _THRESHOLDING and options:
            return {"threshold": float(options.number(0, "<f"))}
    return {}


def _appended(path: str, label_files: List[str]) -> Dict[str, Any]:
    """What the zip behind the model holds: the label file, one name per line, or Ultralytics' properties."""
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                if name.endswith(("metadata.json", "temp_meta.txt")):
                    return _ultralytics(_read(archive, name))
            found = [name for name in label_files if name in names] or [
                name for name in names if "label" in name.lower()
            ]
            return {"labels": _in_order(labels.parse(_read(archive, found[0]), found[0]))} if found else {}
    except ModelError as error:
        return {"problem": error.message}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, *_BROKEN) as error:
        return {"problem": f"the files appended to the model are broken: {error}"}


def _read(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        data = file.read(_LABELS_LIMIT + 1)
    if len(data) > _LABELS_LIMIT:
        raise ValueError(f"{name} is longer than {_LABELS_LIMIT} bytes")
    return data.decode("utf-8-sig")


def _ultralytics(text: str) -> Dict[str, Any]:
    try:
        entries = json.loads(text)
    except ValueError:
        entries = _literal(text)
    return properties({str(key): str(value) for key, value in entries.items()}) if isinstance(entries, dict) else {}


def _literal(text: Optional[str]) -> Any:
    """A Python literal's value; None for text that is none, or longer than metadata's literals are."""
    if text and len(text) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(text or "None")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
