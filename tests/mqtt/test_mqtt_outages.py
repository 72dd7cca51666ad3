"""What an MQTT link does about outages, floods and its own end, against a real broker."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import BrokerUnreachableError, NotConnectedError
from agent.mqtt.client import MqttTransport
from agent.mqtt.transport import LinkState, Message
from tests.support.broker import Broker
from tests.support.certs import Certificates
from tests.support.inbox import Inbox, connected, delivered, state_of, subscribed
from tests.support.until import until
from tests.support.wire import Wire

VERSIONS = ["5", "3.1.1"]


def stand_still(seconds: float) -> None:
    """Block the loop."""
    time.sleep(seconds)


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_published_while_the_broker_restarts_arrives_after_it(
    own_broker: Broker, topic: str, version: str
):
    options = replace(own_broker.options, version=version)
    async with (
        Wire(own_broker.port) as wire,
        MqttTransport("sender", replace(options, port=wire.port)) as sender,
        MqttTransport("receiver", options) as receiver,
    ):
        await asyncio.gather(connected(sender), connected(receiver))
        inbox, ends = Inbox(), []
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        own_broker.stop()
        wire.cut()
        await asyncio.gather(*(state_of(each, lambda state: not state.connected) for each in (sender, receiver)))
        late = Inbox()
        receiver.subscribe(f"{topic}/late", late, qos=1)
        for number in range(200):
            sender.publish(Message(topic, b"%d" % number, qos=1), ends.append)
        sender.publish(Message(f"{topic}/late", b"late", qos=1))
        own_broker.start()
        await connected(receiver)
        await subscribed(receiver, topic)
        wire.mend()  # the sender is held back until the receiver listens
        await late.wait(1)
        assert inbox.payloads == [b"%d" % number for number in range(200)]
        assert late.payloads == [b"late"]
        await until(lambda: len(ends) >= 200)
        assert ends == [None] * 200


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_queue_longer_than_the_receive_maximum_goes_out_in_order_after_the_outage(
    wire: Wire, broker: Broker, topic: str, version: str
):
    options = replace(broker.options, version=version)
    async with (
        MqttTransport("receiver", options) as receiver,
        MqttTransport("sender", replace(options, port=wire.port)) as sender,
    ):
        await asyncio.gather(connected(sender), connected(receiver))
        inbox, ends = Inbox(), []
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        wire.cut()
        await state_of(sender, lambda state: not state.connected)
        for number in range(900):
            sender.publish(Message(topic, b"%d" % number, qos=1), ends.append)
        wire.mend()
        await inbox.wait(900)
        assert inbox.payloads == [b"%d" % number for number in range(900)]
        await subscribed(sender, topic)
        assert ends == [None] * 900


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", VERSIONS)
async def test_what_was_in_flight_when_the_wire_was_cut_is_sent_again_and_ends_once(
    wire: Wire, broker: Broker, topic: str, version: str, qos: int
):
    options = replace(broker.options, version=version)
    async with (
        MqttTransport("receiver", options) as receiver,
        MqttTransport("sender", replace(options, port=wire.port)) as sender,
    ):
        await asyncio.gather(connected(sender), connected(receiver))
        inbox, ends = Inbox(), []
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        for number in range(300):
            sender.publish(Message(topic, b"%d" % number, qos=qos), lambda error, n=number: ends.append((n, error)))
        await inbox.wait(20)
        wire.cut()
        wire.mend()
        await inbox.until(lambda messages: messages[-1].payload == b"299")
        await subscribed(sender, topic)
        assert sorted(ends) == [(number, None) for number in range(300)]
        assert list(dict.fromkeys(inbox.payloads)) == [b"%d" % number for number in range(300)]


async def test_a_kept_session_delivers_what_was_sent_while_the_client_was_away(
    wire: Wire, broker: Broker, topic: str, thing: str
):
    options = replace(broker.options, port=wire.port, client_id=thing, session_expiry_s=60)
    async with MqttTransport("sender", broker.options) as sender, MqttTransport("receiver", options) as receiver:
        await asyncio.gather(connected(sender), connected(receiver))
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        wire.cut()
        await state_of(receiver, lambda state: not state.connected)
        await delivered(sender, Message(topic, b"while away", qos=1))
        wire.mend()
        assert (await connected(receiver)).session_present
        await inbox.wait(1)
        assert inbox.payloads == [b"while away"]


async def test_a_message_not_acknowledged_comes_again_and_its_old_acknowledgement_is_ignored(
    wire: Wire, broker: Broker, topic: str, thing: str
):
    options = replace(broker.options, port=wire.port, client_id=thing, session_expiry_s=60)
    async with MqttTransport("receiver", options) as receiver:
        await connected(receiver)
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1, manual_ack=True)
        await delivered(receiver, Message(topic, b"x", qos=1))
        (first,) = await inbox.wait(1)
        wire.cut()
        await state_of(receiver, lambda state: not state.connected)
        wire.mend()
        await inbox.wait(2)
        again = inbox.messages[1]
        receiver.acknowledge(first)
        assert (again.payload, again.packet_id == first.packet_id) == (b"x", False)
        receiver.acknowledge(again)
        await delivered(receiver, Message(topic, b"y", qos=1))
        await inbox.wait(3)
        assert inbox.payloads == [b"x", b"x", b"y"]


async def test_the_broker_publishes_the_will_when_the_wire_is_cut(wire: Wire, broker: Broker, topic: str):
    will = Message(topic, b"offline", qos=1, retain=True, content_type="text/plain")
    async with MqttTransport("watcher", broker.options) as watcher:
        await connected(watcher)
        inbox = Inbox()
        watcher.subscribe(topic, inbox, qos=1)
        await subscribed(watcher, topic)
        async with MqttTransport("lost", replace(broker.options, port=wire.port), will=will) as lost:
            await connected(lost)
            wire.cut()
            (message,) = await inbox.wait(1)
        assert (message.payload, message.content_type) == (b"offline", "text/plain")


async def test_a_broker_that_is_absent_at_the_start_is_reported_and_found_later(free_port: int, topic: str):
    options = MqttOptions(port=free_port, backoff_base_s=0.05, backoff_cap_s=0.1)
    started = time.monotonic()
    async with MqttTransport("early", options) as transport:
        assert time.monotonic() - started < 10  # the broker comes later
        inbox = Inbox()
        transport.subscribe(topic, inbox, qos=1)
        transport.publish(Message(topic, b"early", qos=1))
        state = await state_of(transport, lambda state: "refused" in state.reason)
        assert f"127.0.0.1:{free_port}" in state.reason
        assert "hint: check that the broker runs" in state.reason
        with pytest.raises(BrokerUnreachableError) as unreachable:
            await transport.wait_connected(0.01)
        error = unreachable.value
        assert "connection refused" in error.message
        assert error.hint == "check that the broker runs, host and port"
        assert error.code == "connection-refused"
        with Broker(port=free_port):
            await transport.wait_connected(10)
            await inbox.wait(1)
            assert inbox.payloads == [b"early"]


async def test_leaving_during_an_outage_is_quick_and_ends_what_waits(free_port: int, topic: str):
    ends: list[Any] = []
    transport = MqttTransport("early", MqttOptions(port=free_port, backoff_base_s=20, backoff_cap_s=30))
    async with transport:
        transport.publish(Message(topic, b"x", qos=1), ends.append)
        await state_of(transport, lambda state: "refused" in state.reason)
        started = time.monotonic()
    assert time.monotonic() - started < 10  # the next attempt is 20 s away
    assert [type(end) for end in ends] == [NotConnectedError]


async def test_each_change_of_the_link_is_logged_once_and_not_each_attempt(
    free_port: int, caplog: pytest.LogCaptureFixture
):
    options = MqttOptions(port=free_port, backoff_base_s=0.001, backoff_cap_s=0.002)
    with caplog.at_level(logging.INFO, "agent.mqtt.client"):
        async with MqttTransport("early", options) as transport:
            await state_of(transport, lambda state: "refused" in state.reason)
            backoff = transport._connection._backoff
            delays: list[float] = []
            backoff._uniform = lambda _low, high: delays.append(high) or high
            await until(lambda: len(delays) >= 10)
            with Broker(port=free_port):
                await connected(transport)
                await until(lambda: len(caplog.records) >= 2)
    levels = [(record.levelname, "refused" in record.getMessage()) for record in caplog.records]
    assert levels[:2] == [("WARNING", True), ("INFO", False)]


async def test_nothing_is_lost_while_the_loop_is_blocked(broker: Broker, topic: str):
    patient = replace(broker.options, max_queued_messages=5000)
    async with MqttTransport("receiver", broker.options) as receiver, MqttTransport("sender", patient) as sender:
        await asyncio.gather(connected(sender), connected(receiver))
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        for start in range(0, 5000, 1000):
            for number in range(start, start + 1000):
                sender.publish(Message(topic, b"%d" % number, qos=1))
            if start == 2000:
                await inbox.wait(2100)
                stand_still(1.0)
            await inbox.wait(start + 1000)
        assert inbox.payloads == [b"%d" % number for number in range(5000)]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_flood_is_read_in_small_bites_between_which_the_loop_breathes(
    certificates: Certificates, topic: str, encrypted: bool
):
    tls = TlsOptions(ca_file=str(certificates.ca)) if encrypted else None
    loop, bites, turn = asyncio.get_running_loop(), Counter[int](), 0

    def breathe() -> None:
        nonlocal turn
        turn += 1
        if bites.total() < 500:
            loop.call_soon(breathe)

    with Broker(lines=["max_queued_messages 0"], tls=certificates if encrypted else None) as flooded:
        async with MqttTransport("t", replace(flooded.options, tls=tls)) as transport:
            await connected(transport)
            transport.subscribe(topic, lambda _: bites.update([turn]))
            await subscribed(transport, topic)
            for _ in range(500):
                transport.publish(Message(topic, b"x"))
            stand_still(0.3)
            loop.call_soon(breathe)
            await until(lambda: bites.total() == 500)
    assert max(bites.values()) <= 32


async def test_what_the_socket_does_not_take_at_once_goes_out_when_it_does(broker: Broker, topic: str):
    async with MqttTransport("sender", broker.options) as sender:
        await connected(sender)
        ends: list[Any] = []
        for _ in range(100):
            sender.publish(Message(topic, bytes(500_000)), ends.append)
        await delivered(sender, Message(topic, b"last", qos=1))
        assert ends == [None] * 100


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_connection_that_is_idle_or_whose_loop_was_blocked_is_kept(
    wire: Wire, broker: Broker, topic: str, version: str
):
    options = replace(broker.options, port=wire.port, keepalive_s=2, version=version)
    async with MqttTransport("t", options) as transport:
        await connected(transport)
        states: list[LinkState] = []
        transport.watch(states.append)
        await asyncio.sleep(4.2)
        stand_still(1.2)
        await delivered(transport, Message(topic, b"x", qos=1))
        await asyncio.sleep(2.2)
        assert (states, wire.connections) == ([], 1)


async def test_a_broker_that_falls_silent_is_found_out_by_the_keepalive(broker: Broker):
    def silent(packet: bytes) -> bytes:
        return b"\x20\x03\x00\x00\x00" if packet[0] == 0x10 else b""

    async with (
        Wire(broker.port, script=silent) as wire,
        MqttTransport("t", replace(broker.options, port=wire.port, keepalive_s=1)) as transport,
    ):
        await connected(transport)
        state = await state_of(transport, lambda state: not state.connected)
        assert "keepalive" in state.reason


@pytest.mark.parametrize("waiting", [0, 1])
async def test_leaving_does_not_wait_for_a_peer_that_never_ends_the_handshake(
    topic: str, certificates: Certificates, waiting: int
):
    tls = TlsOptions(ca_file=str(certificates.ca))
    ends: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = MqttOptions(port=mute.getsockname()[1], tls=tls, connect_timeout_s=60)
        async with MqttTransport("t", options) as transport:
            for _ in range(waiting):
                transport.publish(Message(topic, b"x", qos=1), ends.append)
            peer, _address = await asyncio.to_thread(mute.accept)
            started = time.monotonic()
        took = time.monotonic() - started
        peer.close()
    assert took < 30
    assert [type(end) for end in ends] == [NotConnectedError] * waiting


async def test_the_queue_is_bounded_in_messages_and_in_bytes(free_port: int, topic: str):
    options = MqttOptions(port=free_port, max_queued_messages=3, max_queued_bytes=1000)
    transport = MqttTransport("down", options)
    async with transport:
        for _ in range(3):
            transport.publish(Message(topic, b"x", qos=1))
        with pytest.raises(NotConnectedError) as full:
            transport.publish(Message(topic, b"x", qos=1))
        assert full.value.code == "queue-full"
    async with MqttTransport("down", options) as transport:
        transport.publish(Message(topic, bytes(600), qos=1))
        with pytest.raises(NotConnectedError) as full:
            transport.publish(Message(topic, bytes(600), qos=1))
        assert full.value.code == "queue-full"
        with pytest.raises(NotConnectedError) as down:
            transport.publish(Message(topic, b"x", qos=0))
        assert down.value.code == "not-connected"


async def test_a_handler_that_fails_takes_nothing_from_the_others(
    broker: Broker, topic: str, caplog: pytest.LogCaptureFixture
):
    def fails(_message: Message) -> None:
        raise RuntimeError("broken")

    async with MqttTransport("t", broker.options) as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe(topic, fails, qos=1)
        transport.subscribe(topic, inbox, qos=1)
        for _ in range(3):
            await delivered(transport, Message(topic, b"x", qos=1))
        await inbox.wait(3)
    assert sum(f"a handler of {topic!r} failed" in record.getMessage() for record in caplog.records) == 3


async def test_a_watcher_that_fails_takes_nothing_from_the_others_nor_the_link(
    broker: Broker, topic: str, caplog: pytest.LogCaptureFixture
):
    def fails(_state: LinkState) -> None:
        raise RuntimeError("broken")

    async with MqttTransport("t", broker.options) as transport:
        states: list[LinkState] = []
        transport.watch(fails)
        transport.watch(states.append)
        await connected(transport)
        await delivered(transport, Message(topic, b"x", qos=1))
        assert [state.connected for state in states] == [True]
    assert "a watcher of t failed" in caplog.text


async def test_small_packets_are_sent_without_delay(broker: Broker):
    async with MqttTransport("t", broker.options) as transport:
        await connected(transport)
        client = transport._connection._client
        assert client is not None
        assert client.paho.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_state_says_why_from_the_first_moment(broker: Broker):
    transport = MqttTransport("t", broker.options)
    assert transport.state == LinkState(connected=False, reason="not connected yet")
