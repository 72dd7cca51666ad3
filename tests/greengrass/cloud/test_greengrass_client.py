"""The data plane's requests: what is sent, what an answer means, and who is let in."""

from __future__ import annotations

import asyncio
import base64
import threading
import time

import pytest

from agent.config.aws import AwsOptions, GreengrassOptions
from agent.errors import ConfigError
from agent.greengrass.cloud.errors import TYPES, GreengrassError, GreengrassUnreachableError
from agent.greengrass.cloud.messages import Question
from agent.greengrass.errors import TYPES as ALL_TYPES
from agent.greengrass.recipes.versions import Requirement, Version
from tests.greengrass.cloud.conftest import IMPATIENT
from tests.support import certs
from tests.support.greengrass_cloud import ARTIFACT, RESOLVE, GreengrassCloud, Reply, recipe_text

LINUX = {"os": "linux", "architecture": "amd64"}
ASKED = Question("com.a", (("thinggroup/lab", Requirement.parse("^1.0.0")),))


def told(name="com.a", version="1.1.0", *, recipe=None, arn=None):
    text = recipe_text("com.a", "1.1.0") if recipe is None else recipe
    arn = arn or f"arn:aws:greengrass:eu-west-1:aws:components:{name}:versions:{version}"
    return {
        "arn": arn,
        "componentName": name,
        "componentVersion": version,
        "recipe": base64.b64encode(text.encode()).decode(),
    }


async def test_the_device_asks_by_its_certificate_for_one_component_with_everybody_s_requirements(cloud, plane):
    cloud.publish("com.a", "1.1.0")
    resolved = await plane(cloud).resolve(ASKED, LINUX, Version(1, 0, 0))
    assert str(resolved.recipe.version) == "1.1.0"
    assert resolved.arn == cloud.arn("com.a", "1.1.0")
    (request,) = cloud.requests
    assert request.peer == "client"
    assert request.path == "/greengrass/v2/resolveComponentCandidates"
    assert request.body == {
        "platform": {"attributes": LINUX},
        "componentCandidates": [
            {
                "componentName": "com.a",
                "componentVersion": "1.0.0",
                "versionRequirements": {"thinggroup/lab": "^1.0.0"},
            }
        ],
    }


async def test_without_a_version_of_its_own_it_names_none(cloud, plane):
    cloud.publish("com.a", "1.1.0")
    await plane(cloud).resolve(ASKED, LINUX)
    assert "componentVersion" not in cloud.requests[0].body["componentCandidates"][0]


async def test_a_404_means_that_the_cloud_has_none(cloud, plane):
    assert await plane(cloud).resolve(ASKED, LINUX) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "BAD_REQUEST"),
        (403, "RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED"),
        (409, "CONFLICTED_REQUEST"),
        (418, "HTTP_REQUEST_ERROR"),
    ],
)
async def test_a_refusal_is_told_at_once_in_greengrass_s_words(cloud, plane, status, code):
    cloud.replies[RESOLVE].append(Reply(status))
    with pytest.raises(GreengrassError, match=f"answers {status}, .* in so many words") as refusal:
        await plane(cloud).resolve(ASKED, LINUX)
    assert refusal.value.code == code
    assert refusal.value.error_type == ALL_TYPES[code]
    assert len(cloud.requests) == 1


async def test_a_403_names_the_missing_permission(cloud, plane):
    cloud.replies[ARTIFACT].append(Reply(403))
    with pytest.raises(GreengrassError) as refusal:
        await plane(cloud).artifact_url(cloud.arn("com.a", "1.0.0"), "a.zip")
    assert refusal.value.code == "GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED"
    assert "allow greengrass:GetComponentVersionArtifact in the IoT policy" in refusal.value.hint


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_trouble_at_the_cloud_is_tried_again(cloud, plane, status):
    cloud.publish("com.a", "1.1.0")
    cloud.replies[RESOLVE].extend([Reply(status)] * 3)
    assert await plane(cloud).resolve(ASKED, LINUX)
    assert len(cloud.requests) == 4


