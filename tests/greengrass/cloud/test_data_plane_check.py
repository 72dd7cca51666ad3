"""``verge doctor --topics`` and the Greengrass data plane: both permissions, by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import agent
from agent.config.aws import AwsOptions, GreengrassOptions
from agent.doctor.finding import FindingStatus
from agent.doctor.topics import data_plane
from agent.greengrass.cloud.messages import DataPlaneOperation
from tests.support.greengrass_cloud import Reply
from tests.support.iot_policy import Connection, read

PAGE = Path(agent.__file__).parents[1] / "docs" / "iot-core.md"
ACCOUNT = AwsOptions(region="eu-west-1", account="123456789012")


@pytest.fixture
def options(cloud, certificates) -> GreengrassOptions:
    files = {"cert_file": certificates.client_cert, "key_file": certificates.client_key, "ca_file": certificates.ca}
    told = {name: str(path) for name, path in files.items()}
    return GreengrassOptions(enabled=True, data_endpoint=cloud.endpoint, **told)


async def test_both_requests_are_tried_and_change_nothing(cloud, options) -> None:
    found = await data_plane(options, ACCOUNT)
    assert [(each.check, each.status, each.detail) for each in found] == [
        (f"greengrass {operation}", FindingStatus.OK, "allowed") for operation in DataPlaneOperation
    ]
    assert [asked.operation for asked in cloud.requests] == list(DataPlaneOperation)


@pytest.mark.parametrize("operation", list(DataPlaneOperation))
async def test_the_permission_that_is_missing_is_named(cloud, options, operation) -> None:
    cloud.replies[operation].append(Reply(403))
    wrong = [each for each in await data_plane(options, ACCOUNT) if each.status is FindingStatus.FAIL]
    assert [each.check for each in wrong] == [f"greengrass {operation}"]
    assert f"greengrass:{operation}" in wrong[0].fix


async def test_what_is_off_is_not_asked_and_without_an_account_there_is_no_artifact_to_ask_for(cloud, options) -> None:
    assert await data_plane(GreengrassOptions(), ACCOUNT) == []
    assert [each.detail.partition(":")[0] for each in await data_plane(options, None)] == [
        "allowed",
        "not asked",
    ]
    assert [asked.operation for asked in cloud.requests] == [DataPlaneOperation.RESOLVE]


def test_the_statement_of_the_page_allows_both_and_no_more() -> None:
    [text] = re.findall(r'^\{\n  "Sid": "Components".*?^\}', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    policy = read(json.dumps({"Version": "2012-10-17", "Statement": [json.loads(text)]}))
    assert {action for one in policy.statements for action in one.actions} == {
        f"greengrass:{operation}" for operation in DataPlaneOperation
    }
    assert not policy.allows("Publish", "topic", "verge/edge-1/results/x", Connection("edge-1"))
