"""``verge doctor --topics``: a broker that enforces the shipped IoT policy is asked what it allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

import agent
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.config.aws import AwsOptions
from agent.config.load import Config, load
from agent.doctor import topics
from agent.doctor.finding import Finding, FindingStatus
from agent.mqtt.client import MqttTransport
from tests.support.broker import Broker
from tests.support.certs import server_tls
from tests.support.cloud import Cloud
from tests.support.commands import invoke
from tests.support.credentials_endpoint import body, refusal
from tests.support.http import HttpServer, Request, Response
from tests.support.inbox import Inbox, connected
from tests.support.iot_policy import Connection, Policy, read
from tests.support.mosquitto_acl import access

CONFIGS = Path(agent.__file__).parents[1] / "configs"
POLICY = json.loads((CONFIGS / "iot-policy.json").read_text())
STATEMENTS = {each["Sid"]: each for each in POLICY["Statement"]}
USER = "client"
"""The common name of the test's certificate."""


def cloud(certificates, without: str = "", resource: str = "") -> Cloud:
    """The broker with the shipped policy for ``edge-1``, less one statement or one resource."""
    left = [one for one in POLICY["Statement"] if one["Sid"] != without or resource]
    if resource:
        whole = STATEMENTS[without]
        less = whole | {"Resource": [each for each in whole["Resource"] if each != resource]}
        left = [less if one is whole else one for one in left]
    policy = read(json.dumps(POLICY | {"Statement": left}))
    return Cloud(certificates, access(policy, Connection("edge-1"), USER))


def configured(cloud: Cloud, local: Broker) -> Config:
    """The shipped configuration, with these brokers."""
    config = load(CONFIGS / "iot-core.toml", {})
    return replace(config, transports={"local": local.options, "cloud": cloud.iotcore()})


async def asked(cloud: Cloud, local: Broker, *, jobs: Path | None = None) -> list[Finding]:
    """The findings; ``jobs``: with a Jobs service at work."""
    config = configured(cloud, local)
    if jobs is None:
        return await topics.findings(config)
    with JobStore(jobs) as store:
        async with MqttTransport("service", cloud.back_door) as transport:
            await connected(transport)
            async with JobsService(transport, store):
                return await topics.findings(config)


def failures(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.status is FindingStatus.FAIL]


async def test_with_the_shipped_policy_nothing_is_refused(certificates, broker, tmp_path) -> None:
    with cloud(certificates) as running:
        found = await asked(running, broker, jobs=tmp_path)
    assert failures(found) == []
    told = {finding.detail for finding in found if finding.check == "topics cloud"}
    assert "granted: 9 to publish, 14 to subscribe" in told
    [silent] = [each for each in told if each.startswith("not asked")]
    assert "greengrassv2/health/json" in silent
    assert "verge/edge-1/results/cameras" in silent
    # A Jobs service answers, and nobody serves shadows here.
    [warning] = [finding for finding in found if finding.status is FindingStatus.WARN]
    assert "shadow/name/AWSManagedGreengrassV2Deployment/get/+" in warning.detail


@pytest.mark.parametrize("sid", [sid for sid in STATEMENTS if sid != "Credentials"])
async def test_a_statement_that_is_missing_is_named(certificates, broker, tmp_path, sid) -> None:
    with cloud(certificates, without=sid) as running:
        found = failures(await asked(running, broker, jobs=tmp_path))
    assert found
    assert all(f"iot:{sid}" in finding.fix for finding in found), found


ASKED = [
    (sid, resource)
    for sid, one in STATEMENTS.items()
    if isinstance(one["Resource"], list)
    for resource in one["Resource"]
    # What is sent there is taken for a document or a fleet status message: it is not asked.
    if "health" not in resource and (sid, resource.rpartition("/")[2]) != ("Receive", "deployments")
]


@pytest.mark.parametrize(("sid", "resource"), ASKED)
async def test_a_resource_that_is_missing_is_named(certificates, broker, tmp_path, sid, resource) -> None:
    topic = resource.partition("/")[2].replace("${iot:Connection.Thing.ThingName}", "edge-1").rstrip("*")
    with cloud(certificates, without=sid, resource=resource) as running:
        found = [each for each in await asked(running, broker, jobs=tmp_path) if each.status is not FindingStatus.OK]
    assert any(topic in finding.detail and f"iot:{sid}" in finding.fix for finding in found), found


