"""What an MQTT link does when the broker refuses, against a real one and against scripted ones."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import PublishError
from agent.mqtt.client import MqttTransport
from agent.mqtt.probe import Visitor
from agent.mqtt.transport import Message
from tests.support import certs
from tests.support.broker import Broker
from tests.support.certs import Certificates
from tests.support.inbox import Inbox, connected, delivered, state_of
from tests.support.until import until
from tests.support.wire import Wire

VERSIONS = ["5", "3.1.1"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_wrong_password_is_said_to_be_one(version: str, topic: str):
    async with Broker(passwords={"camera": "right"}) as broker:
        right = replace(broker.options, version=version, username="camera", password="right")
        async with MqttTransport("right", right) as transport:
            await connected(transport)
            await delivered(transport, Message(topic, b"x", qos=1))
        async with MqttTransport("wrong", replace(right, password="wrong")) as transport:
            state = await state_of(transport, lambda state: "refused the connection" in state.reason)
            assert "hint: check username" in state.reason
            # Only a person can mend it: no attempt soon.
            assert transport._connection._backoff.ceiling_s == right.backoff_cap_s


async def test_a_broker_whose_authority_is_unknown_is_not_trusted(tmp_path: Path, certificates: Certificates):
    stranger = certs.create(tmp_path)
    async with Broker(tls=certificates) as broker:
        options = replace(broker.options, tls=TlsOptions(ca_file=str(stranger.ca)))
        async with MqttTransport("careful", options) as transport:
            state = await state_of(transport, lambda state: "certificate" in state.reason)
            assert "not trusted" in state.reason
            assert "tls.ca_file" in state.reason
        insecure = replace(broker.options, tls=TlsOptions(insecure=True))
        async with MqttTransport("careless", insecure) as transport:
            assert (await connected(transport)).connected


async def test_an_expired_certificate_is_said_to_be_expired(tmp_path: Path):
    old = certs.create(tmp_path, expired=True)
    async with Broker(tls=old) as broker:
        options = replace(broker.options, tls=TlsOptions(ca_file=str(old.ca)))
        async with MqttTransport("careful", options) as transport:
            state = await state_of(transport, lambda state: "certificate" in state.reason)
            assert "expired" in state.reason


async def test_a_client_without_its_certificate_is_told_about_tls(certificates: Certificates):
    async with Broker(tls=certificates, client_certificates=True) as broker:
        options = replace(broker.options, tls=TlsOptions(ca_file=str(certificates.ca)))
        async with MqttTransport("nameless", options) as transport:
            state = await state_of(transport, lambda state: state.reason != "not connected yet")
            assert not state.connected
            assert "hint" in state.reason


async def test_a_message_past_the_brokers_maximum_is_refused_and_the_link_stays(topic: str):
    async with Broker(lines=["max_packet_size 20000"]) as broker:
        early, ends = MqttTransport("early", broker.options), []
        early.publish(Message(topic, bytes(30_000), qos=1), ends.append)
        early.publish(Message(topic, bytes(10_000), qos=1), ends.append)
        async with early:
            await connected(early)
            with pytest.raises(PublishError, match=r"30\d\d\d bytes .* 20000 bytes") as refused:
                early.publish(Message(topic, bytes(30_000), qos=1))
            assert refused.value.code == "packet-too-large"
            assert early.limits.maximum_packet_size == 20_000
            await delivered(early, Message(topic, b"small", qos=1))
            assert [type(end) for end in ends] == [PublishError, type(None)]
            assert "20000" in str(ends[0])


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_message_that_makes_an_old_broker_hang_up_is_refused_after_two_drops(qos: int, topic: str):
    async with Broker(lines=["max_packet_size 20000"]) as broker, Wire(broker.port) as wire:
        options = replace(broker.options, version="3.1.1", port=wire.port)
        async with MqttTransport("old", options) as transport:
            await connected(transport)
            ends: list[tuple[str, Any]] = []
            transport.publish(Message(topic, b"before", qos=1), lambda error: ends.append(("before", error)))
            transport.publish(Message(topic, bytes(30_000), qos=qos), lambda error: ends.append(("large", error)))
            transport.publish(Message(topic, b"after", qos=1), lambda error: ends.append(("after", error)))
            await state_of(transport, lambda state: not state.connected)
            await connected(transport)
            await delivered(transport, Message(topic, b"small", qos=1))
            outcome = dict(ends)
            assert len(ends) == 3
            assert (outcome["before"], outcome["after"]) == (None, None)
            assert isinstance(outcome["large"], PublishError)
            assert wire.connections == 3
            with pytest.raises(PublishError, match="hung up twice"):
                transport.publish(Message(topic, bytes(30_000), qos=qos))
            await delivered(transport, Message(topic, bytes(15_000), qos=qos))
            assert wire.connections == 3


async def test_large_qos_0_messages_that_make_an_old_broker_hang_up_are_refused_after_two_drops(topic: str):
    async with Broker(lines=["max_packet_size 20000"]) as broker, Wire(broker.port) as wire:
        options = replace(broker.options, version="3.1.1", port=wire.port)
        async with MqttTransport("old", options) as transport:
            for _ in range(2):
                await connected(transport)
                transport.publish(Message(topic, bytes(30_000)))
                await state_of(transport, lambda state: not state.connected)
            await connected(transport)
            with pytest.raises(PublishError, match="hung up twice"):
                transport.publish(Message(topic, bytes(30_000)))


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_configured_maximum_is_held_before_any_connection(free_port: int, version: str, topic: str):
    options = MqttOptions(port=free_port, version=version, max_packet_bytes=1000)
    with pytest.raises(PublishError, match="max_packet_bytes of the configuration"):
        MqttTransport("small", options).publish(Message(topic, bytes(1000), qos=1))


async def test_a_broker_of_lower_qos_and_without_retain_gets_what_it_takes(topic: str):
    with Broker(lines=["retain_available false"], listener=["max_qos 1"]) as broker:
        async with MqttTransport("fitted", broker.options) as transport:
            await connected(transport)
            inbox = Inbox()
            transport.subscribe(topic, inbox, qos=1)
            await delivered(transport, Message(topic, b"x", qos=2, retain=True))
            (message,) = await inbox.wait(1)
            assert (message.qos, message.retain) == (1, False)


async def test_what_the_broker_forbids_is_reported_with_its_reason(tmp_path: Path, topic: str):
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite allowed/#\n")
    with Broker(lines=[f"acl_file {rules}"]) as broker:
        async with MqttTransport("guest", broker.options) as transport:
            await connected(transport)
            await delivered(transport, Message("allowed/x", b"x", qos=1))
            with pytest.raises(PublishError, match="Not authorized"):
                await delivered(transport, Message(topic, b"x", qos=1))


async def test_a_subscription_that_the_broker_refuses_is_visible(broker: Broker, caplog: pytest.LogCaptureFixture):
    connack = b"\x20\x03\x00\x00\x00"
    suback = b"\x90\x05\x00\x01\x00\x87\x00"  # for packet 1: not authorized, granted

    def answer(packet: bytes) -> bytes:
        return connack if packet[0] == 0x10 else suback

    async with (
        Wire(broker.port, script=answer) as wire,
        MqttTransport("t", replace(broker.options, port=wire.port)) as transport,
    ):
        transport.subscribe("secret", Inbox())
        transport.subscribe("public", Inbox())
        await until(lambda: transport.refused == {"secret": "Not authorized"})
        transport.unsubscribe("secret", Inbox())
    assert "refuses the subscription to 'secret': Not authorized" in caplog.text


async def test_a_broker_without_shared_subscriptions_is_not_asked_for_one(broker: Broker):
    connack = b"\x20\x05\x00\x00\x02\x2a\x00"
    async with (
        Wire(broker.port, script=lambda _: connack) as wire,
        MqttTransport("t", replace(broker.options, port=wire.port)) as transport,
    ):
        transport.subscribe("$share/group/a", Inbox())
        await until(lambda: transport.refused == {"$share/group/a": "the broker has no shared subscriptions"})
        assert transport.state.connected


async def test_a_peer_that_resets_each_connection_at_once_is_said_to_hang_up(caplog: pytest.LogCaptureFixture):
    def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    options = MqttOptions(port=server.sockets[0].getsockname()[1], backoff_base_s=0.001, backoff_cap_s=0.01)
    async with server, MqttTransport("t", options) as transport:
        await state_of(transport, lambda state: "127.0.0.1" in state.reason)
        await asyncio.sleep(0.3)  # some dozens of attempts, cut off at different moments
        assert not transport.state.connected
    assert "unexpectedly" not in caplog.text


async def test_a_broker_that_never_answers_is_given_up_after_the_timeout(broker: Broker):
    async with (
        Wire(broker.port, script=lambda _: b"") as wire,
        MqttTransport("t", replace(broker.options, port=wire.port, connect_timeout_s=0.1)) as transport,
    ):
        state = await state_of(transport, lambda state: "no answer in time" in state.reason)
        assert not state.connected


async def test_a_port_that_speaks_no_tls_is_said_to_be_one(broker: Broker, certificates: Certificates):
    options = replace(broker.options, tls=TlsOptions(ca_file=str(certificates.ca)))
    async with MqttTransport("t", options) as transport:
        state = await state_of(transport, lambda state: state.reason != "not connected yet")
        assert "check that" in state.reason
        assert "tls" in state.reason.lower()


MQTT_5 = 5
REFUSAL = b"\x20\x02\x00\x01"


def hangs_up(_packet: bytes) -> None:
    raise ConnectionResetError


def version_of(packet: bytes) -> int:
    """Of a CONNECT: it stands behind the protocol's name."""
    return packet[packet.index(b"MQTT") + 4]


