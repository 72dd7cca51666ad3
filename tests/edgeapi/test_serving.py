"""``[serving]``: what of it is refused before anything runs, and an agent that serves on every way in."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.app import prepare, running
from agent.config.load import Config, parse
from agent.edgeapi.openinference.messages import PROTO
from agent.errors import ConfigError
from agent.inference.manifest import SAMPLES
from tests.support.broker import Broker
from tests.support.edgeapi import client
from tests.support.serving import CAT, ask

ROOT = Path(__file__).parents[2]


def config(folder: Path, thing: str = "box", port: int = 1, **serving: Any) -> Config:
    content = {
        "thing": thing,
        "data_dir": str(folder / "data"),
        "transports": {"local": {"port": port}},
        "models": {"cats": {"source": str(SAMPLES / "classifier")}},
        "serving": serving,
    }
    return parse(content, "verge.toml", folder, {})


@pytest.mark.parametrize(
    ("serving", "path", "code"),
    [
        ({"http": "0.0.0.0:8000"}, "serving.http", "serving-open"),
        ({"grpc": "box.local:8001"}, "serving.grpc", "serving-open"),
        ({"http": "[::]:8000", "token": "x"}, "serving.http", "plaintext-password"),
        ({"http": "127.0.0.1:70000"}, "serving.http", "config-wrong"),
        ({"http": "8000"}, "serving.http", "wrong-value"),
        ({"tls": {"ca_file": "ca.pem"}}, "serving.tls", "config-wrong"),
        ({"mqtt": True, "transport": "other"}, "serving.transport", "unknown-transport"),
    ],
)
def test_an_address_that_others_reach_without_a_token_or_a_certificate_is_refused(
    tmp_path: Path, serving: dict[str, Any], path: str, code: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        config(tmp_path, **serving)
    assert (refused.value.path, refused.value.code) == (path, code)


def test_on_loopback_nothing_is_needed_and_elsewhere_a_token_with_tls_or_in_the_clear_by_name(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text("no certificate")
    tls = {"cert_file": "server.pem", "key_file": "server.pem"}
    pem.chmod(0o600)
    assert config(tmp_path).serving is not None
    assert config(tmp_path, http="localhost:1", grpc="unix:v2.sock").serving is not None
    assert config(tmp_path, http="0.0.0.0:1", token="x", allow_plaintext_token=True).serving is not None
    made = config(tmp_path, http="0.0.0.0:1", token="x", tls=tls)
    _, errors = prepare(made)
    assert {(error.path, error.code) for error in errors} == {
        ("serving.http", "tls-wrong"),
        ("serving.grpc", "tls-wrong"),
    }


def test_a_token_of_a_file_is_read_where_nobody_else_can(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sesame\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        config(tmp_path, token_file="token")
    assert refused.value.code == "secret-exposed"
    file.chmod(0o600)
    serving = config(tmp_path, token_file="token").serving
    assert serving is not None
    assert serving.token == "sesame"


def test_what_is_not_installed_is_named_and_http_does_without_grpcio() -> None:
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'grpc': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from agent.config.edgeapi import ServingOptions\n"
        "from agent.edgeapi.needed import serving_problems\n"
        "import agent.edgeapi.serving, agent.edgeapi.openinference.http\n"
        "for options in (ServingOptions(grpc=''), ServingOptions()):\n"
        "    print([(one.path, one.code) for one in serving_problems(options)])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == ["[]", "[('serving.grpc', 'api-missing')]"]


async def test_an_agent_answers_over_http_grpc_and_mqtt(
    broker: Broker, thing: str, tmp_path: Path, free_port: int
) -> None:
    made = config(
        tmp_path, thing, broker.port, http=f"127.0.0.1:{free_port}", grpc=f"unix:{tmp_path}/v2.sock", mqtt=True
    )
    async with running(made) as agent:
        said = await ask(
            free_port, "POST", "/v2/models/cats/infer", CAT.read_bytes(), {"Inference-Header-Content-Length": "0"}
        )
        assert json.loads(said.behind[4:])[0]["label"] == "Egyptian cat"
        async with client(PROTO, tmp_path / "v2.sock") as over_grpc:
            assert (await over_grpc.call("ModelReady", name="cats")).ready
        heard: asyncio.Queue[Any] = asyncio.Queue()
        agent.transports["local"].subscribe(f"verge/{thing}/v2/models/cats/ready", heard.put_nowait, qos=1)
        message = await asyncio.wait_for(heard.get(), 20)
        assert json.loads(message.payload) == {"name": "cats", "ready": True}
