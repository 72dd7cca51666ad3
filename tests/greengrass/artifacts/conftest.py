"""What the artifacts' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.config.deployments import Patience
from tests.greengrass.artifacts.web import Web


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on the loopback."""
    with Web() as running:
        yield running


@pytest.fixture
def patience() -> Patience:
    """Retries that do not make a test wait, and go on however slow the machine is."""
    return Patience(base_s=0.01, cap_s=0.02, give_up_after_s=60)


@pytest.fixture
def little_patience() -> Patience:
    """For what stays unreachable."""
    return Patience(base_s=0.01, cap_s=0.02, give_up_after_s=0.3)
