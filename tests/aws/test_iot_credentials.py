"""The IoT credentials provider over real mutual TLS."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.aws.answers import CredentialsRequest
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.aws.iot import IotCredentials
from agent.config.aws import AwsOptions
from agent.config.strict import convert
from agent.errors import ConfigError
from tests.support import certs
from tests.support.credentials_endpoint import EXPIRES, Endpoint, refusal

HOUR = 3600.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = EXPIRES.timestamp() - HOUR

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def endpoint(certificates):
    with Endpoint(certificates) as running:
        yield running


def provider(certificates, clock, host, **files) -> IotCredentials:
    told = {
        "cert_file": str(certificates.client_cert),
        "key_file": str(certificates.client_key),
        "ca_file": str(certificates.ca),
    }
    return IotCredentials(CredentialsRequest("camera-7", "device-alias"), host, clock=clock, **(told | files))


@pytest.fixture
def device(certificates, clock, endpoint):
    return provider(certificates, clock, endpoint.host)


def test_the_certificate_and_the_thing_s_name_are_what_it_asks_with(device, endpoint):
    assert device.get().access_key == "ASIAROLE"
    asked = endpoint.requests[0]
    assert asked.path == "/role-aliases/device-alias/credentials"
    assert asked.headers["x-amzn-iot-thingname"] == "camera-7"
    assert asked.common_name == "client"


def test_credentials_are_asked_for_anew_300_seconds_before_they_expire(device, endpoint, clock):
    first = device.get()
    clock.now = EXPIRES.timestamp() - 300.5
    assert device.get() is first
    assert len(endpoint.requests) == 1
    clock.now = EXPIRES.timestamp() - 300
    device.get()
    assert len(endpoint.requests) == 2
    device.get()  # less than 300 s are left of these: given, and not held
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(("status", "held_s"), [(403, 120), (404, 120), (503, 60), (302, 300)])
def test_a_refusal_is_held_as_long_as_the_nucleus_holds_it(device, endpoint, clock, status, held_s):
    endpoint.answers.append((status, refusal("Access Denied")))
    for _ in range(3):
        with pytest.raises((CredentialsError, CredentialsUnreachableError)) as failure:
            device.get()
        assert failure.value.status == status
        clock.now += held_s / 2 - 0.5
    assert len(endpoint.requests) == 1
    clock.now += 2
    assert device.get().access_key == "ASIAROLE"


def test_a_clock_that_was_set_back_makes_no_refusal_last_longer(device, endpoint, clock):
    endpoint.answers.append((403, refusal("Access Denied")))
    with pytest.raises(CredentialsError):
        device.get()
    clock.now -= 86_400
    assert device.get().access_key == "ASIAROLE"


def test_that_nobody_answered_is_not_held(certificates, clock, free_port):
    device = provider(certificates, clock, f"localhost:{free_port}")
    with pytest.raises(CredentialsUnreachableError, match="refused") as failure:
        device.get()
    assert failure.value.code == "NETWORK_ERROR"
    assert failure.value.status is None
    with Endpoint(certificates, port=free_port):
        assert device.get().access_key == "ASIAROLE"


def test_many_at_once_are_one_request(device, endpoint):
    first = threading.Event()
    endpoint.before = lambda: first.wait(10)
    with ThreadPoolExecutor(8) as threads:
        pending = [threads.submit(device.get) for _ in range(8)]
        first.set()
        assert len({each.result(20) for each in pending}) == 1
    assert len(endpoint.requests) == 1


def test_a_server_that_cannot_be_trusted_is_told_at_once(certificates, clock, endpoint, tmp_path):
    stranger = certs.create(tmp_path / "stranger")
    with pytest.raises(CredentialsError, match=r"no TLS.*certificate") as failure:
        provider(certificates, clock, endpoint.host, ca_file=str(stranger.ca)).get()
    assert failure.value.code == "TLS_HANDSHAKE_FAILURE"
    assert endpoint.requests == []


def test_a_certificate_that_the_server_does_not_take_gets_no_credentials(certificates, clock, endpoint, tmp_path):
    stranger = certs.create(tmp_path / "stranger")
    files = {"cert_file": str(stranger.client_cert), "key_file": str(stranger.client_key)}
    with pytest.raises((CredentialsError, CredentialsUnreachableError)) as failure:
        provider(certificates, clock, endpoint.host, **files).get()
    assert failure.value.code in {"TLS_HANDSHAKE_FAILURE", "NETWORK_ERROR"}
    assert endpoint.requests == []


def test_files_that_cannot_be_used_are_named(certificates, clock, endpoint, tmp_path):
    (tmp_path / "empty.pem").write_text("")
    for files in ({"cert_file": str(tmp_path / "missing.pem")}, {"key_file": str(tmp_path / "empty.pem")}):
        with pytest.raises(CredentialsError, match="certificate cannot be used") as failure:
            provider(certificates, clock, endpoint.host, **files).get()
        assert failure.value.code == "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"
        assert next(iter(files.values())) in failure.value.hint


def test_a_rotated_certificate_holds_from_the_next_request_on(certificates, clock, endpoint, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "cert.key"
    device = provider(certificates, clock, endpoint.host, cert_file=str(cert), key_file=str(key))
    with pytest.raises(CredentialsError):
        device.get()
    cert.write_bytes(certificates.client_cert.read_bytes())
    key.write_bytes(certificates.client_key.read_bytes())
    assert device.get().access_key == "ASIAROLE"


def test_no_secret_is_logged(device, endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    device.get()
    assert "hush" not in caplog.text


OPTIONS = AwsOptions(
    role_alias="device-alias",
    credentials_endpoint="c2abc.credentials.iot.eu-west-1.amazonaws.com",
    cert_file="cert.pem",
    key_file="cert.key",
)


def test_the_configuration_makes_a_provider_where_it_names_a_role_alias():
    assert isinstance(IotCredentials.of(OPTIONS, "camera-7"), IotCredentials)
    assert IotCredentials.of(AwsOptions(), "camera-7") is None


@pytest.mark.parametrize("host", ["", "https://host", "host/path", "user@host", "host?x", "a host"])
def test_an_endpoint_that_is_no_host_is_refused(host):
    wrong = AwsOptions(role_alias="a", credentials_endpoint=host, cert_file="c", key_file="k")
    with pytest.raises(ConfigError) as failure:
        IotCredentials.of(wrong, "camera-7")
    assert failure.value.code == "IOT_CRED_ENDPOINT_FORMAT_NOT_VALID"


def test_a_role_alias_without_a_certificate_is_refused():
    with pytest.raises(ConfigError, match="certificate"):
        IotCredentials.of(AwsOptions(role_alias="a", credentials_endpoint="host"), "camera-7")


@pytest.mark.parametrize(
    "wrong", [{"account": "12345"}, {"role_alias": "a/b"}, {"role_alias": "a" * 129}, {"acount": ""}]
)
def test_the_table_refuses_what_cannot_be(wrong):
    with pytest.raises(ConfigError):
        convert(AwsOptions, wrong, "verge.toml")


def test_the_region_is_told_or_found():
    assert OPTIONS.place({}) == "eu-west-1"
    assert AwsOptions(region="us-west-2", credentials_endpoint=OPTIONS.credentials_endpoint).place({}) == "us-west-2"
    assert AwsOptions().place({"AWS_REGION": "ap-south-1"}) == "ap-south-1"
    assert AwsOptions().place({}) is None
