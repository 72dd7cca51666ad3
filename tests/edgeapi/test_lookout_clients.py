"""Programs with stubs of each generation of the interface, by the ordinary generator, in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.config.edgeapi import LookoutOptions
from agent.config.models import ModelOptions
from agent.edgeapi import wiring
from tests.support import inspection
from tests.support.edgeapi import surroundings
from tests.support.lookout import GENERATIONS, generated

PROGRAM = """
import json, os, sys, time
from pathlib import Path
import grpc
import edge_agent_pb2 as pb2
import edge_agent_pb2_grpc as pb2_grpc

socket, masks = sys.argv[1], sys.argv[2] == "masks"
SIZE = 128 * 64 * 3
said = {}


def code(rpc, request):
    try:
        rpc(request)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


with grpc.insecure_channel("unix://" + socket) as channel:
    stub = pb2_grpc.EdgeAgentStub(channel)
    said["listed"] = [one.model_component for one in stub.ListModels(pb2.ListModelsRequest()).models]
    # The documented loop: describe, start where it is stopped, describe again without waiting, sleep while it starts.
    while True:
        described = stub.DescribeModel(pb2.DescribeModelRequest(model_component="line")).model_description
        if described.status == pb2.RUNNING:
            break
        elif described.status == pb2.STOPPED:
            stub.StartModel(pb2.StartModelRequest(model_component="line"))
        elif described.status == pb2.STARTING:
            time.sleep(0.05)
        else:
            raise RuntimeError(described)
    pixels = bytearray(SIZE)
    for row in range(32):
        pixels[row * 384 : row * 384 + 192] = b"\\xff" * 192
    plain = pb2.DetectAnomaliesRequest(
        model_component="line", bitmap=pb2.Bitmap(width=128, height=64, byte_data=bytes(pixels))
    )
    result = stub.DetectAnomalies(plain).detect_anomaly_result
    said["wrong"] = [result.is_anomalous, round(result.confidence, 3)]
    segment = Path("/dev/shm") / f"verge-client-{os.getpid()}"
    segment.write_bytes(bytes(pixels) + bytes(SIZE))
    try:
        shared = pb2.DetectAnomaliesRequest(model_component="line", bitmap=pb2.Bitmap(
            width=128, height=64, shared_memory_handle=pb2.SharedMemoryHandle(name="/" + segment.name, size=SIZE)))
        if masks:
            shared.anomaly_mask_params.shared_memory_handle.name = "/" + segment.name
            shared.anomaly_mask_params.shared_memory_handle.size = SIZE
            shared.anomaly_mask_params.shared_memory_handle.offset = SIZE
        again = stub.DetectAnomalies(shared).detect_anomaly_result
        said["shared"] = again.is_anomalous
        if masks:
            said["anomalies"] = [[one.name, one.pixel_anomaly.hex_color] for one in result.anomalies]
            said["sum"] = round(sum(one.pixel_anomaly.total_percentage_area for one in result.anomalies), 5)
            said["same mask"] = segment.read_bytes()[SIZE:] == result.anomaly_mask.byte_data
            said["no bytes"] = again.anomaly_mask.byte_data == b""
    finally:
        segment.unlink()
    nobody = "nobody"
    said["codes"] = {
        "start running": code(stub.StartModel, pb2.StartModelRequest(model_component="line")),
        "start unknown": code(stub.StartModel, pb2.StartModelRequest(model_component=nobody)),
        "start nothing": code(stub.StartModel, pb2.StartModelRequest()),
        "describe unknown": code(stub.DescribeModel, pb2.DescribeModelRequest(model_component=nobody)),
        "describe nothing": code(stub.DescribeModel, pb2.DescribeModelRequest()),
        "detect small": code(stub.DetectAnomalies, pb2.DetectAnomaliesRequest(
            model_component="line", bitmap=pb2.Bitmap(width=63, height=64, byte_data=bytes(63 * 64 * 3)))),
        "detect unknown": code(stub.DetectAnomalies, pb2.DetectAnomaliesRequest(
            model_component=nobody, bitmap=plain.bitmap)),
    }
    said["stopped"] = stub.StopModel(pb2.StopModelRequest(model_component="line")).status == pb2.STOPPED
    said["codes"] |= {
        "stop stopped": code(stub.StopModel, pb2.StopModelRequest(model_component="line")),
        "stop unknown": code(stub.StopModel, pb2.StopModelRequest(model_component=nobody)),
        "stop nothing": code(stub.StopModel, pb2.StopModelRequest()),
        "detect stopped": code(stub.DetectAnomalies, plain),
    }
print(json.dumps(said))
"""


async def said_by_client(folder: Path, socket: Path, *, masks: bool) -> dict[str, Any]:
    (folder / "client.py").write_text(PROGRAM)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "client.py", str(socket), "masks" if masks else "none",
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    return json.loads(out)


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_client_of_each_generation_finds_every_rpc_and_every_code(tmp_path: Path, generation: str) -> None:
    program = tmp_path / "program"
    program.mkdir()
    await asyncio.to_thread(generated, program, GENERATIONS[generation])
    options = LookoutOptions(models={"line": ModelOptions(source=str(inspection.inspector(tmp_path / "model")))})
    masks = generation != "of 2021"
    async with surroundings(tmp_path) as here, wiring.lookout(here, options):
        said = await said_by_client(program, tmp_path / "lookout.sock", masks=masks)
    assert (said["listed"], said["wrong"], said["shared"], said["stopped"]) == (["line"], [True, 1.0], True, True)
    assert said["codes"] == {
        "start running": "FAILED_PRECONDITION", "start unknown": "NOT_FOUND", "start nothing": "INVALID_ARGUMENT",
        "describe unknown": "NOT_FOUND", "describe nothing": "INVALID_ARGUMENT",
        "detect small": "INVALID_ARGUMENT", "detect unknown": "NOT_FOUND", "detect stopped": "FAILED_PRECONDITION",
        "stop stopped": "FAILED_PRECONDITION", "stop unknown": "NOT_FOUND", "stop nothing": "INVALID_ARGUMENT",
    }  # fmt: skip
    if masks:
        assert said["anomalies"] == [["background", "#FFFFFF"], ["anomaly", "#23A436"]]
        assert (said["sum"], said["same mask"], said["no bytes"]) == (1, True, True)
