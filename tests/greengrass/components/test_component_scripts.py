"""How one script is run: its user, its environment, its folder, whether at all."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.load import parse
from agent.greengrass.components import environment
from agent.greengrass.components.scripts import skips
from agent.greengrass.components.spec import RunAs
from agent.greengrass.components.states import State, StatusCode
from agent.greengrass.components.supervisor import Settled
from agent.greengrass.recipes.lifecycle import Condition, Skip
from agent.greengrass.recipes.lifecycle import parse as lifecycle_of
from agent.users import give, look_up
from tests.support.until import PATIENCE_S

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: sudo -E .venv/bin/python -m pytest tests/components"
)


@pytest.fixture
def open_device(device) -> Iterator:
    """A device whose folders other users may enter."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        device.root = Path(root)
        yield device


async def _settled(supervisor, spec) -> Settled:
    await supervisor.apply({spec.name: spec})
    return (await supervisor.settled([spec.name], PATIENCE_S))[spec.name]


# -- users ----------------------------------------------------------------------------------------------------------


@needs_root
async def test_a_root_agent_runs_scripts_as_the_components_user_in_a_folder_of_its_own(open_device):
    device = open_device
    artifacts = device.root / "artifacts"
    artifacts.mkdir()
    (artifacts / "model").touch(0o600)
    facts = {"run_as": RunAs("nobody"), "owned": (artifacts,)}
    spec = device.spec("a", Install="id -un; echo $HOME; grep Groups /proc/self/status; touch made", facts=facts)
    async with device.supervisor() as supervisor:
        assert await _settled(supervisor, spec) is Settled.HEALTHY
    nobody = pwd.getpwnam("nobody")
    work = (device.root / "work/a").stat()
    assert (work.st_uid, stat.S_IMODE(work.st_mode)) == (nobody.pw_uid, 0o700)
    assert (artifacts / "model").stat().st_uid == nobody.pw_uid
    assert artifacts.stat().st_uid == 0
    log = device.log("a")
    assert all(f"stdout. {said} " in log for said in ("nobody", nobody.pw_dir, f"Groups:\t{nobody.pw_gid}"))


@needs_root
async def test_a_step_that_requires_privilege_runs_as_root_unless_the_owner_forbids_it(open_device):
    device = open_device
    step = {"Install": {"Script": "id -un", "RequiresPrivilege": "true"}}
    async with device.supervisor(run_as=RunAs("nobody")) as supervisor:
        await _settled(supervisor, device.spec("a", steps=step))
        await _settled(supervisor, device.spec("b", steps=step, facts={"privileged": False}))
    assert ("root" in device.log("a"), "nobody" in device.log("b")) == (True, True)


@needs_root
async def test_the_work_folder_is_the_components_users_even_if_root_went_first(open_device):
    device = open_device
    steps = {"Install": {"Script": "id -un > installer", "RequiresPrivilege": True}}
    async with device.supervisor(run_as=RunAs("nobody")) as supervisor:
        assert await _settled(supervisor, device.spec("a", steps=steps, Startup="id -un > runner")) is Settled.HEALTHY
    assert (device.file("a", "installer"), device.file("a", "runner")) == ("root\n", "nobody\n")


@needs_root
async def test_a_root_agent_without_a_user_for_components_runs_none_of_them_as_root(device):
    async with device.supervisor(run_as=None) as supervisor:
        assert await _settled(supervisor, device.spec("a", Run="touch ran")) is Settled.BROKEN
        problem = supervisor.states()["a"].problem
        assert problem.code is StatusCode.RUN_MISSING_DEFAULT_RUNWITH
    assert not (device.root / "work/a/ran").exists()


async def test_a_user_that_does_not_exist_breaks_the_component_with_the_reason(device):
    spec = device.spec("a", Run="true", facts={"run_as": RunAs("no-such-user")})
    async with device.supervisor() as supervisor:
        assert await _settled(supervisor, spec) is Settled.BROKEN
        assert supervisor.states()["a"].problem.reason == "There is no user no-such-user."


