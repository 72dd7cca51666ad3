"""The outbox around a transport: what is promised to who publishes, against a bus in memory and a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.config.transports import MqttOptions, OutboxOptions
from agent.errors import NotConnectedError, PublishError, VergeError
from agent.mqtt.factory import create
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.record import ID
from agent.mqtt.outbox.store import Clock
from agent.mqtt.transport import Message
from tests.support.broker import Broker
from tests.support.inbox import Inbox, connected, delivered, state_of, subscribed
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until
from tests.support.wire import Wire


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Site:
    """Outboxes in one folder, on one bus, and what arrives there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = MemoryBus()
        self.time = Time()
        self.inbox = Inbox()
        self.transport: MemoryTransport

    @contextlib.asynccontextmanager
    async def outbox(self, *, up: bool = True, **options: Any) -> AsyncIterator[Outbox]:
        """An outbox; one that is not up never had a link."""
        self.transport = MemoryTransport(self.bus, "t")
        if not up:
            self.transport.restore = lambda: None  # type: ignore[method-assign]
        clock = Clock(self.time, self.time)
        async with Outbox(self.transport, OutboxOptions(**options), self.folder / "outbox.db", clock=clock) as outbox:
            if up:
                await connected(outbox)
            yield outbox

    def mend(self) -> None:
        MemoryTransport.restore(self.transport)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    async with MemoryTransport(made.bus, "receiver") as receiver:
        await connected(receiver)
        receiver.subscribe("#", made.inbox, qos=1)
        receiver.subscribe("$aws/#", made.inbox, qos=1)
        yield made


def ids(messages: list[Message]) -> list[str]:
    return [value for message in messages for key, value in message.user_properties if key == ID]


def texts(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


# -- who is called back --------------------------------------------------------------------------------------


async def test_acknowledged_is_what_is_on_disk_while_the_link_is_down(site: Site):
    async with site.outbox(up=False) as outbox:
        await delivered(outbox, Message("a", b"x", 1))
        assert (outbox.status.depth, outbox.status.delivered) == (1, 0)
    assert site.inbox.messages == []


async def test_what_an_earlier_process_left_is_delivered_in_order(site: Site):
    async with site.outbox(up=False) as outbox:
        for text in texts(300):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(delivered(outbox, Message("a", text, 1)))), 20)
    async with site.outbox() as outbox:
        for text in texts(300, 300):
            outbox.publish(Message("a", text, 1))
        await site.inbox.wait(600)
        await until(lambda: not outbox.status.depth)
        assert outbox.status.replayed >= 300
    assert site.inbox.payloads == texts(600)
    assert len(set(ids(site.inbox.messages))) == 600


async def test_on_delivered_is_called_once_and_never_before_publish_returned(site: Site):
    ends: list[tuple[int, VergeError | None]] = []
    async with site.outbox() as outbox:
        for number in range(500):
            outbox.publish(Message("a", b"x", 1), lambda error, number=number: ends.append((number, error)))
            assert ends == []
        await site.inbox.wait(500)
        await until(lambda: len(ends) >= 500)
    assert ends == [(number, None) for number in range(500)]


async def test_who_fails_when_told_disturbs_nobody(site: Site, caplog: pytest.LogCaptureFixture):
    def fail(_: VergeError | None) -> None:
        raise RuntimeError("a caller's own")

    async with site.outbox() as outbox:
        outbox.publish(Message("a", b"1", 1), fail)
        await delivered(outbox, Message("a", b"2", 1))
        await site.inbox.wait(2)
    assert "a caller's own" in caplog.text


async def test_a_link_that_is_up_is_used_at_once(site: Site):
    async with site.outbox() as outbox:
        for text in texts(100):
            outbox.publish(Message("a", text, 1))
            await site.inbox.wait(int(text) + 1)
        assert outbox.status.replayed == 0
    assert site.inbox.payloads == texts(100)


async def test_what_is_published_while_the_link_is_lost_follows_when_it_is_back(site: Site):
    async with site.outbox() as outbox:
        for round_ in range(5):
            for text in texts(100, 200 * round_):
                outbox.publish(Message("a", text, 1))
            await asyncio.sleep(0)
            site.transport.drop()
            for text in texts(100, 200 * round_ + 100):
                outbox.publish(Message("a", text, 1))
            await asyncio.sleep(0)
            site.mend()
        await site.inbox.wait(1000)
    assert site.inbox.payloads == texts(1000)


async def test_a_live_message_does_not_wait_for_what_is_replayed_on_other_topics(site: Site):
    async with site.outbox(up=False, in_flight=1) as outbox:
        for _ in range(3000):
            outbox.publish(Message("old", b"x", 1))
        await until(lambda: outbox.status.depth == 3000 and not len(outbox._writer))
        site.mend()
        await site.inbox.wait(20)
        outbox.publish(Message("new", b"live", 1))
        await site.inbox.until(lambda messages: messages[-1].topic == "new" or len(messages) == 3001)
        assert len(site.inbox.messages) < 2500
        await site.inbox.wait(3001, 60)


