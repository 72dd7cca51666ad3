"""``verge run --check`` names everything for which ``verge run`` would refuse a configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.app import check, running
from agent.config.load import load, read
from agent.errors import VergeError
from tests.support.certs import Certificates
from tests.support.commands import invoke

BARE = """
data_dir = "data"
[transports.local]
port = 1
"""
GOOD = f"""{BARE}
[models.eyes]
source = "classifier"
[streams.line]
model = "eyes"
input = {{ topic = "cameras/+" }}
"""
LOCAL, EYES, LINE = "[transports.local]\n", "[models.eyes]\n", "[streams.line]\n"
INPUT = 'input = { topic = "cameras/+" }'


def among(table: str, line: str) -> str:
    """A good configuration with one more line in a table."""
    return (BARE if table == LOCAL else GOOD).replace(table, table + line + "\n")


def cloud(more: str = "", files: str = 'cert_file = "c.pem"\nkey_file = "k.pem"') -> str:
    return f'{BARE}\n[transports.cloud]\ntype = "iotcore"\nendpoint = "localhost"\n{files}\n{more}'


SHARED = 'tls = { cert_file = "c.pem", key_file = "shared.pem" }'
REFUSED = [
    # the file
    ("lgo_level = 1\n" + BARE, "lgo_level", "unknown-key"),
    ('log_level = "loud"\n' + BARE, "log_level", "config-wrong"),
    (among(LOCAL, 'type = "kafka"'), "transports.local.type", "wrong-value"),
    (among(LOCAL, "max_queued_messages = -1"), "transports.local.max_queued_messages", "wrong-value"),
    (among(EYES, "deadline_s = -1"), "models.eyes.deadline_s", "wrong-value"),
    (GOOD.replace('"eyes"', '"eye"'), "streams.line.model", "unknown-model"),
    (among(LINE, 'outputs = [{ transport = "clod" }]'), "streams.line.outputs[0].transport", "unknown-transport"),
    (BARE + '[status]\nprefix = "verge/{host}"', "status.prefix", "topic-wrong"),
    (BARE + '[status]\nprefix = "verge/#"', "status.prefix", "topic-wrong"),
    (BARE + '[deployments]\naws_prefix = "+"', "deployments.aws_prefix", "wrong-value"),
    # streams
    (GOOD.replace("cameras/+", "cameras+"), "streams.line.input.topic", "bad-topic"),
    (GOOD.replace(INPUT, "input = {}"), "streams.line.input", "input-source"),
    (GOOD.replace(INPUT, 'input = { camera = { source = "" } }'), "streams.line.input.camera.source", "bad-camera"),
    (among(LINE, 'outputs = [{}, { topic = "a/+/b" }]'), "streams.line.outputs[1].topic", "topic-wrong"),
    (among(LINE, 'outputs = [{ topic = "a/{lable}" }]'), "streams.line.outputs[0].topic", "topic-wrong"),
    (among(LINE, 'snapshots = { topic = "a/#" }'), "streams.line.snapshots.topic", "topic-wrong"),
    (among(LINE, 'outputs = [{ format = "awz" }]'), "streams.line.outputs[0].format", "format-unknown"),
    (among(LINE, "filter = { min_score = 2 }"), "streams.line.filter.min_score", "wrong-value"),
    (among(LINE, 'filter = { lables = ["a"] }'), "streams.line.filter.lables", "unknown-key"),
    # models
    (GOOD.replace("classifier", "clasifier"), "models.eyes.source", "model-missing"),
    (GOOD.replace("classifier", "broken"), "models.eyes.source", "unknown-key"),
    (GOOD.replace("classifier", "hollow"), "models.eyes", "model-missing"),
    (GOOD.replace("classifier", "~nobody-here/model"), "models.eyes.source", "model-missing"),
    (among(EYES, 'labels = "nowhere.txt"'), "models.eyes.labels", "labels-missing"),
    (among(EYES, 'postprocess = "nowhere.py:step"'), "models.eyes.postprocess", "code-missing"),
    (among(EYES, "options = { treshold = 1 }"), "models.eyes", "options-wrong"),
    (among(EYES, 'options = { top_k = "many" }'), "models.eyes", "options-wrong"),
    (among(EYES, 'task = "fortune-telling"'), "models.eyes", "task-unknown"),
    (among(EYES, 'backend = "abacus"'), "models.eyes", "backend-unknown"),
    (among(EYES, 'accelerator = "abacus"'), "models.eyes", "accelerator-unavailable"),
    (among(EYES, 'interpreter = "nowhere/python"'), "models.eyes", "interpreter-missing"),
    # files and extras
    (among(LOCAL, 'tls = { ca_file = "nowhere.pem" }'), "transports.local.tls.ca_file", "config-wrong"),
    (among(LOCAL, 'tls = { ca_file = "text.pem" }'), "transports.local", "config-wrong"),
    (among(LOCAL, 'tls = { cert_file = "c.pem", key_file = "other.pem" }'), "transports.local", "config-wrong"),
    (among(LOCAL, 'password_file = "nowhere"'), "transports.local.password_file", "secret-missing"),
    (among(LOCAL, 'password_file = "open"'), "transports.local.password_file", "secret-exposed"),
    (among(LOCAL, SHARED), "transports.local.tls.key_file", "secret-exposed"),
    (among(LOCAL, 'host = "far"\npassword = "p"'), "transports.local", "plaintext-password"),
    (cloud(files='cert_file = "nowhere.pem"\nkey_file = "k.pem"'), "transports.cloud.cert_file", "config-wrong"),
    (cloud(files='cert_file = "c.pem"\nkey_file = "other.pem"'), "transports.cloud", "config-wrong"),
    (cloud("sigv4 = { region = 'x' }"), "transports.cloud", "wrong-value"),
    (f'thing = "{"x" * 129}"\n{cloud()}', "thing", "bad-thing"),
    # deployments
    (BARE + '[deployments]\ntrusted_keys = ["nowhere.pub"]', "deployments.trusted_keys[0]", "key-missing"),
    (BARE + '[deployments]\n[aws]\nrole_alias = "r"', "aws.cert_file", "aws-no-certificate"),
    (BARE + "[greengrass]\nenabled = true", "greengrass.cert_file", "aws-no-certificate"),
    (BARE.replace('"data"', '"text.pem/data"') + "[deployments]\njobs = false", "data_dir", "IO_WRITE_ERROR"),
]


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates) -> Path:
    at = certificates
    files = {"c.pem": at.client_cert, "k.pem": at.client_key, "shared.pem": at.client_key, "other.pem": at.server_key}
    for name, path in files.items():
        (tmp_path / name).write_bytes(path.read_bytes())
        (tmp_path / name).chmod(0o600)
    (tmp_path / "shared.pem").chmod(0o644)
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o644)
    for name, text in {"broken": 'fiel = "m.onnx"', "hollow": 'file = "m.onnx"'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.toml").write_text(text)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "verge.toml"
    path.write_text(text)
    return path


async def refusal(path: Path) -> VergeError:
    """For what ``verge run`` refuses the configuration."""
    with pytest.raises(VergeError) as refused:
        async with running(load(path, {})):
            pass
    return refused.value


async def named(path: Path) -> list[VergeError]:
    """What ``verge run --check`` names."""
    config, errors = read(path, {})
    assert config is not None
    return [*errors, *await check(config)]


@pytest.mark.parametrize(("text", "place", "code"), REFUSED)
async def test_what_run_refuses_check_names_with_its_path(folder, text, place, code) -> None:
    path = written(folder, text)
    refused = await refusal(path)
    assert refused.code == code
    assert [(error.path, error.code) for error in await named(path)] == [(place, code)]


async def test_what_is_not_installed_is_named(folder, monkeypatch) -> None:
    for module in [name for name in sys.modules if name.startswith("agent.mqtt.iotcore")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "awscrt", None)
    (folder / "hiding").mkdir()
    (folder / "hiding" / "onnxruntime.py").write_text("raise ImportError('not here')")
    more = f'environment = {{ PYTHONPATH = "{folder}/hiding" }}\nbackend = "onnx"'
    path = written(folder, cloud() + f'\n{EYES}source = "classifier"\n{more}')
    assert (await refusal(path)).code == "not-installed"
    found = {error.path: (error.code, error.hint or "") for error in await named(path)}
    assert found.keys() == {"transports.cloud", "models.eyes"}
    assert found["transports.cloud"] == ("not-installed", "pip install 'verge-edge[aws]'")
    assert found["models.eyes"][0] == "backend-unavailable"
    assert "pip install" in found["models.eyes"][1]


async def test_a_configuration_without_a_mistake_has_none_and_runs(folder) -> None:
    path = written(folder, GOOD + cloud().removeprefix(BARE) + "[deployments]\njobs = false")
    assert await named(path) == []
    async with running(load(path, {})) as agent:
        assert agent.plane.models == ("eyes",)


def test_every_mistake_is_named_at_once_with_its_hint(folder) -> None:
    more = 'prot = 7\ntls = { ca_file = "nowhere.pem" }\n'
    text = GOOD.replace(LOCAL, LOCAL + more).replace("classifier", "clasifier")
    text = text.replace(LINE, LINE + 'outputs = [{ topic = "a/+" }, { format = "awz" }]\ndrain_s = -1\n')
    done = invoke(folder, "run", "-c", written(folder, text), "--check")
    assert done.returncode == 2
    places = (
        "transports.local.prot", "streams.line.drain_s", "streams.line.outputs[0].topic",
        "transports.local.tls.ca_file", "models.eyes.source", "streams.line.outputs[1].format",
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("verge: ")]
    assert [place for place, line in zip(places, lines, strict=True) if place not in line] == []
    for hint in ("did you mean port?", "did you mean classifier?", "did you mean aws?", "the fields are {thing}"):
        assert hint in done.stderr


def test_the_shipped_configurations_are_fine(tmp_path) -> None:
    configs = Path(__file__).parents[2] / "configs"
    done = invoke(tmp_path, "run", "-c", configs / "local.toml", "--check")
    assert (done.returncode, "local.toml is fine" in done.stdout) == (0, True)
    shipped = [*configs.glob("*.toml"), *(configs.parent / "agent").rglob("demo/*.toml")]
    assert len(shipped) >= 5
    assert [error for file in shipped for error in read(file, {}).errors] == []
