"""Whatever a client sends: an answer or a refusal, never a fault; and every tensor comes out as it went in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from agent.edgeapi.openinference import body, messages, paths
from agent.edgeapi.openinference.messages import PROTO
from agent.edgeapi.openinference.tensors import (
    DATATYPES,
    DTYPES_OF,
    InferRequest,
    InferResponse,
    InferTensor,
    elements,
    numbers,
    packed,
    packed_elements,
)
from agent.errors import ModelRefusedError
from tests.support.serving import NUMBERS, ask, binary, http_server, plain, plane_with_colours

MOST = 1 << 20
SHAPES = st.lists(st.integers(1, 3), max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "outputs", "name", "datatype", "shape", "data", "parameters", "id", "binary_data_size"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@st.composite
def tensors(draw):
    datatype = draw(st.sampled_from([*DATATYPES.values(), "BYTES"]))
    shape = tuple(draw(SHAPES))
    count = math.prod(shape)
    if datatype == "BYTES":
        return InferTensor("t", datatype, shape, packed_elements(draw(st.binary(max_size=5)) for _ in range(count)))
    width = np.dtype(DTYPES_OF[datatype]).itemsize
    data = draw(st.binary(min_size=count * width, max_size=count * width))
    return InferTensor("t", datatype, shape, bytes(byte & 1 for byte in data) if datatype == "BOOL" else data)


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_binary_data_comes_back_as_it_was(given_tensors) -> None:
    request = InferRequest(binary=True)
    length, parts = body.answered(InferResponse("m", "1", tuple(given_tensors)), request)
    told = b"".join(parts)
    head = json.loads(told[:length])
    sent = json.dumps({"inputs": head["outputs"]}).encode()
    again = body.asked(sent + told[length:], len(sent), MOST)
    assert [bytes(one.data) for one in again.inputs] == [one.data for one in given_tensors]
    assert [(one.datatype, one.shape) for one in again.inputs] == [(one.datatype, one.shape) for one in given_tensors]


@given(tensors())
def test_numbers_in_json_are_the_same_numbers_as_numpys(tensor) -> None:
    if tensor.datatype == "BYTES":
        assert packed_elements(map(bytes, elements(tensor.data))) == tensor.data
        return
    array = np.frombuffer(tensor.data, DTYPES_OF[tensor.datatype])
    told = numbers(tensor.datatype, tensor.data)
    np.testing.assert_array_equal(np.array(told, array.dtype), array)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        assert packed(tensor.datatype, told) == tensor.data


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()), st.none() | st.integers(0, 300))
def test_a_body_of_anything_is_a_request_or_refused(content, length) -> None:
    with contextlib.suppress(ModelRefusedError):
        body.asked(content, length, MOST)


@given(st.data())
def test_a_body_that_is_cut_or_damaged_is_a_request_or_refused(data) -> None:
    content, headers = binary("images", "FP32", NUMBERS.shape, NUMBERS.tobytes())
    length = int(headers[body.HEADER_LENGTH])
    damaged = bytearray(content)
    for at in data.draw(st.lists(st.integers(0, length - 1), max_size=5)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with contextlib.suppress(ModelRefusedError):
        body.asked(bytes(damaged[:cut]), length, MOST)


@given(st.binary(max_size=300))
def test_a_message_of_anything_is_a_request_or_refused(content) -> None:
    with contextlib.suppress(ModelRefusedError, DecodeError):
        messages.asked(PROTO.ModelInferRequest.FromString(content))


@given(st.text(max_size=40) | st.text("/v2models%infer.", max_size=40).map("/v2/models/".__add__))
def test_a_path_of_anything_means_something_or_nothing(target) -> None:
    paths.read(target)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for content in (deep, plain().replace(b'"data": [', b'"data": [' + deep + b", ")):
        with pytest.raises(ModelRefusedError):
            body.asked(content, None, MOST)


async def test_connections_of_anything_leave_the_server_as_it_was(tmp_path: Path) -> None:
    chance = random.Random(7)
    whole = b"POST /v2/models/colours/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(plain()) + plain()

    async def one(port: int) -> None:
        data = bytearray(whole)
        for _ in range(chance.randrange(8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.randrange(len(data) + 1)] if chance.random() < 0.5 else data
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(bytes(data))
            writer.write_eof()
            async with asyncio.timeout(10):
                await reader.read()
        except (ConnectionError, OSError):
            pass
        finally:
            writer.transport.abort()

    async with plane_with_colours(tmp_path) as plane, http_server(plane) as server:
        for _ in range(20):
            await asyncio.gather(*(one(server.port) for _ in range(16)))
        assert (await ask(server.port, "POST", "/v2/models/colours/infer", plain())).status == 200
        assert (server.held, server.refused) == (0, 0)
