"""What clients choose is bounded: names, shapes, items, models; and nothing of it stays when a model is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from agent.config.edgeapi import EdgeManagerOptions
from agent.config.models import ModelOptions
from agent.edgeapi import wiring
from agent.edgeapi.lookout.models import AnomalyModels
from agent.edgeapi.lookout.states import ModelStatus
from agent.edgeapi.openinference import rpcs
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.protos import messages
from agent.edgeapi.server import Server
from agent.edgeapi.sockets import UnixPlace
from agent.inference.manifest import resolve
from agent.inference.values import PoolState, PoolStatus
from agent.status.board import StatusBoard
from agent.topics import Topics
from tests.support import inspection
from tests.support.edgeapi import Client, client, surroundings
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.models import onnx_identity
from tests.support.serving import plane_with_colours
from tests.support.until import until

PROTO = messages("edge_manager")


@asynccontextmanager
async def serving(folder: Path, forgotten: list[str] | None = None, **options: Any) -> AsyncIterator[Client]:
    onnx_identity(folder / "model.onnx", (1, 6))
    gone = [] if forgotten is None else forgotten
    async with (
        surroundings(folder, forget=gone.append) as here,
        wiring.edge_manager(here, EdgeManagerOptions(**options)),
        client(PROTO, folder / "edge-manager.sock") as agent,
    ):
        yield agent


async def test_only_so_many_models_are_loaded(tmp_path: Path) -> None:
    async with serving(tmp_path, max_models=2) as agent:
        loads = [agent.call("LoadModel", name=f"net{number}", url="model.onnx") for number in range(4)]
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        codes = [one.code().name for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
        assert codes == ["RESOURCE_EXHAUSTED"] * 2
        (first, _) = (await agent.call("ListModels")).models
        await agent.call("UnLoadModel", name=first.name)
        await agent.call("LoadModel", name="another", url="model.onnx")


async def test_nothing_is_kept_of_a_model_that_is_gone(tmp_path: Path) -> None:
    forgotten: list[str] = []
    async with serving(tmp_path, forgotten) as agent:
        given = PROTO.Tensor(byte_data=np.ones(6, np.float32).tobytes())
        for name in ("a", "b"):
            await agent.call("LoadModel", name=name, url="model.onnx")
            await agent.call("Predict", name=name, tensors=[given])
            await agent.call("UnLoadModel", name=name)
        assert forgotten == ["edge-manager.a", "edge-manager.b"]


async def test_a_model_that_is_forgotten_stands_on_no_topic_and_a_loaded_one_does() -> None:
    transport = MemoryTransport(MemoryBus(), "bus")
    board = StatusBoard("box", Topics("box"), transport, 5.0)
    for name in ("edge-manager.a", "cats"):
        board.model(name, PoolStatus(PoolState.RUNNING))
    board.model("edge-manager.a", PoolStatus(PoolState.STOPPED))
    board.forget("edge-manager.a")
    board.forget("cats")
    assert [*board._models] == ["cats"]


async def test_a_capture_is_of_so_many_items_names_and_sides(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        await agent.call("LoadModel", name="net", url="model.onnx")
        sides = PROTO.TensorMetadata(shape=[2**31 - 1] * 200_000)
        for wrong in (
            {"output_tensors": [PROTO.Tensor(tensor_metadata=sides, byte_data=b"")]},
            {"input_tensors": [PROTO.Tensor(tensor_metadata=PROTO.TensorMetadata(name=b"x" * 2000), byte_data=b"x")]},
            {"inputs": [PROTO.AuxilaryData()] * 1000},
            {"outputs": [PROTO.AuxilaryData(name="x" * 2000)]},
        ):
            began = time.monotonic()
            assert await agent.refused("CaptureData", model_name="net", capture_id="c", **wrong) == "INVALID_ARGUMENT"
            assert time.monotonic() - began < 2


async def test_an_error_fits_in_a_header_whatever_a_client_calls_things(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        for rpc in ("Predict", "UnLoadModel", "CaptureData"):
            name = {"model_name": "x" * 1_000_000, "capture_id": "c"} if rpc == "CaptureData" else {"name": "x" * 10**6}
            assert await agent.refused(rpc, **name) == "NOT_FOUND"


async def test_names_and_shapes_of_the_open_inference_protocol_are_bounded(tmp_path: Path) -> None:
    proto = messages("inference")
    place = UnixPlace(tmp_path / "v2.sock")
    async with (
        plane_with_colours(tmp_path) as plane,
        Server([place], [rpcs.interface(OpenInference(plane))], max_message_bytes=1 << 24, at_once=2),
        client(proto, place.path) as agent,
    ):
        began = time.monotonic()
        assert await agent.refused("ModelMetadata", name="colours" * 1_000_000) == "NOT_FOUND"
        deep = proto.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2**62] * 200_000)
        refused = await agent.refused("ModelInfer", model_name="colours", inputs=[deep], raw_input_contents=[b""])
        assert refused == "INVALID_ARGUMENT"
        assert time.monotonic() - began < 2


async def test_who_brings_no_token_is_refused_before_it_has_sent_its_request(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as here:
        place = UnixPlace(tmp_path / "v2.sock")
        service = rpcs.interface(OpenInference(here.plane))
        async with (
            Server([place], [service], max_message_bytes=1 << 20, at_once=1, token="sesame"),
            grpc.aio.insecure_channel(f"unix:{place.path}") as channel,
        ):
            live = channel.stream_unary("/inference.GRPCInferenceService/ServerLive")(timeout=5)
            assert (await live.code()) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_model_of_the_agents_own_that_is_called_like_a_clients_stays(tmp_path: Path) -> None:
    spec = resolve(ModelOptions(source=str(inspection.inspector(tmp_path / "inspector"))), tmp_path)
    async with surroundings(tmp_path) as here:
        await here.plane.load("lookout.line", spec)
        models = AnomalyModels(here.plane, dict, {"line": spec})
        assert models.start("line") is ModelStatus.STARTING
        await until(lambda: models.state("line").status is ModelStatus.FAILED)
        assert "loaded already" in models.state("line").message
        await models.close()
        assert here.plane.models == ("lookout.line",)


async def test_a_network_that_the_interface_cannot_carry_is_never_listed(tmp_path: Path) -> None:
    onnx_texts(tmp_path / "texts.onnx")
    async with serving(tmp_path) as agent:
        loading = asyncio.create_task(agent.refused("LoadModel", name="texts", url="texts.onnx"))
        while not loading.done():
            assert not (await agent.call("ListModels")).models
        assert await loading == "FAILED_PRECONDITION"


def onnx_texts(path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="pip install onnx")
    helper, text = onnx.helper, onnx.TensorProto.STRING
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", text, [1])], [helper.make_tensor_value_info("y", text, [1])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())


async def test_a_name_that_is_loaded_already_is_told_before_its_path_is_looked_at(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        await agent.call("LoadModel", name="net", url="model.onnx")
        assert await agent.refused("LoadModel", name="net", url="none") == "ALREADY_EXISTS"
