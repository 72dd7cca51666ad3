"""GetSecretValue: Amazon's clients of both kinds, in processes of their own."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from agent.config.aws import AwsOptions
from agent.greengrass.ipc.authorization import Authorizer
from agent.greengrass.ipc.secrets import SecretOperations
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.services.secrets.cache import SecretCache
from agent.greengrass.services.secrets.manager import SECRET_MANAGER, SecretManager
from tests.support.ipc import COMPONENT, lines, raw, sdk, serving
from tests.support.moto import Moto

V2 = "client = GreengrassCoreIPCClientV2()\n"
PREFIX = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"


def allowing(*resources):
    policy = {"operations": ["aws.greengrass#GetSecretValue"], "resources": list(resources)}
    return Tree.of({"accessControl": {SECRET_MANAGER: {"secrets:1": policy}}})


@asynccontextmanager
async def site(tmp_path, *, files=None, resources=("*",)):
    """The operation behind a socket, with a folder where there are ``files``; (path of the socket, manager)."""
    folder = tmp_path / "secrets" if files is not None else None
    for name, content in (files or {}).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    aws = AwsOptions(region="eu-west-1", account="123456789012")
    manager = SecretManager(folder, SecretCache(tmp_path / "cache"), aws)
    permit = Authorizer({COMPONENT: allowing(*resources)}.get).permit
    path = tmp_path / "ipc.socket"
    async with serving(path, SecretOperations(manager, permit).operations):
        yield path, manager


async def test_a_folder_alone_is_enough_and_both_clients_read_texts_and_bytes(tmp_path) -> None:
    script = """
    client = GreengrassCoreIPCClientV2()
    text = client.get_secret_value(secret_id="db")
    say(text.secret_id, text.version_stage, text.secret_value.secret_string, text.secret_value.secret_binary)
    again = client.get_secret_value(secret_id=text.secret_id, version_id=text.version_id)
    say(again.version_id == text.version_id, again.secret_value.secret_string)
    old = awsiot.greengrasscoreipc.connect()
    operation = old.new_get_secret_value()
    operation.activate(model.GetSecretValueRequest(secret_id="key", version_stage="AWSCURRENT", refresh=True))
    answer = operation.get_response().result(10)
    say(list(answer.secret_value.secret_binary), answer.secret_value.secret_string)
    """
    async with site(tmp_path, files={"db": b"pa\xc3\x9fword", "key": b"\xff\x00"}) as (path, _):
        first, second, third = await lines(path, script)
    assert first[0].startswith(f"{PREFIX}db-")
    assert first[1:] == [["AWSCURRENT"], "paßword", None]
    assert second == [True, "paßword"]
    assert third == [[255, 0], None]


async def test_a_secret_is_allowed_by_its_arn_and_not_by_its_name(tmp_path) -> None:
    script = (
        V2
        + """
say(client.get_secret_value(secret_id="db").secret_value.secret_string)
say(failure(client.get_secret_value, secret_id="key"))
"""
    )
    async with site(tmp_path, files={"db": b"x", "key": b"y"}, resources=(f"{PREFIX}db-*", "key")) as (path, _):
        allowed, refused = await lines(path, script)
    assert allowed == ["x"]
    assert refused[0][0] == "UnauthorizedError"
    assert f"GetSecretValue of {SECRET_MANAGER} to {PREFIX}key-" in refused[0][1]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({}, "ServiceError", "secretId is missing"),
        ({"secretId": ""}, "ServiceError", "secretId is missing"),
        ({"secretId": "db", "versionId": "1", "versionStage": "AWSCURRENT"}, "ServiceError", "name one of them"),
        ({"secretId": "nobody"}, "ResourceNotFoundError", "there is no secret nobody here"),
        ({"secretId": "db", "versionId": "1"}, "ResourceNotFoundError", "has no version 1 here"),
        ({"secretId": "db", "versionStage": "AWSPREVIOUS"}, "ResourceNotFoundError", "has no version AWSPREVIOUS"),
        ({"secretId": "open"}, "ServiceError", "chmod 0600"),
    ],
)
async def test_what_cannot_be_answered_is_refused_in_the_models_words(tmp_path, asked, error, says) -> None:
    async with site(tmp_path, files={"db": b"x", "open": b"y"}) as (path, _):
        (tmp_path / "secrets" / "open").chmod(0o644)
        async with raw(path) as client:
            await client.connect()
            kind, answer = await client.call("GetSecretValue", asked)
    assert kind == error
    assert says in answer["message"]
    if error == "ResourceNotFoundError":
        assert (answer["resourceType"], answer["resourceName"]) == ("secret", asked["secretId"])


async def test_empty_version_members_count_as_left_out(tmp_path) -> None:
    async with site(tmp_path, files={"db": b"x"}) as (path, _), raw(path) as client:
        await client.connect()
        kind, answer = await client.call("GetSecretValue", {"secretId": "db", "versionId": "", "versionStage": ""})
    assert (kind, answer["secretValue"]) == ("GetSecretValueResponse", {"secretString": "x"})


async def test_a_device_without_secrets_says_what_to_deploy_and_one_with_them_knows_the_name(tmp_path) -> None:
    async with site(tmp_path) as (path, manager), raw(path) as client:
        await client.connect()
        kind, answer = await client.call("GetSecretValue", {"secretId": "db"})
        assert kind == "ServiceError"
        assert "deploy aws.greengrass.SecretManager with cloudSecrets" in answer["message"]
        await manager.apply({})
        assert (await client.call("GetSecretValue", {"secretId": "db"}))[0] == "ResourceNotFoundError"


async def test_secrets_of_the_cloud_are_read_and_refreshed(tmp_path, monkeypatch) -> None:
    script = (
        V2
        + """
value = lambda **how: client.get_secret_value(secret_id="db", **how).secret_value.secret_string
say(value())
said()
say(value(), value(version_stage="AWSCURRENT", refresh=True), value(version_stage="AWSPREVIOUS", refresh=True))
"""
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "root")
    with Moto() as moto:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto.url)
        cloud = moto.client("secretsmanager")
        arn = cloud.create_secret(Name="db", SecretString="one")["ARN"]
        async with site(tmp_path, resources=(arn,)) as (path, manager):
            await manager.apply({"cloudSecrets": [{"arn": arn, "labels": []}]})
            async with sdk(path, script) as client:
                assert await client.next() == ["one"]
                cloud.put_secret_value(SecretId=arn, SecretString="two")
                await client.say("go on")
                assert await client.next() == ["one", "two", "one"]
        cloud.close()
