"""Lookout for Vision's edge agent as a component: there while it is deployed, where its configuration says."""

from __future__ import annotations

import grp
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.models import ModelOptions
from agent.edgeapi.protos import messages
from agent.edgeapi.sockets import SocketInUseError
from agent.errors import ConfigError
from agent.greengrass.services.lookout import LookoutEdgeAgent
from agent.inference.manifest import resolve
from tests.support import inspection
from tests.support.edgeapi import client, surroundings

PROTO = messages("lookout")
GROUP = grp.getgrgid(os.getgid()).gr_name


async def names(socket: Path) -> list[str]:
    async with client(PROTO, socket) as one:
        return [each.model_component for each in (await one.call("ListModels")).models]


async def test_it_serves_the_deployed_models_where_its_configuration_says_until_it_is_gone(tmp_path: Path) -> None:
    spec = resolve(ModelOptions(source=str(inspection.inspector(tmp_path / "m"))), tmp_path)
    one, other = tmp_path / "one.sock", tmp_path / "other.sock"
    async with surroundings(tmp_path, components=lambda: {"com.example.Line": spec}) as here:
        service = LookoutEdgeAgent(here, GROUP)
        await service.apply({"Socket": f"unix://{one}"})
        assert await names(one) == ["com.example.Line"]
        assert (one.stat().st_mode & 0o777, one.stat().st_gid) == (0o660, os.getgid())
        await service.apply({"Socket": f"unix:{other}"})
        assert await names(other) == ["com.example.Line"]
        assert not one.exists()
        await service.apply(None)
        assert not other.exists()


@pytest.mark.parametrize("wrong", [7, "", "unix:///nowhere/at/all/lookout.sock"])
async def test_a_socket_that_cannot_be_is_refused_and_the_earlier_one_goes_on(tmp_path: Path, wrong: object) -> None:
    async with surroundings(tmp_path) as here:
        service = LookoutEdgeAgent(here)
        await service.apply({"Socket": f"unix://{tmp_path / 'one.sock'}"})
        with pytest.raises(ConfigError):
            await service.apply({"Socket": wrong})
        assert await names(tmp_path / "one.sock") == []
        await service.apply(None)


async def test_a_socket_at_which_another_agent_answers_stays_that_agent_s(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as here:
        first, second = LookoutEdgeAgent(here), LookoutEdgeAgent(here)
        where = {"Socket": f"unix://{tmp_path / 'one.sock'}"}
        await first.apply(where)
        with pytest.raises(SocketInUseError):
            await second.apply(where)
        assert await names(tmp_path / "one.sock") == []
        await second.apply(None)
        assert await names(tmp_path / "one.sock") == []
        await first.apply(None)


def test_without_grpcio_it_says_what_to_install_and_nothing_of_it_is_loaded_before() -> None:
    program = """
import sys
from agent.greengrass import wiring
from agent.edgeapi.needed import servers
assert "grpc" not in sys.modules and "google.protobuf" not in sys.modules
sys.modules["grpc"] = None
try:
    servers()
except Exception as error:
    print(error.code, error.hint)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == 'api-missing install them: pip install "verge-edge[api]"\n'