# -- what goes through --------------------------------------------------------------------------------------


async def test_qos_0_and_conversations_pass_by(site: Site):
    async with site.outbox() as outbox:
        outbox.publish(Message("a", b"x", 0))
        outbox.publish(Message("$aws/things/t/jobs/7/update", b"x", 1))
        await site.inbox.wait(2)
        assert outbox.status.delivered == 0
    assert ids(site.inbox.messages) == []


async def test_a_message_keeps_everything_and_the_id_it_has(site: Site):
    sent = Message(
        "a", b"x", 1, content_type="t", response_topic="r", correlation_data=b"\xff", user_properties=((ID, "mine"),)
    )  # fmt: skip
    async with site.outbox() as outbox:
        outbox.publish(sent)
        (message,) = await site.inbox.wait(1)
    for name in ("topic", "payload", "qos", "content_type", "response_topic", "correlation_data", "user_properties"):
        assert getattr(message, name) == getattr(sent, name)


async def test_of_a_retained_state_only_the_newest_waits(site: Site):
    ends: list[VergeError | None] = []
    async with site.outbox(up=False) as outbox:
        for text in texts(1000):
            outbox.publish(Message("verge/t/status", text, 1, retain=True), ends.append)
        await until(lambda: len(ends) == 1000)
        assert (outbox.status.depth, outbox.status.superseded, outbox.status.lost) == (1, 999, {})
        site.mend()
        await site.inbox.wait(1)
    assert site.inbox.payloads == [b"999"]
    assert ends == [None] * 1000


async def test_first_things_first(site: Site):
    topics = ["verge/t/snapshots/s", "verge/t/results/s", "verge/t/deployments/d"]
    async with site.outbox(up=False) as outbox:
        for topic in topics:
            for _ in range(5):
                outbox.publish(Message(topic, b"x", 1))
        await until(lambda: outbox.status.depth == 15 and not len(outbox._writer))
        site.mend()
        await site.inbox.wait(15)
    assert [message.topic for message in site.inbox.messages] == [topic for topic in reversed(topics) for _ in range(5)]


@pytest.mark.parametrize("name", ["", "a/+/b", "a/#", "a\0b"])
async def test_a_wrong_topic_is_refused_at_once(site: Site, name: str):
    async with site.outbox(topics=("#",)) as outbox:
        with pytest.raises(PublishError) as refused:
            outbox.publish(Message(name, b"x", 1))
    assert refused.value.code == "bad-topic"


async def test_a_message_larger_than_the_outbox_is_refused_at_once(site: Site):
    async with site.outbox(max_bytes=1000) as outbox:
        with pytest.raises(PublishError) as refused:
            outbox.publish(Message("a", bytes(1000), 1))
        outbox.publish(Message("a", bytes(500), 1))
        await site.inbox.wait(1)
    assert refused.value.code == "outbox-too-small"


async def test_a_closed_outbox_takes_no_message(site: Site):
    async with site.outbox() as outbox:
        pass
    with pytest.raises(NotConnectedError):
        outbox.publish(Message("a", b"x", 1))


async def test_more_than_the_disk_can_follow_is_refused_and_counted(site: Site):
    gate = threading.Event()
    async with site.outbox() as outbox:
        outbox._writer._thread.submit(gate.wait)  # a disk that stands still
        with contextlib.suppress(NotConnectedError):
            while outbox.status.depth < 20_000:
                outbox.publish(Message("a", b"x", 1))
        gate.set()
        taken = outbox.status.depth
        await site.inbox.wait(taken, 60)
        assert outbox.status.lost == {"outbox-busy": 1}


async def test_what_waits_until_all_is_safe_is_called_in_order_and_after_the_disk_has_it(site: Site):
    gate, called = threading.Event(), []
    async with site.outbox(up=False) as outbox:
        outbox.when_safe(lambda: called.append("nothing was published"))
        outbox._writer._thread.submit(gate.wait)  # a disk that stands still
        for name in ("a", "verge/box/deployments/x"):  # of two ranks
            outbox.publish(Message(name, b"x", 1), lambda _: called.append("stored"))
            outbox.when_safe(lambda name=name: called.append(name))
        await asyncio.sleep(0)
        assert called == ["nothing was published"]
        gate.set()
        await until(lambda: len(called) == 5)
    assert called[1:] == ["stored", "a", "stored", "verge/box/deployments/x"]