async def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1(broker: Broker, topic: str):
    async with Wire(broker.port, script=lambda packet: REFUSAL if version_of(packet) == MQTT_5 else None) as wire:
        options = replace(broker.options, port=wire.port)
        async with MqttTransport("auto", options) as transport:
            await connected(transport)
            await delivered(transport, Message(topic, b"x", qos=1, content_type="text/plain"))
            assert wire.connections == 2
        async with MqttTransport("strict", replace(options, version="5")) as transport:
            state = await state_of(transport, lambda state: "MQTT version" in state.reason)
            assert 'version = "3.1.1"' in state.reason


async def test_a_broker_that_hangs_up_on_mqtt_5_is_spoken_to_in_3_1_1_at_once_and_after_a_loss(
    broker: Broker, topic: str
):
    old = lambda packet: hangs_up(packet) if version_of(packet) == MQTT_5 else None  # noqa: E731
    async with Wire(broker.port, script=old) as wire:
        options = replace(broker.options, port=wire.port, backoff_base_s=20.0, backoff_cap_s=20.0)
        async with MqttTransport("auto", options) as transport:
            await connected(transport)
            await delivered(transport, Message(topic, b"x", qos=1))
            assert wire.connections == 4  # 5, 3.1.1, 5 once more as the proof, 3.1.1
            assert transport.limits.version == 4
        async with MqttTransport("strict", replace(options, version="5")) as transport:
            await state_of(transport, lambda state: "closed the connection" in state.reason)


