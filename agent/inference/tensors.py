"""Raw tensors: arrays as named bytes, because the core has no NumPy.

The bytes are little-endian and in C order, as the binary data of the V2 protocol and ``.npy`` files have them.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.errors import ModelRefusedError

__all__ = ["DTYPES", "RawTensor", "TensorInput", "write_npy"]

DTYPES: Final[Mapping[str, str]] = {
    "bool": "|b1",
    "int8": "|i1",
    "uint8": "|u1",
    "int16": "<i2",
    "uint16": "<u2",
    "float16": "<f2",
    "int32": "<i4",
    "uint32": "<u4",
    "float32": "<f4",
    "int64": "<i8",
    "uint64": "<u8",
    "float64": "<f8",
}
"""What a tensor may hold, by NumPy's name, and how an ``.npy`` spells it: the digits are the bytes of one number."""

_ALIGNMENT = 64
"""Bytes: what the fastest instructions of processors ask for, and the headers of ``.npy`` files too."""


@dataclass(frozen=True, slots=True)
class RawTensor:
    """One input or output of a network."""

    name: str
    dtype: str
    """A key of ``DTYPES``."""
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class TensorInput:
    """What a network is to be run on: tensors whose bytes fit their shapes, and the outputs that are wanted."""

    tensors: tuple[RawTensor, ...]
    outputs: tuple[str, ...] = ()
    """By name; all of them where none is named."""

    @classmethod
    def of(cls, tensors: Iterable[RawTensor], outputs: Iterable[str], max_bytes: int) -> TensorInput:
        """The input, checked for what can be known without the network.

        Raises ``ModelRefusedError`` (``tensor-wrong``, ``too-many-bytes``) with the path of the tensor.
        """
        made = cls(tuple(tensors), tuple(outputs))
        for number, tensor in enumerate(made.tensors):
            if tensor.name in {other.name for other in made.tensors[:number]}:
                raise _wrong(number, f"the input {tensor.name!r} is given twice", "give each input once")
            _check(number, tensor)
        if made.nbytes > max_bytes:
            raise ModelRefusedError(
                f"the tensors take {made.nbytes} bytes, the limit is {max_bytes}",
                hint="send fewer at once, or raise max_bytes",
                code="too-many-bytes",
            )
        return made

    @property
    def nbytes(self) -> int:
        """How much room the tensors take in the frame buffer."""
        return sum(_padded(len(tensor.data)) for tensor in self.tensors)

    def parts(self) -> tuple[list[bytes | memoryview], list[dict[str, Any]]]:
        """The tensors with what puts each at an aligned offset, one after the other, and where each one lies."""
        places: list[dict[str, Any]] = []
        parts: list[bytes | memoryview] = []
        offset = 0
        for tensor in self.tensors:
            size = len(tensor.data)
            places.append({"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape, "offset": offset})
            parts += [tensor.data, bytes(_padded(size) - size)]
            offset += _padded(size)
        return parts, places

    def npz(self) -> bytes:
        """The tensors as the file that ``numpy.load`` reads."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for tensor in self.tensors:
                write_npy(archive, replace(tensor, name=tensor.name.replace("/", "_")))
        return file.getvalue()


def write_npy(archive: zipfile.ZipFile, tensor: RawTensor) -> None:
    """Add a tensor to an ``.npz``, compressed as the archive is.

    Its ``dtype`` may also be one that is spelled as in an ``.npy``: ``<U7`` of texts.
    """
    # Without the time of writing: the same tensors are the same file.
    entry = zipfile.ZipInfo(f"{tensor.name}.npy")
    entry.compress_type = archive.compression
    archive.writestr(entry, b"".join((_npy_header(tensor), tensor.data)))


def _check(number: int, tensor: RawTensor) -> None:
    spelled = DTYPES.get(tensor.dtype)
    if spelled is None:
        raise _wrong(number, f"the input {tensor.name!r} is of {tensor.dtype!r}", f"known: {', '.join(DTYPES)}")
    if any(side < 1 for side in tensor.shape):
        raise _wrong(number, f"the input {tensor.name!r} has the shape {list(tensor.shape)}", "give sides of 1 or more")
    needed = math.prod(tensor.shape) * int(spelled[2:])
    if len(tensor.data) != needed:
        raise _wrong(
            number,
            f"the input {tensor.name!r} has {len(tensor.data)} bytes",
            f"{tensor.dtype} of {list(tensor.shape)} takes {needed}",
        )


def _wrong(number: int, message: str, hint: str) -> ModelRefusedError:
    return ModelRefusedError(message, hint=hint, code="tensor-wrong", path=f"inputs[{number}]")


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT


def _npy_header(tensor: RawTensor) -> bytes:
    facts = {"descr": DTYPES.get(tensor.dtype, tensor.dtype), "fortran_order": False, "shape": tensor.shape}
    text = repr(facts).encode()
    padding = -(10 + len(text) + 1) % _ALIGNMENT
    return b"\x93NUMPY\x01\x00" + (len(text) + padding + 1).to_bytes(2, "little") + text + b" " * padding + b"\n"
