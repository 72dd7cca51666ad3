"""Images, pulled by a small program named docker that keeps a list of what it was asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.config.aws import AwsOptions
from agent.config.deployments import RetryPolicy
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.request import ArtifactRequest
from agent.greengrass.artifacts.store import AwsStoreOptions
from tests.support.moto import Moto
from tests.support.until import until

ONCE = RetryPolicy(give_up_after_s=0.0)
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
DOCKER = """#!/bin/sh
here=$(dirname "$0")
given=""
[ "$1" = login ] && given=$(cat)
printf '%s\\t%s\\t%s\\n' "$*" "$given" "$DOCKER_CONFIG" >> "$here/calls"
[ -e "$here/slow" ] && echo $$ > "$here/pid" && exec sleep 600
[ "$1" = pull ] && [ -e "$here/says" ] && cat "$here/says" >&2 && exit 1
[ "$1" = image ] && echo sha256:of-the-image
exit 0
"""


class Cli:
    """The program's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def calls(self) -> list[list[str]]:
        """Arguments, what was given on its input, and the folder of its configuration."""
        return [line.split("\t") for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def docker(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return Cli(folder)


async def pull(uri, into, options=None):
    async with Stores(options) as stores:
        await stores.of(uri).fetch(uri, into, retry=ONCE)


async def test_an_image_is_pulled_once_and_its_id_stands_among_the_artifacts(docker, tmp_path):
    cache = Cache(tmp_path / "cache", reserve_bytes=0)
    await Fetcher(cache).fetch_all([ArtifactRequest("docker:host:5000/team/app:1.2", tmp_path / "files/app:1.2")])
    assert (tmp_path / "files/app:1.2").read_text() == "sha256:of-the-image\n"
    assert [call[0] for call in docker.calls] == [
        "pull --quiet host:5000/team/app:1.2",
        "image inspect --format {{.Id}} host:5000/team/app:1.2",
    ]


async def test_without_the_program_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArtifactError) as refused:
        await pull("docker:alpine:3", tmp_path / "a")
    assert (refused.value.code, refused.value.error_type) == ("DOCKER_SERVICE_UNAVAILABLE", "DEPENDENCY_ERROR")
    assert "install Docker" in refused.value.hint


@pytest.mark.parametrize("image", ["--help", "", "a b", "host/", "a;b"])
async def test_what_is_no_image_is_refused_and_the_program_is_not_asked(docker, tmp_path, image):
    with pytest.raises(ArtifactError) as refused:
        await pull(f"docker:{image}", tmp_path / "a")
    assert refused.value.code in {"DOCKER_ARTIFACT_URI_NOT_VALID", "ARTIFACT_URI_NOT_VALID", "EMPTY_ARTIFACT_SCHEME"}
    assert not (docker.folder / "calls").exists()


@pytest.mark.parametrize(
    ("says", "kind", "code"),
    [
        ("manifest for a:9 not found: manifest unknown", ArtifactError, "DOCKER_IMAGE_NOT_VALID"),
        ("permission denied while trying to connect to the socket", ArtifactError, "USER_NOT_AUTHORIZED_FOR_DOCKER"),
        ("Cannot connect to the Docker daemon", ArtifactUnreachableError, "DOCKER_SERVICE_UNAVAILABLE"),
        ("dial tcp: i/o timeout", ArtifactUnreachableError, "DOCKER_PULL_ERROR"),
    ],
)
async def test_what_the_program_says_is_given_its_code_and_only_what_may_pass_is_tried_again(
    docker, tmp_path, says, kind, code
):
    (docker.folder / "says").write_text(says)
    with pytest.raises(kind) as failed:
        await pull("docker:a:9", tmp_path / "a")
    assert failed.value.code == code
    assert says in failed.value.message


async def test_a_private_registry_of_ecr_is_logged_in_to_for_the_pull_alone(docker, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "root")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Moto() as moto:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", moto.url)
        await pull(f"docker:{ECR}/app:1", tmp_path / "a", AwsStoreOptions(aws=AwsOptions(region="eu-west-1")))
    login, pulled, _ = docker.calls
    assert login[0] == f"login --username AWS --password-stdin {ECR}"
    assert "auth-token" in login[1]
    assert pulled[:2] == [f"pull --quiet {ECR}/app:1", ""]
    assert login[2] == pulled[2]
    assert pulled[2]
    assert not Path(pulled[2]).exists()


async def test_a_deployment_that_is_cancelled_ends_the_pull(docker, tmp_path):
    (docker.folder / "slow").touch()
    pulling = asyncio.create_task(pull("docker:a:1", tmp_path / "a"))
    file = docker.folder / "pid"
    pid = int(await until(lambda: file.exists() and file.read_text().strip()))
    pulling.cancel()
    await asyncio.gather(pulling, return_exceptions=True)
    assert not Path(f"/proc/{pid}").exists()
