"""docs/serving.md: its configuration serves, its commands say what they show, its programs run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import agent
from agent.app import running
from agent.config.edgeapi import ServingOptions
from agent.config.load import parse
from agent.mqtt.transport import LinkState
from tests.support.broker import Broker
from tests.support.inbox import connected
from tests.support.pages import _shows
from tests.support.ports import HeldPort
from tests.support.serving import CAT

PAGE = (Path(agent.__file__).parents[1] / "docs" / "serving.md").read_text()
TRITON = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verge-clients" / "triton" / "bin" / "python"
)
INSTALL = f"python3 -m venv {TRITON.parents[1]} && {TRITON} -m pip install 'tritonclient[http,grpc]'"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@asynccontextmanager
async def served(broker: Broker, thing: str, folder: Path) -> AsyncIterator[dict[str, str]]:
    """An agent with the page's configuration; what stands in the page, and what stands for it here."""
    with HeldPort() as http, HeldPort() as grpc:
        here = {
            ":8000": f":{http.number}",
            ":8001": f":{grpc.number}",
            '"127.0.0.1", 1883': f'"127.0.0.1", {broker.options.port}',
            "edge-1": thing,
        }
        (folder / "chelsea.jpg").write_bytes(CAT.read_bytes())
        content = tomllib.loads(_replaced(blocks("toml")[0], here))
        content |= {"thing": thing, "data_dir": "data", "transports": {"local": {"port": broker.options.port}}}
        async with running(parse(content, "verge.toml", folder, {})) as made:
            state = await connected(made.transports["local"])
            assert isinstance(state, LinkState)
            yield here


def _replaced(text: str, here: dict[str, str]) -> str:
    for shown, meant in here.items():
        text = text.replace(shown, meant)
    return text


async def _said(folder: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return said.decode(errors="replace")


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
async def test_the_commands_say_what_the_page_shows(broker: Broker, thing: str, tmp_path: Path) -> None:
    async with served(broker, thing, tmp_path) as here:
        said = ""
        for line in "".join(blocks("console")).splitlines():
            if line.startswith("$ "):
                said = await _said(tmp_path, "bash", "-c", _replaced(line[2:], here))
            else:
                assert _shows(line, said), f"{line!r} is not in:\n{said}"


async def test_the_program_over_mqtt_prints_what_it_says(broker: Broker, thing: str, tmp_path: Path) -> None:
    (program,) = blocks("python client=mqtt")
    async with served(broker, thing, tmp_path) as here:
        assert await _said(tmp_path, sys.executable, "-c", _replaced(program, here)) == "200 Egyptian cat\n"


@pytest.mark.skipif(not TRITON.exists(), reason=f"needs Triton's client: {INSTALL}")
@pytest.mark.parametrize("way", ["http", "grpc"])
async def test_the_program_with_tritons_client_prints_what_it_says(
    broker: Broker, thing: str, tmp_path: Path, way: str
) -> None:
    (program,) = blocks("python client=triton")
    if way == "grpc":
        program = program.replace("tritonclient.http", "tritonclient.grpc").replace(":8000", ":8001")
    async with served(broker, thing, tmp_path) as here:
        said = await _said(tmp_path, str(TRITON), "-W", "ignore", "-c", _replaced(program, here))
    assert said == "Egyptian cat\n(1, 1000)\n"


def test_the_table_has_every_bound_with_its_usual_value() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", PAGE, re.MULTILINE))
    usual = ServingOptions()
    told = {name: int(text.removesuffix(" MiB")) << (20 * text.endswith("MiB")) for name, text in rows.items()}
    assert told == {name: getattr(usual, name) for name in told}
    assert {name for name in ServingOptions.__struct_fields__ if name.startswith("max_")} <= told.keys()
