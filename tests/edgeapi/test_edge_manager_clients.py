"""Clients with generated stubs, today's and those of 2020: every rpc, and each status that is documented for it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from agent.config.edgeapi import CaptureOptions, EdgeManagerOptions
from agent.edgeapi import wiring
from tests.support.edgeapi import surroundings
from tests.support.models import onnx_identity

pytest.importorskip("grpc_tools", reason="needs grpcio-tools: pip install 'verge-edge[dev]'")

CLIENTS = Path(__file__).parent / "clients"
PROTOS = {"today": Path(wiring.__file__).parent / "protos" / "edge_manager.proto", "2020": CLIENTS / "older.proto"}
WANTED = {
    "unload unknown": "NOT_FOUND", "predict unknown": "NOT_FOUND", "describe unknown": "NOT_FOUND",
    "capture unknown": "NOT_FOUND", "load nothing": "NOT_FOUND", "load bad name": "INVALID_ARGUMENT",
    "load damaged": "FAILED_PRECONDITION", "load": "OK", "load twice": "ALREADY_EXISTS", "describe": "OK",
    "list": "OK", "predict": "OK", "predict bare": "OK", "predict type": "INVALID_ARGUMENT",
    "predict count": "INVALID_ARGUMENT", "capture": "OK", "capture twice": "ALREADY_EXISTS",
    "capture bad id": "INVALID_ARGUMENT", "capture future": "OUT_OF_RANGE", "status": "OK", "status unknown": "OK",
    "unload": "OK", "names": ["given", "taken"], "described": True, "listed": ["net"],
    "answer": [[0, 1, 2, 3, 4, 5], [1, 6]], "state": "SUCCESS", "unknown": "NOT_FOUND",
}  # fmt: skip
HANDLES = {
    "handle load": "OK", "handle predict": "OK", "handle describe": "OK", "handle capture": "OK",
    "handle two": "INVALID_ARGUMENT", "handle unload": "OK",
}  # fmt: skip


async def said(*command: str) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("version", PROTOS)
async def test_a_client_with_generated_stubs_is_answered_as_documented(tmp_path: Path, version: str) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    shutil.copy(PROTOS[version], stubs / "agent.proto")
    places = [f"-I{stubs}", f"--python_out={stubs}", f"--grpc_python_out={stubs}"]
    await said("-m", "grpc_tools.protoc", *places, str(stubs / "agent.proto"))
    model = onnx_identity(tmp_path / "model.onnx", (1, 6))
    options = EdgeManagerOptions(capture=CaptureOptions(batch_size=1))
    async with surroundings(tmp_path) as here, wiring.edge_manager(here, options) as socket:
        told = json.loads(await said(str(CLIENTS / "talk.py"), str(stubs), str(socket), str(model)))
    assert told == (WANTED | HANDLES if version == "today" else WANTED)
