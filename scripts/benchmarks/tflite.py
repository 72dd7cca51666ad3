"""A TFLite file as plain values: its operators in order, and its tensors with shape, constant and quantisation.

LiteRT carries the schema of its files as Python classes, so nothing is parsed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

_OPERATORS: Mapping[int, str] = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)
}
_TYPES = {
    number: name.lower()
    for name, number in vars(schema.TensorType).items()
    if name in {"FLOAT32", "FLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64"}
}

SAME = 0
"""The number of that padding in ``options``."""

ACTIVATIONS: Mapping[int, tuple[float, float] | None] = {0: None, 1: (0.0, np.inf), 3: (0.0, 6.0)}
"""What the fused activations NONE, RELU and RELU6 cut at, by their numbers in ``options``."""


class UnknownOperatorError(Exception):
    """A copier does not know an operator or an option of it."""


@dataclass(frozen=True)
class Quantisation:
    """real = scale × (stored - zero_point), one of each for the tensor or for each index of ``axis``."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """What flows between operators; ``constant`` is None for what is computed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: npt.NDArray[Any] | None
    quantisation: Quantisation | None

    @property
    def reals(self) -> npt.NDArray[np.float32]:
        """A constant's values as the real numbers they stand for."""
        if self.constant is None:
            raise ValueError(f"{self.name} is no constant")
        if self.quantisation is None:
            return self.constant.astype(np.float32)
        along = [1] * self.constant.ndim
        if self.quantisation.scale.size > 1:
            along[self.quantisation.axis] = -1
        zero_point, scale = (part.reshape(along) for part in (self.quantisation.zero_point, self.quantisation.scale))
        return np.asarray((self.constant - zero_point) * scale, np.float32)


@dataclass(frozen=True)
class Operator:
    """One step: its TFLite name, the tensors it reads and writes, and its options by their names in the schema."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """A model's first subgraph."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]


def read(path: Path) -> Network:
    """The network of a TFLite file."""
    file = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    graph = model.subgraphs[0]
    data = [_data(file, buffer) for buffer in model.buffers]
    tensors = [_tensor(tensor, data[tensor.buffer], number) for number, tensor in enumerate(graph.tensors)]

    def named(numbers: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(tensors[number] for number in numbers if number >= 0)

    steps = tuple(
        Operator(
            _operator_name(model.operatorCodes[step.opcodeIndex]),
            named(step.inputs),
            named(step.outputs),
            vars(step.builtinOptions) if step.builtinOptions else {},
        )
        for step in graph.operators
    )
    return Network(named(graph.inputs), named(graph.outputs), steps)


def same_pads(
    picture: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """What SAME adds: before rows, before columns, after rows, after columns; the odd pixel comes after."""
    before, after = [], []
    for size, width, stride, dilation in zip(picture, kernel, strides, dilations, strict=True):
        missing = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        before.append(missing // 2)
        after.append(missing - missing // 2)
    return [*before, *after]


def _operator_name(code: Any) -> str:
    # Files from before operators were more than a byte could number have the first field alone.
    return _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _data(file: bytes, buffer: Any) -> bytes:
    """A buffer's bytes, which lie in the table itself or behind all tables."""
    if buffer.size:
        return file[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(buffer.data)


def _tensor(tensor: Any, data: bytes, number: int) -> Tensor:
    shape, dtype = tuple(int(side) for side in tensor.shape), _TYPES.get(tensor.type, "other")
    constant = np.frombuffer(data, dtype).reshape(shape) if data and dtype != "other" else None
    name = tensor.name.decode() if tensor.name else f"tensor_{number}"
    return Tensor(name, shape, dtype, constant, _quantisation(tensor.quantization))


def _quantisation(told: Any) -> Quantisation | None:
    if told is None or told.scale is None or not len(told.scale):
        return None
    zero_points = np.asarray(told.zeroPoint, np.int64)
    return Quantisation(np.asarray(told.scale, np.float32), zero_points, int(told.quantizedDimension))
