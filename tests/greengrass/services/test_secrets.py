"""Components' secrets: of files, of moto's Secrets Manager, and of the cache when that is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsUnreachableError
from agent.config.aws import AwsOptions
from agent.errors import ConfigError
from agent.greengrass.services.secrets import folder as files
from agent.greengrass.services.secrets.cache import SecretCache
from agent.greengrass.services.secrets.manager import SecretManager
from agent.greengrass.services.secrets.secret import (
    CURRENT,
    PREVIOUS,
    CloudSecret,
    Kept,
    Secret,
    SecretError,
    SecretUnreachableError,
    Version,
    configured,
    folder_arn,
    merged,
    succeeded,
)
from tests.support.moto import Moto
from tests.support.ports import HeldPort
from tests.support.until import PATIENCE_S, until

VALUE = "hunter2-do-not-show"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:db-a1b2c3"


class Fixed:
    """Credentials that moto takes."""

    def get(self) -> Credentials:
        return Credentials("root", "secret", "token", datetime.now(UTC) + timedelta(hours=1))


@pytest.fixture(scope="module")
def moto():
    with Moto() as running:
        yield running


@pytest.fixture
def cloud(moto, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto.url)
    client = moto.client("secretsmanager")
    yield client
    for secret in client.list_secrets()["SecretList"]:
        client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
    client.close()


@pytest.fixture
def offline(monkeypatch):
    with HeldPort() as nobody:
        url = f"http://127.0.0.1:{nobody.number}"
        yield lambda: monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)


def put(folder, name, content, mode=0o600):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def manager(tmp_path, folder=None, key_file=None, **aws):
    options = AwsOptions(**{"region": "us-east-1", "account": "123456789012"} | aws)
    return SecretManager(folder, SecretCache(tmp_path / "cache", key_file), options, Fixed())


async def current(secrets, name, **how):
    return (await secrets.get(await secrets.find(name), **how)).version()


def wanting(*arns, labels=()):
    return {"cloudSecrets": [{"arn": arn, "labels": list(labels)} for arn in arns]}


# -- what a secret is --------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_the_current_version_is_the_last_value_and_the_previous_the_one_before_it(values):
    secret = Secret(ARN, "db")
    for value in values:
        secret = succeeded(secret, value, value)
    changes = [value for place, value in enumerate(values) if place == 0 or values[place - 1] != value]
    assert secret.version().value == changes[-1]
    previous = secret.version(stage=PREVIOUS)
    assert (previous and previous.value) == (changes[-2] if len(changes) > 1 else None)


@given(st.lists(st.tuples(st.sampled_from("123"), st.sets(st.sampled_from("xyz"), min_size=1)), min_size=1))
def test_a_stage_is_of_the_version_that_had_it_last_and_of_no_other(fetched):
    secret = Secret(ARN, "db")
    for identity, stages in fetched:
        secret = merged(secret, Version(identity, tuple(stages), identity))
    carried = [stage for version in secret.versions for stage in version.stages]
    assert len(carried) == len(set(carried))
    assert all(version.stages for version in secret.versions)
    assert set(fetched[-1][1]) == set(secret.version(identity=fetched[-1][0]).stages)


def test_a_secret_of_a_file_has_the_arn_that_the_configuration_knows_it_by_else_one_that_is_the_same_everywhere():
    assert folder_arn("db", [CloudSecret(ARN)]) == ARN
    assert folder_arn("db", [CloudSecret(ARN.removesuffix("-a1b2c3"))]).startswith(ARN.removesuffix("a1b2c3"))
    assert folder_arn("other", [CloudSecret(ARN)]) == folder_arn("other")
    assert folder_arn("x").startswith("arn:aws:secretsmanager:local:000000000000:secret:x-")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"cloudSecrets": "x"}, "cloudSecrets"),
        ({"cloudSecrets": [{"arn": "db"}]}, "cloudSecrets[0].arn"),
        ({"cloudSecrets": [{"arn": ARN}, 1]}, "cloudSecrets[1].arn"),
        ({"cloudSecrets": [{"arn": ARN, "labels": "x"}]}, "cloudSecrets[0].labels"),
    ],
)
def test_a_configuration_that_is_none_is_refused_with_its_place(given, path):
    with pytest.raises(ConfigError) as refused:
        configured(given)
    assert refused.value.path == path


def test_the_current_version_is_always_asked_for():
    assert configured({"cloudSecrets": [{"arn": ARN, "labels": ["x", "x"]}]}) == (CloudSecret(ARN, (CURRENT, "x")),)


# -- files -------------------------------------------------------------------------------------------------------------


def test_every_file_is_a_secret_by_its_path_and_hidden_ones_are_none(tmp_path):
    errors = []
    put(tmp_path, "db", "a\n")
    put(tmp_path, "prod/key", b"\xff\x00", 0o400)
    put(tmp_path, ".db.swp", "x")
    put(tmp_path, ".git/config", "x")
    assert list(files.listed(tmp_path, errors.append)) == ["db", "prod/key"]
    assert files.read(tmp_path, "db") == "a\n"
    assert files.read(tmp_path, "prod/key") == b"\xff\x00"
    assert errors == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o700])
def test_a_file_that_others_may_read_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    path = put(tmp_path, "db", VALUE, mode)
    with pytest.raises(SecretError, match=rf"mode {mode:04o}.*chmod 0600 {path}") as refused:
        files.read(tmp_path, "db")
    assert VALUE not in str(refused.value)


def test_what_is_no_file_of_the_agents_own_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(put(tmp_path, "db", VALUE))
    os.mkfifo(tmp_path / "pipe", 0o600)
    put(tmp_path, "long", b"x" * 65_537)
    for name, why in {"link": "cannot be read", "pipe": "is no file", "long": "longer than", "gone": "No such"}.items():
        with pytest.raises(SecretError, match=why):
            files.read(tmp_path, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path):
    os.chown(put(tmp_path, "db", VALUE), 65_534, -1)
    with pytest.raises(SecretError, match=r"another user.*chown"):
        files.read(tmp_path, "db")


async def test_a_folder_that_is_away_is_said_once_and_what_it_held_is_not_forgotten(tmp_path, caplog):
    put(tmp_path / "s", "db", "one")
    secrets = manager(tmp_path, tmp_path / "s")
    await current(secrets, "db")
    (tmp_path / "s").rename(tmp_path / "away")
    assert [await secrets.find("db") for _ in range(3)] == [None] * 3
    assert caplog.text.count(f"the folder of secrets {tmp_path / 's'} cannot be read: No such file") == 1
    (tmp_path / "away").rename(tmp_path / "s")
    put(tmp_path / "s", "db", "two")
    secret = await secrets.get(await secrets.find("db"))
    assert secret.version(stage=PREVIOUS).value == "one"


async def test_a_file_that_is_gone_leaves_nothing_behind(tmp_path):
    path = put(tmp_path / "s", "db", "one")
    secrets = manager(tmp_path, tmp_path / "s")
    await current(secrets, "db")
    assert SecretCache(tmp_path / "cache").load().folder.keys() == {"db"}
    path.unlink()
    assert await secrets.find("db") is None
    assert SecretCache(tmp_path / "cache").load() == Kept()


async def test_a_changed_file_counts_at_once_and_what_it_held_is_the_previous_version_after_a_restart_too(tmp_path):
    put(tmp_path / "s", "db", "one")
    secrets = manager(tmp_path, tmp_path / "s")
    first = await current(secrets, "db")
    put(tmp_path / "s", "db", "two")
    second = await current(secrets, "db")
    assert (first.value, second.value) == ("one", "two")
    assert first.id != second.id
    again = manager(tmp_path, tmp_path / "s")
    secret = await again.get(await again.find("db"))
    assert secret.version().id == second.id
    assert secret.version(stage=PREVIOUS) == Version(first.id, (PREVIOUS,), "one")


# -- the cache ---------------------------------------------------------------------------------------------------------

KEPT = Kept({ARN: Secret(ARN, "db", (Version("1", (CURRENT,), VALUE), Version("2", ("x",), b"\xff")))}, {})


@pytest.mark.parametrize("with_key", [True, False])
def test_what_is_kept_is_encrypted_and_private_and_comes_back(tmp_path, with_key):
    key = put(tmp_path, "device.key", os.urandom(100)) if with_key else None
    cache = SecretCache(tmp_path / "cache", key)
    assert cache.load() == Kept()
    cache.save(KEPT)
    assert SecretCache(tmp_path / "cache", key).load() == KEPT
    assert VALUE.encode() not in cache.path.read_bytes()
    assert (cache.folder / "key").exists() is not with_key
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in cache.folder.iterdir()} == {0o600}


@pytest.mark.parametrize("spoil", [lambda _: b"", lambda data: data[:20], lambda data: data[:-1] + b"?",
                                   lambda data: b"x" + data[1:]])  # fmt: skip
def test_a_cache_that_cannot_be_decrypted_is_dropped_with_a_word(tmp_path, caplog, spoil):
    cache = SecretCache(tmp_path / "cache")
    cache.save(KEPT)
    put(cache.folder, "cache", spoil(cache.path.read_bytes()))
    assert cache.load() == Kept()
    assert not cache.path.exists()
    assert "cannot be decrypted and is dropped" in caplog.text


def test_the_cache_of_another_device_is_dropped(tmp_path):
    SecretCache(tmp_path / "cache", put(tmp_path, "a", "key a")).save(KEPT)
    assert SecretCache(tmp_path / "cache", put(tmp_path, "b", "key b")).load() == Kept()


def test_an_agent_that_is_killed_as_it_writes_leaves_the_old_cache_or_the_new_one(tmp_path):
    script = """
