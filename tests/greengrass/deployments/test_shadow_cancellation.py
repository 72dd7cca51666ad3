"""A cancelled deployment of the shadow: in Greengrass's word, and for good."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from agent.aws.jobs.topics import ShadowTopics
from agent.greengrass.deployments.ledger import Step
from agent.greengrass.deployments.requesters import shadow_client
from tests.greengrass.deployments.test_ordering import now_ms
from tests.greengrass.deployments.test_service import running
from tests.support.memory import MemoryTransport
from tests.support.shadow import CloudShadow

ARN = "arn:aws:greengrass:eu-west-1:123456789012:configuration:thing/t:1"


async def test_a_cancelled_shadow_deployment_is_reported_canceled(tmp_path, monkeypatch) -> None:
    document = {"configurationArn": ARN, "creationTimestamp": now_ms(), "components": {}}
    async with running(tmp_path) as device, MemoryTransport(device.bus, "cloud") as link:
        cloud = CloudShadow(link, ShadowTopics("t").base)
        staged, cancelled = asyncio.Event(), asyncio.Event()
        write = device.ledger.step

        async def held(seq: int, step: Step) -> None:
            await write(seq, step)
            if step is Step.STAGED:
                staged.set()
                await cancelled.wait()

        monkeypatch.setattr(device.ledger, "step", held)
        async with shadow_client(link, "t", "$aws", device.service.submit, device.service.cancel):
            cloud.put({"desired": {"fleetConfig": json.dumps(document), "desiredStatus": "SUCCEEDED"}})
            async with asyncio.timeout(20):
                await staged.wait()
                cloud.put({"desired": {"desiredStatus": "CANCELED"}})
                reported = await until(cloud, lambda told: told.get("status") not in {None, "IN_PROGRESS"})
        assert (reported["status"], reported["fleetConfigurationArnForStatus"]) == ("CANCELED", ARN)
        assert device.service.state.current.active.components == {}


async def until(cloud: CloudShadow, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What is reported, once it is as wanted."""
    while not check(cloud.state["reported"]):
        cloud.changed.clear()
        await cloud.changed.wait()
    return cloud.state["reported"]