@pytest.mark.parametrize(("status", "code"), [(429, "THROTTLING_ERROR"), (503, "SERVER_ERROR")])
async def test_who_has_something_to_fall_back_on_has_short_retry(cloud, plane, status, code):
    cloud.replies[RESOLVE].extend([Reply(status)] * 1000)
    with pytest.raises(GreengrassUnreachableError) as failure:
        await plane(cloud, short_retry=IMPATIENT).resolve(ASKED, LINUX, Version(1, 0, 0))
    assert failure.value.code == code
    assert len(cloud.requests) > 1


async def test_a_cloud_that_is_not_there_is_unreachable(cloud, plane, free_port):
    client = plane(cloud, data_endpoint=f"localhost:{free_port}", retry=IMPATIENT)
    with pytest.raises(GreengrassUnreachableError, match="refused") as failure:
        await client.resolve(ASKED, LINUX)
    assert failure.value.code == "NETWORK_ERROR"


async def test_a_cloud_that_falls_silent_is_asked_again(cloud, plane):
    cloud.publish("com.a", "1.1.0")
    let_go = threading.Event()
    cloud.replies[RESOLVE].append(Reply(before=lambda: let_go.wait(30)))
    try:
        assert await plane(cloud, read_timeout_s=0.3).resolve(ASKED, LINUX)
    finally:
        let_go.set()
    assert len(cloud.requests) >= 2


async def test_the_cloud_is_reached_through_the_proxy(cloud, plane):
    client = plane(cloud, data_endpoint="greengrass.example", proxy=cloud.storage.url(""), retry=IMPATIENT)
    with pytest.raises(GreengrassUnreachableError):
        await client.resolve(ASKED, LINUX)
    assert cloud.storage.requests[0].path == "greengrass.example:8443"


async def test_a_cancellation_does_not_wait_for_an_answer(cloud, plane):
    let_go, came = threading.Event(), threading.Event()

    def hold():
        came.set()
        let_go.wait(30)

    cloud.replies[RESOLVE].append(Reply(before=hold))
    task = asyncio.create_task(plane(cloud).resolve(ASKED, LINUX))
    await asyncio.to_thread(came.wait, 30)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 10
    let_go.set()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        {},
        {"resolvedComponentVersions": []},
        {"resolvedComponentVersions": [told(), told()]},
        {"resolvedComponentVersions": [told() | {"recipe": "no base64!"}]},
        {"resolvedComponentVersions": [told(recipe="no: recipe")]},
        {"resolvedComponentVersions": [told(name="com.b")]},
        {"resolvedComponentVersions": [told(version="1.2.0")]},
        {"resolvedComponentVersions": [told(recipe=recipe_text("com.b", "1.1.0"))]},
        {"resolvedComponentVersions": [told(arn="arn:aws:greengrass:eu-west-1:aws:components:x:versions:1.1.0")]},
        {"resolvedComponentVersions": [told(arn="com.a")]},
        {"resolvedComponentVersions": [told(version="2.0.0", recipe=recipe_text("com.a", "2.0.0"))]},
    ],
)
async def test_what_does_not_answer_the_question_is_not_believed(cloud, plane, body):
    cloud.replies[RESOLVE].append(Reply(body=body))
    with pytest.raises(GreengrassError) as refusal:
        await plane(cloud).resolve(ASKED, LINUX)
    assert refusal.value.code == "RESOLVE_COMPONENT_CANDIDATES_BAD_RESPONSE"
    assert refusal.value.error_type == "CLOUD_SERVICE_ERROR"


async def test_an_answer_without_end_is_not_read_to_its_end(cloud, plane):
    cloud.replies[RESOLVE].append(Reply(body=b'{"resolvedComponentVersions": [' + b" " * 5_000_000 + b"]}"))
    with pytest.raises(GreengrassError, match="cannot be read"):
        await plane(cloud).resolve(ASKED, LINUX)


