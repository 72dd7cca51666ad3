"""The ways to IoT Core, seen from the other end of the wire: what the client offers, asks and proves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest

from agent.config.transports import AuthorizerOptions, IotCoreOptions, ProxyOptions, SigV4Options
from agent.errors import BrokerUnreachableError
from agent.mqtt.iotcore.client import IotCoreTransport
from agent.mqtt.transport import Message
from tests.support import certs, websocket
from tests.support.broker import Broker
from tests.support.certs import Certificates, server_tls
from tests.support.inbox import Inbox, connected, delivered, state_of
from tests.support.tcp import pass_on, serving
from tests.support.until import until

Options = Callable[..., IotCoreOptions]
WITHOUT_CERTIFICATE = {"cert_file": None, "key_file": None}
CONNACK, SUBACK_REFUSED = b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x87"


@dataclass
class Front:
    """What a listener in front of the broker saw."""

    port: int = 0
    protocols: list[str | None] = field(default_factory=list)
    """The ALPN protocol of each connection."""
    firsts: list[bytes] = field(default_factory=list)
    """The first bytes of each connection, decrypted."""


@asynccontextmanager
async def front(
    to_port: int,
    tls: ssl.SSLContext | None,
    *,
    first: Callable[[bytes], bytes] = lambda data: data,
    script: Callable[[bytes], bytes] | None = None,
) -> AsyncIterator[Front]:
    """Listens, decrypts, looks at the first bytes and passes on what ``first`` makes of them, or answers itself."""
    seen = Front()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secret = writer.get_extra_info("ssl_object")
        seen.protocols.append(secret.selected_alpn_protocol() if secret else None)
        data = await reader.read(65_536)
        seen.firsts.append(data)
        while script and data:
            writer.write(script(data))
            data = await reader.read(65_536)
        if data:
            await pass_on(reader, writer, to_port, first(data))

    async with serving(serve, tls=tls) as seen.port:
        yield seen


async def works(transport: IotCoreTransport, topic: str) -> None:
    inbox = Inbox()
    transport.subscribe(topic, inbox, qos=1)
    await connected(transport)
    await delivered(transport, Message(topic, b"through", qos=1))
    assert [message.payload for message in await inbox.wait(1)] == [b"through"]


async def why(transport: IotCoreTransport) -> BrokerUnreachableError:
    """Why there is no connection."""
    await state_of(transport, lambda state: not state.connected and state.reason != "not connected yet")
    with pytest.raises(BrokerUnreachableError) as trouble:
        await transport.wait_connected(0.01)
    return trouble.value


def credentials_of(connect: bytes) -> tuple[str, str | None]:
    """User name and password of an MQTT 5 CONNECT without a will."""
    body = connect[2:] if connect[1] < 128 else connect[3:]
    flags, at = body[7], 10
    at += 1 + body[at]  # properties shorter than 128 bytes
    texts = []
    for _ in range(1 + bool(flags & 0x80) + bool(flags & 0x40)):
        size = int.from_bytes(body[at : at + 2])
        texts.append(body[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return texts[1], texts[2] if len(texts) > 2 else None


# -- TLS ---------------------------------------------------------------------------------------------------------------


async def test_the_protocol_for_port_443_is_offered(
    broker: Broker, certificates: Certificates, iotcore: Options, topic: str
):
    offered = server_tls(certificates, "x-amzn-mqtt-ca")
    async with front(broker.port, offered) as seen:
        async with IotCoreTransport("t", iotcore(port=seen.port, alpn="x-amzn-mqtt-ca")) as transport:
            await works(transport, topic)
        async with IotCoreTransport("t", iotcore(port=seen.port)) as transport:
            await works(transport, topic)
        assert seen.protocols == ["x-amzn-mqtt-ca", None]


async def test_an_expired_certificate_of_the_broker_is_refused(broker: Broker, iotcore: Options, tmp_path: Path):
    expired = certs.create(tmp_path, expired=True)
    async with (
        front(broker.port, server_tls(expired, client=False)) as seen,
        IotCoreTransport("t", iotcore(port=seen.port, ca_file=str(expired.ca))) as transport,
    ):
        trouble = await why(transport)
        assert "TLS failed" in trouble.message
        assert trouble.code == "tls"


# -- a custom authorizer -----------------------------------------------------------------------------------------------


async def test_a_custom_authorizer_finds_what_it_needs_in_the_connect(
    broker: Broker, certificates: Certificates, iotcore: Options, topic: str
):
    authorizer = AuthorizerOptions(
        name="my auth", username="camera-7", password="secret", token_key="tok en", token="a+b/c=", signature="c2ln+/=="
    )
    async with front(broker.port, server_tls(certificates, "mqtt", client=False)) as seen:
        options = iotcore(**WITHOUT_CERTIFICATE, port=seen.port, authorizer=authorizer)
        async with IotCoreTransport("t", options) as transport:
            await works(transport, topic)
    username, password = credentials_of(seen.firsts[0])
    name, _, query = username.partition("?")
    assert (name, password) == ("camera-7", "secret")
    assert "+" not in query
    assert dict(parse_qsl(query)) == {
        "x-amz-customauthorizer-name": "my auth",
        "x-amz-customauthorizer-signature": "c2ln+/==",
        "tok en": "a+b/c=",
    }
    assert seen.protocols == ["mqtt"]


@pytest.mark.parametrize(("password", "works_"), [("right", True), ("wrong", False)])
async def test_who_is_not_let_in_is_told(certificates: Certificates, iotcore: Options, password: str, works_: bool):
    with Broker(tls=certificates, passwords={"camera": "right"}) as broker:
        authorizer = AuthorizerOptions(username="camera", password=password)
        options = iotcore(**WITHOUT_CERTIFICATE, port=broker.port, authorizer=authorizer, alpn="")
        async with IotCoreTransport("t", options) as transport:
            if works_:
                await connected(transport)
                return
            trouble = await why(transport)
            assert "refused the connection" in trouble.message
            assert trouble.code == "not-authorized"
            assert "iot:Connect" in str(trouble.hint)


# -- WebSockets --------------------------------------------------------------------------------------------------------


def to_the_bridge(request: bytes) -> bytes:
    """The request with the query taken off, which the bridge does not know."""
    line, rest = request.split(b"\r\n", 1)
    method, target, version = line.split(b" ")
    return b"%s %s %s\r\n%s" % (method, target.split(b"?")[0], version, rest)


async def test_a_websocket_is_asked_for_with_a_request_signed_for_the_region(
    broker: Broker, certificates: Certificates, iotcore: Options, topic: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session/token")
    async with (
        websocket.bridge(broker.port) as port,
        front(port, server_tls(certificates, client=False), first=to_the_bridge) as seen,
    ):
        options = iotcore(**WITHOUT_CERTIFICATE, port=seen.port, sigv4=SigV4Options(region="eu-west-1"))
        async with IotCoreTransport("t", options) as transport:
            await works(transport, topic)
    head = seen.firsts[0].decode().split("\r\n")
    target = head[0].split(" ")[1]
    path, _, query = target.partition("?")
    query_values = dict(pair.split("=", 1) for pair in query.split("&"))
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    assert path == "/mqtt"
    assert unquote(query_values.pop("X-Amz-Security-Token")) == "session/token"
    assert unquote(query_values["X-Amz-Credential"]).endswith("/eu-west-1/iotdevicegateway/aws4_request")
    assert query_values.pop("X-Amz-Signature") == signature(query_values, headers, "secret key")


def signature(query: dict[str, str], headers: dict[str, str], secret: str) -> str:
    """The Signature Version 4 of a GET of /mqtt with an empty body."""
    canonical = "&".join(f"{key}={value}" for key, value in sorted(query.items()))
    names = unquote(query["X-Amz-SignedHeaders"]).split(";")
    signed = "".join(f"{name}:{headers[name]}\n" for name in names)
    request = f"GET\n/mqtt\n{canonical}\n{signed}\n{';'.join(names)}\n{hashlib.sha256(b'').hexdigest()}"
    scope = unquote(query["X-Amz-Credential"]).split("/", 1)[1]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


async def test_without_credentials_it_is_told_that_there_are_none(
    broker: Broker, certificates: Certificates, iotcore: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    async with front(broker.port, server_tls(certificates, client=False)) as seen:
        options = iotcore(**WITHOUT_CERTIFICATE, port=seen.port, sigv4=SigV4Options(region="eu-west-1"))
        async with IotCoreTransport("t", options) as transport:
            trouble = await why(transport)
            assert trouble.code == "no-credentials"


async def test_a_custom_authorizer_works_over_websockets(
    broker: Broker, certificates: Certificates, iotcore: Options, topic: str
):
    async with (
        websocket.bridge(broker.port) as port,
        front(port, server_tls(certificates, client=False)) as seen,
    ):
        authorizer = AuthorizerOptions(name="auth", websockets=True)
        options = iotcore(**WITHOUT_CERTIFICATE, port=seen.port, authorizer=authorizer)
        async with IotCoreTransport("t", options) as transport:
            await works(transport, topic)
    assert seen.firsts[0].startswith(b"GET /mqtt HTTP/1.1\r\n")


async def test_a_websocket_that_is_refused_is_told(broker: Broker, certificates: Certificates, iotcore: Options):
    def forbid(_: bytes) -> bytes:
        return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

    async with front(broker.port, server_tls(certificates, client=False), script=forbid) as seen:
        options = iotcore(**WITHOUT_CERTIFICATE, port=seen.port, authorizer=AuthorizerOptions(websockets=True))
        async with IotCoreTransport("t", options) as transport:
            trouble = await why(transport)
            assert "refused the WebSocket" in trouble.message


# -- a proxy -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def proxy(*, refuses: bool = False) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTP proxy that knows CONNECT; gives its port and the requests that it got."""
    requests: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if refuses:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await pass_on(reader, writer, int(requests[-1].split(" ")[1].rpartition(":")[2]))

    async with serving(serve) as port:
        yield port, requests


