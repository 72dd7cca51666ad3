"""The configuration: a file, the environment over it, secrets by file, and every mistake refused with a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import OWNER, data_folders, load, parse
from agent.config.streams import Policy
from agent.errors import ConfigError

FULL = """
thing = "box"
[transports.local]
port = 2883
[transports.cloud]
host = "example.invalid"
username = "me"
password_file = "secret"
tls = { ca_file = "ca.pem" }
[models.eyes]
source = "classifier"
[streams.line]
model = "eyes"
input = { topic = "cameras/+/frame" }
policy = "fifo"
outputs = [{ transport = "cloud", format = "aws" }]
"""


def written(folder: Path, text: str = FULL) -> Path:
    (folder / "secret").write_text("hush\n")
    (folder / "secret").chmod(0o600)
    path = folder / "verge.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_one_frozen_tree_with_paths_made_absolute_and_secrets_read(tmp_path) -> None:
    config = load(written(tmp_path), {})
    assert (config.thing, config.first_transport) == ("box", "local")
    assert config.streams["line"].policy is Policy.FIFO
    cloud = config.transports["cloud"]
    assert (cloud.password, cloud.tls and cloud.tls.ca_file) == ("hush", str(tmp_path / "ca.pem"))
    with pytest.raises(AttributeError):
        config.thing = "other"


def test_a_file_may_begin_with_the_byte_order_mark_of_an_editor(tmp_path) -> None:
    path = written(tmp_path)
    plain = load(path, {})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path, {}) == plain


@pytest.mark.parametrize(
    ("variable", "value", "seen"),
    [
        ("VERGE_THING", "other", lambda config: config.thing == "other"),
        ("VERGE_TRANSPORTS__LOCAL__PORT", "1999", lambda config: config.transports["local"].port == 1999),
        ("VERGE_TRANSPORTS__LOCAL__HOST", "10.0.0.1", lambda config: config.transports["local"].host == "10.0.0.1"),
        ("VERGE_MODELS__EYES__OPTIONS", "{ top_k = 3 }", lambda config: config.models["eyes"].options == {"top_k": 3}),
        ("VERGE_STATUS__STATISTICS_INTERVAL_S", "5", lambda config: config.status.statistics_interval_s == 5.0),
        ("VERGE_THING", "2024", lambda config: config.thing == "2024"),
        ("VERGE_THING", "2024-05-01", lambda config: config.thing == "2024-05-01"),
        ("VERGE_TRANSPORTS__LOCAL__PASSWORD", "123456", lambda config: config.transports["local"].password == "123456"),
        ("VERGE_DATA_DIR", "/srv/verge", lambda config: config.data_dir == "/srv/verge"),
    ],
)
def test_the_environment_goes_over_the_file(tmp_path, variable, value, seen) -> None:
    assert seen(load(written(tmp_path), {variable: value}))


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        ("[transport.local]", "unknown-key", "unknown key transport", "did you mean transports?"),
        ("[transports]", "no-transport", "names no transport", "add [transports.local]"),
        (FULL.replace('"eyes"\ninput', '"eye"\ninput'), "unknown-model", "streams.line.model", "did you mean eyes?"),
        (FULL.replace('"cloud", form', '"clod", form'), "unknown-transport", "outputs[0]", "did you mean cloud?"),
        (FULL + "max_age = 3", "unknown-key", "unknown key streams.line.max_age", "did you mean max_age_ms?"),
        (FULL.replace('"fifo"', '"lifo"'), "wrong-value", "streams.line.policy", None),
        (FULL.replace("2883", '"2883"'), "wrong-value", "transports.local.port", None),
        (FULL.replace("2883", "0"), "wrong-value", "transports.local.port", None),
        (FULL.replace("2883", "65536"), "wrong-value", "transports.local.port", None),
        (FULL + "drain_s = -1", "wrong-value", "streams.line.drain_s", None),
        (FULL + "[status]\nstatistics_interval_s = 0", "wrong-value", "status.statistics_interval_s", None),
        ('folder = "x"\n' + FULL, "unknown-key", "unknown key folder", None),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_what_to_do(tmp_path, text, code, message, hint) -> None:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text), {})
    assert (refused.value.code, refused.value.hint) == (code, hint)
    assert message in refused.value.message


def test_a_topic_that_is_no_filter_is_refused_with_its_place(tmp_path) -> None:
    path = written(tmp_path, FULL.replace("cameras/+/frame", "#cameras/+/frame"))
    with pytest.raises(ConfigError) as refused:
        load(path, {})
    assert refused.value.code == "bad-topic"
    assert refused.value.message == f"streams.line.input.topic in {path}: '#cameras/+/frame' is no MQTT topic filter"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VERGE_TRANSPORTS__LOCAL__PROT", "1", "unknown key transports.local.prot in {}"),
        ("VERGE_TRANSPORT__LOCAL__HOST", "box", "unknown key transport in {}"),
        ("VERGE_TRANSPORTS__LOCAL__PORT", "1.5", "transports.local.port in {}: expected `int`, got `float`"),
        ("VERGE_TRANSPORTS__LOCAL", "{ port = 0 }", "transports.local.port in {}: expected `int` >= 1"),
        ("VERGE_STREAMS__LINE__MODEL", "eye", "streams.line.model in {}: there is no model 'eye'"),
        ("VERGE_STREAMS__DOOR__MODEL", "eyes", "streams.door in {}: object missing required field `input`"),
        ("VERGE_FOLDER", "/", "unknown key folder in {}"),
    ],
)
def test_an_error_that_a_variable_caused_names_the_variable(tmp_path, variable, value, message) -> None:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path), {variable: value, "VERGE_THING": "2024"})
    assert refused.value.message == message.format(variable)


def test_an_error_of_the_file_names_the_file_whatever_variables_there_are(tmp_path) -> None:
    path = written(tmp_path, FULL.replace("2883", "0"))
    with pytest.raises(ConfigError, match=rf"transports\.local\.port in {path}"):
        load(path, {"VERGE_TRANSPORTS__LOCAL__HOST": "box", "VERGE_THING": "1"})


def test_without_a_home_folder_the_data_dir_has_to_be_set(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user that the system does not list
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path), {})
    assert (refused.value.code, refused.value.hint) == ("no-home", "set data_dir")
    assert load(written(tmp_path), {"VERGE_DATA_DIR": "data"}).data_dir == str(tmp_path / "data")


def test_a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path) -> None:
    path = written(tmp_path)
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        load(path, {})
    assert (refused.value.code, refused.value.hint) == ("secret-exposed", f"chmod 600 {tmp_path / 'secret'}")


def test_a_missing_file_and_a_missing_secret_are_told_by_name(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read"):
        load(tmp_path / "nothing.toml", {})
    path = written(tmp_path)
    (tmp_path / "secret").unlink()
    with pytest.raises(ConfigError, match="secret cannot be read"):
        load(path, {})


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/verge-edge"}, "/var/lib/verge-edge"),
        ({"XDG_STATE_HOME": "/home/x/.state"}, "/home/x/.state/verge/gate-7"),
    ],
)
def test_what_the_agent_writes_goes_where_the_system_keeps_state(environment, folder) -> None:
    config = parse({"thing": "gate-7", "transports": {"local": {}}}, "f", Path("/etc"), environment)
    assert config.data_dir == folder


def test_each_thing_has_a_data_folder_of_its_own_below_the_systems_place(tmp_path) -> None:
    def data_dir(thing: str) -> Path:
        content = {"thing": thing, "transports": {"local": {}}}
        return Path(parse(content, "f", Path("/etc"), {"XDG_STATE_HOME": str(tmp_path)}).data_dir)

    assert data_dir("gate 7/a") == tmp_path / "verge" / "gate 7_a"
    assert data_dir("..").parent == tmp_path / "verge"
    assert data_dir("deployments") == tmp_path / "verge" / "deployments"


def test_the_one_folder_of_an_earlier_version_stays_that_of_the_thing_that_has_it(tmp_path) -> None:
    def data_dir(thing: str) -> Path:
        content = {"thing": thing, "transports": {"local": {}}}
        return Path(parse(content, "f", Path("/etc"), {"XDG_STATE_HOME": str(tmp_path)}).data_dir)

    earlier = tmp_path / "verge"
    (earlier / "deployments").mkdir(parents=True)
    (earlier / "deployments" / "ledger.db").touch()
    assert data_dir("one") == data_dir("other") == earlier
    (earlier / OWNER).write_text("one\n")
    assert (data_dir("one"), data_dir("other")) == (earlier, earlier / "other")
    assert data_folders(None, {"XDG_STATE_HOME": str(tmp_path), "VERGE_THING": "other"})[:2] == (
        earlier / "other",
        earlier,
    )


def test_a_command_finds_the_data_of_the_configuration_of_this_user_and_of_the_service() -> None:
    config = parse({"transports": {"local": {}}, "data_dir": "data"}, "f", Path("/etc"), {})
    assert data_folders(config) == (Path("/etc/data"),)
    service = Path("/var/lib/verge")
    environment = {"XDG_STATE_HOME": "/home/x/.state", "VERGE_THING": "gate-7"}
    assert data_folders(None, environment) == (Path("/home/x/.state/verge/gate-7"), service)
    assert data_folders(None, {"VERGE_DATA_DIR": "/srv/verge", "STATE_DIRECTORY": "/x"})[0] == Path("/srv/verge")


def test_the_host_is_the_thing_where_none_is_named() -> None:
    assert parse({"transports": {"local": {}}}, "f", Path(), {}).thing


def test_a_password_goes_over_a_plaintext_link_only_where_the_owner_says_so(tmp_path) -> None:
    broker = {"host": "broker.example", "username": "u", "password": "p"}
    with pytest.raises(ConfigError) as refused:
        parse({"transports": {"hall": broker}}, "a.toml", tmp_path, {})
    assert (refused.value.code, "transports.hall" in refused.value.message) == ("plaintext-password", True)
    for more in ({"allow_plaintext_password": True}, {"tls": {}}, {"host": "127.0.0.1"}):
        assert parse({"transports": {"hall": broker | more}}, "a.toml", tmp_path, {}).transports["hall"].password == "p"
