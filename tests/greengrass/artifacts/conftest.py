"""What the artifacts' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.config.deployments import RetryPolicy
from tests.support.web import Web


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on the loopback."""
    with Web() as running:
        yield running


@pytest.fixture
def retry() -> RetryPolicy:
    """Retries that do not make a test wait, and go on however slow the machine is."""
    return RetryPolicy(base_s=0.01, cap_s=0.02, give_up_after_s=60)


@pytest.fixture
def short_retry() -> RetryPolicy:
    """For what stays unreachable."""
    return RetryPolicy(base_s=0.01, cap_s=0.02, give_up_after_s=0.3)
