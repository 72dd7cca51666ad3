"""SageMaker Edge Manager's interface over a real socket: models by path, tensors in and out, and each refusal."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from agent.config.edgeapi import EdgeManagerOptions
from agent.config.models import ModelOptions
from agent.edgeapi import wiring
from agent.edgeapi.edge_manager.package import packaged
from agent.edgeapi.models import ModelPlaces, ServedModels
from agent.edgeapi.protos import messages
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.tensors import RawTensor
from agent.inference.values import PoolState
from tests.support import tvm
from tests.support.edgeapi import Client, client, surroundings
from tests.support.models import onnx_constant, onnx_identity, onnx_pair, tflite_colours
from tests.support.until import until

PROTO = messages("edge_manager")
FLOAT32 = PROTO.number("DataType", "FLOAT32")


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        surroundings(tmp_path) as here,
        wiring.edge_manager(here, EdgeManagerOptions()),
        client(PROTO, tmp_path / "edge-manager.sock") as one,
    ):
        yield one


def package(folder: Path, **facts: str) -> Path:
    """A folder with a network that answers with its input, and what SageMaker writes beside it."""
    folder.mkdir(parents=True)
    onnx_identity(folder / "model.onnx", (1, 6))
    (folder / "sagemaker_edge_manifest").write_text(json.dumps({"metadata": facts}))
    return folder


def floats(values, name: str = "", dtype: int = FLOAT32):
    array = np.asarray(values, np.float32)
    metadata = PROTO.TensorMetadata(name=name.encode(), data_type=dtype, shape=array.shape)
    return PROTO.Tensor(tensor_metadata=metadata, byte_data=array.tobytes())


def numbers(tensor) -> np.ndarray:
    return np.frombuffer(tensor.byte_data, np.float32).reshape(tuple(tensor.tensor_metadata.shape))


# -- models ------------------------------------------------------------------------------------------------------------


async def test_a_model_is_loaded_by_its_path_answers_tensors_and_is_unloaded(agent: Client) -> None:
    loaded = (await agent.call("LoadModel", name="shop", url=str(SAMPLES / "classifier"))).model
    assert (loaded.name, loaded.handle, loaded.url) == ("shop", "shop", str(SAMPLES / "classifier"))
    (wanted,) = loaded.input_tensor_metadatas
    picture = np.zeros(tuple(wanted.shape), np.float32)
    given = PROTO.Tensor(tensor_metadata=wanted, byte_data=picture.tobytes())
    (output,) = (await agent.call("Predict", name="shop", tensors=[given])).tensors
    scores = np.frombuffer(output.byte_data, np.float32).reshape(tuple(output.tensor_metadata.shape))
    assert scores.shape == (1, 1000)
    assert [one.name for one in (await agent.call("ListModels")).models] == ["shop"]
    assert (await agent.call("DescribeModel", handle="shop")).model == loaded
    await agent.call("UnLoadModel", name="shop")
    assert not (await agent.call("ListModels")).models


@pytest.mark.parametrize("shape", [(1, 6, 10, 10), (6,), (1, 6)])
async def test_networks_that_take_no_pictures_load_and_answer(
    agent: Client, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    onnx_identity(tmp_path / "model.onnx", shape)
    given = np.random.default_rng(3).random(shape, np.float32)
    loaded = (await agent.call("LoadModel", name="net", url=str(tmp_path / "model.onnx"))).model
    assert [(tuple(one.shape), one.data_type) for one in loaded.input_tensor_metadatas] == [(shape, FLOAT32)]
    (output,) = (await agent.call("Predict", name="net", tensors=[floats(given)])).tensors
    assert np.array_equal(numbers(output), given)


async def test_several_inputs_are_given_by_name_in_any_order_or_by_their_places(agent: Client, tmp_path: Path) -> None:
    onnx_pair(tmp_path / "model.onnx")
    await agent.call("LoadModel", name="pair", url=str(tmp_path / "model.onnx"))
    left, right = floats([[5, 5, 5, 5]], "left"), floats([[2, 2, 2, 2]], "right")
    for tensors in ([left, right], [right, left], [floats([[5] * 4]), floats([[2] * 4])]):
        outputs = (await agent.call("Predict", name="pair", tensors=tensors)).tensors
        assert [one.tensor_metadata.name for one in outputs] == [b"sum", b"difference"]
        assert [numbers(one)[0, 0] for one in outputs] == [7, 3]
    assert await agent.refused("Predict", name="pair", tensors=[left, left]) == "INVALID_ARGUMENT"
    assert await agent.refused("Predict", name="pair", tensors=[left, floats([[1] * 4], "up")]) == "INVALID_ARGUMENT"
    assert await agent.refused("Predict", name="pair", tensors=[left]) == "INVALID_ARGUMENT"


async def test_three_outputs_of_a_yolo_come_in_the_networks_order(agent: Client, tmp_path: Path) -> None:
    shapes = {"big": (1, 3, 2, 2), "middle": (1, 3, 4, 4), "small": (1, 3, 8, 8)}
    onnx_constant(tmp_path / "model.onnx", {name: np.full(shape, 1) for name, shape in shapes.items()})
    await agent.call("LoadModel", name="yolo", url=str(tmp_path / "model.onnx"))
    outputs = (await agent.call("Predict", name="yolo", tensors=[floats(np.zeros((1, 3, 8, 8)))])).tensors
    assert [tuple(one.tensor_metadata.shape) for one in outputs] == [*shapes.values()]


async def test_a_tensor_without_metadata_is_taken_by_its_place(agent: Client, tmp_path: Path) -> None:
    await agent.call("LoadModel", name="net", url=str(package(tmp_path / "net")))
    bare = PROTO.Tensor(byte_data=np.arange(6, dtype=np.float32).tobytes())
    (output,) = (await agent.call("Predict", name="net", tensors=[bare])).tensors
    assert numbers(output).tolist() == [[0, 1, 2, 3, 4, 5]]


async def test_a_type_that_the_interface_lacks_is_carried_by_a_wider_one(agent: Client, tmp_path: Path) -> None:
    onnx_pair(tmp_path / "model.onnx", dtype="uint32")
    loaded = (await agent.call("LoadModel", name="pair", url=str(tmp_path / "model.onnx"))).model
    int64 = PROTO.number("DataType", "INT64")
    assert {one.data_type for one in (*loaded.input_tensor_metadatas, *loaded.output_tensor_metadatas)} == {int64}
    metadata = PROTO.TensorMetadata(data_type=int64, shape=[1, 4])
    given = [PROTO.Tensor(tensor_metadata=metadata, byte_data=np.full(4, each, np.int64).tobytes()) for each in (9, 4)]
    outputs = (await agent.call("Predict", name="pair", tensors=given)).tensors
    assert [np.frombuffer(one.byte_data, np.int64).tolist() for one in outputs] == [[13] * 4, [5] * 4]
    given[0].byte_data = np.full(4, -1, np.int64).tobytes()
    assert await agent.refused("Predict", name="pair", tensors=given) == "INVALID_ARGUMENT"


async def test_a_side_that_is_open_is_told_as_one_and_no_list_is_empty(agent: Client, tmp_path: Path) -> None:
    onnx_pair(tmp_path / "open.onnx", (None, None))
    onnx_pair(tmp_path / "batch.onnx", (None, 4))
    for name, shape, given in (("open", (1, 1), (2, 5)), ("batch", (1, 4), (3, 4))):
        loaded = (await agent.call("LoadModel", name=name, url=str(tmp_path / f"{name}.onnx"))).model
        for told in (loaded.input_tensor_metadatas, loaded.output_tensor_metadatas):
            assert [tuple(one.shape) for one in told] == [shape, shape]
        tensors = [floats(np.ones(given))] * 2
        outputs = (await agent.call("Predict", name=name, tensors=tensors)).tensors
        assert numbers(outputs[0]).shape == given


async def test_numbers_are_taken_by_how_many_they_are_whatever_their_shape_is_said_to_be(
    agent: Client, tmp_path: Path
) -> None:
    onnx_identity(tmp_path / "model.onnx", (1, 3, 4, 4))
    await agent.call("LoadModel", name="net", url=str(tmp_path / "model.onnx"))
    values = np.random.default_rng(5).random((1, 3, 4, 4), np.float32)
    for shape in ((1, 4, 4, 3), (48,), (3, 4, 4), (1, 3, 4, 4)):
        (output,) = (await agent.call("Predict", name="net", tensors=[floats(values.reshape(shape))])).tensors
        assert np.array_equal(numbers(output), values)
    # One side that is open follows from the count: a client copies the 1 that it is told.
    onnx_pair(tmp_path / "batch.onnx", (None, 4))
    await agent.call("LoadModel", name="batch", url=str(tmp_path / "batch.onnx"))
    three = floats(np.ones(12))
    three.tensor_metadata.shape[:] = [1, 4]
    outputs = (await agent.call("Predict", name="batch", tensors=[three, three])).tensors
    assert numbers(outputs[0]).shape == (3, 4)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
async def test_a_type_that_the_bytes_contradict_does_not_count_where_they_are_the_models_own(
    agent: Client, tmp_path: Path, dtype: str
) -> None:
    onnx_identity(tmp_path / "model.onnx", (1, 4), dtype)
    await agent.call("LoadModel", name="net", url=str(tmp_path / "model.onnx"))

    def said(data: bytes, kind: str = "FLOAT32"):
        facts = PROTO.TensorMetadata(data_type=PROTO.number("DataType", kind), shape=[1, 4])
        return PROTO.Tensor(tensor_metadata=facts, byte_data=data)

    (output,) = (await agent.call("Predict", name="net", tensors=[said(bytes([9, 8, 7, 6]))])).tensors
    assert np.frombuffer(output.byte_data, np.uint8 if dtype == "uint8" else np.int16).tolist() == [9, 8, 7, 6]
    for wrong in (said(bytes(16)), said(bytes(5)), said(b""), said(bytes(16), "INT32"), said(bytes(8), "FLOAT16")):
        assert await agent.refused("Predict", name="net", tensors=[wrong]) == "INVALID_ARGUMENT"


async def test_an_input_has_the_networks_name_whatever_the_only_one_is_called(agent: Client, tmp_path: Path) -> None:
    await agent.call("LoadModel", name="net", url=str(package(tmp_path / "net")))
    for name in ("data", "input_1", ""):
        (output,) = (await agent.call("Predict", name="net", tensors=[floats([[2] * 6], name)])).tensors
        assert numbers(output).tolist() == [[2] * 6]


@pytest.mark.parametrize("kind", ["tflite", "onnx", "dlr"])
async def test_a_package_is_a_folder_of_any_kind_with_a_manifest_of_sagemakers(
    agent: Client, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    if kind == "tflite":
        tflite_colours(folder / "model.tflite")
    elif kind == "onnx":
        onnx_identity(folder / "model.onnx", (1, 3, 8, 8))
    else:
        tvm.require()
        tvm.colours(folder)
    (folder / "sagemaker_edge_manifest").write_text('{"metadata": {"model_name": "shop", "model_version": "2.0"}}')
    loaded = (await agent.call("LoadModel", name="net", url=str(folder))).model
    (wanted,) = loaded.input_tensor_metadatas
    given = PROTO.Tensor(tensor_metadata=wanted, byte_data=bytes(4 * 192))
    assert (await agent.call("Predict", name="net", tensors=[given])).tensors


async def test_a_path_may_start_at_the_agents_working_folder(tmp_path: Path) -> None:
    package(tmp_path / "work" / "com.model.darknet")
    package(tmp_path / "work" / "agent" / "model_path")
    async with (
        surroundings(tmp_path) as here,
        wiring.edge_manager(here, EdgeManagerOptions(), working=tmp_path / "work" / "agent"),
        client(PROTO, tmp_path / "edge-manager.sock") as agent,
    ):
        loaded = (await agent.call("LoadModel", name="a", url="../com.model.darknet")).model
        assert loaded.url == "../com.model.darknet"
        await agent.call("LoadModel", name="b", url="model_path")
        assert await agent.refused("LoadModel", name="c", url="none") == "NOT_FOUND"


async def test_a_component_is_named_by_itself_or_by_where_its_work_folder_would_be(tmp_path: Path) -> None:
    unpacked = package(tmp_path / "packages" / "model")
    (tmp_path / "work" / "com.model").mkdir(parents=True)
    deployed = {"com.model": resolve(ModelOptions(source=str(unpacked)), tmp_path)}
    options = EdgeManagerOptions(model_roots=("work",))
    async with (
        surroundings(tmp_path, components=lambda: deployed) as here,
        wiring.edge_manager(here, options, working=tmp_path / "work" / "agent"),
        client(PROTO, tmp_path / "edge-manager.sock") as agent,
    ):
        await agent.call("LoadModel", name="a", url="../com.model")
        await agent.call("LoadModel", name="b", url="com.model")
        outside = package(tmp_path / "elsewhere")
        assert await agent.refused("LoadModel", name="d", url=str(outside)) == "FAILED_PRECONDITION"


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_what_is_refused_is_refused_with_the_documented_status(agent: Client, tmp_path: Path) -> None:
    path = str(SAMPLES / "classifier")
    assert await agent.refused("UnLoadModel", name="shop") == "NOT_FOUND"
    assert await agent.refused("Predict", name="shop") == "NOT_FOUND"
    assert await agent.refused("DescribeModel", name="shop") == "NOT_FOUND"
    assert await agent.refused("DescribeModel", name="no/name") == "INVALID_ARGUMENT"
    for url in (str(tmp_path / "none"), "", "\0", "a" * 5000):
        assert await agent.refused("LoadModel", name="shop", url=url) == "NOT_FOUND"
    for name in ("-shop", "shop-", "", "a" * 257, "a b", "ä", "a\n"):
        assert await agent.refused("LoadModel", name=name, url=path) == "INVALID_ARGUMENT"
    assert await agent.refused("LoadModel", name="shop", handle="other", url=path) == "INVALID_ARGUMENT"
    await agent.call("LoadModel", name="shop", url=path)
    assert await agent.refused("LoadModel", name="shop", url=path) == "ALREADY_EXISTS"
    assert await agent.refused("Predict", name="shop") == "INVALID_ARGUMENT"


async def test_a_tensor_of_another_type_or_size_is_refused(agent: Client, tmp_path: Path) -> None:
    await agent.call("LoadModel", name="net", url=str(package(tmp_path / "net")))
    for wrong in (
        floats([[1] * 6], dtype=PROTO.number("DataType", "INT32")),
        floats([[1] * 6], dtype=77),
        floats([[1] * 5]),
        floats([1] * 7),
        PROTO.Tensor(),
        PROTO.Tensor(byte_data=b"123"),
        PROTO.Tensor(tensor_metadata=PROTO.TensorMetadata(data_type=FLOAT32, shape=[1, -6]), byte_data=b""),
    ):
        assert await agent.refused("Predict", name="net", tensors=[wrong]) == "INVALID_ARGUMENT"
    assert (await agent.call("Predict", name="net", tensors=[floats([[1] * 6])])).tensors


async def test_a_package_that_cannot_be_loaded_is_refused_and_the_agent_goes_on(agent: Client, tmp_path: Path) -> None:
    damaged = package(tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"\x08\x07" + bytes(range(256)))
    two = package(tmp_path / "two")
    shutil.copy(two / "model.onnx", two / "other.onnx")
    missing = package(tmp_path / "missing")
    (missing / "manifest.toml").write_text('file = "none.onnx"')
    wrong = package(tmp_path / "wrong")
    (wrong / "manifest.toml").write_text("nonsense = 1")
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (damaged, two, missing, wrong, empty):
        assert await agent.refused("LoadModel", name="net", url=str(folder)) == "FAILED_PRECONDITION", folder
    await agent.call("LoadModel", name="net", url=str(package(tmp_path / "whole")))


async def test_a_manifest_that_says_nothing_of_use_is_passed_over(agent: Client, tmp_path: Path) -> None:
    for number, text in enumerate(
        ("no json", "[]", '{"metadata": 5}', "[" * 100_000, '{"metadata": {"model_name": 7}}')
    ):
        folder = package(tmp_path / f"package{number}")
        (folder / "sagemaker_edge_manifest").write_text(text)
        await agent.call("LoadModel", name=f"net{number}", url=str(folder))


async def test_whoever_does_not_wait_for_a_load_finds_the_model_loaded(tmp_path: Path) -> None:
    package(tmp_path / "net")
    async with surroundings(tmp_path) as here:
        models = ServedModels("test", here.plane, ModelPlaces(tmp_path), ModelOptions(source="."), packaged)
        waiting = asyncio.create_task(models.load("net", "net"))
        await asyncio.sleep(0)  # it has begun
        waiting.cancel()
        await until(lambda: [one.name for one in models] == ["net"])
        await models.close()
        assert here.plane.models == ()


async def test_whoever_does_not_wait_for_an_unload_has_the_model_unloaded_all_the_same(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as here:
        places = ModelPlaces(tmp_path)
        models = ServedModels("test", here.plane, places, ModelOptions(source="."), packaged)
        model = await models.load("net", str(package(tmp_path / "net")))
        numbers_of_six = RawTensor("given", "float32", (1, 6), bytes(24))
        asked = asyncio.ensure_future(here.plane.infer_tensors(model.key, [numbers_of_six]))
        await asyncio.sleep(0)
        for worker in workers():
            os.kill(int(worker), signal.SIGKILL)
        await until(lambda: here.plane.status(model.key).state is not PoolState.RUNNING)
        unload = asyncio.ensure_future(models.unload("net"))  # which waits for the answer of another worker
        await asyncio.sleep(0)
        unload.cancel()
        await asyncio.wait([asked])
        await until(lambda: not workers())
        await models.close()


def workers() -> set[str]:
    """The worker processes of this process."""
    return {
        child
        for children in Path("/proc/self/task").glob("*/children")
        for child in children.read_text().split()
        if b"inference/runtime" in Path(f"/proc/{child}/cmdline").read_bytes()
    }


async def test_two_clients_that_load_one_name_at_once_are_told_apart(agent: Client, tmp_path: Path) -> None:
    path = str(package(tmp_path / "net"))

    async def load() -> str:
        try:
            await agent.call("LoadModel", name="net", url=path)
        except Exception as error:  # noqa: BLE001 its status is what is looked at
            return error.code().name
        return "OK"

    assert sorted(await asyncio.gather(load(), load(), load())) == ["ALREADY_EXISTS", "ALREADY_EXISTS", "OK"]


# -- the device --------------------------------------------------------------------------------------------------------


async def test_the_device_its_fleet_and_its_models_stand_on_a_topic_and_in_a_file(tmp_path: Path) -> None:
    told: list[dict] = []

    def retain(topic: str, payload: dict) -> None:
        assert topic == "edge-manager"
        told.append(payload)

    options = EdgeManagerOptions(device="box-7", fleet="north")
    path = str(package(tmp_path / "n", model_name="shop", model_version="3"))
    async with surroundings(tmp_path, retain=retain) as here:
        async with wiring.edge_manager(here, options), client(PROTO, tmp_path / "edge-manager.sock") as agent:
            await agent.call("LoadModel", name="net", url=path)
            await until(lambda: told and told[-1]["models"])
            kept = json.loads((tmp_path / "edge-manager" / "registration.json").read_bytes())
        stopped = told[-1]
        async with wiring.edge_manager(here, options):
            await until(lambda: told[-1]["state"] == "serving")
    assert stopped["state"] == "stopped"
    assert (stopped["device"], stopped["fleet"], stopped["thing"]) == ("box-7", "north", "box")
    assert (stopped["captures"]["destination"], stopped["captures"]["waiting"]) == ("disk", 0)
    assert stopped["models"] == [
        {"name": "net", "url": path, "model": "shop", "version": "3", "state": "running", "predictions": 0}
    ]
    assert told[-1]["registered"] == kept["registered"]
    assert told[-1]["heartbeat"] >= kept["heartbeat"]
