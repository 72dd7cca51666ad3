"""A deployment of SageMaker Edge Manager and of a model as AWS packaged it: clients find both where they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.edgeapi.protos import messages
from tests.support import agent as agents
from tests.support.edgeapi import client
from tests.support.fleet import SHELL, Fleet, deploy, document
from tests.support.models import onnx_identity
from tests.support.until import until

PROTO = messages("edge_manager")
MANAGER, MODEL = "aws.greengrass.SageMakerEdgeManager", "com.example.Darknet"


def packaged(folder: Path) -> dict[str, Any]:
    """A component of plain files, as a packaging job makes it: without a type of its own, or a script."""
    net = onnx_identity(folder / "model.onnx", (1, 6)).read_bytes()
    facts = json.dumps({"metadata": {"model_name": "darknet", "model_version": "3"}}).encode()
    recipe = Fleet(folder / "fleet").packed(MODEL, "1.0.0", {"model.onnx": net, "sagemaker_edge_manifest": facts})
    return recipe | {"ComponentType": SHELL}


async def test_clients_load_the_model_of_a_component_and_their_captures_are_written(broker, thing, tmp_path):
    config = agents.configuration(thing, broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"jobs": False, "shadow": False}}
    socket = tmp_path / "edge.sock"
    told = document("edge", [packaged(tmp_path)], {MODEL: "1.0.0"})
    settings = {
        "DeviceFleetName": "north", "UnixSocketName": str(socket), "CaptureDataDestination": "Disk",
        "CaptureDataBatchSize": "1",
    }  # fmt: skip
    told["components"][MANAGER] = {"version": "1.3.6", "configurationUpdate": {"merge": settings}}
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
        agent.peer.wait(agent.topic(f"components/{MANAGER}"), lambda told: told["state"] == "RUNNING")
        served = agent.peer.wait(agent.topic("edge-manager"), lambda told: told["state"] == "serving")
        assert (served["fleet"], served["thing"]) == ("north", thing)
        async with client(PROTO, socket) as one:
            await one.call("LoadModel", name="net", url=f"../{MODEL}")
            given = PROTO.Tensor(byte_data=bytes(24))
            assert (await one.call("Predict", name="net", tensors=[given])).tensors
            await one.call("CaptureData", model_name="net", capture_id="c1", input_tensors=[given])

            async def arrived() -> bool:
                return (await one.call("GetCaptureDataStatus", capture_id="c1")).status == 1

            await until(arrived)
        (written,) = (tmp_path / "data" / "work" / MANAGER / "capture").rglob("*.jsonl")
        assert written.relative_to(tmp_path / "data" / "work" / MANAGER / "capture").parts[:3] == (
            "sme-capture", "north", "net",
        )  # fmt: skip
        (model,) = agent.peer.wait(agent.topic("edge-manager"), lambda told: told["models"])["models"]
        assert (model["model"], model["version"]) == ("darknet", "3")
        assert deploy(agent, document("without", [], {}))["status"] == "SUCCEEDED"
        agent.peer.wait(agent.topic("edge-manager"), lambda told: told["state"] == "stopped")
        await until(lambda: not socket.exists())
