"""The promises of ``Transport``, held by each of them against the real thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.config.transports import TlsOptions, TransportOptions
from agent.errors import NotConnectedError, PublishError
from agent.mqtt.factory import create
from agent.mqtt.transport import LinkState, Message, Transport
from tests.support import websocket
from tests.support.certs import Certificates
from tests.support.inbox import Inbox, connected, delivered, subscribed
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.nucleus import Nucleus, nucleus

BROKERS = ["memory", "mqtt-5", "mqtt-3.1.1", "websockets", "mutual-tls", "iotcore"]
KINDS = [*BROKERS, "nucleus", "nucleus-local"]
"""What a Greengrass nucleus carries for its components: IoT Core's topics, and those of the device."""
WITH_PROPERTIES = ["memory", "mqtt-5", "websockets", "mutual-tls", "iotcore", "nucleus"]
WITH_LARGE = [*BROKERS, "nucleus-local"]
"""IoT Core takes 128 KiB."""
WITH_RETAINED = WITH_SHARED = BROKERS
"""A nucleus is one client of IoT Core for all of its components: what is retained meets the first to subscribe, and
each member of a shared subscription gets everything."""


@dataclass
class World:
    """A kind of bus, on which a test opens as many transports as it needs."""

    kind: str
    open: Callable[..., Any]

    @property
    def highest_qos(self) -> int:
        """What can arrive: IoT Core has no QoS 2, and a nucleus does not say which a message had."""
        return {"iotcore": 1, "nucleus": 0, "nucleus-local": 0}.get(self.kind, 2)


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    kind = request.param
    bus = MemoryBus()
    if kind == "memory":

        def build(name: str, will: Message | None) -> Transport:
            return MemoryTransport(bus, name, will=will)

    else:
        options = network_options(kind, request)

        def build(name: str, will: Message | None) -> Transport:
            return create(name, options, will=will)

    async with AsyncExitStack() as stack:
        if kind.startswith("nucleus"):
            await stack.enter_async_context(nucleus(Path(options.socket)))
        if kind == "websockets":
            port = await stack.enter_async_context(websocket.bridge(options.port))
            options = msgspec.structs.replace(options, port=port, websocket_path="/mqtt")

        async def open_(name: str = "t", *, will: Message | None = None) -> Transport:
            transport = await stack.enter_async_context(build(name, will))
            await connected(transport)
            return transport

        yield World(kind, open_)


def network_options(kind: str, request: pytest.FixtureRequest) -> TransportOptions:
    if kind == "iotcore":
        return request.getfixturevalue("iotcore")()
    if kind.startswith("nucleus"):
        socket = request.getfixturevalue("tmp_path") / "ipc.socket"
        local = ("#",) if kind == "nucleus-local" else ()
        return msgspec.structs.replace(Nucleus(socket).options, local_topics=local)
    if kind == "mutual-tls":
        files: Certificates = request.getfixturevalue("certificates")
        tls = TlsOptions(ca_file=str(files.ca), cert_file=str(files.client_cert), key_file=str(files.client_key))
        return msgspec.structs.replace(request.getfixturevalue("tls_broker").options, tls=tls)
    version = {"mqtt-5": "5", "mqtt-3.1.1": "3.1.1", "websockets": "5"}[kind]
    return msgspec.structs.replace(request.getfixturevalue("broker").options, version=version)


async def test_messages_of_one_publisher_arrive_in_order(world: World, topic: str):
    transport, inbox = await world.open(), Inbox()
    transport.subscribe(topic, inbox, qos=1)
    for number in range(200):
        transport.publish(Message(topic, b"%d" % number, qos=1))
    await inbox.wait(200)
    assert inbox.payloads == [b"%d" % number for number in range(200)]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_keeps_its_qos(world: World, topic: str, qos: int):
    transport, inbox = await world.open(), Inbox()
    transport.subscribe(topic, inbox, qos=2)
    transport.publish(Message(topic, b"x", qos=qos))
    (message,) = await inbox.wait(1)
    assert message.qos == min(qos, world.highest_qos)
    assert bool(message.packet_id) == bool(message.qos)


