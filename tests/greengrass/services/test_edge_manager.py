"""SageMaker Edge Manager as a component: served while deployed, as its parameters say, for the components' user."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.edgeapi.protos import messages
from agent.edgeapi.sockets import SocketInUseError
from agent.errors import ConfigError
from agent.greengrass.catalog.entries import recipe, versions
from agent.greengrass.services.edge_manager import EDGE_MANAGER, EdgeManager
from agent.inference.manifest import SAMPLES
from tests.support.edgeapi import client, surroundings
from tests.support.models import onnx_identity
from tests.support.until import until

PROTO = messages("edge_manager")
GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[EdgeManager]:
    async with surroundings(tmp_path) as here:
        made = EdgeManager(here, tmp_path / "work" / EDGE_MANAGER, GROUP)
        yield made
        await made.apply(None)


def parameters(path: Path, **more: Any) -> dict[str, Any]:
    """Those of the newest recipe, with a socket of the test's own."""
    return {**recipe(EDGE_MANAGER, versions(EDGE_MANAGER)[-1]).configuration, "UnixSocketName": str(path), **more}


async def test_it_serves_clients_where_its_parameters_say_until_it_is_gone(
    service: EdgeManager, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.sock", tmp_path / "second.sock"
    (tmp_path / "work" / "com.model").mkdir(parents=True)
    onnx_identity(tmp_path / "work" / "com.model" / "model.onnx", (1, 6))
    await service.apply(parameters(first))
    assert (first.stat().st_mode & 0o777, first.stat().st_gid) == (0o660, os.getgid())
    async with client(PROTO, first) as one:
        await one.call("LoadModel", name="net", url="../com.model")
        await one.call("LoadModel", name="shop", url=str(SAMPLES / "classifier"))
    await service.apply(parameters(second))
    assert not first.exists()
    async with client(PROTO, second) as one:
        assert not (await one.call("ListModels")).models
    await service.apply(None)
    assert not second.exists()


async def test_without_a_bucket_captures_are_refused_and_all_else_is_served(
    service: EdgeManager, tmp_path: Path
) -> None:
    await service.apply(parameters(tmp_path / "one.sock"))
    async with client(PROTO, tmp_path / "one.sock") as one:
        await one.call("LoadModel", name="net", url=str(SAMPLES / "classifier"))
        assert await one.refused("CaptureData", model_name="net", capture_id="c1") == "FAILED_PRECONDITION"
        assert (await one.call("GetCaptureDataStatus", capture_id="c1")).status == 3


async def test_captures_on_the_disk_are_in_the_work_folder_for_the_group_of_the_components(
    service: EdgeManager, tmp_path: Path
) -> None:
    await service.apply(parameters(tmp_path / "one.sock", CaptureDataDestination="Disk", CaptureDataBatchSize="1"))
    async with client(PROTO, tmp_path / "one.sock") as one:
        await one.call("LoadModel", name="net", url=str(SAMPLES / "classifier"))
        await one.call("CaptureData", model_name="net", capture_id="c1")

        async def arrived() -> bool:
            return (await one.call("GetCaptureDataStatus", capture_id="c1")).status == 1

        await until(arrived)
    (written,) = (tmp_path / "work" / EDGE_MANAGER / "capture" / "sme-capture").rglob("c1.jsonl")
    assert (written.stat().st_mode & 0o777, written.stat().st_gid) == (0o640, os.getgid())
    assert {folder.stat().st_mode & 0o777 for folder in written.parents if folder.is_relative_to(
        tmp_path / "work" / EDGE_MANAGER / "capture"
    )} == {0o750}  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"CaptureDataBufferSize": "many"}, {"UnixSocketName": "/nowhere/at/all.sock"}, {"DeviceFleetName": 5}]
)
async def test_what_cannot_be_is_refused_and_what_was_served_goes_on(
    service: EdgeManager, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    await service.apply(parameters(tmp_path / "one.sock"))
    with pytest.raises(ConfigError):
        await service.apply(parameters(tmp_path / "one.sock", **wrong))
    async with client(PROTO, tmp_path / "one.sock") as one:
        await one.call("ListModels")


async def test_a_socket_at_which_somebody_answers_stays_theirs(service: EdgeManager, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "one.sock"))
        theirs.listen()
        with pytest.raises(SocketInUseError):
            await service.apply(parameters(tmp_path / "one.sock"))
        with socket.socket(socket.AF_UNIX) as caller:
            await asyncio.to_thread(caller.connect, str(tmp_path / "one.sock"))