async def test_while_the_disk_is_full_safe_is_what_the_broker_has(site: Site):
    called: list[str] = []
    async with site.outbox() as outbox:
        await delivered(outbox, Message("a", b"0", 1))
        await in_thread(outbox, lambda disk: disk.execute("PRAGMA max_page_count = 1").fetchall())
        site.transport.drop()
        outbox.publish(Message("a", bytes(50_000), 1))
        outbox.when_safe(lambda: called.append("safe"))
        await until(lambda: outbox.status.state == "memory")
        assert called == []
        site.mend()
        await until(lambda: called == ["safe"])
    await site.inbox.wait(2)


# -- what gives way -----------------------------------------------------------------------------------------


async def test_who_is_refused_for_want_of_room_is_told(site: Site):
    ends: list[VergeError | None] = []
    async with site.outbox(up=False, policy="drop-new", max_bytes=10_000) as outbox:
        for _ in range(20):
            outbox.publish(Message("a", bytes(1000), 1), ends.append)
        await until(lambda: len(ends) == 20)
        assert [error.code for error in ends if error] == ["outbox-full"] * outbox.status.lost["outbox-full"]
        assert ends.count(None) == outbox.status.depth
        assert outbox.status.bytes <= 10_000


async def test_what_expired_while_it_waited_is_not_sent_and_what_did_not_says_how_long_it_has(site: Site):
    async with site.outbox(up=False) as outbox:
        await delivered(outbox, Message("a", b"short", 1, expiry_s=10))
        await delivered(outbox, Message("a", b"long", 1, expiry_s=60))
        site.time.now_s += 20
        site.mend()
        (message,) = await site.inbox.wait(1)
        await until(lambda: not outbox.status.depth)
        assert outbox.status.lost == {"expired": 1}
    assert (message.payload, message.expiry_s) == (b"long", 40)


async def test_what_is_older_than_the_bound_is_not_sent(site: Site):
    async with site.outbox(up=False, max_age_s=100) as outbox:
        await delivered(outbox, Message("a", b"old", 1))
        site.time.now_s += 60
        await delivered(outbox, Message("a", b"young", 1))
        site.time.now_s += 60
        site.mend()
        await site.inbox.wait(1)
        await until(lambda: outbox.status.lost == {"expired": 1})
    assert site.inbox.payloads == [b"young"]


async def test_a_wall_clock_that_jumps_makes_nothing_old(tmp_path: Path):
    wall, steady = Time(), Time()
    clock = Clock(wall, steady)
    before = clock.now_ms()
    wall.now_s += 1e9
    assert clock.now_ms() == before
    steady.now_s += 5
    assert clock.now_ms() == before + 5000
    clock.not_before(before + 100_000)
    clock.not_before(before)
    assert clock.now_ms() == pytest.approx(before + 100_000, abs=2)


async def test_what_the_broker_refuses_is_counted_by_its_code_and_the_rest_goes_on(own_broker: Broker, tmp_path: Path):
    own_broker._lines = ("max_packet_size 2000",)
    own_broker.restart()
    options = replace(own_broker.options, outbox=OutboxOptions())
    outbox = create("t", replace(options, port=own_broker.port), folder=tmp_path)
    assert isinstance(outbox, Outbox)
    async with create("receiver", own_broker.options) as receiver:
        inbox = Inbox()
        receiver.subscribe("a", inbox, qos=1)
        await connected(receiver)
        await subscribed(receiver, "a-mark")
        async with outbox:
            outbox.publish(Message("a", bytes(5000), 1))  # nobody knows the limit yet
            outbox.publish(Message("a", b"x", 1))
            await inbox.wait(1)
            await until(lambda: outbox.status.lost == {"packet-too-large": 1})
            with pytest.raises(PublishError):
                outbox.publish(Message("a", bytes(5000), 1))


async def test_what_a_broker_would_hang_up_on_is_lost_alone(own_broker: Broker, tmp_path: Path):
    options = replace(own_broker.options, outbox=OutboxOptions())
    async with create("receiver", own_broker.options) as receiver, create("t", options, folder=tmp_path) as outbox:
        inbox = Inbox()
        receiver.subscribe("a", inbox, qos=1)
        await subscribed(receiver, "a-mark")
        await connected(outbox)
        with pytest.raises(PublishError):
            outbox.publish(Message("a\tb", b"x", 1))
        outbox.publish(Message("a", b"x", 1, content_type="a\0b"))
        outbox.publish(Message("a", b"y", 1))
        await inbox.wait(1)
        assert (inbox.payloads, outbox.status.lost) == ([b"y"], {"bad-property": 1})


# -- disks --------------------------------------------------------------------------------------------------


async def in_thread(outbox: Outbox, call: Callable[[Any], Any]) -> None:
    """On the outbox's own thread, with its connection."""
    await asyncio.wrap_future(outbox._writer._thread.submit(lambda: call(outbox._store._disk._connection)))