async def test_a_proxy_is_gone_through_by_connect_and_told_who_asks(tls_broker: Broker, iotcore: Options, topic: str):
    async with proxy() as (port, requests):
        options = ProxyOptions(host="127.0.0.1", port=port, username="camera", password="secret")
        async with IotCoreTransport("t", iotcore(proxy=options)) as transport:
            await works(transport, topic)
    assert requests[0].startswith(f"CONNECT 127.0.0.1:{tls_broker.port} HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'camera:secret').decode()}" in requests[0]


async def test_a_proxy_that_refuses_is_told(iotcore: Options):
    async with proxy(refuses=True) as (port, _):
        options = ProxyOptions(host="127.0.0.1", port=port)
        async with IotCoreTransport("t", iotcore(proxy=options)) as transport:
            trouble = await why(transport)
            assert trouble.code == "proxy"


# -- what IoT Core says ------------------------------------------------------------------------------------------------


def scripted(**answers: bytes) -> Callable[[bytes], bytes]:
    """Answers a packet by its type: connect, publish or subscribe."""
    kinds = {1: "connect", 3: "publish", 8: "subscribe"}
    return lambda data: answers.get(kinds.get(data[0] >> 4, ""), b"")


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [(0x8E, "taken-over", "another client took over"), (0x87, "not-authorized", "did what it may not")],
)
async def test_why_the_broker_ended_the_connection_is_told(
    broker: Broker, certificates: Certificates, iotcore: Options, reason: int, code: str, words: str
):
    goodbye = b"\xe0\x02" + bytes([reason]) + b"\x00"
    script = scripted(connect=CONNACK, publish=goodbye)
    async with (
        front(broker.port, server_tls(certificates), script=script) as seen,
        IotCoreTransport("t", iotcore(port=seen.port, backoff_base_s=5.0)) as transport,
    ):
        await connected(transport)
        transport.publish(Message("t", b"x", qos=0))
        state = await state_of(transport, lambda state: not state.connected)
        assert words in state.reason
        trouble = await why(transport)
        assert trouble.code == code


