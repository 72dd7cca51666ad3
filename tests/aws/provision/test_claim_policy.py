"""The policy that ships for claim certificates allows fleet provisioning, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

import agent
from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.identity import FleetProvisioning
from agent.aws.provision.keys import new_key, request
from agent.errors import VergeError
from agent.mqtt.client import MqttTransport
from agent.mqtt.factory import create
from agent.mqtt.probe import Visitor
from tests.support.cloud import Cloud
from tests.support.inbox import connected, subscribed
from tests.support.iot_policy import Connection, read
from tests.support.mosquitto_acl import access
from tests.support.provisioning import Authority, ProvisioningService

SHIPPED = json.loads((Path(agent.__file__).parents[1] / "configs" / "iot-claim-policy.json").read_text())
CLAIM = Connection("verge-claim-1")


def broker(certificates, statements) -> Cloud:
    policy = read(json.dumps(SHIPPED | {"Statement": statements}).replace("TEMPLATE", "verge"))
    return Cloud(certificates, access(policy, CLAIM, "client"))


async def provisioned(cloud: Cloud, folder: Path) -> str:
    async with MqttTransport("operator", cloud.back_door) as operator:
        await connected(operator)
        async with ProvisioningService(operator, Authority(folder)):
            await subscribed(operator, "ready")
            options = replace(cloud.iotcore(), client_id=CLAIM.thing, backoff_base_s=0.05)
            async with create("claim", options) as transport:
                await transport.wait_connected(3.0)
                identity = FleetProvisioning(transport, timeout_s=2.0)
                signed = await identity.sign(request(new_key(), "edge-1"))
                return (await identity.register("verge", signed.token, {"ThingName": "edge-1"})).thing


async def test_a_claim_may_provision_and_nothing_else(certificates, tmp_path) -> None:
    with broker(certificates, SHIPPED["Statement"]) as cloud:
        assert await provisioned(cloud, tmp_path) == "edge-1"
        with Visitor(cloud.iotcore().asking("cloud", CLAIM.thing)) as visitor:
            for topic in ("verge/edge-1/results/line", "$aws/things/edge-1/jobs/$next/get", "#", "$aws/#"):
                assert visitor.subscribe(topic) == "Not authorized"
            assert visitor.publish("verge/edge-1/results/line") == "Not authorized"


@pytest.mark.parametrize("sid", [each["Sid"] for each in SHIPPED["Statement"]])
async def test_without_any_one_statement_it_may_not(certificates, tmp_path, sid) -> None:
    left = [each for each in SHIPPED["Statement"] if each["Sid"] != sid]
    with broker(certificates, left) as cloud, pytest.raises(VergeError) as refused:
        await provisioned(cloud, tmp_path)
    if sid == "Subscribe":
        assert isinstance(refused.value, ProvisioningError)
        assert "iot:Subscribe" in refused.value.hint
