"""The interface's tensors and the plane's: which types there are, and what stands for those that there are not.

A type that the interface lacks is carried by the next wider one that it has, both ways: an output of int8 leaves as
INT16, and an input of int8 is taken as INT16, where every number fits.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent.edgeapi.protos import messages
from agent.errors import ModelRefusedError
from agent.inference.tensors import DTYPES, RawTensor
from agent.inference.values import ModelMetadata, TensorMetadata

__all__ = ["TYPES", "check", "data_type", "given", "metadatas", "to_tensor", "width"]

_proto = messages("edge_manager")

TYPES: Final = ("uint8", "int16", "int32", "int64", "float16", "float32", "float64")
"""By number."""
_CARRIED: Final = {"bool": "uint8", "int8": "int16", "uint16": "int32", "uint32": "int64", "uint64": "int64"}
"""What has no number, and what carries it."""
_CODES: Final = {
    "bool": "B", "uint8": "B", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q",
}  # fmt: skip

Segment = Callable[[Any, int], bytes]
"""Reads what a handle names, of so many bytes where it does not say how many."""


def data_type(dtype: str) -> int:
    """The number of a type, or of the one that carries it.

    >>> data_type("float32"), data_type("int8")
    (5, 1)
    """
    return TYPES.index(_CARRIED.get(dtype, dtype))


def width(dtype: str) -> int:
    """Bytes of one number."""
    return int(DTYPES[dtype][2:])


def check(facts: ModelMetadata) -> None:
    """Raises ``ModelRefusedError`` (``tensor-unsupported``) for what has no type here: texts, sequences."""
    tensors = [*facts.inputs, *facts.outputs]
    if strange := [tensor.name for tensor in tensors if _CARRIED.get(tensor.dtype, tensor.dtype) not in TYPES]:
        raise ModelRefusedError(f"the interface has no type for {', '.join(strange)}", code="tensor-unsupported")


def metadatas(tensors: Sequence[TensorMetadata]) -> list[Any]:
    """A network's inputs or outputs; none where something else than the batch is open."""
    if any(-1 in tensor.shape[1:] for tensor in tensors):
        return []
    return [
        _proto.TensorMetadata(
            name=tensor.name.encode(), data_type=data_type(tensor.dtype), shape=[abs(side) for side in tensor.shape]
        )
        for tensor in tensors
    ]


def to_tensor(tensor: RawTensor) -> Any:
    """An output; raises ``ModelRefusedError`` for numbers that the interface cannot carry."""
    return _proto.Tensor(
        tensor_metadata=_proto.TensorMetadata(
            name=tensor.name.encode("utf-8", "replace"), data_type=data_type(tensor.dtype), shape=tensor.shape
        ),
        byte_data=bytes(_carried(tensor.data, tensor.dtype, _CARRIED.get(tensor.dtype, tensor.dtype), tensor.name)),
    )


def given(tensors: Sequence[Any], inputs: Sequence[TensorMetadata], read: Segment) -> list[RawTensor]:
    """The network's inputs as a request brings them: by name where it names them, else by position.

    Raises ``ModelRefusedError`` (``tensor-wrong``) where they are not what the network takes, and what ``read`` raises.
    """
    if len(tensors) != len(inputs):
        raise _wrong(f"the model takes {len(inputs)} tensors, and {len(tensors)} were given")
    return [_input(tensor, wanted, read) for tensor, wanted in _matched(tensors, inputs)]


def _matched(tensors: Sequence[Any], inputs: Sequence[TensorMetadata]) -> list[tuple[Any, TensorMetadata]]:
    names = [tensor.tensor_metadata.name for tensor in tensors]
    # One tensor can be meant for one input only, whatever it is called.
    if len(inputs) == 1 or not any(names):
        return list(zip(tensors, inputs, strict=True))
    known = {wanted.name.encode(): wanted for wanted in inputs}
    if len({*names}) != len(names) or not known.keys() >= {*names}:
        listed = ", ".join(wanted.name for wanted in inputs)
        raise _wrong(
            f"the tensors are called {b', '.join(names).decode('utf-8', 'replace')}", f"the model has {listed}"
        )
    return [(tensor, known[name]) for tensor, name in zip(tensors, names, strict=True)]


def _input(tensor: Any, wanted: TensorMetadata, read: Segment) -> RawTensor:
    facts, carrier = tensor.tensor_metadata, _CARRIED.get(wanted.dtype, wanted.dtype)
    told = tensor.HasField("tensor_metadata")
    if told and facts.data_type != data_type(wanted.dtype):
        sent = TYPES[facts.data_type] if 0 <= facts.data_type < len(TYPES) else str(facts.data_type)
        raise _wrong(f"the input {wanted.name!r} is given as {sent}, and is {carrier}")
    each = width(carrier)
    data: bytes
    match tensor.WhichOneof("data"):
        case "byte_data":
            data = tensor.byte_data
        case "shared_memory_handle":
            shape = _shape(list(facts.shape), wanted, None)
            data = read(tensor.shared_memory_handle, math.prod(shape) * each)
        case _:
            raise _wrong(f"the input {wanted.name!r} has no data")
    shape = _shape(list(facts.shape), wanted, len(data) // each)
    if math.prod(shape) * each != len(data):
        raise _wrong(f"the input {wanted.name!r} of {carrier} {shape} comes with {len(data)} bytes")
    return RawTensor(wanted.name, wanted.dtype, tuple(shape), _carried(data, carrier, wanted.dtype, wanted.name))


def _shape(sent: list[int], wanted: TensorMetadata, numbers: int | None) -> list[int]:
    """The shape that is sent; where none is, the network's, whose one open side follows from the count of numbers."""
    if sent:
        fits = len(sent) == len(wanted.shape) and all(map(_fits, sent, wanted.shape))
        if not fits:
            raise _wrong(f"the input {wanted.name!r} is given as {sent}, and is {list(wanted.shape)}")
        return sent
    open_sides = wanted.shape.count(-1)
    known = math.prod(side for side in wanted.shape if side != -1)
    rest = 1 if numbers is None or open_sides != 1 else max(1, numbers // max(1, known))
    return [rest if side == -1 else side for side in wanted.shape]


def _fits(side: int, wanted: int) -> bool:
    return side > 0 and wanted in (side, -1)


def _carried(data: bytes | memoryview, dtype: str, into: str, name: str) -> bytes | memoryview:
    """Whole numbers of one type as those of another."""
    if dtype == into or {dtype, into} == {"bool", "uint8"}:
        return data
    numbers = array(_CODES[dtype])
    numbers.frombytes(data)
    try:
        return array(_CODES[into], numbers).tobytes()
    except OverflowError as error:
        raise _wrong(f"a number of {name!r} is no {into}") from error


def _wrong(message: str, hint: str | None = None) -> ModelRefusedError:
    return ModelRefusedError(message, code="tensor-wrong", hint=hint)