def test_users_and_groups_are_names_or_numbers():
    assert RunAs.parse("ggc_user:ggc_group") == RunAs("ggc_user", "ggc_group")
    assert RunAs.parse("ggc_user") == RunAs("ggc_user")
    assert look_up(RunAs("#0")).name == look_up(RunAs("0")).name == pwd.getpwuid(0).pw_name
    stranger = look_up(RunAs("54321", "#54322"))
    assert (stranger.uid, stranger.gid, stranger.groups) == (54321, 54322, ())
    for who in (RunAs("54321"), RunAs("0", "no-such-group")):
        with pytest.raises(LookupError):
            look_up(who)


@needs_root
def test_giving_files_away_follows_no_link_and_no_second_name(tmp_path):
    owned, secret = tmp_path / "owned", tmp_path / "secret"
    owned.mkdir()
    secret.touch()
    (owned / "inner").mkdir()
    (owned / "inner/file").touch()
    (owned / "link").symlink_to(secret)
    os.link(secret, owned / "second-name")
    give([owned], look_up(RunAs("nobody")))
    assert secret.stat().st_uid == 0
    assert (owned / "inner/file").stat().st_uid == pwd.getpwnam("nobody").pw_uid


# -- environment ----------------------------------------------------------------------------------------------------


def test_the_inner_layer_of_the_environment_wins():
    lifecycle = lifecycle_of(
        {"Setenv": {"A": "lifecycle", "B": "lifecycle"}, "Run": {"Script": "x", "Setenv": {"A": "step"}}}
    )
    base = {"A": "base", "B": "base", "C": "base"}
    env = environment.of_step(base, "TOKEN", lifecycle, next(iter(lifecycle.steps.values())))
    assert env == {
        "A": "step", "B": "lifecycle", "C": "base", "SVCUID": "TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "TOKEN",
    }  # fmt: skip


def test_what_is_the_agents_alone_is_not_inherited():
    private = {
        "VERGE_PASSWORD": "1", "SVCUID": "1", "AWS_SECRET_ACCESS_KEY": "1", "NOTIFY_SOCKET": "1", "LISTEN_FDS": "1",
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH": "1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "1", "JOURNAL_STREAM": "1",
    }  # fmt: skip
    kept = {"PATH": "/bin", "JAVA_HOME": "/java", "HTTPS_PROXY": "http://proxy", "AWS_PROFILE": "camera"}
    assert environment.inherited({**private, **kept}) == kept


CORE = {"type": "iotcore", "endpoint": "e.iot.eu-west-1.amazonaws.com", "cert_file": "c", "key_file": "k"}
PROXY = {"host": "proxy.example", "username": "us er", "password": "p@ss", "allow_plaintext_password": True}


def _nucleus(tables, environ) -> dict[str, str]:
    config = parse(tables, "verge.toml", Path("/etc/verge"), {})
    (link,) = config.transports.values()
    return environment.nucleus("2.12.6", "thing", config.aws, link, config.artifacts, environ)


async def _environment_of_a_script(device, env) -> dict[str, str]:
    async with device.supervisor(env=env) as supervisor:
        assert await _settled(supervisor, device.spec("a", Install="env > environment")) is Settled.HEALTHY
    return dict(line.split("=", 1) for line in device.file("a", "environment").splitlines())