async def test_a_proxy_that_hangs_up_until_its_broker_is_there_leads_to_mqtt_5(broker: Broker):
    """Whichever version is being tried when the broker comes up."""
    for attempts in range(1, 6):
        asked: list[bytes] = []

        def proxy(packet: bytes, asked: list[bytes] = asked, attempts: int = attempts) -> None:
            asked.append(packet)
            if len(asked) <= attempts:
                hangs_up(packet)

        async with Wire(broker.port, script=proxy) as wire:
            options = replace(broker.options, port=wire.port)
            async with MqttTransport("auto", options) as transport:
                await connected(transport)
                assert transport.limits.version == MQTT_5


async def test_a_visitor_speaks_3_1_1_where_nothing_else_is_taken(broker: Broker, topic: str):
    for old in (lambda _packet: REFUSAL, hangs_up):
        script = lambda packet, old=old: old(packet) if version_of(packet) == MQTT_5 else None  # noqa: E731
        async with Wire(broker.port, script=script) as wire:
            options = replace(broker.options, port=wire.port)

            def visit(options: MqttOptions = options) -> tuple[bool, str | None]:
                with Visitor(options) as visitor:
                    return visitor.five, visitor.publish(topic)

            assert await asyncio.to_thread(visit) == (False, None)


async def test_the_reason_that_a_broker_gives_for_a_disconnect_is_told(broker: Broker):
    taken_over = b"\x20\x03\x00\x00\x00" + b"\xe0\x02\x8e\x00"
    async with (
        Wire(broker.port, script=lambda _: taken_over) as wire,
        MqttTransport("first", replace(broker.options, port=wire.port)) as transport,
    ):
        state = await state_of(transport, lambda state: "lost the connection" in state.reason)
        assert "another client took over with the same client id" in state.reason