async def test_with_a_full_disk_messages_go_on_and_are_told_when_the_broker_has_them(site: Site):
    ends: list[VergeError | None] = []
    async with site.outbox() as outbox:
        await delivered(outbox, Message("a", b"0", 1))
        await in_thread(outbox, lambda disk: disk.execute("PRAGMA max_page_count = 1").fetchall())
        for text in texts(50, 1):
            outbox.publish(Message("a", text.ljust(5000), 1), ends.append)
        await site.inbox.wait(51)
        await until(lambda: len(ends) == 50)
        assert (outbox.status.state, ends) == ("memory", [None] * 50)
        assert "full" in outbox.status.reason
        site.transport.drop()
        outbox.publish(Message("a", bytes(5000), 1), ends.append)
        await in_thread(outbox, lambda disk: disk.execute("PRAGMA max_page_count = 100000").fetchall())
        assert len(ends) == 50
        site.time.now_s += 100
        await until(lambda: len(ends) == 51)  # it is on disk now
        assert (outbox.status.state, outbox.status.lost) == ("disk", {})
    assert [int(payload) for payload in site.inbox.payloads] == list(range(51))


async def test_a_broken_file_is_set_aside_and_the_status_says_so(site: Site):
    (site.folder / "outbox.db").write_bytes(b"garbage" * 10_000)
    async with site.outbox() as outbox:
        await delivered(outbox, Message("a", b"x", 1))
        await site.inbox.wait(1)
        assert "broken" in outbox.status.set_aside
        assert Path(outbox.status.set_aside).exists()
        assert outbox.status.state == "disk"


async def test_an_outbox_without_a_disk_still_delivers(site: Site):
    (site.folder / "file").write_text("")
    site.folder /= "file"
    async with site.outbox() as outbox:
        await delivered(outbox, Message("a", b"x", 1))
        await site.inbox.wait(1)
        assert outbox.status.state == "memory"


async def test_what_the_transport_does_not_take_is_not_overtaken(site: Site, monkeypatch: pytest.MonkeyPatch):
    async with site.outbox(up=False, in_flight=2) as outbox:
        await delivered(outbox, Message("a", b"expired", 1, expiry_s=1))
        for text in texts(10):
            await delivered(outbox, Message("a", text, 1))
        site.time.now_s += 5
        taking = site.transport.publish
        turns = iter([NotConnectedError("full", code="queue-full")])

        def take(*arguments: Any, **options: Any) -> None:
            if (error := next(turns, None)) is not None:
                raise error
            taking(*arguments, **options)

        monkeypatch.setattr(site.transport, "publish", take)
        site.mend()
        await site.inbox.wait(10)
        assert outbox.status.lost == {"expired": 1}
    assert site.inbox.payloads == texts(10)


# -- leaving and links --------------------------------------------------------------------------------------


async def test_what_was_published_just_before_leaving_arrives(site: Site):
    ends: list[VergeError | None] = []
    async with site.outbox() as outbox:
        for text in texts(100):
            outbox.publish(Message("a", text, 1), ends.append)
    await site.inbox.wait(100)
    assert site.inbox.payloads == texts(100)
    assert ends == [None] * 100


async def test_leaving_does_not_wait_for_all_that_is_to_be_replayed(site: Site):
    async with site.outbox(up=False) as outbox:
        for _ in range(5000):
            outbox.publish(Message("a", b"x", 1))
        await until(lambda: not len(outbox._writer))
        outbox.publish(Message("verge/t/status", b"offline", 1, retain=True))
        site.mend()
    async with site.outbox() as outbox:
        await site.inbox.wait(5001, 60)
        await until(lambda: not outbox.status.depth)
    assert "verge/t/status" in {message.topic for message in site.inbox.messages[:200]}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_over_a_real_broker_everything_arrives_in_order_whatever_is_cut(
    broker: Broker, wire: Wire, topic: str, tmp_path: Path, version: str
):
    options: MqttOptions = replace(broker.options, version=version, port=wire.port, outbox=OutboxOptions())
    async with (
        create("receiver", broker.options) as receiver,
        create("sender", options, folder=tmp_path) as sender,
    ):
        assert isinstance(sender, Outbox)
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await asyncio.gather(connected(receiver), connected(sender))
        await subscribed(receiver, topic)
        for number in range(2000):
            sender.publish(Message(topic, b"%d" % number, 1))
            if number % 400 == 200:
                wire.cut()
                await state_of(sender, lambda state: not state.connected)
            if number % 400 == 399:
                wire.mend()
                await connected(sender)
        await inbox.until(lambda messages: bool(messages) and messages[-1].payload == b"1999", 60)
        await until(lambda: not sender.status.depth)
    assert list(dict.fromkeys(inbox.payloads)) == texts(2000)
    if version == "5":
        by_id = {(message.payload, *ids([message])) for message in inbox.messages}
        assert len(by_id) == 2000