async def test_a_component_of_a_plain_broker_learns_its_thing_and_the_version_and_nothing_of_aws(device, monkeypatch):
    for key in ("AWS_REGION", "AWS_DEFAULT_REGION", "GG_ROOT_CA_PATH", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    env = await _environment_of_a_script(device, _nucleus({"transports": {"local": {}}}, {}))
    assert (env["AWS_IOT_THING_NAME"], env["GGC_VERSION"]) == ("thing", "2.12.6")
    assert not env.keys() & {"AWS_REGION", "AWS_DEFAULT_REGION", "GG_ROOT_CA_PATH", "ALL_PROXY", "all_proxy"}


async def test_a_component_learns_the_region_and_the_authorities_of_the_link(device):
    tables = {"transports": {"core": CORE | {"ca_file": "/etc/ca.pem"}}, "aws": {"region": "eu-west-1"}}
    env = await _environment_of_a_script(device, _nucleus(tables, {"AWS_REGION": "us-east-1"}))
    assert (env["AWS_REGION"], env["AWS_DEFAULT_REGION"]) == ("eu-west-1", "eu-west-1")
    assert env["GG_ROOT_CA_PATH"] == "/etc/ca.pem"
    plain = {"transports": {"local": {"tls": {"ca_file": "/etc/own.pem"}}}}
    assert _nucleus(plain, {})["GG_ROOT_CA_PATH"] == "/etc/own.pem"


@pytest.mark.parametrize(
    ("artifacts", "proxy"),
    [({}, "http://us%20er:p%40ss@proxy.example:3128"), ({"proxy": "http://other:8080"}, "http://other:8080")],
)
async def test_a_component_reaches_the_world_through_the_proxy_and_this_machine_without(device, artifacts, proxy):
    tables = {"transports": {"core": CORE | {"proxy": PROXY}}, "artifacts": artifacts}
    env = await _environment_of_a_script(device, _nucleus(tables, {"NO_PROXY": "camera.example,localhost"}))
    for key in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        assert env[key] == env[key.lower()] == proxy
    assert env["NO_PROXY"] == env["no_proxy"] == "localhost,127.0.0.1,::1,camera.example"


async def test_a_script_has_its_environment_its_folder_and_a_silent_input(device, monkeypatch):
    monkeypatch.setenv("VERGE_PASSWORD", "secret")
    script = """
        env > environment
        pwd
        echo "PWD is $PWD"
        timeout 0.1 cat; echo cat $?
    """
    async with device.supervisor() as supervisor:
        spec = device.spec("a", steps={"Setenv": {"MODE": 1}}, Install=script, facts={"env": {"EXTRA": "yes"}})
        assert await _settled(supervisor, spec) is Settled.HEALTHY
        token = supervisor.token("a")
    env = dict(line.split("=", 1) for line in device.file("a", "environment").splitlines() if "=" in line)
    assert env.items() >= {("MODE", "1"), ("EXTRA", "yes"), ("SVCUID", token), ("AWS_IOT_THING_NAME", "thing")}
    assert "VERGE_PASSWORD" not in env
    log = device.log("a")
    assert f"PWD is {device.root}/work/a" in log
    assert "cat 124" in log


# -- whether at all -------------------------------------------------------------------------------------------------


def test_a_step_is_skipped_by_what_is_on_the_path_or_exists(tmp_path):
    env = {"PATH": os.defpath, "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    (tmp_path / "home/file").touch()
    (tmp_path / "here").touch()
    answers = {
        (Condition.ON_PATH, "sh"): True,
        (Condition.ON_PATH, "no-such-program"): False,
        (Condition.EXISTS, "here"): True,
        (Condition.EXISTS, "~/file"): True,
        (Condition.EXISTS, "/no/such/file"): False,
    }
    for (condition, argument), answer in answers.items():
        assert skips(Skip(condition, argument), env, tmp_path) is answer
        assert skips(Skip(condition, argument, unless=True), env, tmp_path) is not answer


async def test_a_skipped_startup_falls_through_to_run(device):
    steps = {"Startup": {"Script": "touch started", "Skipif": "onpath sh"}}
    async with device.supervisor() as supervisor:
        spec = device.spec("a", steps=steps, Run="touch ran; sleep 1000")
        assert await _settled(supervisor, spec) is Settled.HEALTHY
        assert supervisor.states()["a"].state is State.RUNNING
    assert not (device.root / "work/a/started").exists()


@pytest.mark.parametrize("steps", [{"Install": "echo \0"}, {"Install": "true", "Setenv": {"A=B": "1"}}])
async def test_a_script_that_no_system_can_start_is_an_io_error(device, steps):
    async with device.supervisor() as supervisor:
        assert await _settled(supervisor, device.spec("a", steps=steps)) is Settled.BROKEN
        assert supervisor.states()["a"].problem.code is StatusCode.INSTALL_IO_ERROR


async def test_a_work_folder_that_cannot_be_is_an_io_error(device):
    (device.root / "work").touch()
    async with device.supervisor() as supervisor:
        assert await _settled(supervisor, device.spec("a", Install="true")) is Settled.BROKEN
        assert supervisor.states()["a"].problem.code is StatusCode.INSTALL_IO_ERROR
