"""The token exchange service: exact answers, bounded patience, and a real SDK that asks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
from datetime import UTC, datetime

import pytest

from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.aws.tes.exchange import PATH, TOKEN_VARIABLE, URI_VARIABLE
from agent.aws.tes.server import TokenExchange
from agent.errors import ConfigError
from tests.support.s3 import FakeS3, Object
from tests.support.until import until

GIVEN = Credentials("ASIAROLE", "hush-secret", "hush-session", datetime(2099, 1, 1, 12, 30, tzinfo=UTC))
TOKEN = "COMPONENT-TOKEN"


class Provider:
    """Gives what a test wants given."""

    def __init__(self) -> None:
        self.error = None
        self.hold = threading.Event()
        self.hold.set()
        self.asked = 0

    def get(self) -> Credentials:
        self.asked += 1
        self.hold.wait(60)
        if self.error:
            raise self.error
        return GIVEN


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.hold.set()


@pytest.fixture
async def tes(provider):
    async with TokenExchange(provider, lambda token: token == TOKEN) as running:
        yield running


async def send(tes, data: bytes, host: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection(host, tes._port)
    try:
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    return int(first.split()[1]), dict(each.split(": ", 1) for each in fields), body


def request(method: str = "GET", path: str = PATH, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def test_a_component_with_its_token_gets_credentials_in_the_sdk_s_spelling(tes):
    status, headers, body = await send(tes, request(Authorization=TOKEN))
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {
        "AccessKeyId": "ASIAROLE",
        "SecretAccessKey": "hush-secret",
        "Expiration": "2099-01-01T12:30:00Z",
        "Token": "hush-session",
    }


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("POST", Authorization=TOKEN), 405),
        (request("HEAD", Authorization=TOKEN), 405),
        (request("PUT", "/other", Authorization=TOKEN), 405),
        (request(path="/", Authorization=TOKEN), 400),
        (request(path=PATH[:-1], Authorization=TOKEN), 400),
        (request(path=PATH + "more", Authorization=TOKEN), 400),
        (request(path="/other"), 400),
        (request(path=PATH + "?x=1", Authorization=TOKEN), 200),
        (request(authorization=TOKEN), 200),
        (request(), 403),
        (request(Authorization=""), 403),
        (request(Authorization="OTHER"), 403),
        (request(Authorization=f"Bearer {TOKEN}"), 403),
        (request(Authorization=TOKEN, AUTHORIZATION="OTHER"), 403),
        (b"nonsense\r\n\r\n", 400),
        (b"GET " + PATH.encode() + b" SMTP\r\n\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (request(Authorization="x" * 9000), 431),
    ],
)
async def test_everything_else_is_refused_without_a_body(tes, provider, data, status):
    told, headers, body = await send(tes, data)
    assert told == status
    assert headers["Content-Length"] == str(len(body))
    assert provider.asked == (1 if status == 200 else 0)
    assert status == 200 or body == b""


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            CredentialsError("no", status=403, answer='{"message":"Access Denied"}'),
            403,
            b'TES responded with status code: 403. Caching response. {"message":"Access Denied"}',
        ),
        (
            CredentialsUnreachableError("no", status=503, answer="later"),
            503,
            b"TES responded with status code: 503. Caching response. later",
        ),
        (CredentialsUnreachableError("no"), 500, b"Failed to get connection"),
    ],
)
async def test_what_the_endpoint_said_is_passed_on(tes, provider, error, status, body):
    provider.error = error
    told, _, said = await send(tes, request(Authorization=TOKEN))
    assert (told, said) == (status, body)


async def test_an_endpoint_that_does_not_answer_in_time_is_a_504_and_one_request(provider):
    provider.hold.clear()
    async with TokenExchange(provider, lambda _: True, upstream_s=0.1) as tes:
        answers = await asyncio.gather(*(send(tes, request(Authorization=TOKEN)) for _ in range(5)))
        assert {status for status, *_ in answers} == {504}
        assert provider.asked == 1
        provider.hold.set()

        async def answers_now():
            return (await send(tes, request(Authorization=TOKEN)))[0] == 200

        await until(answers_now)


async def test_a_head_that_does_not_come_is_given_up(provider):
    async with TokenExchange(provider, lambda _: True, head_s=0.1) as tes:
        assert (await send(tes, b"GET " + PATH.encode()))[0] == 408


async def test_silent_clients_do_not_keep_others_waiting_until_there_are_too_many(tes):
    silent = [await asyncio.open_connection("127.0.0.1", tes._port) for _ in range(60)]
    try:
        assert (await send(tes, request(Authorization=TOKEN)))[0] == 200
        silent += [await asyncio.open_connection("127.0.0.1", tes._port) for _ in range(10)]
        assert await asyncio.wait_for(silent[-1][0].read(), 10) == b""
    finally:
        for _, writer in silent:
            writer.close()
            await writer.wait_closed()
    await until(lambda: not tes._serving)
    assert (await send(tes, request(Authorization=TOKEN)))[0] == 200


async def test_who_is_still_served_when_it_ends_is_let_go(provider):
    provider.hold.clear()
    async with TokenExchange(provider, lambda _: True) as tes:
        reader, writer = await asyncio.open_connection("127.0.0.1", tes._port)
        writer.write(request(Authorization=TOKEN))
        await until(lambda: provider.asked)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_a_client_that_hangs_up_is_no_error(tes, caplog):
    for data in (b"", b"GET ", request(Authorization=TOKEN)):
        _, writer = await asyncio.open_connection("127.0.0.1", tes._port)
        writer.write(data)
        writer.transport.abort()
    assert (await send(tes, request(Authorization=TOKEN)))[0] == 200
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_localhost_is_ours_by_every_name_it_has(tes):
    hosts = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]
    for host in hosts:
        assert (await send(tes, request(Authorization=TOKEN), host))[0] == 200
    family = socket.AF_INET6 if len(hosts) == 2 else socket.AF_INET
    with socket.socket(family) as other, pytest.raises(OSError, match="in use"):
        other.bind((hosts[-1], tes._port))


async def test_a_port_that_is_taken_is_told(provider):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match=r"cannot listen.*in use"):
        await TokenExchange(provider, lambda _: True, port=taken.getsockname()[1]).__aenter__()


async def test_no_secret_and_no_token_is_logged(tes, provider, caplog):
    caplog.set_level(logging.DEBUG)
    await send(tes, request(Authorization=TOKEN))
    await send(tes, request(Authorization="OTHER-TOKEN"))
    provider.error = CredentialsError("no alias", status=404, answer="{}")
    await send(tes, request(Authorization=TOKEN))
    assert "no alias" in caplog.text
    assert not any(word in caplog.text for word in ("hush", TOKEN, "OTHER-TOKEN"))


SDK = """
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
print(s3.get_object(Bucket="models", Key="a")["Body"].read().decode())
"""


async def test_a_real_sdk_in_a_component_s_process_reaches_s3_by_the_variables_alone(tes):
    assert tes.env == {URI_VARIABLE: tes.uri}
    assert tes.uri.startswith("http://localhost:")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env = clean | tes.env | {TOKEN_VARIABLE: TOKEN, "NO_PROXY": "localhost,127.0.0.1"}
    with FakeS3() as s3:
        s3.objects["/models/a"] = Object(b"weights")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SDK, s3.url, env=env, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(child.communicate(), 60)
        assert said == b"weights\n"
        assert "ASIAROLE" in s3.requests[0].headers["authorization"]
        assert s3.requests[0].headers["x-amz-security-token"] == "hush-session"
