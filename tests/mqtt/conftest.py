"""What the transports' tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agent.config.transports import IotCoreLimits, IotCoreOptions
from tests.support.broker import Broker
from tests.support.certs import Certificates
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


@pytest.fixture(scope="session")
def tls_broker(certificates: Certificates) -> Iterator[Broker]:
    """One mosquitto with mutual TLS for all tests of this process; a test must not stop it."""
    with Broker(tls=certificates, client_certificates=True, lines=["max_queued_messages 0"]) as running:
        yield running


@pytest.fixture
def iotcore(tls_broker: Broker, certificates: Certificates) -> Callable[..., IotCoreOptions]:
    """Options for the broker as if it were IoT Core, but for how much it takes; a test changes some."""

    def build(**changes: Any) -> IotCoreOptions:
        defaults = {
            "endpoint": "127.0.0.1",
            "port": tls_broker.port,
            "ca_file": str(certificates.ca),
            "cert_file": str(certificates.client_cert),
            "key_file": str(certificates.client_key),
            "session_expiry_s": 0,
            "backoff_base_s": 0.05,
            "backoff_cap_s": 0.2,
            "limits": IotCoreLimits(payload_bytes=2**21, publishes_per_s=10_000, bytes_per_s=2**24),
        }
        return IotCoreOptions(**{**defaults, **changes})

    return build
