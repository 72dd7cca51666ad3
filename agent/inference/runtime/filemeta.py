"""What model files say beyond their tensors, read without the libraries that wrote them.

=============  ======================================================================================
file           what is read
=============  ======================================================================================
``.tflite``    the metadata table (a FlatBuffer in a buffer called ``TFLITE_METADATA``) and the label
               file in the zip that is appended to the model; the ``metadata.json`` or literal that
               Ultralytics puts there
``.onnx``      ``metadata_props`` (Ultralytics' ``names``, ``imgsz`` …), which the backend hands over
=============  ======================================================================================

The result has at most: ``labels`` (list of str), ``mean`` and ``std`` (lists of float), ``color``, ``size``
(width, height), ``threshold``, ``task``, ``stride``, ``name``, ``description``, ``version``, ``author``,
``license``; and ``problem`` where metadata is there but broken: the network itself may well run.
"""

from __future__ import annotations

import ast
import json
import mmap
import struct
import zipfile
import zlib
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

__all__ = ["properties", "tflite"]

Data = Union[bytes, mmap.mmap]

_LABELS_LIMIT = 1 << 20
_DIGITS = 6
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
    """What a model's string properties say: those that Ultralytics writes, Python literals parsed, never evaluated."""
    facts: Dict[str, Any] = {key: entries[key] for key in (*_ABOUT, "task") if entries.get(key)}
    if description:
        facts.setdefault("description", description)
    names, size, stride = (_literal(entries.get(key)) for key in ("names", "imgsz", "stride"))
    if isinstance(names, (list, tuple)):
        names = dict(enumerate(names))
    if isinstance(names, dict) and names and all(str(key).isdecimal() and len(str(key)) <= _DIGITS for key in names):
        by_number = {int(key): str(name) for key, name in names.items()}
        facts["labels"] = [by_number.get(number, "") for number in range(max(by_number) + 1)]
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size):  # noqa: PLR2004 - height, width
        facts["size"] = (size[1], size[0])
    if isinstance(stride, int):
        facts["stride"] = stride
    return facts


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
            labels = [name for name in label_files if name in names] or [
                name for name in names if "label" in name.lower()
            ]
            return {"labels": _read(archive, labels[0]).splitlines()} if labels else {}
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
    """A Python literal's value; None for text that is none."""
    try:
        return ast.literal_eval(text or "None")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
