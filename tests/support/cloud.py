"""A mosquitto in the place of AWS IoT Core: mutual TLS, and an IoT policy that it enforces.

Things come in by certificate and may do what the policy says; whoever serves them (jobs, provisioning) or watches them
comes in by a second listener without TLS, the back door, and may do everything.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

from agent.config.transports import IotCoreOptions, MqttOptions
from tests.support.broker import Broker
from tests.support.certs import Certificates
from tests.support.mosquitto_acl import Access
from tests.support.ports import HeldPort

PLUGIN = "mosquitto_dynamic_security.so"
_PLACES = ("/usr/lib", "/usr/local/lib")
INSTALL = "apt-get install mosquitto"


def plugin() -> Path:
    """Where mosquitto's dynamic security plugin is."""
    for place in _PLACES:
        for found in Path(place).rglob(PLUGIN):
            return found
    pytest.skip(f"{PLUGIN} is not installed; install it: {INSTALL}")


class Cloud:
    """The broker; ``access`` of None lets every certificate do everything."""

    def __init__(self, certificates: Certificates, access: Access | None = None) -> None:
        self.certificates = certificates
        self._held = HeldPort()
        self.back_port = self._held.number
        self._folder = Path(tempfile.mkdtemp(prefix="verge-cloud-"))
        lines: list[str] = []
        if access is not None:
            rules = self._folder / "rules.json"
            rules.write_text(json.dumps(_with_back_door(access.rules)))
            lines = [f"plugin {plugin()}", f"plugin_opt_config_file {rules}"]
            # The plugin cannot keep a client from connecting that has a certificate.
            lines += [] if access.connects else ["clientid_prefixes operator"]
        self.broker = Broker(
            lines=lines,
            tls=certificates,
            client_certificates=True,
            listener=["use_identity_as_username true", f"listener {self.back_port} 127.0.0.1"],
        )

    def iotcore(self, **more: Any) -> IotCoreOptions:
        """What a thing with the test's certificate needs to get in."""
        files = {"ca_file": self.certificates.ca, "cert_file": self.certificates.client_cert}
        files["key_file"] = self.certificates.client_key
        told = {name: str(path) for name, path in files.items()}
        return IotCoreOptions(endpoint="127.0.0.1", port=self.broker.port, **(told | more))

    @property
    def back_door(self) -> MqttOptions:
        """What a service or an operator needs."""
        return MqttOptions(port=self.back_port, client_id="operator", backoff_base_s=0.05, backoff_cap_s=0.2)

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.broker.close()
        self._held.release()
        shutil.rmtree(self._folder, ignore_errors=True)


def _with_back_door(rules: dict[str, Any]) -> dict[str, Any]:
    kinds = ("subscribePattern", "publishClientSend", "publishClientReceive")
    acls = [
        {"acltype": kind, "topic": topic, "allow": True}
        for kind in kinds
        for topic in ("#", "$aws/#")
    ]  # fmt: skip
    return rules | {
        "roles": [*rules["roles"], {"rolename": "operator", "acls": acls}],
        "groups": [{"groupname": "operators", "roles": [{"rolename": "operator"}]}],
        "anonymousGroup": "operators",
    }
