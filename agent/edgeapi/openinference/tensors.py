"""What is asked of a model and what it answers, and the protocol's types of data.

A tensor's data is what the binary data extension writes, whichever way it came: numbers little-endian in C order, BOOL
a byte each, and each element of BYTES behind its length (four bytes, little-endian).
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import ModelRefusedError
from agent.inference.tensors import DTYPES

__all__ = [
    "BYTES",
    "DATATYPES",
    "DEEPEST",
    "DTYPES_OF",
    "InferRequest",
    "InferResponse",
    "InferTensor",
    "WantedOutput",
    "elements",
    "numbers",
    "packed",
    "packed_elements",
    "size_of",
    "wrong",
]

BYTES: Final = "BYTES"
DEEPEST: Final = 32
"""Sides of a tensor."""
DATATYPES: Final = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
"""The protocol's name of a type by NumPy's; ``BYTES`` is beside them."""
DTYPES_OF: Final = {datatype: dtype for dtype, datatype in DATATYPES.items()}

_CODES: Final = {
    "BOOL": "B", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP32": "f", "FP64": "d",
}  # fmt: skip
"""As ``array`` calls them; it has no FP16."""
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class InferTensor:
    """One input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that is asked for."""

    name: str
    classes: int = 0
    """So many of the best as ``score:index``; 0 is the tensor itself (the classification extension)."""
    binary: bool | None = None
    """Whether its data is wanted behind the JSON; None where the request does not say it of this output."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a model is to answer."""

    inputs: tuple[InferTensor, ...] = ()
    outputs: tuple[WantedOutput, ...] = ()
    """All of them where none is named."""
    id: str = ""
    whole: bytes | memoryview | None = None
    """The one input of the model, of which nothing is said (a header of the length 0)."""
    binary: bool = False
    """Whether data is wanted behind the JSON where an output does not say it."""
    response_topic: str = ""
    """Where a client of MQTT 3.1.1 wants the answer."""

    def is_binary(self, name: str) -> bool:
        """Whether an output's data goes behind the JSON."""
        said = next((output.binary for output in self.outputs if output.name == name), None)
        return self.binary if said is None else said


@dataclass(frozen=True, slots=True)
class InferResponse:
    """What a model answers."""

    model: str
    version: str
    outputs: tuple[InferTensor, ...]
    id: str = ""


def wrong(message: str, hint: str | None = None) -> ModelRefusedError:
    """The error of a request that is not as the protocol or the model wants it."""
    return ModelRefusedError(message, code="tensor-wrong", hint=hint)


def size_of(datatype: str, shape: Iterable[int]) -> int | None:
    """The bytes that a tensor takes; None for BYTES, and for what is no type."""
    dtype = DTYPES_OF.get(datatype)
    return math.prod(shape) * int(DTYPES[dtype][2:]) if dtype else None


def packed(datatype: str, values: Sequence[Any]) -> bytes:
    """Numbers as data.

    Raises ``ModelRefusedError`` (``tensor-wrong``) for what is no number of the type.

    >>> packed("INT16", [1, -1]).hex()
    '0100ffff'
    """
    try:
        if datatype == "FP16":
            return struct.pack(f"<{len(values)}e", *values)
        made = array(_CODES[datatype], values)
    except KeyError:
        raise wrong(f"{datatype[:40]!r} is no type of numbers", f"known: {', '.join(_CODES)}, FP16") from None
    except (TypeError, OverflowError, struct.error) as error:
        raise wrong(f"the data is not all {datatype}: {error}") from error
    if datatype == "BOOL" and made and max(made) > 1:
        raise wrong("the data is not all BOOL")
    return _little(made).tobytes()


def numbers(datatype: str, data: bytes | memoryview) -> list[Any]:
    """Data as numbers, as ``packed`` takes them; raises ``KeyError`` for what is no type.

    >>> numbers("FP16", bytes.fromhex("003c00c0"))
    [1.0, -2.0]
    """
    if datatype == "FP16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    made = array(_CODES[datatype])
    made.frombytes(data)
    listed = _little(made).tolist()
    return [bool(value) for value in listed] if datatype == "BOOL" else listed


def _little(made: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        made.byteswap()
    return made


def packed_elements(values: Iterable[bytes]) -> bytes:
    r"""Elements of BYTES as data.

    >>> packed_elements([b"ab", b""])
    b'\x02\x00\x00\x00ab\x00\x00\x00\x00'
    """
    return b"".join(part for value in values for part in (_LENGTH.pack(len(value)), value))


def elements(data: bytes | memoryview) -> Iterator[memoryview]:
    """The elements of BYTES; raises ``ModelRefusedError`` (``tensor-wrong``) where a length is none."""
    view, at = memoryview(data), 0
    while at < len(view):
        if at + 4 > len(view):
            raise wrong("the data of BYTES ends in a length")
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4
        if at + length > len(view):
            raise wrong(f"an element of BYTES has {length} bytes, and {len(view) - at} are left")
        yield view[at : at + length]
        at += length
