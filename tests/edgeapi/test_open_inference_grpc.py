"""The Open Inference Protocol over gRPC: raw and typed contents, and each refusal with its status."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from agent.config.secrets import TlsFiles
from agent.edgeapi.openinference import rpcs
from agent.edgeapi.openinference.messages import PROTO
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.server import Server
from agent.edgeapi.sockets import TcpPlace, UnixPlace
from agent.inference.plane import InferencePlane
from tests.support.certs import Certificates
from tests.support.edgeapi import Client, client
from tests.support.serving import CAT, MEANS, NUMBERS, load, plane_with_colours


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[InferencePlane]:
    async with plane_with_colours(tmp_path) as made:
        yield made


def server(plane: InferencePlane, place: UnixPlace | TcpPlace, **how: Any) -> Server:
    return Server([place], [rpcs.interface(OpenInference(plane))], max_message_bytes=1 << 20, at_once=4, **how)


@pytest.fixture
async def agent(plane: InferencePlane, tmp_path: Path) -> AsyncIterator[Client]:
    path = tmp_path / "v2.sock"
    async with server(plane, UnixPlace(path)), client(PROTO, path) as one:
        yield one


def tensor(name: str = "images", datatype: str = "FP32", shape: tuple[int, ...] = (1, 3, 8, 8), **more: Any) -> Any:
    return PROTO.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **more)


RAW = {"model_name": "colours", "inputs": [tensor()], "raw_input_contents": [NUMBERS.tobytes()]}


async def test_health_and_metadata_are_told(agent: Client) -> None:
    assert (await agent.call("ServerLive")).live
    assert (await agent.call("ServerReady")).ready
    assert (await agent.call("ModelReady", name="colours")).ready
    assert not (await agent.call("ModelReady", name="other")).ready
    assert list((await agent.call("ServerMetadata")).extensions) == ["binary_tensor_data", "classification"]
    told = await agent.call("ModelMetadata", name="colours")
    assert (told.platform, list(told.versions)) == ("onnxruntime_onnx", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in told.inputs] == [
        ("images", "FP32", [1, 3, 8, 8]), ("image", "BYTES", [1]),
    ]  # fmt: skip


async def test_raw_and_typed_contents_are_the_same_tensor(agent: Client) -> None:
    answer = await agent.call("ModelInfer", id="7", **RAW)
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "colours", "1")
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [("means", "FP32", [1, 3])]
    assert np.frombuffer(answer.raw_output_contents[0], "<f4") == pytest.approx(MEANS.ravel())
    contents = {"fp32_contents": NUMBERS.ravel().tolist()}
    typed = await agent.call("ModelInfer", model_name="colours", inputs=[tensor(contents=contents)])
    assert typed.raw_output_contents == answer.raw_output_contents


async def test_a_picture_is_answered_with_predictions(plane: InferencePlane, agent: Client) -> None:
    await load(plane, "cats", "classifier")
    contents = {"bytes_contents": [CAT.read_bytes()]}
    answer = await agent.call(
        "ModelInfer", model_name="cats", inputs=[tensor("image", "BYTES", (1,), contents=contents)]
    )
    assert [(one.name, one.datatype) for one in answer.outputs] == [("predictions", "BYTES")]
    assert json.loads(answer.raw_output_contents[0][4:])[0]["label"] == "Egyptian cat"


async def test_what_is_refused_is_refused_with_a_status(agent: Client) -> None:
    assert await agent.refused("ModelInfer", **RAW | {"model_name": "other"}) == "NOT_FOUND"
    assert await agent.refused("ModelInfer", model_version="2", **RAW) == "NOT_FOUND"
    assert await agent.refused("ModelMetadata", name="other") == "NOT_FOUND"
    for wrong in (
        {"raw_input_contents": [b"short"]},
        {"raw_input_contents": [b"", b""]},
        {"raw_input_contents": []},
        {"inputs": [tensor(datatype="FP16")]},
        {"inputs": [tensor("other")]},
        {"outputs": [{"name": "means", "parameters": {"classification": {"string_param": "x"}}}]},
    ):
        assert await agent.refused("ModelInfer", **RAW | wrong) == "INVALID_ARGUMENT", wrong
    assert await agent.refused("ModelInfer", **RAW | {"raw_input_contents": [bytes(2 << 20)]}) == "RESOURCE_EXHAUSTED"


async def test_over_tls_with_a_token_only_who_brings_both_is_served(
    plane: InferencePlane, certificates: Certificates, free_port: int
) -> None:
    files = TlsFiles(
        ca_file=str(certificates.ca), cert_file=str(certificates.server_cert), key_file=str(certificates.server_key)
    )
    known = grpc.ssl_channel_credentials(
        certificates.ca.read_bytes(), certificates.client_key.read_bytes(), certificates.client_cert.read_bytes()
    )
    stranger = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
    async with server(plane, TcpPlace("127.0.0.1", free_port, files), token="sesame"):
        for credentials, token, status in (
            (known, "sesame", "OK"), (known, "no", "UNAUTHENTICATED"), (stranger, "sesame", "UNAVAILABLE"),
        ):  # fmt: skip
            async with grpc.aio.secure_channel(f"localhost:{free_port}", credentials) as channel:
                live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                call = live(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10)
                assert (await call.code()).name == status
