"""The whole agent at a broker that enforces the shipped IoT policy: frames in, results out, a deployment by job."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

import agent
from agent.aws.jobs.service.caller import calling
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.mqtt.client import MqttTransport
from tests.support import agent as agents
from tests.support import unruly
from tests.support.cloud import Cloud
from tests.support.fleet import Fleet, document
from tests.support.inbox import Inbox, connected
from tests.support.iot_policy import Connection, read
from tests.support.mosquitto_acl import access

POLICY = Path(agent.__file__).parents[1] / "configs" / "iot-policy.json"


def configuration(thing: str, port: int, folder: Path, cloud: Cloud, kind: str) -> dict:
    """As configs/iot-core.toml has it: frames and status here, results and deployments there."""
    at = cloud.certificates
    files = {"ca_file": str(at.ca), "cert_file": str(at.client_cert), "key_file": str(at.client_key)}
    told = {"type": kind, "port": cloud.broker.port, "backoff_base_s": 0.1, "outbox": {}}
    told |= {"endpoint": "127.0.0.1", **files} if kind == "iotcore" else {"client_id": thing, "tls": files}
    config = agents.configuration(thing, port, folder, {"source": "classifier"})
    config["transports"]["cloud"] = told
    config["streams"]["line"]["outputs"] = [{"transport": "cloud"}]
    return config | {"deployments": {"transport": "cloud", "run_as": getpass.getuser()}}


@pytest.mark.parametrize("kind", ["mqtt", "iotcore"])
async def test_the_whole_agent_works_with_what_the_shipped_policy_allows(
    certificates, broker, thing, tmp_path, kind
) -> None:
    rules = access(read(POLICY.read_text()), Connection(thing), "client")
    with Cloud(certificates, rules) as cloud, JobStore(tmp_path / "jobs") as store:
        async with MqttTransport("operator", cloud.back_door) as operator:
            await connected(operator)
            said = Inbox()
            operator.subscribe(f"verge/{thing}/#", said, qos=1)
            operator.subscribe(f"$aws/things/{thing}/greengrassv2/health/json", said, qos=1)
            async with JobsService(operator, store), calling(operator) as caller:
                with agents.running(configuration(thing, broker.port, tmp_path, cloud, kind), tmp_path) as running:
                    running.frame("door", unruly.jpeg("answer"))
                    await said.until(lambda all_of: any("/results/line" in each.topic for each in all_of), 30.0)
                    shelf = Fleet(tmp_path / "fleet")
                    told = document(
                        "d1", [shelf.scripts("com.acme.hello", Run="sleep 600")], {"com.acme.hello": "1.0.0"}
                    )
                    await caller.ask("create", {"jobId": "j1", "targets": [thing], "document": told})
                    ended = f"verge/{thing}/deployments/d1"
                    await said.until(
                        lambda all_of: any(
                            each.topic == ended and b"SUCCEEDED" in each.payload for each in all_of if each.payload
                        ),
                        60.0,
                    )
                    await said.until(lambda all_of: any(each.topic.endswith("health/json") for each in all_of), 30.0)
                    assert "ot authorized" not in running.log
                    assert "refuses" not in running.log
