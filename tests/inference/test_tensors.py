from __future__ import annotations

import base64
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime.base import Geometry, Labels, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks.tensors import Tensors
from tests.support.answers import received

FRAME = Geometry(640, 480, 32, 32)


def tell(*arrays, **options):
    infos = [TensorInfo(f"out{n}", array.shape, array.dtype.name) for n, array in enumerate(arrays)]
    found = Tensors(options, Labels(), [], infos).predictions(arrays, FRAME)
    return json.loads(msgspec.json.encode(received(found)))


def test_a_small_tensor_is_a_nested_list():
    assert tell(np.array([[1, 2], [3, 4]], np.int32)) == [
        {"name": "out0", "shape": [2, 2], "dtype": "int32", "data": [[1, 2], [3, 4]]}
    ]


def test_a_large_tensor_is_base64_of_its_little_endian_bytes():
    values = np.arange(5000, dtype=">f4").reshape(2, 2500)
    (told,) = tell(values)
    assert told["encoding"] == "base64"
    assert told["dtype"] == "float32"
    assert np.array_equal(np.frombuffer(base64.b64decode(told["data"]), "<f4").reshape(told["shape"]), values)


def test_numbers_that_json_cannot_say_are_base64():
    (told,) = tell(np.array([1.0, np.nan, np.inf], np.float32))
    assert told["encoding"] == "base64"


def test_the_format_can_be_chosen():
    small, large = np.zeros(2, np.float32), np.zeros(5000, np.float32)
    assert tell(small, format="base64")[0]["encoding"] == "base64"
    assert tell(large, max_values=5000)[0]["data"] == [0.0] * 5000
    with pytest.raises(ModelError, match="out0 has 5000 numbers") as caught:
        tell(large, format="list")
    assert caught.value.code == "outputs-too-large"


def test_outputs_past_the_limit_are_an_error_and_not_a_message():
    with pytest.raises(ModelError, match="20000 bytes") as caught:
        tell(np.zeros(5000, np.float32), max_bytes=10_000)
    assert caught.value.code == "outputs-too-large"


def test_a_transposed_view_keeps_its_order():
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (told,) = tell(values, format="base64")
    assert np.array_equal(np.frombuffer(base64.b64decode(told["data"]), "<f4").reshape(3, 2), values)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["float32", "float16", "float64", "uint8", "int8", "int64", "bool"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["auto", "list", "base64"]),
    st.randoms(use_true_random=False),
)
def test_what_is_told_gives_the_tensor_back(dtype, shape, form, random):
    values = np.array([random.randint(0, 1) for _ in range(int(np.prod(shape)))]).reshape(shape).astype(dtype)
    (told,) = tell(values, format=form)
    if "encoding" in told:
        little = np.dtype(told["dtype"]).newbyteorder("<")
        back = np.frombuffer(base64.b64decode(told["data"]), little).reshape(told["shape"])
    else:
        back = np.array(told["data"], dtype=told["dtype"]).reshape(told["shape"])
    assert back.dtype == values.dtype
    assert np.array_equal(back, values)
