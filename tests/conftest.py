"""Fixtures that every package's tests share: a real broker and names of the test's own."""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import certs
from tests.support.broker import Broker
from tests.support.certs import Certificates
from tests.support.ports import HeldPort

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("verge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("verge")

# A shell that starts the tests in the background lets them, and all that they start, ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One anonymous mosquitto for all tests of this process; a test must not stop it."""
    with Broker(lines=["max_queued_messages 0"]) as running:
        yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A test authority, a server's and a client's certificate."""
    return certs.create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def free_port() -> Iterator[int]:
    """A loopback port of this test's own; connections are refused until the test has something listen there."""
    with HeldPort() as held:
        yield held.number


@pytest.fixture
def thing(request: pytest.FixtureRequest) -> str:
    """A thing name that no other test uses."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    return f"{word}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic(thing: str) -> str:
    """A topic that no other test uses."""
    return f"tests/{thing}"