async def test_artifacts_of_the_cloud_s_recipes_know_whose_they_are(cloud, plane):
    uris = ["greengrass:hash=/a.zip", "GREENGRASS:b.zip", "s3://bucket/c.zip"]
    cloud.publish("com.a", "1.1.0", Artifacts=[{"Uri": uri} for uri in uris])
    resolved = await plane(cloud).resolve(ASKED, LINUX)
    arn = cloud.arn("com.a", "1.1.0")
    assert [each.uri for each in resolved.recipe.manifests[0].artifacts] == [
        f"greengrass:{arn}/hash=/a.zip",
        f"greengrass:{arn}/b.zip",
        "s3://bucket/c.zip",
    ]


@pytest.mark.parametrize("who", ["stranger", "nobody"])
async def test_without_the_right_certificate_there_is_no_way_in(certificates, plane, tmp_path, who):
    stranger = certs.create(tmp_path)
    files = {"cert_file": str(stranger.client_cert), "key_file": str(stranger.client_key)}
    if who == "nobody":
        stranger.client_key.write_text("no key")
    with GreengrassCloud(certificates, tls12=True) as cloud:
        with pytest.raises(GreengrassError) as refusal:
            await plane(cloud, **files).resolve(ASKED, LINUX)
        assert cloud.requests == []
    assert (
        refusal.value.code
        == {
            "stranger": "TLS_HANDSHAKE_FAILURE",
            "nobody": "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
        }[who]
    )


async def test_a_cloud_that_cannot_prove_itself_is_told_nothing(cloud, plane, tmp_path):
    with pytest.raises(GreengrassError, match="no TLS") as refusal:
        await plane(cloud, ca_file=str(certs.create(tmp_path).ca)).resolve(ASKED, LINUX)
    assert refusal.value.code == "TLS_HANDSHAKE_FAILURE"
    assert cloud.requests == []


async def test_on_port_443_amazon_s_protocol_is_offered(certificates, plane):
    assert GreengrassOptions(data_endpoint="host:443").alpn_used == "x-amzn-http-ca"
    assert GreengrassOptions(data_endpoint="host").alpn_used is None
    with GreengrassCloud(certificates, alpn="x-amzn-http-ca") as cloud:
        await plane(cloud, alpn="x-amzn-http-ca").resolve(ASKED, LINUX)
        await plane(cloud).resolve(ASKED, LINUX)
    assert [each.alpn for each in cloud.requests] == ["x-amzn-http-ca", None]


def test_what_is_left_out_comes_from_the_aws_table():
    aws = AwsOptions(region="cn-north-1", cert_file="c.pem", key_file="k.pem", ca_file="ca.pem")
    filled = GreengrassOptions(enabled=True, cert_file="own.pem").filled(aws)
    assert filled.base_url == "https://greengrass-ats.iot.cn-north-1.amazonaws.com.cn:8443"
    assert (filled.cert_file, filled.key_file, filled.ca_file) == ("own.pem", "k.pem", "ca.pem")


@pytest.mark.parametrize("endpoint", ["https://host", "host/path", "user@host", "host:port", "host:0", "a b"])
def test_an_endpoint_that_is_no_host_is_refused(endpoint):
    with pytest.raises(ConfigError) as refusal:
        GreengrassOptions(data_endpoint=endpoint, cert_file="c", key_file="k").filled(None)
    assert refusal.value.code == "IOT_DATA_ENDPOINT_FORMAT_NOT_VALID"


def test_without_a_certificate_the_configuration_is_refused():
    with pytest.raises(ConfigError, match="certificate"):
        GreengrassOptions(data_endpoint="host").filled(None)


def test_every_code_is_greengrass_s_own():
    assert {code: ALL_TYPES[code] for code in TYPES} == TYPES
