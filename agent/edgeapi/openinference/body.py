"""Requests and answers as the body of an HTTP or MQTT message.

JSON, in which a tensor's ``data`` is nested or flat; or, with the binary data extension, JSON of the length that
``Inference-Header-Content-Length`` says, and behind it the data of each tensor that has ``binary_data_size``, in the
order of the JSON.  A length of 0 means that the whole body is the data of the one input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Final

import msgspec

from agent.edgeapi.openinference.tensors import (
    BYTES,
    DEEPEST,
    InferRequest,
    InferResponse,
    InferTensor,
    WantedOutput,
    elements,
    numbers,
    packed,
    packed_elements,
    wrong,
)
from agent.errors import ModelRefusedError

__all__ = ["HEADER_LENGTH", "answered", "asked", "encode", "header_length"]

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
"""The header of HTTP, and the user property of MQTT, that says how long the JSON is."""
_NO_DATA: Final = msgspec.Raw()

_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Side = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class _Input(msgspec.Struct):
    name: _Text
    datatype: _Text
    shape: Annotated[list[_Side], msgspec.Meta(max_length=DEEPEST)]
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = _NO_DATA


class _Output(msgspec.Struct):
    name: _Text
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Input], msgspec.Meta(max_length=256)]
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=256)] = []
    id: _Text = ""
    parameters: dict[str, Any] = {}


_request = msgspec.json.Decoder(_Request).decode
_data = msgspec.json.Decoder().decode
encode: Final = msgspec.json.Encoder().encode
"""A value as JSON."""


def header_length(text: str | None) -> int | None:
    """What ``Inference-Header-Content-Length`` says; raises ``ModelRefusedError`` (``tensor-wrong``) for no length.

    >>> header_length("12"), header_length(None)
    (12, None)
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):  # noqa: PLR2004 no body is as long
        raise wrong(f"{HEADER_LENGTH} is {text[:40]!r}", "give the length of the JSON in bytes")
    return int(text)


def asked(content: bytes | memoryview, json_length: int | None, most_json: int) -> InferRequest:
    """The request in a body, whose JSON may have ``most_json`` bytes.

    Raises ``ModelRefusedError`` (``tensor-wrong``, ``too-many-bytes``); nothing else, whatever the body is.
    """
    view = memoryview(content)
    if json_length == 0:
        return InferRequest(whole=view, binary=True)
    length = len(view) if json_length is None else json_length
    if length > len(view):
        raise wrong(f"{HEADER_LENGTH} is {length}, and the body has {len(view)} bytes")
    if length > most_json:
        hint = "send tensors as binary data, or raise max_json_bytes"
        raise ModelRefusedError(
            f"the JSON has {length} bytes, the limit is {most_json}", code="too-many-bytes", hint=hint
        )
    try:
        request = _request(view[:length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(f"the request is not as the protocol has it: {error}") from error
    parameters = request.parameters
    topic = parameters.get("response_topic", "")
    return InferRequest(
        inputs=tuple(_inputs(request.inputs, view[length:])),
        outputs=tuple(_wanted(output) for output in request.outputs),
        id=request.id,
        binary=_flag(parameters, "binary_data_output") or False,
        response_topic=topic if isinstance(topic, str) else "",
    )


def answered(response: InferResponse, request: InferRequest) -> tuple[int | None, list[bytes | memoryview]]:
    """An answer as a body in parts, and the length of its JSON where there is data behind it."""
    behind: list[bytes | memoryview] = []
    outputs = []
    for tensor in response.outputs:
        told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.is_binary(tensor.name):
            told["parameters"] = {"binary_data_size": len(tensor.data)}
            behind.append(tensor.data)
        elif tensor.datatype == BYTES:
            told["data"] = [str(element, "utf-8", "replace") for element in elements(tensor.data)]
        else:
            told["data"] = numbers(tensor.datatype, tensor.data)
        outputs.append(told)
    header: dict[str, Any] = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    if response.id:
        header["id"] = response.id
    text = encode(header)
    return (len(text) if behind else None), [text, *behind]


def _inputs(inputs: Sequence[_Input], behind: memoryview) -> list[InferTensor]:
    made, at = [], 0
    for one in inputs:
        if "shared_memory_region" in one.parameters:
            raise wrong(f"the input {one.name!r} is in shared memory, which is not offered", "send its data")
        size = one.parameters.get("binary_data_size")
        if size is None:
            data: bytes | memoryview = _packed(one)
        elif not isinstance(size, int) or not 0 <= size <= len(behind) - at or one.data != _NO_DATA:
            raise wrong(f"the input {one.name!r} has the binary_data_size {size!r}, and {len(behind) - at} are left")
        else:
            data = behind[at : at + size]
            at += size
        made.append(InferTensor(one.name, one.datatype, tuple(one.shape), data))
    if at != len(behind):
        raise wrong(f"{len(behind) - at} bytes behind the JSON are no input's", "give each input its binary_data_size")
    return made


def _packed(given: _Input) -> bytes:
    if given.data == _NO_DATA:
        raise wrong(f"the input {given.name!r} has no data")
    try:
        values = _flat(_data(given.data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(f"the data of the input {given.name!r} cannot be read: {error}") from error
    if given.datatype != BYTES:
        return packed(given.datatype, values)
    if not all(isinstance(value, str) for value in values):
        raise wrong(f"the data of the input {given.name!r} is not all text", "BYTES is text in JSON, base64 for bytes")
    return packed_elements(value.encode() for value in values)


def _flat(values: Any) -> list[Any]:
    """Nested lists as one, row by row."""
    if not isinstance(values, list):
        values = [values]
    while (kinds := {*map(type, values)}) == {list}:
        values = [*chain.from_iterable(values)]
    if list in kinds:
        raise wrong("the data is nested unevenly")
    return list(values)


def _wanted(output: _Output) -> WantedOutput:
    if "shared_memory_region" in output.parameters:
        raise wrong(f"the output {output.name!r} is wanted in shared memory, which is not offered")
    classes = output.parameters.get("classification", 0)
    if not isinstance(classes, int) or not 0 <= classes < 1 << 31:
        raise wrong(f"the output {output.name!r} has the classification {classes!r}", "give how many classes")
    return WantedOutput(output.name, classes, _flag(output.parameters, "binary_data"))


def _flag(parameters: Mapping[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(f"the parameter {name} is {value!r}", "give true or false")
    return value
