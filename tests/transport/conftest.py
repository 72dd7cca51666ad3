"""What the transports' tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.broker import Broker
from tests.support.wire import Wire


@pytest.fixture
async def own_broker() -> AsyncIterator[Broker]:
    """A broker that a test may stop."""
    async with Broker() as running:
        yield running


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    """A wire to the broker of all tests."""
    async with Wire(broker.port) as relay:
        yield relay
