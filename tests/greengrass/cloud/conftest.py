"""What the Greengrass data plane's tests share."""

from __future__ import annotations

import pytest

from agent.config.aws import GreengrassOptions
from agent.config.deployments import RetryPolicy
from agent.greengrass.cloud.client import DataPlane
from tests.support import certs
from tests.support.greengrass_cloud import GreengrassCloud

PATIENT = RetryPolicy(base_s=0.01, cap_s=0.02, give_up_after_s=60)
IMPATIENT = RetryPolicy(base_s=0.01, cap_s=0.02, give_up_after_s=0.3)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return certs.create(tmp_path_factory.mktemp("greengrass-certs"))


@pytest.fixture
def cloud(certificates):
    with GreengrassCloud(certificates) as running:
        yield running


@pytest.fixture
def plane(certificates):
    """Makes clients: ``plane(cloud)``; other options by name."""

    def make(cloud, *, retry=PATIENT, short_retry=IMPATIENT, **options):
        told = {
            "enabled": True,
            "data_endpoint": cloud.endpoint,
            "cert_file": str(certificates.client_cert),
            "key_file": str(certificates.client_key),
            "ca_file": str(certificates.ca),
        }
        return DataPlane(GreengrassOptions(**(told | options)).filled(None), retry=retry, short_retry=short_retry)

    return make
