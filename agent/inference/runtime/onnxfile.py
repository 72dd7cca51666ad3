"""What an ONNX file says of its inputs and outputs, for runtimes that do not.

The file is mapped and weights are passed over, so a large one costs no more than a small one.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from agent.inference.runtime import protobuf
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError

__all__ = ["OnnxFile", "read"]

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


def _onnx(data: protobuf.Data) -> OnnxFile:
    inputs: List[TensorInfo] = []
    outputs: List[TensorInfo] = []
    weights = set()
    entries: Dict[str, str] = {}
    for field, start, end in protobuf.fields(data, 0, len(data)):
        if field == _PROPERTIES:
            key, value = (protobuf.text(data, protobuf.last(data, start, end, number)) for number in (1, 2))
            entries[key] = value
        elif field == _GRAPH:
            for part, first, last in protobuf.fields(data, start, end):
                if part == _WEIGHT:
                    weights.add(protobuf.text(data, protobuf.last(data, first, last, 8)))
                elif part == _INPUT:
                    inputs.append(_value(data, first, last))
                elif part == _OUTPUT:
                    outputs.append(_value(data, first, last))
    if not outputs:
        raise ValueError("it has no graph")
    given = tuple(tensor for tensor in inputs if tensor.name not in weights)
    return OnnxFile(given, tuple(outputs), entries)


def _value(data: protobuf.Data, start: int, end: int) -> TensorInfo:
    """A graph's input or output: its name, and the tensor type's element type and dimensions."""
    name = protobuf.text(data, protobuf.last(data, start, end, 1))
    tensor = protobuf.last(data, *protobuf.last(data, start, end, 2), 1)
    kind = protobuf.last(data, *tensor, 1)[0]
    shape = []
    for field, first, last in protobuf.fields(data, *protobuf.last(data, *tensor, 2)):
        if field == 1:
            size = protobuf.last(data, first, last, 1)
            shape.append(size[0] if size[0] > 0 and size[1] < 0 else -1)
    return TensorInfo(name, tuple(shape), _ONNX_TYPES.get(kind, "float32"))
