"""Requests and answers as gRPC's messages: data in ``raw_…_contents`` or, on the way in, in typed ``contents``."""

from __future__ import annotations

from typing import Any, Final

from agent.edgeapi.openinference.tensors import (
    BYTES,
    DEEPEST,
    InferRequest,
    InferResponse,
    InferTensor,
    WantedOutput,
    packed,
    packed_elements,
    wrong,
)
from agent.edgeapi.protos import messages

__all__ = ["PROTO", "answered", "asked"]

PROTO: Final = messages("inference")

_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
"""Where typed contents are; there is no field for FP16."""


def asked(request: Any) -> InferRequest:
    """The request in a ``ModelInferRequest``; raises ``ModelRefusedError`` (``tensor-wrong``)."""
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise wrong(f"there are {len(inputs)} inputs and {len(raw)} raw_input_contents")
    if any(len(one.shape) > DEEPEST for one in inputs):
        raise wrong(f"a tensor has at most {DEEPEST} sides")
    contents = raw or [_contents(one) for one in inputs]
    return InferRequest(
        inputs=tuple(
            InferTensor(one.name, one.datatype, tuple(one.shape), data)
            for one, data in zip(inputs, contents, strict=True)
        ),
        outputs=tuple(
            WantedOutput(one.name, _whole(one.parameters, "classification", one.name)) for one in request.outputs
        ),
        id=request.id,
        binary=True,
    )


def answered(response: InferResponse) -> Any:
    """A ``ModelInferResponse``."""
    return PROTO.ModelInferResponse(
        model_name=response.model,
        model_version=response.version,
        id=response.id,
        outputs=[
            {"name": output.name, "datatype": output.datatype, "shape": output.shape} for output in response.outputs
        ],
        raw_output_contents=[bytes(output.data) for output in response.outputs],
    )


def _contents(given: Any) -> bytes:
    if "shared_memory_region" in given.parameters:
        raise wrong(f"the input {given.name!r} is in shared memory, which is not offered", "send its data")
    if not given.HasField("contents"):
        raise wrong(f"the input {given.name!r} has no data")
    if given.datatype == BYTES:
        return packed_elements(given.contents.bytes_contents)
    field = _FIELDS.get(given.datatype)
    if field is None:
        raise wrong(f"{given.datatype[:40]!r} has no typed contents", "send raw_input_contents")
    return packed(given.datatype, getattr(given.contents, field))


def _whole(parameters: Any, name: str, output: str) -> int:
    """A parameter that is a whole number, 0 where it is not given."""
    if name not in parameters:
        return 0
    choice = parameters[name].WhichOneof("parameter_choice")
    value = getattr(parameters[name], choice) if choice in {"int64_param", "uint64_param"} else -1
    if value < 0:
        raise wrong(f"the output {output!r} has a {name} that is no whole number")
    return int(value)