async def test_a_subscription_lowers_the_qos_to_its_own(world: World, topic: str):
    transport, inbox = await world.open(), Inbox()
    transport.subscribe(topic, inbox, qos=0)
    transport.publish(Message(topic, b"x", qos=1))
    (message,) = await inbox.wait(1)
    assert message.qos == 0


@pytest.mark.parametrize("world", WITH_RETAINED, indirect=True)
async def test_a_retained_message_meets_who_comes_later(world: World, topic: str):
    first = await world.open("first")
    await delivered(first, Message(topic, b"kept", qos=1, retain=True))
    second, inbox = await world.open("second"), Inbox()
    second.subscribe(topic, inbox, qos=1)
    (message,) = await inbox.wait(1)
    assert (message.payload, message.retain) == (b"kept", True)
    await delivered(first, Message(topic, b"", qos=1, retain=True))
    await inbox.wait(2)
    third, late = await world.open("third"), Inbox()
    third.subscribe(topic, late, qos=1)
    await delivered(third, Message(topic, b"live", qos=1))
    await late.wait(1)
    assert late.payloads == [b"live"]


async def test_wildcards_match_as_the_standard_says(world: World, topic: str):
    transport, plus, hash_ = await world.open(), Inbox(), Inbox()
    transport.subscribe(f"{topic}/+/frame", plus, qos=1)
    transport.subscribe(f"{topic}/#", hash_, qos=1)
    for name in ("a/frame", "b/frame", "b/c/frame", "a/other"):
        transport.publish(Message(f"{topic}/{name}", name.encode(), qos=1))
    await hash_.until(lambda messages: len({message.payload for message in messages}) == 4)
    # With MQTT 3.1.1 a broker may send a copy for each subscription that matches.
    came = [list(dict.fromkeys(inbox.payloads)) if "3.1.1" in world.kind else inbox.payloads for inbox in (plus, hash_)]
    assert came[0] == [b"a/frame", b"b/frame"]
    assert sorted(came[1]) == [b"a/frame", b"a/other", b"b/c/frame", b"b/frame"]


async def test_many_handlers_of_one_filter_each_get_the_message(world: World, topic: str):
    transport, inboxes = await world.open(), [Inbox() for _ in range(50)]
    for inbox in inboxes:
        transport.subscribe(topic, inbox, qos=1)
    await delivered(transport, Message(topic, b"x", qos=1))
    for inbox in inboxes:
        await inbox.wait(1)
    assert all(inbox.payloads == [b"x"] for inbox in inboxes)


async def test_many_filters_on_one_transport_all_work(world: World, topic: str):
    transport, inboxes = await world.open(), [Inbox() for _ in range(40)]
    for index, inbox in enumerate(inboxes):
        transport.subscribe(f"{topic}/{index}", inbox, qos=1)
    for index in range(40):
        transport.publish(Message(f"{topic}/{index}", b"%d" % index, qos=1))
    for index, inbox in enumerate(inboxes):
        await inbox.wait(1)
        assert inbox.payloads == [b"%d" % index]


async def test_a_handler_that_left_is_not_called_and_the_others_are(world: World, topic: str):
    transport, stays, leaves = await world.open(), Inbox(), Inbox()
    transport.subscribe(topic, stays, qos=1)
    transport.subscribe(topic, leaves, qos=1)
    await delivered(transport, Message(topic, b"1", qos=1))
    await stays.wait(1)
    transport.unsubscribe(topic, leaves)
    await delivered(transport, Message(topic, b"2", qos=1))
    await stays.wait(2)
    assert (stays.payloads, leaves.payloads) == ([b"1", b"2"], [b"1"])


