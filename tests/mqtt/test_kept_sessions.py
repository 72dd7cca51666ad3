"""Sessions that outlive the process, over a real broker: hold, release, and the filters that are left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.config.transports import TransportOptions
from agent.mqtt.factory import create
from agent.mqtt.kept import KeptFilters
from agent.mqtt.transport import Message, Transport
from tests.support.inbox import Inbox, connected, delivered
from tests.support.until import until

Open = Callable[[], Transport]
KINDS = ["mqtt-5", "mqtt-3.1.1", "iotcore"]


@pytest.fixture(params=KINDS)
def options(request: pytest.FixtureRequest, topic: str) -> TransportOptions:
    """Options with a session of its own for each test."""
    name = topic.replace("/", "-")[-40:]
    kept = {"client_id": name, "clean_start": False, "session_expiry_s": 60}
    if request.param == "iotcore":
        return request.getfixturevalue("iotcore")(**kept)
    version = request.param.removeprefix("mqtt-")
    return replace(request.getfixturevalue("broker").options, version=version, **kept)


@pytest.fixture
def open_(options: TransportOptions, tmp_path: Path) -> Open:
    """The transport of one process after the other."""
    return lambda: create("kept", options, folder=tmp_path)


async def in_force(transport: Transport, topic: str) -> None:
    """Return when every subscription made so far is in force; what the broker had queued came before that."""
    transport.subscribe(f"{topic}/mark", mark := Inbox())
    await connected(transport)
    await delivered(transport, Message(f"{topic}/mark", b""))  # QoS 0 is never held back
    await mark.wait(1)
    transport.unsubscribe(f"{topic}/mark", mark)


async def test_what_was_queued_goes_to_who_subscribes_before_release_and_is_acknowledged_then(
    open_: Open, options: TransportOptions, topic: str
):
    async with open_() as first:
        first.subscribe(topic, gone := Inbox(), qos=1)
        await in_force(first, topic)
        first.hold()
        first.unsubscribe(topic, gone)
    other = replace(options, client_id=f"{options.client_id}-o", clean_start=True, session_expiry_s=0)
    async with create("other", other) as sender:
        for number in range(3):
            await delivered(sender, Message(topic, b"%d" % number, qos=1))
    for turn in range(2):
        second, inbox = open_(), Inbox()
        second.hold()
        async with second:
            assert (await connected(second)).session_present
            await in_force(second, topic)  # what the broker had queued is here by then
            second.subscribe(topic, inbox, qos=1)
            assert not inbox.messages
            assert second.counts["session"]["held_back"] == 3
            if turn == 0:
                continue  # it goes without having released anything: the broker keeps all of it
            second.release()
            assert inbox.payloads == [b"0", b"1", b"2"]
            assert all(message.arrived is not None for message in inbox.messages)
            await delivered(second, Message(f"{topic}/end", b"", qos=1))
    async with open_() as third:
        third.subscribe(topic, late := Inbox(), qos=1)
        await in_force(third, topic)
        assert not late.messages


async def test_a_filter_of_an_earlier_process_is_left_on_release_and_not_before(
    open_: Open, topic: str, tmp_path: Path
):
    async with open_() as first:
        first.subscribe(f"{topic}/old", Inbox(), qos=1)
        await in_force(first, topic)
    second, inbox = open_(), Inbox()
    second.hold()
    async with second:
        second.subscribe(f"{topic}/new", inbox, qos=1)
        await in_force(second, topic)
        second.release()
        await in_force(second, topic)
        await delivered(second, Message(f"{topic}/old", b"", qos=1))
        await delivered(second, Message(f"{topic}/new", b"", qos=1))
        await inbox.wait(1)
    kept = KeptFilters(tmp_path / "sessions" / "kept.json", second.address)
    assert f"{topic}/new" in kept.read()
    assert f"{topic}/old" not in kept.read()


async def test_a_session_that_ends_with_the_process_holds_nothing_back(broker, topic: str, tmp_path: Path):
    transport, inbox = create("clean", broker.options, folder=tmp_path), Inbox()
    transport.hold()
    async with transport:
        transport.subscribe(topic, inbox, qos=1)
        await connected(transport)
        await delivered(transport, Message(topic, b"x", qos=1))
        await until(lambda: inbox.messages)
    assert not (tmp_path / "sessions").exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"address": "elsewhere:1", "filters": ["a"]}', b"\xff"])
def test_a_file_of_filters_that_cannot_be_used_names_none(tmp_path: Path, content: bytes):
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    assert KeptFilters(path, "here:1").read() == frozenset()
