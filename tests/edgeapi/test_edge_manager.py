"""SageMaker Edge Manager's interface over a real socket: models by path, tensors in and out, and each refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from agent.config.edgeapi import EdgeManagerOptions
from agent.edgeapi import wiring
from agent.edgeapi.protos import messages
from agent.inference.manifest import SAMPLES
from tests.support.edgeapi import Client, client, surroundings

PROTO = messages("edge_manager")


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        surroundings(tmp_path) as here,
        wiring.edge_manager(here, EdgeManagerOptions()),
        client(PROTO, tmp_path / "edge-manager.sock") as one,
    ):
        yield one


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


async def test_what_is_refused_is_refused_with_the_documented_status(agent: Client, tmp_path: Path) -> None:
    path = str(SAMPLES / "classifier")
    assert await agent.refused("UnLoadModel", name="shop") == "NOT_FOUND"
    assert await agent.refused("Predict", name="shop") == "NOT_FOUND"
    assert await agent.refused("LoadModel", name="shop", url=str(tmp_path / "none")) == "NOT_FOUND"
    assert await agent.refused("LoadModel", name="-shop", url=path) == "INVALID_ARGUMENT"
    assert await agent.refused("LoadModel", name="shop", handle="other", url=path) == "INVALID_ARGUMENT"
    await agent.call("LoadModel", name="shop", url=path)
    assert await agent.refused("LoadModel", name="shop", url=path) == "ALREADY_EXISTS"
    assert await agent.refused("Predict", name="shop") == "INVALID_ARGUMENT"
