"""The interface's tensors and the plane's: which types there are, and what stands for those that there are not.

A type that the interface lacks is carried by the next wider one that it has, both ways: an output of int8 leaves as
INT16, and an input of int8 is taken as INT16, where every number fits.

Clients' shapes are taken lightly: what counts is that there are as many bytes as the network takes.
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
    """A network's inputs or outputs; a side that is open is told as 1, which clients copy into their requests."""
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
    sent = list(facts.shape)
    if any(side < 1 for side in sent):
        raise _wrong(f"the input {wanted.name!r} is given as {sent}")
    if (sent or facts.data_type) and facts.data_type != data_type(wanted.dtype):
        told = TYPES[facts.data_type] if 0 <= facts.data_type < len(TYPES) else str(facts.data_type)
        size = len(tensor.byte_data) or tensor.shared_memory_handle.size
        # Some clients say float32 of whatever they send: what the bytes contradict does not count.
        if told not in TYPES or not size or not sent or math.prod(sent) * width(told) == size:
            raise _wrong(f"the input {wanted.name!r} is given as {told}, and is {carrier}")
        carrier = wanted.dtype
    each = width(carrier)
    data: bytes
    match tensor.WhichOneof("data"):
        case "byte_data":
            data = tensor.byte_data
        case "shared_memory_handle":
            numbers = math.prod(sent or map(abs, wanted.shape))
            data = read(tensor.shared_memory_handle, numbers * each)
        case _:
            raise _wrong(f"the input {wanted.name!r} has no data")
    shape = _shape(sent, wanted.shape, len(data) // each)
    if shape is None or math.prod(shape) * each != len(data):
        raise _wrong(f"the input {wanted.name!r} of {carrier} {list(wanted.shape)} comes with {len(data)} bytes")
    return RawTensor(wanted.name, wanted.dtype, shape, _carried(data, carrier, wanted.dtype, wanted.name))


def _shape(sent: Sequence[int], wanted: tuple[int, ...], numbers: int) -> tuple[int, ...] | None:
    """The network's shape for so many numbers; clients send the sides in another order, or those of one picture.

    What is sent decides where it is a shape that the network takes, or else the count; None where neither does.

    >>> _shape([1, 8, 8, 3], (1, 3, 8, 8), 192), _shape([], (-1, 3), 6), _shape([6], (-1, -1), 6)
    ((1, 3, 8, 8), (2, 3), None)
    """
    if math.prod(sent) == numbers and len(sent) == len(wanted) and all(map(_fits, sent, wanted)):
        return (*sent,)
    if wanted.count(-1) > 1:
        return None
    rest = max(1, numbers // max(1, math.prod(side for side in wanted if side != -1)))
    return tuple(rest if side == -1 else side for side in wanted)


def _fits(side: int, wanted: int) -> bool:
    return wanted in (side, -1)


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
