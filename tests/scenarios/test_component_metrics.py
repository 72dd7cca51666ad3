"""Metrics that a component of AWS's own puts, on the status topic of a running agent."""

from __future__ import annotations

import getpass
import sys
import uuid
from pathlib import Path

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document
from tests.support.ipc import PRELUDE

PROBE = "aws.example.Probe"
PUTS = """
client = GreengrassCoreIPCClientV2()
client.put_component_metric(metrics=[model.Metric(name="Read", unit="BYTES", value=12.0)])
time.sleep(600)
"""


def test_what_was_put_stands_on_the_status_topic(broker, tmp_path: Path) -> None:
    program = tmp_path / "probe.py"
    program.write_text(PRELUDE + PUTS)
    probe = Fleet(tmp_path / "fleet").scripts(PROBE, Run=f"exec {sys.executable} {program}")
    policy = {"operations": ["*"], "resources": ["Read"]}
    access = {"aws.greengrass.ipc.componentmetric": {f"{PROBE}:1": policy}}
    probe["ComponentConfiguration"] = {"DefaultConfiguration": {"accessControl": access}}
    config = agents.configuration(f"metrics-{uuid.uuid4().hex[:8]}", broker.port, tmp_path, {}) | {
        "models": {},
        "streams": {},
        "deployments": {"run_as": getpass.getuser(), "settle_s": 0.5},
    }
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, document("one", [probe], {PROBE: "1.0.0"}))["status"] == "SUCCEEDED"
        told = agent.peer.wait(agent.topic("status"), lambda told: told.get("component_metrics"))
        assert told["component_metrics"] == {PROBE: {"Read": {"count": 1, "value": 12.0, "unit": "BYTES"}}}
