"""boto3 with the agent's credentials: taken from the provider, refreshed when the provider would."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from agent.aws import sdk
from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError
from agent.aws.iot import IotCredentials
from agent.config.aws import AwsOptions
from agent.greengrass.artifacts.store import AwsStoreOptions
from agent.greengrass.artifacts.stores.s3 import S3Store
from tests.support.credentials_endpoint import TOKEN, Endpoint, body, refusal
from tests.support.s3 import FakeS3, Object

DATA = os.urandom(10_000)


class Row:
    """Other credentials each time, that hold for so long."""

    def __init__(self, left_s: float) -> None:
        self.left = timedelta(seconds=left_s)
        self.asked = 0

    def get(self) -> Credentials:
        self.asked += 1
        return Credentials(f"AKIA{self.asked}", "secret", "token", datetime.now(UTC) + self.left)


@pytest.fixture
def fake():
    with FakeS3() as running:
        running.objects["/models/a"] = Object(DATA)
        yield running


def heads(fake, provider, count: int) -> list[str]:
    """Who signed the requests."""
    client = sdk.session(AwsOptions(region="us-east-1"), provider).client("s3", endpoint_url=fake.url)
    for _ in range(count):
        client.head_object(Bucket="models", Key="a")
    client.close()
    return [each.headers["authorization"].partition("Credential=")[2].partition("/")[0] for each in fake.requests]


def test_credentials_that_hold_sign_every_request(fake):
    assert heads(fake, Row(left_s=600), 3) == ["AKIA1"] * 3


def test_credentials_that_are_about_to_expire_are_asked_for_anew(fake):
    signers = heads(fake, Row(left_s=200), 3)
    assert len(set(signers)) == 3


def test_why_there_are_none_is_raised_as_it_is(fake):
    class Refused:
        def get(self) -> Credentials:
            raise CredentialsError("no alias")

    with pytest.raises(CredentialsError, match="no alias"):
        heads(fake, Refused(), 1)


async def test_a_certificate_is_all_that_a_device_needs_for_a_model_in_s3(fake, certificates, tmp_path):
    with Endpoint(certificates, always=(200, body(datetime.now(UTC) + timedelta(hours=1)))) as endpoint:
        aws = AwsOptions(
            region="us-east-1",
            s3_endpoint_url=fake.url,
            role_alias="device-alias",
            credentials_endpoint=endpoint.host,
            cert_file=str(certificates.client_cert),
            key_file=str(certificates.client_key),
            ca_file=str(certificates.ca),
        )
        provider = IotCredentials.of(aws, "camera-7")
        for name in "ab":  # two deployments
            store = S3Store(AwsStoreOptions(aws=aws, credentials=provider))
            await store.fetch("s3://models/a", tmp_path / name)
            await store.close()
        assert len(endpoint.requests) == 1
        endpoint.answers.append((403, refusal("Access Denied")))
        store = S3Store(AwsStoreOptions(aws=aws, credentials=IotCredentials.of(aws, "camera-7")))
        with pytest.raises(Exception, match="rolealias/device-alias") as failure:
            await store.size("s3://models/a")
    assert failure.value.code == "CREDENTIAL_ENDPOINT_AUTH_FAILURE"
    assert failure.value.error_type == "PERMISSION_ERROR"
    assert (tmp_path / "b").read_bytes() == DATA
    assert {each.headers["x-amz-security-token"] for each in fake.requests} == {TOKEN}
    assert all("ASIAROLE" in each.headers["authorization"] for each in fake.requests)