async def test_the_last_handler_to_leave_ends_the_subscription(world: World, topic: str):
    transport, inbox, other = await world.open(), Inbox(), Inbox()
    transport.subscribe(topic, inbox, qos=1)
    await delivered(transport, Message(topic, b"1", qos=1))
    await inbox.wait(1)
    transport.unsubscribe(topic, inbox)
    transport.subscribe(f"{topic}/end", other, qos=1)
    transport.publish(Message(topic, b"2", qos=1))
    transport.publish(Message(f"{topic}/end", b"end", qos=1))
    await other.wait(1)
    assert inbox.payloads == [b"1"]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_on_delivered_is_called_once_for_each_message(world: World, topic: str, qos: int):
    transport = await world.open()
    ends: list[tuple[int, object]] = []
    for number in range(100):
        transport.publish(Message(topic, b"x", qos=qos), lambda error, number=number: ends.append((number, error)))
    inbox = Inbox()
    transport.subscribe(f"{topic}/end", inbox, qos=1)
    await delivered(transport, Message(f"{topic}/end", b"end", qos=2))
    await inbox.wait(1)
    assert ends == [(number, None) for number in range(100)]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_on_delivered_is_never_called_before_publish_returned(world: World, topic: str, qos: int):
    transport = await world.open()
    acts: list[str] = []
    done = asyncio.Event()
    for _ in range(3):
        transport.publish(Message(topic, b"x", qos=qos), lambda _: acts.append("delivered"))
        acts.append("returned")
    transport.publish(Message(topic, b"x", qos=qos), lambda _: done.set())
    await asyncio.wait_for(done.wait(), 10)
    assert acts == ["returned"] * 3 + ["delivered"] * 3


@pytest.mark.parametrize("world", WITH_LARGE, indirect=True)
async def test_a_megabyte_arrives_as_it_was_sent(world: World, topic: str):
    transport, inbox = await world.open(), Inbox()
    payload = bytes(range(256)) * 4096
    transport.subscribe(topic, inbox, qos=1)
    await delivered(transport, Message(topic, payload, qos=1))
    (message,) = await inbox.wait(1)
    assert message.payload == payload
    assert isinstance(message.payload, bytes)


@pytest.mark.parametrize("world", WITH_PROPERTIES, indirect=True)
async def test_a_request_is_answered_on_its_response_topic(world: World, topic: str):
    server, client, answers = await world.open("server"), await world.open("client"), Inbox()

    def answer(request: Message) -> None:
        assert request.response_topic is not None
        server.publish(Message(request.response_topic, b"pong", qos=1, correlation_data=request.correlation_data))

    server.subscribe(f"{topic}/ask", answer, qos=1)
    await subscribed(server, topic)
    client.subscribe(f"{topic}/answer", answers, qos=1)
    client.publish(Message(f"{topic}/ask", b"ping", 1, response_topic=f"{topic}/answer", correlation_data=b"\x00\x01"))
    (message,) = await answers.wait(1)
    assert (message.payload, message.correlation_data) == (b"pong", b"\x00\x01")


@pytest.mark.parametrize("world", WITH_PROPERTIES, indirect=True)
async def test_the_properties_of_a_message_arrive(world: World, topic: str):
    transport, inbox = await world.open(), Inbox()
    transport.subscribe(topic, inbox, qos=1)
    sent = Message(
        topic,
        b"{}",
        qos=1,
        content_type="application/json",
        response_topic="answer/here",
        correlation_data=b"\xff\x00",
        user_properties=(("camera", "línea 3"), ("camera", "twice")),
        expiry_s=60,
    )
    transport.publish(sent)
    (message,) = await inbox.wait(1)
    assert message.content_type == sent.content_type
    assert message.response_topic == sent.response_topic
    assert message.correlation_data == sent.correlation_data
    assert message.user_properties == sent.user_properties
    assert message.expiry_s is not None
    assert 0 < message.expiry_s <= 60


