"""What the table of an IoT Core transport may say, and what comes of it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.config.load import parse
from agent.config.transports import IotCoreOptions, MqttOptions
from agent.errors import ConfigError
from agent.mqtt.factory import create
from tests.support.certs import Certificates

ENDPOINT = "a1b2c3-ats.iot.eu-west-1.amazonaws.com"
FILES = {"cert_file": "c.pem", "key_file": "k.pem"}


def options(**values: Any) -> IotCoreOptions:
    return msgspec.convert({"endpoint": ENDPOINT, **values}, IotCoreOptions)


def config(**tables: Any) -> Any:
    return parse({"thing": "camera-7", "transports": tables}, "verge.toml", Path("/etc/verge"), {})


@pytest.mark.parametrize(
    ("values", "way", "port", "alpn"),
    [
        (FILES, "certificate", 8883, None),
        ({**FILES, "port": 443}, "certificate", 443, "x-amzn-mqtt-ca"),
        ({**FILES, "port": 443, "alpn": ""}, "certificate", 443, None),
        ({**FILES, "port": 12_345, "alpn": "x-amzn-mqtt-ca"}, "certificate", 12_345, "x-amzn-mqtt-ca"),
        ({"cert_file": "c.pem", "pkcs11": {"library": "l.so"}}, "pkcs11", 8883, None),
        ({"sigv4": {}}, "sigv4", 443, "http/1.1"),
        ({"authorizer": {}}, "authorizer", 443, "mqtt"),
        ({"authorizer": {}, "port": 8883}, "authorizer", 8883, "mqtt"),
        ({"authorizer": {"websockets": True}}, "authorizer", 443, None),
    ],
)
def test_each_way_has_its_port_and_protocol(values: dict[str, Any], way: str, port: int, alpn: str | None):
    made = options(**values)
    assert (made.way, made.port_used, made.alpn_used, made.address) == (way, port, alpn, f"{ENDPOINT}:{port}")
    assert made.websockets == (way == "sigv4" or "websockets" in values.get("authorizer", {}))


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, "name one of key_file (with cert_file), pkcs11, sigv4 and authorizer, not nothing"),
        ({**FILES, "sigv4": {}}, "not sigv4 and key_file"),
        ({"key_file": "k.pem"}, "cert_file goes together with key_file or pkcs11"),
        ({"cert_file": "c.pem", "sigv4": {}}, "cert_file goes together with key_file or pkcs11"),
        ({"endpoint": "broker", "sigv4": {}}, "sigv4.region is needed"),
        ({**FILES, "batch": {"max_bytes": 131_073}}, "above the 131072 bytes"),
        ({**FILES, "batch": {}, "limits": {"bytes_per_s": 101_023}}, "above the 99999 bytes"),
        ({**FILES, "batch": {"topics": ["a/#/b"]}}, "'a/#/b' is no MQTT topic filter"),
        ({**FILES, "basic_ingest": {"rule": "a/b"}}, "Expected `str` matching regex"),
        ({**FILES, "client_id": "t" * 129}, "length <= 128"),
        ({**FILES, "keepalive_s": 4}, "`int` >= 5"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(values: dict[str, Any], wrong: str):
    with pytest.raises(ConfigError) as refused:
        config(cloud={"type": "iotcore", "endpoint": ENDPOINT, **values})
    assert "transports.cloud" in refused.value.message
    assert wrong.lower() in refused.value.message.lower()


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        (ENDPOINT, "eu-west-1"),
        ("a1.iot.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("vpce-1.a1-ats.iot.us-east-1.amazonaws.com", "us-east-1"),
        ("broker.example.org", ""),
    ],
)
def test_the_region_stands_in_the_endpoint(endpoint: str, region: str):
    assert options(endpoint=endpoint, **FILES).region == region
    assert options(endpoint=endpoint, sigv4={"region": "ap-south-1"}).region == "ap-south-1"


def test_the_defaults_are_those_of_iot_core():
    made = options(**FILES)
    assert (made.limits.payload_bytes, made.limits.topic_bytes, made.limits.topic_slashes) == (131_072, 256, 7)
    assert (made.limits.publishes_per_s, made.limits.bytes_per_s, made.limits.in_flight) == (100, 524_288, 100)
    assert (made.clean_start, made.session_expiry_s, made.keepalive_s) == (False, 604_800, 60)
    assert (made.batch, made.basic_ingest, made.proxy, made.outbox) == (None, None, None, None)


# -- in the configuration ----------------------------------------------------------------------------------------------


def test_a_transport_without_type_is_mqtt_and_the_others_say_theirs():
    made = config(
        local={"host": "broker"}, other={"type": "mqtt"}, cloud={"type": "iotcore", "endpoint": ENDPOINT, **FILES}
    )
    kinds = {name: type(item) for name, item in made.transports.items()}
    assert kinds == {"local": MqttOptions, "other": MqttOptions, "cloud": IotCoreOptions}


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"hots": "x"}, "unknown key transports.x.hots in verge.toml", "did you mean host?"),
        ({"endpoint": "x"}, "unknown key transports.x.endpoint in verge.toml", None),
        ({"type": "iotcore", "prt": 1}, "unknown key transports.x.prt in verge.toml", "did you mean port?"),
        ({"type": "iotcore"}, "transports.x in verge.toml: object missing required field `endpoint`", None),
        (
            {"type": "iotcore", "endpoint": "x", **FILES, "limits": {"payload_byte": 1}},
            "unknown key transports.x.limits.payload_byte in verge.toml",
            "did you mean payload_bytes?",
        ),
        ({"type": "iotcor"}, "transports.x.type in verge.toml: there is no type 'iotcor'", "did you mean iotcore?"),
        ({"type": 3}, "transports.x.type in verge.toml: there is no type 3", "known: mqtt, iotcore, greengrass"),
        ({"port": "x"}, "transports.x.port in verge.toml: expected `int`, got `str`", None),
    ],
)  # fmt: skip
def test_a_mistake_is_told_for_the_type_that_the_table_has(table: dict[str, Any], message: str, hint: str | None):
    with pytest.raises(ConfigError) as refused:
        config(x=table, cloud={"type": "iotcore", "endpoint": ENDPOINT, **FILES})
    assert refused.value.message == message
    assert hint is None or refused.value.hint == hint


def test_the_environment_may_say_the_type():
    environment = {
        "VERGE_TRANSPORTS__CLOUD__TYPE": "iotcore",
        "VERGE_TRANSPORTS__CLOUD__ENDPOINT": ENDPOINT,
        "VERGE_TRANSPORTS__CLOUD__CERT_FILE": "c.pem",
        "VERGE_TRANSPORTS__CLOUD__KEY_FILE": "k.pem",
    }
    made = parse({}, "verge.toml", Path("/etc/verge"), environment)
    assert made.transports["cloud"].endpoint == ENDPOINT
    with pytest.raises(ConfigError) as refused:
        parse({}, "verge.toml", Path(), {**environment, "VERGE_TRANSPORTS__CLOUD__TYPE": "iotcor"})
    assert refused.value.message == "transports.cloud.type in VERGE_TRANSPORTS__CLOUD__TYPE: there is no type 'iotcor'"


def test_iot_core_knows_the_client_by_the_name_of_its_thing():
    table = {"type": "iotcore", "endpoint": ENDPOINT, **FILES}
    made = config(cloud=table, second={**table, "client_id": "camera-7-second"})
    assert [each.client_id for each in made.transports.values()] == ["camera-7", "camera-7-second"]


def test_files_are_found_beside_the_configuration_and_secrets_read(tmp_path: Path):
    for name in ("password", "token", "pin", "proxy"):
        (tmp_path / name).write_text(f"the {name}\n")
        (tmp_path / name).chmod(0o600)
    tables = {
        "files": {**FILES, "ca_file": "ca.pem", "proxy": {"host": "::1", "username": "u", "password_file": "proxy"}},
        "module": {"cert_file": "c.pem", "pkcs11": {"library": "l.so", "pin_file": "pin"}},
        "authorizer": {"authorizer": {"password_file": "password", "token_file": "token", "token_key": "t"}},
    }
    tables = {key: {"type": "iotcore", "endpoint": ENDPOINT, **table} for key, table in tables.items()}
    made = parse({"transports": tables}, "verge.toml", tmp_path, {}).transports
    assert (made["files"].ca_file, made["files"].key_file) == (str(tmp_path / "ca.pem"), str(tmp_path / "k.pem"))
    assert made["files"].proxy.password == "the proxy"
    assert made["module"].pkcs11.pin == "the pin"
    assert (made["authorizer"].authorizer.password, made["authorizer"].authorizer.token) == (
        "the password",
        "the token",
    )
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        parse({"transports": tables}, "verge.toml", tmp_path, {})


# -- what it needs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "more", "fine"),
    [
        ("127.0.0.1", {}, True),
        ("proxy.example", {}, False),
        ("proxy.example", {"allow_plaintext_password": True}, True),
    ],
)
def test_a_proxy_s_password_is_not_sent_in_the_clear_unless_told_so(host: str, more: dict[str, Any], *, fine: bool):
    proxy = {"host": host, "username": "u", "password": "p", **more}
    with nullcontext() if fine else pytest.raises(ConfigError, match=r"transports\.cloud\.proxy would send"):
        config(cloud={"type": "iotcore", "endpoint": ENDPOINT, "proxy": proxy, **FILES})


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o640, True), (0o644, False), (0o604, False)])
def test_a_private_key_that_everybody_can_read_is_refused(tmp_path: Path, mode: int, *, fine: bool):
    key = tmp_path / "k.pem"
    key.touch()
    key.chmod(mode)
    with nullcontext() if fine else pytest.raises(ConfigError, match="can be read by others"):
        config(cloud={"type": "iotcore", "endpoint": ENDPOINT, "cert_file": "c.pem", "key_file": str(key)})


def test_tls_files_that_cannot_be_used_are_told_before_any_connection(tmp_path: Path, certificates: Certificates):
    good = {"ca_file": certificates.ca, "cert_file": certificates.client_cert, "key_file": certificates.client_key}
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no PEM")
    for key in good:
        for bad in (tmp_path / "missing.pem", no_pem):
            files = {**{each: str(path) for each, path in good.items()}, key: str(bad)}
            with pytest.raises(ConfigError, match="TLS files cannot be used") as wrong:
                create("cloud", options(**files))
            assert str(bad) in str(wrong.value.hint)


def test_a_security_module_that_is_not_there_is_told_before_any_connection(certificates: Certificates):
    values = {"cert_file": str(certificates.client_cert), "pkcs11": {"library": "no-such-module.so", "pin": "1234"}}
    with pytest.raises(ConfigError, match=r"PKCS#11 library no-such-module\.so cannot be used") as wrong:
        create("cloud", options(**values))
    assert wrong.value.code == "no-pkcs11"
    assert "key_file" in str(wrong.value.hint)


def python(program: str) -> str:
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_awscrt_is_imported_only_where_it_is_configured():
    program = (
        "import sys; from agent.config.load import load; from agent.mqtt.factory import create\n"
        "from agent.config.transports import MqttOptions; create('a', MqttOptions())\n"
        "print([name for name in sys.modules if 'awscrt' in name or 'awsiot' in name])"
    )
    assert python(program) == "[]\n"


def test_without_awscrt_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['awscrt'] = None\n"
        "from agent.errors import ConfigError; from agent.mqtt.factory import create\n"
        "from agent.config.transports import IotCoreOptions\n"
        "try: create('cloud', IotCoreOptions(endpoint='e', cert_file='c', key_file='k'))\n"
        "except ConfigError as error: print(error.code, error)"
    )
    said = python(program)
    assert said.startswith("not-installed transport cloud needs awscrt")
    assert "pip install 'verge-edge[aws]'" in said
