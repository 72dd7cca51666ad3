"""The table ``[greengrass]`` in the configuration, and what it costs who leaves it out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.load import parse
from agent.errors import ConfigError

LOCAL = {"transports": {"local": {}}}
CORE = {
    "transports": {"core": {"type": "iotcore", "endpoint": "e", "cert_file": "c.pem", "key_file": "k", "ca_file": "a"}}
}
ASK = {"greengrass": {"enabled": True, "data_endpoint": "greengrass.example"}}


def asked(told):
    return parse(told, "verge.toml", Path("/etc/verge"), {}).greengrass


def test_it_is_off_by_default_and_then_asks_for_nothing():
    assert not asked(LOCAL).enabled
    assert asked(CORE).cert_file is None


@pytest.mark.parametrize(
    ("told", "certificate"),
    [
        (CORE | ASK, "/etc/verge/c.pem"),
        (CORE | ASK | {"aws": {"region": "eu-west-1"}}, "/etc/verge/c.pem"),
        (CORE | ASK | {"aws": {"cert_file": "aws.pem"}}, "/etc/verge/aws.pem"),
        (CORE | {"greengrass": ASK["greengrass"] | {"cert_file": "/own.pem"}}, "/own.pem"),
    ],
)
def test_the_certificate_is_its_own_else_the_account_s_else_that_of_iot_core(told, certificate):
    assert asked(told).cert_file == certificate
    assert (asked(told).key_file, asked(told).ca_file) == ("/etc/verge/k", "/etc/verge/a")


def test_the_endpoint_is_the_region_s():
    told = CORE | {"greengrass": {"enabled": True}, "aws": {"region": "eu-west-1"}}
    assert asked(told).base_url == "https://greengrass-ats.iot.eu-west-1.amazonaws.com:8443"


@pytest.mark.parametrize(
    ("told", "lacks"), [(LOCAL | ASK, "certificate"), (LOCAL | {"greengrass": {"enabled": 1}}, "bool")]
)
def test_what_cannot_ask_is_refused_at_once(told, lacks):
    with pytest.raises(ConfigError, match=lacks):
        asked(told)


def test_who_does_not_ask_the_cloud_does_not_load_what_asks_it():
    code = (
        "import sys, agent.app; print('urllib3' in sys.modules)\n"
        "import agent.greengrass.wiring; print('agent.greengrass.cloud.client' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]
