from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import ConfigError
from agent.mqtt.client import MqttTransport
from agent.mqtt.factory import create
from tests.support.certs import Certificates


def test_the_options_choose_the_transport():
    assert isinstance(create("a", MqttOptions()), MqttTransport)


def test_an_unknown_option_is_refused():
    with pytest.raises(msgspec.ValidationError, match="keepalive_seconds"):
        msgspec.convert({"keepalive_seconds": 3}, MqttOptions)


@pytest.mark.parametrize(("host", "address"), [("broker", "broker:1883"), ("::1", "[::1]:1883")])
def test_an_address_is_written_as_people_do(host: str, address: str):
    assert MqttOptions(host=host).address == address


def test_tls_files_that_cannot_be_used_are_told_before_any_connection(tmp_path: Path, certificates: Certificates):
    missing = TlsOptions(ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        create("a", MqttOptions(tls=missing))
    mixed = TlsOptions(
        ca_file=str(certificates.ca), cert_file=str(certificates.client_cert), key_file=str(certificates.server_key)
    )
    with pytest.raises(ConfigError, match="key fits certificate"):
        create("a", MqttOptions(tls=mixed))


def test_an_encrypted_key_is_refused_and_the_terminal_not_asked_for_its_password(
    tmp_path: Path, certificates: Certificates
):
    key = serialization.load_pem_private_key(certificates.client_key.read_bytes(), None)
    kind, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(kind, pkcs8, serialization.BestAvailableEncryption(b"secret")))
    tls = TlsOptions(ca_file=str(certificates.ca), cert_file=str(certificates.client_cert), key_file=str(locked))
    with pytest.raises(ConfigError, match="encrypted") as wrong:
        create("a", MqttOptions(tls=tls))
    assert "openssl pkey" in str(wrong.value.hint)
