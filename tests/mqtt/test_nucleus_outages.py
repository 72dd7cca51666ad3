"""What the link to a nucleus does about outages, refusals and what the nucleus has no room for, over a real socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.config.ipc import IpcOptions
from agent.config.transports import NucleusOptions, OutboxOptions
from agent.errors import BrokerUnreachableError, ConfigError, NotConnectedError, PublishError
from agent.greengrass.ipc.pubsub import LocalMessage
from agent.mqtt.factory import create
from agent.mqtt.greengrass import connection
from agent.mqtt.greengrass.client import SOCKET, TOKEN, GreengrassTransport
from agent.mqtt.greengrass.streams import NucleusStreams
from agent.mqtt.transport import Message
from tests.support import ipc
from tests.support.inbox import Inbox, connected, delivered, state_of, subscribed
from tests.support.nucleus import Nucleus, nucleus
from tests.support.until import until

FRAME, RESULT = "cameras/a/frame", "verge/edge/results/a"
BOTH = pytest.mark.parametrize("topic", [FRAME, RESULT])


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Nucleus]:
    """A nucleus that a test may stop."""
    async with nucleus(tmp_path / "ipc.socket") as running:
        yield running


def component(device: Nucleus, **changes: Any) -> GreengrassTransport:
    return GreengrassTransport("nucleus", replace(device.options, **changes))


@BOTH
async def test_what_is_published_while_the_nucleus_is_away_arrives_after_it(device: Nucleus, topic: str):
    async with component(device) as transport:
        await connected(transport)
        inbox, late, ends = Inbox(), Inbox(), []
        transport.subscribe(topic, inbox)
        await subscribed(transport, topic)
        await device.stop()
        down = await state_of(transport, lambda state: not state.connected)
        assert "nucleus" in down.reason
        transport.subscribe(f"{topic}/late", late)
        for number in range(200):
            transport.publish(Message(topic, b"%d" % number, qos=1), ends.append)
        transport.publish(Message(f"{topic}/late", b"late", qos=1))
        await device.start()
        await late.wait(1)
        assert inbox.payloads == [b"%d" % number for number in range(200)]
        await until(lambda: len(ends) >= 200)
        assert ends == [None] * 200


@BOTH
async def test_what_was_in_flight_when_the_socket_dropped_is_sent_again_and_ends_once(device: Nucleus, topic: str):
    async with component(device) as transport:
        await connected(transport)
        inbox, ends = Inbox(), []
        transport.subscribe(topic, inbox)
        await subscribed(transport, topic)
        for number in range(300):
            transport.publish(Message(topic, b"%d" % number, qos=1), lambda error, n=number: ends.append((n, error)))
        await inbox.wait(20)
        device.disconnect()
        await until(lambda: len(ends) >= 300)
        assert sorted(ends) == [(number, None) for number in range(300)]
        sent = [resource for operation, resource in device.requests if operation.startswith("Publish")]
        assert sent.count(topic) >= 300


async def test_a_message_of_qos_0_is_lost_with_the_link(device: Nucleus):
    async with component(device) as transport:
        await connected(transport)
        await device.stop()
        await state_of(transport, lambda state: not state.connected)
        with pytest.raises(NotConnectedError, match="QoS 1 waits"):
            transport.publish(Message(RESULT, b"x"))


async def test_what_waits_for_a_nucleus_is_bounded(device: Nucleus):
    async with component(device, max_queued_messages=10) as transport:
        await connected(transport)
        await device.stop()
        await state_of(transport, lambda state: not state.connected)
        for _ in range(10):
            transport.publish(Message(RESULT, b"x", qos=1))
        with pytest.raises(NotConnectedError) as full:
            transport.publish(Message(RESULT, b"x", qos=1))
        assert full.value.code == "queue-full"


async def test_an_outbox_keeps_what_a_nucleus_has_not_taken_for_the_next_process(device: Nucleus, tmp_path: Path):
    options = replace(device.options, outbox=OutboxOptions(path=str(tmp_path / "outbox.db")))
    await device.stop()
    async with create("nucleus", options, folder=tmp_path) as transport:
        for number in range(50):
            transport.publish(Message(RESULT, b"%d" % number, qos=1))
    await device.start()
    inbox = Inbox()
    async with component(device) as reader, create("nucleus", options, folder=tmp_path) as transport:
        reader.subscribe(RESULT, inbox)
        await subscribed(reader, RESULT)
        await connected(transport)
        await inbox.until(lambda messages: len({message.payload for message in messages}) == 50)
        assert list(dict.fromkeys(inbox.payloads)) == [b"%d" % number for number in range(50)]


# -- what the nucleus refuses ------------------------------------------------------------------------------------------


async def test_a_token_that_the_nucleus_does_not_know_is_told_and_asked_again_slowly(device: Nucleus):
    async with component(device, token="of the start before", backoff_cap_s=3600) as transport:
        state = await state_of(transport, lambda state: "token" in state.reason)
        assert not state.connected
        with pytest.raises(BrokerUnreachableError, match="start it again") as unreachable:
            await transport.wait_connected(0.01)
        assert unreachable.value.code == "not-authorized"
        assert device.server is not None
        assert device.server.status.refused == 1


@BOTH
async def test_what_a_policy_does_not_allow_is_refused_with_what_would_allow_it(device: Nucleus, topic: str):
    device.refused = {topic}
    async with component(device) as transport:
        await connected(transport)
        with pytest.raises(PublishError, match=r"accessControl of aws\.greengrass\.ipc\.\w+ has to allow") as refused:
            await delivered(transport, Message(topic, b"x", qos=1))
        assert refused.value.code == "not-authorized"
        await delivered(transport, Message(f"{topic}/other", b"x", qos=1))


async def test_a_filter_that_a_policy_does_not_allow_is_told_and_asked_for_again_on_the_next_connection(
    device: Nucleus, caplog: pytest.LogCaptureFixture
):
    device.refused = {RESULT}
    async with component(device) as transport:
        await connected(transport)
        inbox, other = Inbox(), Inbox()
        transport.subscribe(RESULT, inbox)
        transport.subscribe(FRAME, other)
        await subscribed(transport, FRAME)
        assert "SubscribeToIoTCore" in transport.refused[RESULT]
        assert f"refuses the subscription to '{RESULT}'" in caplog.text
        device.refused = set()
        device.disconnect()
        await until(lambda: device.asked("SubscribeToIoTCore", RESULT) == 2)
        await connected(transport)
        transport.publish(Message(RESULT, b"x", qos=1))
        await inbox.wait(1)
        assert transport.refused == {}


@BOTH
async def test_what_a_nucleus_has_no_room_for_waits_and_is_sent_again(device: Nucleus, topic: str):
    device.busy = {topic}
    async with component(device) as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe(f"{topic}/#", inbox)
        await subscribed(transport, topic)
        device.busy = {f"{topic}/1"}
        for number in range(3):
            transport.publish(Message(f"{topic}/{number}", b"%d" % number, qos=1))
        await until(lambda: device.asked(device.requests[-1][0], f"{topic}/1") >= 1)
        device.busy = set()
        await inbox.until(lambda messages: b"1" in [message.payload for message in messages])
        assert transport.counts["messages"]["postponed"] >= 1


async def test_a_message_of_qos_0_for_which_there_is_no_room_is_lost_and_said_so(
    device: Nucleus, caplog: pytest.LogCaptureFixture
):
    device.busy = {RESULT}
    async with component(device) as transport:
        await connected(transport)
        for _ in range(3):
            with pytest.raises(NotConnectedError, match="the spool is full"):
                await delivered(transport, Message(RESULT, b"x"))
    assert caplog.text.count("the spool is full") == 1


@BOTH
async def test_a_filter_that_a_nucleus_cannot_serve_now_is_asked_for_again(
    device: Nucleus, topic: str, caplog: pytest.LogCaptureFixture
):
    device.busy = {topic}
    async with component(device) as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe(topic, inbox)
        await until(lambda: sum(resource == topic for _, resource in device.requests) >= 3)
        assert caplog.text.count(f"serves no {topic!r} now: the spool is full") == 1
        device.busy = set()
        asked = len(device.requests)
        await until(lambda: len(device.requests) > asked)
        transport.publish(Message(topic, b"x", qos=1))
        await inbox.wait(1)
        assert transport.refused == {}


async def test_a_filter_whose_stream_the_nucleus_ended_is_asked_for_again(device: Nucleus):
    async with component(device) as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe(FRAME, inbox)
        await subscribed(transport, FRAME)
        device.end_streams()
        await until(lambda: device.asked("SubscribeToTopic", FRAME) == 2)
        await delivered(transport, Message(FRAME, b"x", qos=1))
        await inbox.wait(1)


# -- two places --------------------------------------------------------------------------------------------------------


async def test_a_filter_with_topics_of_both_places_gets_each_message_once(device: Nucleus):
    async with component(device) as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe("#", inbox)
        for topic in (FRAME, RESULT, "other"):
            await delivered(transport, Message(topic, topic.encode(), qos=1))
        await inbox.wait(3)
        assert [message.topic for message in inbox.messages] == [FRAME, RESULT, "other"]
        assert {operation for operation, _ in device.requests if operation.startswith("Subscribe")} == {
            "SubscribeToTopic", "SubscribeToIoTCore",
        }  # fmt: skip


async def test_what_others_publish_in_the_other_place_under_the_same_name_is_another_topic(device: Nucleus):
    async with component(device) as transport, component(device, local_topics=()) as cloud:
        await asyncio.gather(connected(transport), connected(cloud))
        inbox = Inbox()
        transport.subscribe("#", inbox)
        await subscribed(transport, RESULT)
        await delivered(cloud, Message(FRAME, b"from the cloud", qos=1))
        await delivered(cloud, Message(RESULT, b"result", qos=1))
        await inbox.until(lambda messages: messages[-1].payload == b"result")
        assert b"from the cloud" not in inbox.payloads


async def test_another_qos_is_asked_for_and_no_message_comes_twice(device: Nucleus):
    async with component(device) as transport:
        await connected(transport)
        first, second = Inbox(), Inbox()
        transport.subscribe(RESULT, first, qos=0)
        await delivered(transport, Message(RESULT, b"before", qos=1))
        await first.wait(1)
        transport.subscribe(RESULT, second, qos=1)
        for number in range(20):
            transport.publish(Message(RESULT, b"%d" % number, qos=1))
        await second.wait(20)
        await subscribed(transport, RESULT)
        assert first.payloads == [b"before", *(b"%d" % number for number in range(20))]
        assert second.payloads == first.payloads[1:]
        assert device.asked("SubscribeToIoTCore", RESULT) == 2


async def test_an_event_that_holds_no_message_is_counted_and_said_once(
    device: Nucleus, caplog: pytest.LogCaptureFixture
):
    async with component(device) as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe("cameras/#", inbox)
        await subscribed(transport, "verge/x")
        for _ in range(2):
            device.bus.publish(LocalMessage("cameras/a/\0", b"no topic"))
        device.bus.publish(LocalMessage(FRAME, b'{"n":1}', is_json=True))
        (message,) = await inbox.wait(1)
        assert (message.topic, message.payload, message.content_type) == (FRAME, b'{"n":1}', "application/json")
        assert transport.counts["messages"]["unreadable"] == 2
        assert caplog.text.count("says no topic") == 1


# -- connections -------------------------------------------------------------------------------------------------------


async def test_a_nucleus_that_comes_later_is_found(tmp_path: Path):
    device = Nucleus(tmp_path / "ipc.socket")
    async with component(device) as transport:
        await state_of(transport, lambda state: "no such socket" in state.reason)
        await device.start()
        await connected(transport)
        await device.stop()


@pytest.mark.parametrize(
    ("answer", "reason"), [(b"", "no answer in time"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "CRC of a prelude")]
)
async def test_what_is_no_nucleus_is_told(tmp_path: Path, answer: bytes, reason: str):
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    path = str(tmp_path / "ipc.socket")
    server = await asyncio.start_unix_server(answering, path)
    options = NucleusOptions(socket=path, token="x", connect_timeout_s=0.2, backoff_base_s=0.05)
    async with GreengrassTransport("nucleus", options) as transport:
        await state_of(transport, lambda state: reason in state.reason)
    server.close()


async def test_a_connection_whose_streams_are_used_up_is_made_anew(device: Nucleus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "NucleusStreams", partial(NucleusStreams, last_stream=20))
    async with component(device) as transport:
        await connected(transport)
        inbox, ends = Inbox(), []
        transport.subscribe(RESULT, inbox)
        for number in range(50):
            transport.publish(Message(RESULT, b"%d" % number, qos=1), ends.append)
        await inbox.until(lambda messages: b"49" in [message.payload for message in messages])
        await until(lambda: len(ends) >= 50)
        assert ends == [None] * 50
        assert device.server is not None
        assert device.server.status.accepted >= 3


async def test_the_environment_of_a_component_says_where_the_nucleus_is_and_who_it_is(device: Nucleus):
    environment = {SOCKET: str(device.socket), TOKEN: ipc.TOKEN}
    async with GreengrassTransport("nucleus", NucleusOptions(), environment=environment) as transport:
        await connected(transport)


@pytest.mark.parametrize("missing", [SOCKET, TOKEN])
def test_outside_of_a_nucleus_it_is_said_what_is_missing(missing: str):
    environment = {SOCKET: "/ipc.socket", TOKEN: ipc.TOKEN}
    del environment[missing]
    with pytest.raises(ConfigError, match=f"{missing} is not set") as wrong:
        GreengrassTransport("nucleus", NucleusOptions(), environment=environment)
    assert wrong.value.code == "no-nucleus"


async def test_a_will_is_nobody_s_to_publish_and_that_is_said(device: Nucleus, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        GreengrassTransport("nucleus", device.options, will=Message("verge/edge/status", b"gone"))
    assert "a nucleus has no last will; 'verge/edge/status' stays as it is" in caplog.text


async def test_a_nucleus_with_a_smaller_bound_hangs_up_and_the_link_goes_on(tmp_path: Path):
    small = IpcOptions(max_message_bytes=64 * 1024)
    async with nucleus(tmp_path / "ipc.socket", small) as device, component(device) as transport:
        await connected(transport)
        with pytest.raises(PublishError, match="hung up twice"):
            await delivered(transport, Message(FRAME, bytes(100_000), qos=1))
        await delivered(transport, Message(FRAME, b"small", qos=1))