async def test_to_ask_leaves_nothing_behind_and_changes_nothing(certificates, broker, tmp_path) -> None:
    with cloud(certificates) as running:
        async with MqttTransport("watcher", running.back_door) as watcher:
            inbox = Inbox()
            for each in ("#", "$aws/#"):
                watcher.subscribe(each, inbox, qos=1)
            await connected(watcher)
            await asked(running, broker)
            seen = {message.topic: message for message in inbox.messages}
    own = [message for topic, message in seen.items() if topic.startswith("verge/")]
    assert [(message.topic, message.payload) for message in own] == [("verge/edge-1/deployments/get", b"")]
    assert not any(topic.endswith(("start-next", "health/json")) for topic in seen)


async def test_a_local_broker_is_asked_by_a_second_client_and_keeps_its_own_words(tmp_path) -> None:
    config = load(CONFIGS / "iot-core.toml", {})
    rules = ["topic readwrite verge/edge-1/components/#", "topic readwrite verge/edge-1/transports/#"]
    rules += ["topic readwrite cameras/#", "topic read verge/#"]
    (tmp_path / "acl").write_text("\n".join(rules))
    with Broker(lines=[f"acl_file {tmp_path / 'acl'}"]) as local:
        options = replace(local.options, client_id="verge")
        config = replace(config, transports={"local": options}, streams={}, deployments=None)
        async with MqttTransport("agent", options) as running:
            await connected(running)
            found = await topics.findings(config)
            assert running.state.connected
    [failure] = failures(found)
    assert "publish verge/edge-1/streams/+: not authorized" in failure.detail
    assert failure.fix == "allow it in the broker's access rules"


async def test_a_broker_that_is_not_there_is_a_finding(certificates, broker) -> None:
    with cloud(certificates) as gone:
        gone.broker.stop()
        [failure] = failures(await asked(gone, broker))
    assert "connection refused" in failure.detail


# -- the role alias, and the command --------------------------------------------------------------------------------


@contextmanager
def provider(certificates, policy: Policy) -> Iterator[AwsOptions]:
    """The credentials provider, as far as the policy lets it."""

    def answer(request: Request) -> Response:
        allowed = policy.allows(
            "AssumeRoleWithCertificate", "rolealias", request.path.split("/")[2], Connection("edge-1")
        )
        return Response(200, body()) if allowed else Response(403, refusal("Access Denied"))

    files = {"cert_file": certificates.client_cert, "key_file": certificates.client_key, "ca_file": certificates.ca}
    told = {name: str(path) for name, path in files.items()}
    with HttpServer(answer, tls=server_tls(certificates)) as server:
        host = f"localhost:{server.port}"
        yield AwsOptions(region="REGION", account="", role_alias="ROLE_ALIAS", credentials_endpoint=host, **told)


async def test_a_role_alias_that_may_not_be_used_is_named(certificates) -> None:
    whole = read(json.dumps(POLICY))
    less = read(
        json.dumps(POLICY | {"Statement": [each for each in POLICY["Statement"] if each["Sid"] != "Credentials"]})
    )
    with provider(certificates, whole) as options:
        [finding] = await topics.role(options, "edge-1")
        assert (finding.check, finding.status) == ("role alias", FindingStatus.OK)
    with provider(certificates, less) as options:
        [finding] = await topics.role(options, "edge-1")
    assert finding.status is FindingStatus.FAIL
    assert "iot:AssumeRoleWithCertificate" in finding.fix
    assert await topics.role(None, "edge-1") == []


def test_the_command_tells_and_fails(certificates, tmp_path) -> None:
    at, text = certificates, (CONFIGS / "iot-core.toml").read_text()
    with cloud(certificates, without="Receive") as running, Broker() as local:
        for old, new in (
            ("PREFIX-ats.iot.eu-west-1.amazonaws.com", "127.0.0.1"),
            ("# port = 443 ", f"port = {running.broker.port} "),
            ("port = 1883", f"port = {local.port}"),
            ("identity/current/certificate.pem", str(at.client_cert)),
            ("identity/current/private.key", str(at.client_key)),
            ('# ca_file = "identity/ca.pem"', f'ca_file = "{at.ca}"'),
        ):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "verge.toml").write_text(text)
        done = invoke(tmp_path, "doctor", "-c", "verge.toml", "--topics")
    assert done.returncode == 1
    assert "FAIL  topics cloud" in done.stdout
    assert "iot:Receive" in done.stdout
    assert invoke(tmp_path, "doctor", "--topics").returncode == 2
