"""What an ONNX file says of its inputs and outputs, for runtimes that do not: a Protobuf, walked field by field.

The file is mapped and weights are passed over, so a large one costs no more than a small one.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Tuple, Union

from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError

__all__ = ["OnnxFile", "read"]

Data = Union[bytes, mmap.mmap]

# ONNX's schema: fields of a model and of its graph; element types.
_GRAPH, _PROPERTIES = 7, 14
_WEIGHT, _INPUT, _OUTPUT = 5, 11, 12
_ONNX_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file's inputs (weights left out), outputs and ``metadata_props``."""

    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[TensorInfo, ...]
    properties: Mapping[str, str]


def read(path: str) -> OnnxFile:
    """The inputs, outputs and properties in a file; raises ``ModelError`` (``model-broken``) for what is not ONNX."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _onnx(data)
    except (IndexError, ValueError) as error:
        raise ModelError("model-broken", f"{path} is not a whole ONNX file: {error}", "copy the file again") from error


def _onnx(data: Data) -> OnnxFile:
    inputs: List[TensorInfo] = []
    outputs: List[TensorInfo] = []
    weights = set()
    entries: Dict[str, str] = {}
    for field, start, end in _fields(data, 0, len(data)):
        if field == _PROPERTIES:
            key, value = (_text(data, _last(data, start, end, number)) for number in (1, 2))
            entries[key] = value
        elif field == _GRAPH:
            for part, first, last in _fields(data, start, end):
                if part == _WEIGHT:
                    weights.add(_text(data, _last(data, first, last, 8)))
                elif part == _INPUT:
                    inputs.append(_value(data, first, last))
                elif part == _OUTPUT:
                    outputs.append(_value(data, first, last))
    if not outputs:
        raise ValueError("it has no graph")
    given = tuple(tensor for tensor in inputs if tensor.name not in weights)
    return OnnxFile(given, tuple(outputs), entries)


def _value(data: Data, start: int, end: int) -> TensorInfo:
    """A graph's input or output: its name, and the tensor type's element type and dimensions."""
    name = _text(data, _last(data, start, end, 1))
    tensor = _last(data, *_last(data, start, end, 2), 1)
    kind = _last(data, *tensor, 1)[0]
    shape = []
    for field, first, last in _fields(data, *_last(data, *tensor, 2)):
        if field == 1:
            size = _last(data, first, last, 1)
            shape.append(size[0] if size[0] > 0 and size[1] < 0 else -1)
    return TensorInfo(name, tuple(shape), _ONNX_TYPES.get(kind, "float32"))


def _last(data: Data, start: int, end: int, number: int) -> Tuple[int, int]:
    """Where the last field of that number lies; for a number its value and -1; (0, 0) where there is none."""
    place = (0, 0)
    for field, first, last in _fields(data, start, end):
        if field == number:
            place = (first, last)
    return place


def _text(data: Data, place: Tuple[int, int]) -> str:
    return bytes(data[place[0] : place[1]]).decode("utf-8")


def _fields(data: Data, at: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """A message's fields: (number, start, end) of those with a length, (number, value, -1) of plain integers."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value, -1
        elif kind == 2:  # noqa: PLR2004 - length-delimited
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field runs past the end")
            yield key >> 3, at, at + length
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field begins with {key}")


def _varint(data: Data, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, at
    raise ValueError("a number has no end")
