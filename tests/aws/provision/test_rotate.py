"""A new certificate by job: proved before the old one is left, and a way back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from awscrt import mqtt_request_response
from awsiot import iotidentity, mqtt5_client_builder

from agent.aws.provision import rotate as rotating
from agent.aws.provision.enroll import Enrollment, from_files
from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.home import Home
from agent.aws.provision.keys import certificate_facts, check_pair, new_key, request
from agent.aws.provision.prove import prove
from agent.aws.provision.rotate import RotateOptions, is_rotation, read_rotation, rotate
from agent.config.transports import IotCoreOptions
from agent.errors import VergeError
from agent.mqtt.client import MqttTransport
from agent.mqtt.factory import create
from tests.support.inbox import connected
from tests.support.provisioning import CSR, REGISTER

WISH = RotateOptions(operation="verge:rotate-certificate", template="rotation")


@asynccontextmanager
async def thing(site, folder) -> AsyncIterator[tuple[Home, IotCoreOptions, MqttTransport]]:
    """A device ``edge-1`` at work with what it was provisioned with."""
    at, home = site.cloud.certificates, Home(folder / "identity")
    wish = Enrollment(folder / "verge.toml", home, "127.0.0.1", site.cloud.broker.port, at.ca)
    await from_files(wish, "edge-1", at.client_cert, at.client_key)
    pair = home.current
    options = site.cloud.iotcore(
        cert_file=str(pair.certificate), key_file=str(pair.key), client_id="edge-1", backoff_base_s=0.05
    )
    async with create("cloud", options) as transport:
        await connected(transport)
        yield home, options, transport


async def test_the_new_certificate_is_in_use_once_it_is_proved(site, tmp_path) -> None:
    async with thing(site, tmp_path) as (home, options, transport):
        before = certificate_facts(home.current.certificate.read_bytes())
        told = await rotate(WISH, "edge-1", home, options, transport)
        after = check_pair(home.current.certificate.read_bytes(), home.current.key.read_bytes())
        assert (told["certificateId"], told["previousCertificateId"]) == (after.id, before.id)
        assert told["proof"].startswith("connected, subscribed")
        assert site.service.asked[-1][1]["parameters"] == {"ThingName": "edge-1"}
        assert await prove(options, "edge-1")  # the same names of files, the new certificate
        assert all(len(value) <= 1024 for value in told.values())  # a job's status details
        await connected(transport)  # whom the proof had put out is back


async def test_a_rotation_can_be_taken_back(site, tmp_path) -> None:
    async with thing(site, tmp_path) as (home, options, transport):
        first = home.current.certificate.read_bytes()
        with pytest.raises(ProvisioningError, match="no previous identity"):
            home.rollback()
        await rotate(WISH, "edge-1", home, options, transport)
        second = home.current.certificate.read_bytes()
        assert home.rollback().certificate.read_bytes() == first
        assert home.rollback().certificate.read_bytes() == second
        await rotate(WISH, "edge-1", home, options, transport)
        await rotate(WISH, "edge-1", home, options, transport)
        assert len([each for each in home.folder.iterdir() if not each.is_symlink()]) == 2


class _PlugPulled(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("place", ["new_key", "request", "check_pair", "prove"])
async def test_whatever_fails_leaves_the_old_certificate_in_use(site, tmp_path, monkeypatch, place) -> None:
    async with thing(site, tmp_path) as (home, options, transport):
        before = home.current.certificate.read_bytes(), home.current.key.read_bytes()

        def pulled(*_args, **_more):
            raise _PlugPulled

        monkeypatch.setattr(rotating, place, pulled)
        with pytest.raises(_PlugPulled):
            await rotate(WISH, "edge-1", home, options, transport)
        assert before == (home.current.certificate.read_bytes(), home.current.key.read_bytes())


@pytest.mark.parametrize("step", [CSR, REGISTER])
async def test_a_refusal_leaves_the_old_certificate_in_use_and_says_why(site, tmp_path, step) -> None:
    site.service.rejects[step] = (403, "AccessDenied", "not this device")
    async with thing(site, tmp_path) as (home, options, transport):
        before = home.current.certificate.read_bytes()
        with pytest.raises(ProvisioningError, match="not this device"):
            await rotate(WISH, "edge-1", home, options, transport)
        assert home.current.certificate.read_bytes() == before


async def test_a_certificate_for_another_thing_or_out_of_time_is_not_taken(site, tmp_path) -> None:
    async with thing(site, tmp_path) as (home, options, transport):
        before = home.current.certificate.read_bytes()
        other = RotateOptions(operation=WISH.operation, template="rotation", parameters={"ThingName": "edge-2"})
        with pytest.raises(ProvisioningError, match="for edge-2, not for edge-1"):
            await rotate(other, "edge-1", home, options, transport)
        site.service.days = -1
        with pytest.raises(ProvisioningError, match="expired"):
            await rotate(WISH, "edge-1", home, options, transport)
        assert home.current.certificate.read_bytes() == before


@pytest.mark.parametrize(
    ("document", "asks"),
    [
        ({"operation": "verge:rotate-certificate", "template": "t"}, True),
        ({"operation": "verge:rotate-certificate"}, True),
        ({"operation": "verge:rotate-certificates"}, False),
        ({"deploymentId": "d1", "components": {}}, False),
        ({"components": {"operation": "verge:rotate-certificate"}}, False),
    ],
)
def test_the_operation_is_told_from_a_deployment(document, asks) -> None:
    assert is_rotation(json.dumps(document).encode()) is asks
    assert is_rotation(json.dumps(document, separators=(",", ":")).encode()) is asks
    assert not is_rotation(json.dumps(document).encode()[:-1])


@pytest.mark.parametrize(
    "more",
    [{}, {"template": ""}, {"template": "a/b"}, {"template": "t", "parameters": {"a": 1}}, {"template": "t", "x": 1}],
)
def test_a_document_that_is_wrong_is_refused(more) -> None:
    with pytest.raises(VergeError):
        read_rotation(json.dumps({"operation": "verge:rotate-certificate", **more}).encode())


async def test_the_stand_in_speaks_as_awss_own_client_expects(site) -> None:
    at, up, down = site.cloud.certificates, threading.Event(), threading.Event()
    client = mqtt5_client_builder.mtls_from_path(
        endpoint="127.0.0.1", port=site.cloud.broker.port, cert_filepath=str(at.client_cert),
        pri_key_filepath=str(at.client_key), ca_filepath=str(at.ca), client_id="sdk",
        on_lifecycle_connection_success=lambda _: up.set(), on_lifecycle_stopped=lambda _: down.set(),
    )  # fmt: skip
    client.start()
    assert await asyncio.to_thread(up.wait, 10)
    options = mqtt_request_response.ClientOptions(max_request_response_subscriptions=4, max_streaming_subscriptions=1)
    sdk = iotidentity.IotIdentityClientV2(client, options)
    key = new_key()
    asked = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=request(key, "edge-1"))
    signed = await asyncio.wrap_future(sdk.create_certificate_from_csr(asked))
    assert check_pair(signed.certificate_pem.encode(), key).id == signed.certificate_id
    registering = iotidentity.RegisterThingRequest(
        template_name="t", certificate_ownership_token=signed.certificate_ownership_token,
        parameters={"ThingName": "edge-1"},
    )  # fmt: skip
    assert (await asyncio.wrap_future(sdk.register_thing(registering))).thing_name == "edge-1"
    # The library's own thread still has work with both: the one that uses the other goes first.
    del sdk
    client.stop()
    assert await asyncio.to_thread(down.wait, 10)
