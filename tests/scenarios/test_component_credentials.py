"""A component gets the credentials of the device's role from the agent, by the AWS SDK alone; others do not."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.credentials_endpoint import Endpoint
from tests.support.fleet import Fleet, deploy, document
from tests.support.moto import Moto
from tests.support.until import until_sync

READER, STRANGER = "com.acme.reader", "com.acme.stranger"
EXCHANGE = {"aws.greengrass.TokenExchangeService": {"VersionRequirement": "^2.0.0", "DependencyType": "HARD"}}
READ = """
import boto3, json, os, pathlib, sys
made = boto3.session.Session().get_credentials()
body = boto3.client("s3", endpoint_url=sys.argv[1]).get_object(Bucket="acme", Key="settings")["Body"].read()
told = {"key": made.access_key, "method": made.method, "body": body.decode()}
told["uri"] = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
pathlib.Path(sys.argv[2]).write_text(json.dumps(told))
"""
PRY = """
import json, os, pathlib, sys, urllib.error, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Authorization": os.environ["SVCUID"]})
try:
    urllib.request.urlopen(asked, timeout=10)
except urllib.error.HTTPError as error:
    told = {"status": error.code, "uri": os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")}
    pathlib.Path(sys.argv[2]).write_text(json.dumps(told))
"""


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    return agents.configuration(thing, broker.port, tmp_path, {}) | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }


def written(path: Path, agent: agents.Agent) -> dict[str, Any]:
    until_sync(lambda: path.exists() and path.read_text(), why=lambda: agent.log)
    return json.loads(path.read_text())


def test_a_component_that_depends_on_the_token_exchange_reads_s3_with_the_device_s_role_and_others_may_not(
    config, certificates, tmp_path, monkeypatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    fleet, seen, pried = Fleet(tmp_path / "fleet"), tmp_path / "seen.json", tmp_path / "pried.json"
    scripts = {name: tmp_path / f"{name}.py" for name in ("read", "pry")}
    scripts["read"].write_text(READ)
    scripts["pry"].write_text(PRY)
    files = {"cert_file": certificates.client_cert, "key_file": certificates.client_key, "ca_file": certificates.ca}
    with Moto() as moto, Endpoint(certificates) as provider:
        moto.put("acme", "settings", b"threshold=0.4")
        config["aws"] = {"region": "us-east-1", "role_alias": "Devices", "credentials_endpoint": provider.host}
        config["aws"] |= {name: str(path) for name, path in files.items()}
        reader = fleet.scripts(READER, Run=f"{sys.executable} {scripts['read']} {moto.url} {seen}")
        reader["ComponentDependencies"] = EXCHANGE
        with agents.running(config, tmp_path) as agent:
            assert deploy(agent, document("d1", [reader], {READER: "1.0.0"}))["status"] == "SUCCEEDED"
            told = written(seen, agent)
            uri = told.pop("uri")
            assert told == {"key": "ASIAROLE", "method": "container-role", "body": "threshold=0.4"}
            stranger = fleet.scripts(STRANGER, Run=f"{sys.executable} {scripts['pry']} {uri} {pried}")
            both = document("d2", [reader, stranger], {READER: "1.0.0", STRANGER: "1.0.0"})
            assert deploy(agent, both)["status"] == "SUCCEEDED"
            assert written(pried, agent) == {"status": 403, "uri": None}
            assert "hush" not in agent.log  # the role's secrets
    assert [asked.path for asked in provider.requests] == ["/role-aliases/Devices/credentials"]