async def test_a_message_waits_for_its_acknowledgement(world: World, topic: str):
    transport, inbox = await world.open(), Inbox()
    transport.subscribe(topic, inbox, qos=1, manual_ack=True)
    for number in range(10):
        transport.publish(Message(topic, b"%d" % number, qos=1))
    for message in list(await inbox.wait(10)):
        transport.acknowledge(message)
        transport.acknowledge(message)  # a second time changes nothing
    await delivered(transport, Message(topic, b"last", qos=1))
    await inbox.wait(11)
    assert inbox.payloads[-1] == b"last"


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_handler_may_acknowledge_publish_and_subscribe(world: World, topic: str, qos: int):
    transport, answers = await world.open(), Inbox()

    def handle(message: Message) -> None:
        transport.acknowledge(message)
        if message.payload == b"0":
            transport.subscribe(f"{topic}/answer", answers, qos=qos)
        transport.publish(Message(f"{topic}/answer", message.payload, qos=qos))

    transport.subscribe(f"{topic}/ask", handle, qos=qos, manual_ack=True)
    for number in range(150):  # more than any broker sends ahead of acknowledgements
        transport.publish(Message(f"{topic}/ask", b"%d" % number, qos=qos))
    await answers.wait(150)
    assert answers.payloads == [b"%d" % number for number in range(150)]


async def test_a_goodbye_leaves_no_will(world: World, topic: str):
    watcher, inbox = await world.open("watcher"), Inbox()
    watcher.subscribe(f"{topic}/#", inbox, qos=1)
    leaver = await world.open("leaver", will=Message(f"{topic}/will", b"gone", qos=1))
    await leaver.__aexit__(None, None, None)
    await delivered(watcher, Message(f"{topic}/end", b"end", qos=1))
    await inbox.wait(1)
    assert inbox.payloads == [b"end"]


async def test_what_was_published_just_before_leaving_arrives(world: World, topic: str):
    watcher, inbox = await world.open("watcher"), Inbox()
    watcher.subscribe(topic, inbox, qos=1)
    await delivered(watcher, Message(topic, b"ready", qos=1))
    leaver, ends = await world.open("leaver"), []
    for number in range(100):
        leaver.publish(Message(topic, b"%d" % number, qos=1), ends.append)
    await leaver.__aexit__(None, None, None)
    await inbox.wait(101)
    assert inbox.payloads[1:] == [b"%d" % number for number in range(100)]
    assert ends == [None] * 100


async def test_watchers_hear_of_up_and_down(world: World):
    transport = await world.open()
    states: list[LinkState] = []
    transport.watch(states.append)
    await transport.__aexit__(None, None, None)
    assert [state.connected for state in states] == [False]
    assert not transport.state.connected
    assert transport.state.reason == "closed"


async def test_a_closed_transport_takes_no_message(world: World, topic: str):
    transport = await world.open()
    await transport.__aexit__(None, None, None)
    with pytest.raises(NotConnectedError):
        transport.publish(Message(topic, b"x", qos=0))
    with pytest.raises(NotConnectedError):
        transport.publish(Message(topic, b"x", qos=1))


@pytest.mark.parametrize("name", ["", "a/+/b", "a/#", "a\0b"])
async def test_a_wrong_topic_is_refused_at_once(world: World, name: str):
    transport = await world.open()
    with pytest.raises(PublishError) as refused:
        transport.publish(Message(name, b"x"))
    assert refused.value.code == "bad-topic"


@pytest.mark.parametrize("name", ["", "a/#/b", "a+", "$share//a"])
async def test_a_wrong_filter_is_refused_at_once(world: World, name: str):
    transport = await world.open()
    with pytest.raises(ValueError, match="no MQTT topic filter"):
        transport.subscribe(name, Inbox())


@pytest.mark.parametrize("world", WITH_SHARED, indirect=True)
async def test_members_of_a_shared_subscription_share_the_messages(world: World, topic: str):
    one, two, publisher = await world.open("one"), await world.open("two"), await world.open("publisher")
    first, second, either = Inbox(), Inbox(), Inbox()
    for transport, own in ((one, first), (two, second)):
        transport.subscribe(f"$share/group/{topic}", own, qos=1)
        transport.subscribe(f"$share/group/{topic}", either, qos=1)
    await subscribed(one, f"{topic}/one")
    await subscribed(two, f"{topic}/two")
    for number in range(20):
        await delivered(publisher, Message(topic, b"%d" % number, qos=1))
    await either.wait(20)
    assert sorted(either.payloads, key=int) == [b"%d" % number for number in range(20)]
    assert sorted(either.payloads) == sorted(first.payloads + second.payloads)
    assert first.messages
    assert second.messages
