"""A broker in the place of IoT Core with a provisioning service at work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from agent.mqtt.client import MqttTransport
from tests.support.cloud import Cloud
from tests.support.inbox import connected, subscribed
from tests.support.provisioning import Authority, ProvisioningService


@dataclass
class Site:
    """Both, and the operator's transport."""

    cloud: Cloud
    service: ProvisioningService
    operator: MqttTransport


@pytest.fixture
async def site(certificates, tmp_path) -> AsyncIterator[Site]:
    authority = Authority(tmp_path)
    with Cloud(authority.trusted(certificates)) as cloud:
        async with MqttTransport("operator", cloud.back_door) as operator:
            await connected(operator)
            async with ProvisioningService(operator, authority) as service:
                await subscribed(operator, "ready")
                yield Site(cloud, service, operator)
