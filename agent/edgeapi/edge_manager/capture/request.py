"""A client's request to capture, held against the rules: a record, or why there is none."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any, Final

import grpc

from agent.edgeapi.edge_manager.capture.record import Item, Record
from agent.edgeapi.edge_manager.tensors import TYPES, width
from agent.edgeapi.protos import messages
from agent.edgeapi.server import StatusError

__all__ = ["record"]

_proto = messages("edge_manager")

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=@+-]{0,127}")
_FUTURE_S: Final = 1.0
"""By how much a client's clock may be ahead."""
_LAST: Final = 253_402_300_799
"""The last second that four digits of a year say."""
_NANOS: Final = 1_000_000_000
_MOST: Final = 256
"""Tensors and other items of each kind: an empty one has two bytes on the wire, and a hundred here."""
_DEEPEST: Final = 32
_LONGEST_NAME: Final = 1024
_KINDS: Final = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG", "png"))
_SUFFIX: Final = re.compile(r"[^.]+\.([A-Za-z0-9.]{1,32})")

Segment = Callable[[Any, int], bytes]


def record(request: Any, model: tuple[str, str], called: str, now: float, read: Segment) -> Record:
    """The record of a ``CaptureDataRequest`` for a model (name, version) that the client has ``called`` so.

    ``read`` reads what a handle names, of so many bytes where it does not say how many.  Raises ``StatusError``, and
    what ``read`` raises.
    """
    if not _ID.fullmatch(request.capture_id):
        raise _wrong(f"{request.capture_id[:100]!r} is no capture_id", "up to 128 letters, digits and _ . : = @ + -")
    items = (request.input_tensors, request.output_tensors, request.inputs, request.outputs)
    if (most := max(map(len, items))) > _MOST:
        raise _wrong(f"the capture has {most} items of a kind", f"{_MOST} are the most")
    return Record(
        request.capture_id, *model, _seconds(request, now),
        tuple(_tensor(tensor, read) for tensor in request.input_tensors),
        tuple(_tensor(tensor, read) for tensor in request.output_tensors),
        tuple(_more(item, read) for item in request.inputs),
        tuple(_more(item, read) for item in request.outputs),
        called,
    )  # fmt: skip


def _seconds(request: Any, now: float) -> int:
    """When the inference was; a request that does not say is of now."""
    if not request.HasField("inference_timestamp"):
        return int(now)
    stamp = request.inference_timestamp
    if not (0 <= stamp.seconds <= _LAST and 0 <= stamp.nanos < _NANOS):
        raise _wrong(f"{stamp.seconds} s and {stamp.nanos} ns are no time")
    if stamp.seconds + stamp.nanos / _NANOS > now + _FUTURE_S:
        raise StatusError(grpc.StatusCode.OUT_OF_RANGE, "the inference_timestamp is in the future")
    return int(stamp.seconds)


def _tensor(tensor: Any, read: Segment) -> Item:
    facts = tensor.tensor_metadata
    if len(facts.name) > _LONGEST_NAME or len(facts.shape) > _DEEPEST:
        raise _wrong(f"a tensor has {len(facts.shape)} sides and a name of {len(facts.name)} bytes")
    name, shape = facts.name.decode("utf-8", "replace"), list(facts.shape)
    if not 0 <= facts.data_type < len(TYPES) or any(side < 0 for side in shape):
        raise _wrong(f"the tensor {name!r} is of no type and shape that there is")
    dtype = TYPES[facts.data_type]
    each = width(dtype)
    match tensor.WhichOneof("data"):
        case "byte_data":
            data = tensor.byte_data
        case "shared_memory_handle":
            data = read(tensor.shared_memory_handle, math.prod(shape) * each)
        case _:
            raise _wrong(f"the tensor {name!r} has no data")
    # What is captured is the client's word: some send bytes of another shape or type than they say.
    if not shape and len(data) != each:
        shape = [len(data) // each]
    return Item(name, f"Tensor[{dtype}; {', '.join(map(str, shape))}]", data)


def _more(item: Any, read: Segment) -> Item:
    if len(item.name) > _LONGEST_NAME:
        raise _wrong(f"an item has a name of {len(item.name)} letters")
    match item.WhichOneof("data"):
        case "byte_data":
            data = item.byte_data
        case "shared_memory_handle":
            if not item.shared_memory_handle.size:
                raise _wrong(f"the handle of {item.name!r} says no size")
            data = read(item.shared_memory_handle, 0)
        case _:
            data = b""
    if item.encoding == _proto.number("Encoding", "BASE64"):
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise _wrong(f"{item.name!r} is no base64") from error
    return Item(item.name, _kind(item, data), data)


def _kind(item: Any, data: bytes) -> str:
    """What data is, as a file's suffix says it: of its name, its encoding, or its first bytes."""
    if found := _SUFFIX.fullmatch(item.name):
        return found[1].lower()
    for encoding in ("JSON", "CSV"):
        # CSV is 0, and so what a client says that says nothing.
        if item.encoding == _proto.number("Encoding", encoding) and _is_text(data):
            return encoding.lower()
    return next((kind for sign, kind in _KINDS if data.startswith(sign)), "bin")


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _wrong(message: str, hint: str | None = None) -> StatusError:
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message, hint=hint)