async def test_a_filter_that_is_refused_is_visible(broker: Broker, certificates: Certificates, iotcore: Options):
    script = scripted(connect=CONNACK, subscribe=SUBACK_REFUSED)
    async with (
        front(broker.port, server_tls(certificates), script=script) as seen,
        IotCoreTransport("t", iotcore(port=seen.port)) as transport,
    ):
        transport.subscribe("secret", Inbox(), qos=1)
        await until(lambda: transport.refused == {"secret": "Not authorized"})


async def test_what_exceeds_a_quota_is_sent_again_a_second_later(
    broker: Broker, certificates: Certificates, iotcore: Options
):
    answers = [b"\x40\x04\x00%c\x97\x00", b"\x40\x04\x00%c\x00\x00"]
    sent: list[float] = []

    def script(data: bytes) -> bytes:
        if data[0] >> 4 == 1:
            return CONNACK
        if data[0] >> 4 != 3:
            return b""
        sent.append(asyncio.get_running_loop().time())
        return answers[min(len(sent), 2) - 1] % data[7]  # behind the topic "tt": the packet id

    async with (
        front(broker.port, server_tls(certificates), script=script) as seen,
        IotCoreTransport("t", iotcore(port=seen.port)) as transport,
    ):
        await connected(transport)
        await delivered(transport, Message("tt", b"x", qos=1))
        assert len(sent) == 2
        assert sent[1] - sent[0] >= 0.95


async def test_the_goodbye_goes_out_before_acknowledgements_that_come_too_late(
    tls_broker: Broker, iotcore: Options, topic: str, caplog: pytest.LogCaptureFixture
):
    async with IotCoreTransport("sender", iotcore()) as sender:
        receiver = IotCoreTransport("receiver", iotcore())
        async with receiver:
            receiver.subscribe(topic, Inbox(), qos=1)
            await asyncio.gather(connected(receiver), connected(sender))
            for number in range(500):
                sender.publish(Message(topic, b"%d" % number, qos=1))
        assert "did not come to rest" not in caplog.text
