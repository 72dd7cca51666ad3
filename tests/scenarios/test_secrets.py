"""Components that read secrets of a running agent: of its folder, and of moto's Secrets Manager."""

from __future__ import annotations

import getpass
import sys
import uuid
from pathlib import Path

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document
from tests.support.ipc import PRELUDE
from tests.support.moto import ACCOUNT, Moto
from tests.support.until import until_sync

APP, MANAGER = "com.example.Reader", "aws.greengrass.SecretManager"
READS = """
client = GreengrassCoreIPCClientV2()

def read(name):
    try:
        return client.get_secret_value(secret_id=name).secret_value.secret_string
    except Exception as error:
        return type(error).__name__

while True:
    with open(sys.argv[1], "w") as file:
        file.write(" ".join(read(name) for name in ("of-a-file", "of-the-cloud", "not-allowed")))
    time.sleep(0.1)
"""


def test_a_component_reads_the_secrets_that_its_policy_names_and_no_value_is_left_on_the_disk(
    broker, tmp_path: Path, monkeypatch
) -> None:
    program, said, folder = tmp_path / "app.py", tmp_path / "said", tmp_path / "secrets"
    program.write_text(PRELUDE + READS)
    folder.mkdir()
    for name in ("of-a-file", "not-allowed"):
        (folder / name).write_text(f"value-{name}")
        (folder / name).chmod(0o600)
    app = Fleet(tmp_path / "fleet").scripts(APP, Run=f"exec {sys.executable} {program} {said}")
    policy = {
        "operations": ["aws.greengrass#GetSecretValue"],
        "resources": [f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:of-*"],
    }
    app["ComponentConfiguration"] = {"DefaultConfiguration": {"accessControl": {MANAGER: {f"{APP}:1": policy}}}}
    config = agents.configuration(f"vault-{uuid.uuid4().hex[:8]}", broker.port, tmp_path, {}) | {
        "models": {},
        "streams": {},
        "deployments": {"run_as": getpass.getuser(), "settle_s": 0.5},
        "aws": {"region": "us-east-1", "account": ACCOUNT},
        "secrets": {"folder": "secrets"},
    }

    def reads(*values: str) -> None:
        until_sync(lambda: said.exists() and said.read_text() == " ".join(values), why=said.read_text)

    with Moto() as moto:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "root")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        cloud = moto.client("secretsmanager")
        arn = cloud.create_secret(Name="of-the-cloud", SecretString="value-of-the-cloud")["ARN"]
        cloud.close()
        with agents.running(config, tmp_path) as agent:
            assert deploy(agent, document("one", [app], {APP: "1.0.0"}))["status"] == "SUCCEEDED"
            reads("value-of-a-file", "ResourceNotFoundError", "UnauthorizedError")
            both = document("two", [app], {APP: "1.0.0", MANAGER: "2.1.0"})
            merge = {"cloudSecrets": [{"arn": arn, "labels": []}]}
            both["components"][MANAGER]["configurationUpdate"] = {"merge": merge}
            assert deploy(agent, both)["status"] == "SUCCEEDED"
            reads("value-of-a-file", "value-of-the-cloud", "UnauthorizedError")
    with agents.running(config, tmp_path) as agent:  # there is no cloud now
        said.unlink()
        reads("value-of-a-file", "value-of-the-cloud", "UnauthorizedError")
        until_sync(lambda: "what was read last is served" in agent.log)
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {path.name for path in kept} >= {"cache", "key"}
    assert [path for path in kept if b"value-of" in path.read_bytes()] == []
    assert "value-" not in (tmp_path / "agent.log").read_text()