import sys
import threading
from pathlib import Path
from agent.greengrass.services.secrets.cache import SecretCache
from agent.greengrass.services.secrets.secret import Kept, Secret, Version
cache = SecretCache(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    cache.save(Kept({"a": Secret("a", "a", (Version(str(number), ("AWSCURRENT",), "x" * 50_000),))}, {}))
    print(number, flush=True)
"""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "cache")], stdout=subprocess.PIPE, text=True
        ) as child:
            for _ in range(20):
                assert child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        kept = SecretCache(tmp_path / "cache").load()
        assert int(kept.cloud["a"].versions[0].id) >= 20
        assert {path.name for path in (tmp_path / "cache").iterdir()} == {"cache", "key"}


# -- the cloud ---------------------------------------------------------------------------------------------------------


async def test_secrets_are_fetched_when_they_are_configured_and_again_when_a_component_asks(tmp_path, cloud):
    arn = cloud.create_secret(Name="db", SecretString="one")["ARN"]
    secrets = manager(tmp_path)
    await secrets.apply(wanting(arn))
    assert [await secrets.find(name) for name in ("db", arn, arn[:-7])] == [arn] * 3
    assert await secrets.find("other") is None
    cloud.put_secret_value(SecretId=arn, SecretString="two")
    assert (await current(secrets, "db")).value == "one"
    assert (await current(secrets, "db", refresh=True)).value == "two"
    secret = await secrets.get(arn)
    assert [(one.value, one.stages) for one in secret.versions] == [("two", (CURRENT,))]


async def test_labels_name_the_versions_that_are_fetched_besides(tmp_path, cloud, caplog):
    arn = cloud.create_secret(Name="db", SecretBinary=b"\xff1")["ARN"]
    cloud.put_secret_value(SecretId=arn, SecretBinary=b"\xff2")
    secrets = manager(tmp_path)
    await secrets.apply(wanting(arn, labels=[PREVIOUS, "none"]))
    secret = await secrets.get(arn)
    assert [secret.version(stage=stage).value for stage in (CURRENT, PREVIOUS)] == [b"\xff2", b"\xff1"]
    assert "(none): Secrets Manager answers ResourceNotFoundException" in caplog.text


async def test_a_device_without_network_has_its_secrets_from_the_cache(tmp_path, cloud, offline, caplog):
    arn = cloud.create_secret(Name="db", SecretString="one")["ARN"]
    await manager(tmp_path).apply(wanting(arn))
    offline()
    secrets = manager(tmp_path)
    await secrets.apply(wanting(arn, ARN))
    assert (await current(secrets, "db", refresh=True)).value == "one"
    assert "what was read last is served" in caplog.text


async def test_a_secret_that_could_not_be_fetched_is_fetched_when_it_is_asked_for(tmp_path, cloud):
    class Later(Fixed):
        def get(self) -> Credentials:
            if not reached:
                raise CredentialsUnreachableError("the endpoint is away", hint="wait")
            return super().get()

    reached = []
    arn = cloud.create_secret(Name="db", SecretString="one")["ARN"]
    secrets = SecretManager(None, SecretCache(tmp_path / "cache"), AwsOptions(), Later())
    await secrets.apply(wanting(arn))
    with pytest.raises(SecretUnreachableError, match="the endpoint is away"):
        await secrets.find("db")
    reached.append(True)
    assert (await current(secrets, "db")).value == "one"


async def test_the_cache_serves_while_the_cloud_is_slow_and_components_share_what_is_fetched(tmp_path, cloud):
    class Slow(Fixed):
        def get(self) -> Credentials:
            asked.append(True)
            assert reached.wait(PATIENCE_S)
            return super().get()

    asked, reached = [], threading.Event()
    arns = [cloud.create_secret(Name=name, SecretString=name)["ARN"] for name in ("old", "new")]
    await manager(tmp_path).apply(wanting(arns[0]))
    secrets = SecretManager(None, SecretCache(tmp_path / "cache"), AwsOptions(), Slow())
    applying = asyncio.create_task(secrets.apply(wanting(*arns)))
    await until(lambda: asked)
    assert (await current(secrets, "old")).value == "old"
    waiting = [asyncio.create_task(current(secrets, "new")) for _ in range(20)]
    reached.set()
    assert {one.value for one in await asyncio.gather(*waiting)} == {"new"}
    await applying
    assert len(asked) == 1


async def test_what_is_no_more_configured_is_gone_from_the_device(tmp_path, cloud):
    arn = cloud.create_secret(Name="db", SecretString="one")["ARN"]
    secrets = manager(tmp_path)
    await secrets.apply(wanting(arn))
    await secrets.apply(wanting())
    assert await secrets.find(arn) is None
    assert SecretCache(tmp_path / "cache").load() == Kept()


async def test_the_folder_goes_before_the_cloud_under_the_clouds_arn(tmp_path, cloud, caplog):
    caplog.set_level(logging.INFO)
    arn = cloud.create_secret(Name="db", SecretString="of the cloud")["ARN"]
    put(tmp_path / "s", "db", "of the folder")
    secrets = manager(tmp_path, tmp_path / "s")
    await secrets.apply(wanting(arn))
    assert await secrets.find("db") == await secrets.find(arn) == arn
    assert (await current(secrets, arn)).value == "of the folder"
    assert "the secret db is that of the folder, and not that of the cloud" in caplog.text


async def test_no_value_is_in_a_log_a_repr_or_an_error(tmp_path, cloud, offline, caplog):
    caplog.set_level(logging.DEBUG)
    arn = cloud.create_secret(Name="db", SecretString=VALUE)["ARN"]
    put(tmp_path / "s", "file", VALUE)
    secrets = manager(tmp_path, tmp_path / "s")
    await secrets.apply(wanting(arn))
    kept = [await secrets.get(await secrets.find(name), refresh=True) for name in ("db", "file")]
    offline()
    await secrets.get(arn, refresh=True)
    put(tmp_path / "s", "file", VALUE, 0o644)
    with pytest.raises(SecretError) as refused:
        await secrets.get(await secrets.find("file"))
    assert [one.version().value for one in kept] == [VALUE, VALUE]
    shown = repr(kept) + repr(secrets) + repr(Kept({arn: kept[0]})) + str(refused.value) + repr(refused.value)
    assert VALUE not in shown + caplog.text
    assert all(VALUE.encode() not in path.read_bytes() for path in (tmp_path / "cache").iterdir())
