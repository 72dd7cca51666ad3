"""The IoT Core transport against a real broker with mutual TLS: what it promises beyond every transport's suite."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.aws.provision.keys import new_key
from agent.config.transports import BasicIngestOptions, BatchOptions, IotCoreLimits, IotCoreOptions, OutboxOptions
from agent.errors import BrokerUnreachableError, NotConnectedError, PublishError, VergeError
from agent.mqtt.factory import create
from agent.mqtt.iotcore.client import IotCoreTransport
from agent.mqtt.transport import Message
from tests.support.broker import Broker
from tests.support.certs import Certificates
from tests.support.inbox import Inbox, connected, delivered, state_of, subscribed
from tests.support.provisioning import Authority
from tests.support.until import until
from tests.support.wire import Wire

Options = Callable[..., IotCoreOptions]


@pytest.fixture
def talkative(certificates: Certificates) -> Iterator[Broker]:
    """A broker with mutual TLS that logs each packet; a test may stop it."""
    with Broker(tls=certificates, client_certificates=True, lines=["log_type all", "max_queued_messages 0"]) as running:
        yield running


def stand_still(seconds: float) -> bool:
    """Block the loop; False."""
    time.sleep(seconds)
    return False


def ends_of(transport: IotCoreTransport, messages: list[Message]) -> list[VergeError | None]:
    ends: list[VergeError | None] = []
    for message in messages:
        transport.publish(message, ends.append)
    return ends


# -- sessions and outages ----------------------------------------------------------------------------------------------


async def test_subscriptions_are_renewed_only_when_the_broker_lost_the_session(
    talkative: Broker, iotcore: Options, thing: str, topic: str
):
    async with Wire(talkative.port) as wire:
        options = iotcore(port=wire.port, client_id=thing, session_expiry_s=60)
        async with IotCoreTransport("t", options) as transport:
            inbox = Inbox()
            for number in range(9):
                transport.subscribe(f"{topic}/{number}", inbox, qos=1)
            assert not (await connected(transport)).session_present
            await delivered(transport, Message(f"{topic}/8", b"1", qos=1))
            await inbox.wait(1)
            assert asked(talkative, thing) == [8, 1]

            wire.cut()
            await state_of(transport, lambda state: not state.connected)
            wire.mend()
            assert (await connected(transport)).session_present
            await delivered(transport, Message(f"{topic}/8", b"2", qos=1))
            await inbox.wait(2)
            assert asked(talkative, thing) == [8, 1]

            talkative.stop()
            await state_of(transport, lambda state: not state.connected)
            talkative.start()
            assert not (await connected(transport)).session_present
            await delivered(transport, Message(f"{topic}/8", b"3", qos=1))
            await inbox.wait(3)
            assert asked(talkative, thing) == [8, 1, 8, 1]


def asked(broker: Broker, client_id: str) -> list[int]:
    """How many filters each SUBSCRIBE of a client had."""
    packets = broker.log.split(f"Received SUBSCRIBE from {client_id}\n")[1:]
    return [packet.split("Sending SUBACK")[0].count("(QoS 1)") for packet in packets]


async def test_a_session_outlives_the_process_unless_it_starts_clean(iotcore: Options, thing: str, topic: str):
    options = iotcore(client_id=thing, session_expiry_s=60)
    async with IotCoreTransport("first", options) as first:
        first.subscribe(topic, Inbox(), qos=1)
        await subscribed(first, topic)
    async with IotCoreTransport("other", iotcore()) as other:
        await connected(other)
        await delivered(other, Message(topic, b"meanwhile", qos=1))
    inbox = Inbox()
    async with IotCoreTransport("second", options) as second:
        second.subscribe(topic, inbox, qos=1)
        assert (await connected(second)).session_present
        await inbox.wait(1)
    async with IotCoreTransport("third", iotcore(client_id=thing, session_expiry_s=60, clean_start=True)) as third:
        assert not (await connected(third)).session_present


@pytest.mark.parametrize("expiry_s", [0, 60])
async def test_what_is_published_during_an_outage_arrives_after_it_in_order(
    tls_broker: Broker, iotcore: Options, thing: str, topic: str, expiry_s: int
):
    async with (
        Wire(tls_broker.port) as wire,
        IotCoreTransport("sender", iotcore(port=wire.port, client_id=thing, session_expiry_s=expiry_s)) as sender,
        IotCoreTransport("receiver", iotcore()) as receiver,
    ):
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        await connected(sender)
        ends = ends_of(sender, [Message(topic, b"%d" % number, qos=1) for number in range(150)])
        await inbox.wait(10)
        wire.cut()
        await state_of(sender, lambda state: not state.connected)
        for number in range(150, 300):
            sender.publish(Message(topic, b"%d" % number, qos=1), ends.append)
        with pytest.raises(NotConnectedError):
            sender.publish(Message(topic, b"x", qos=0))
        wire.mend()
        await inbox.until(lambda messages: messages[-1].payload == b"299")
        await until(lambda: len(ends) == 300)
        assert ends == [None] * 300
        assert list(dict.fromkeys(inbox.payloads)) == [b"%d" % number for number in range(300)]


async def test_a_message_that_was_not_acknowledged_comes_again(
    tls_broker: Broker, iotcore: Options, thing: str, topic: str
):
    async with Wire(tls_broker.port) as wire, IotCoreTransport("sender", iotcore()) as sender:
        options = iotcore(port=wire.port, client_id=thing, session_expiry_s=60)
        async with IotCoreTransport("receiver", options) as receiver:
            manual, early = Inbox(), []
            receiver.subscribe(topic, manual, qos=1, manual_ack=True)
            await subscribed(receiver, topic)
            await connected(sender)
            await delivered(sender, Message(topic, b"1", qos=1))
            await delivered(sender, Message(topic, b"2", qos=1))
            early += await manual.wait(2)
            receiver.acknowledge(early[0])
            await subscribed(receiver, f"{topic}/later")  # the acknowledgement is on its way before the cut
            wire.cut()
            await state_of(receiver, lambda state: not state.connected)
            wire.mend()
            await manual.wait(3)
            receiver.acknowledge(early[1])  # of a connection that is no more
            await subscribed(receiver, f"{topic}/again")
            assert manual.payloads == [b"1", b"2", b"2"]


async def test_the_broker_sends_no_more_than_the_receive_maximum_ahead(iotcore: Options, topic: str):
    async with (
        IotCoreTransport("receiver", iotcore(receive_maximum=3)) as receiver,
        IotCoreTransport("sender", iotcore()) as sender,
    ):
        inbox, mark = Inbox(), Inbox()
        receiver.subscribe(topic, inbox, qos=1, manual_ack=True)
        receiver.subscribe(f"{topic}/mark", mark)
        await subscribed(receiver, topic)
        await connected(sender)
        for number in range(5):
            sender.publish(Message(topic, b"%d" % number, qos=1))
        await delivered(sender, Message(f"{topic}/mark", b"", qos=0))
        await inbox.wait(3)
        await mark.wait(1)
        assert inbox.payloads == [b"0", b"1", b"2"]
        for message in tuple(inbox.messages):
            receiver.acknowledge(message)
        await inbox.wait(5)


async def test_a_broken_link_leaves_the_will(tls_broker: Broker, iotcore: Options, topic: str):
    will = Message(f"{topic}/will", b"gone", qos=1, retain=True, user_properties=(("a", "b"),))
    async with Wire(tls_broker.port) as wire, IotCoreTransport("watcher", iotcore()) as watcher:
        inbox = Inbox()
        watcher.subscribe(f"{topic}/#", inbox, qos=1)
        await subscribed(watcher, topic)
        async with IotCoreTransport("t", iotcore(port=wire.port), will=will) as transport:
            await connected(transport)
            wire.cut()
            await inbox.until(lambda messages: messages[-1].payload == b"gone")
        assert inbox.messages[-1].user_properties == (("a", "b"),)
        await delivered(watcher, Message(f"{topic}/will", b"", qos=1, retain=True))


def test_a_will_that_iot_core_would_not_take_is_refused_at_once(iotcore: Options):
    with pytest.raises(PublishError, match="slashes"):
        IotCoreTransport("t", iotcore(), will=Message("a/" * 8, b""))


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "connection-refused"),
        ({"endpoint": "no-such-host.invalid"}, "dns"),
    ],
)
async def test_why_there_is_no_connection_is_told(
    iotcore: Options, free_port: int, changes: dict[str, object], code: str
):
    async with IotCoreTransport("cloud", iotcore(port=free_port, **changes)) as transport:
        with pytest.raises(BrokerUnreachableError, match="cloud: no connection to") as unreachable:
            await transport.wait_connected(0.5)
        assert unreachable.value.code == code
        assert unreachable.value.hint


async def test_what_the_policy_does_not_allow_is_told_filter_by_filter_and_message_by_message(
    certificates: Certificates, iotcore: Options, tmp_path: Path
):
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite mine/#\ntopic write theirs/write\n")
    rules.chmod(0o600)
    with Broker(tls=certificates, client_certificates=True, lines=[f"acl_file {rules}"]) as broker:
        async with IotCoreTransport("t", iotcore(port=broker.port)) as transport:
            inbox = Inbox()
            for topic_filter in ("mine/#", "theirs/+", "a/b/c/d/e/f/g/h/i"):
                transport.subscribe(topic_filter, inbox, qos=1)
            await connected(transport)
            await delivered(transport, Message("mine/a", b"1", qos=1))
            await inbox.wait(1)
            with pytest.raises(PublishError, match=r"'theirs/read': it is not authorized") as refused:
                await delivered(transport, Message("theirs/read", b"2", qos=1))
            assert "iot:Publish" in str(refused.value.hint)
            await delivered(transport, Message("theirs/write", b"3", qos=1))
            assert transport.refused["a/b/c/d/e/f/g/h/i"] == "has 8 slashes, IoT Core takes 7"


# -- limits ------------------------------------------------------------------------------------------------------------


async def arrivals(
    iotcore: Options, topic: str, messages: list[Message], limits: IotCoreLimits
) -> tuple[list[float], int]:
    """When each message was delivered, seconds after the first was published, and how often one had to wait."""
    async with (
        IotCoreTransport("receiver", iotcore()) as receiver,
        IotCoreTransport("t", iotcore(limits=limits)) as sender,
    ):
        came: list[float] = []
        receiver.subscribe(topic, lambda _: came.append(time.monotonic()), qos=1)
        await subscribed(receiver, topic)
        await connected(sender)
        began = time.monotonic()
        for message in messages:
            sender.publish(message)
        await until(lambda: len(came) == len(messages))
        return [at - began for at in came], sender.counts["messages"]["postponed"]


@pytest.mark.parametrize(("count", "seconds"), [(100, 0), (101, 1), (201, 2)])
async def test_a_hundred_publishes_pass_in_a_second_and_the_next_waits(
    iotcore: Options, topic: str, count: int, seconds: int
):
    messages = [Message(topic, b"%d" % number, qos=1) for number in range(count)]
    unlimited, _ = await arrivals(iotcore, topic, messages, IotCoreLimits(publishes_per_s=10_000))
    came, postponed = await arrivals(iotcore, topic, messages, IotCoreLimits())
    assert all(at >= number // 100 for number, at in enumerate(came))
    assert (postponed > 0) == (seconds > 0)
    assert came[-1] < seconds + max(0.9, 5 * unlimited[-1])


@pytest.mark.parametrize(("sizes", "waits"), [([131_000] * 4, False), ([131_000] * 4 + [1000], True)])
async def test_512_kilobytes_pass_in_a_second_and_what_is_more_waits(
    iotcore: Options, topic: str, sizes: list[int], waits: bool
):
    messages = [Message(topic, bytes(size), qos=1) for size in sizes]
    came, postponed = await arrivals(iotcore, topic, messages, IotCoreLimits())
    assert postponed == waits
    assert came[-1] >= waits


async def test_a_payload_at_the_limit_goes_and_one_past_it_is_refused_and_counted(iotcore: Options, topic: str):
    async with IotCoreTransport("t", iotcore(limits=IotCoreLimits())) as transport:
        await connected(transport)
        await delivered(transport, Message(topic, bytes(131_072), qos=1))
        with pytest.raises(PublishError, match="131073 bytes"):
            transport.publish(Message(topic, bytes(131_073), qos=1))
        assert transport.counts["messages"]["refused"] == 1


@pytest.mark.parametrize(("waiting", "fits"), [(2, True), (3, False)])
async def test_the_queue_is_bounded(iotcore: Options, free_port: int, topic: str, waiting: int, fits: bool):
    transport = IotCoreTransport("t", iotcore(port=free_port, max_queued_messages=3))
    async with transport:
        for _ in range(waiting):
            transport.publish(Message(topic, b"x", qos=1))
        if fits:
            transport.publish(Message(topic, b"x", qos=1))
        else:
            with pytest.raises(NotConnectedError) as full:
                transport.publish(Message(topic, b"x", qos=1))
            assert full.value.code == "queue-full"


async def test_a_flood_of_qos_0_that_finds_no_room_is_dropped_and_counted_and_qos_1_is_not(
    iotcore: Options, topic: str
):
    async with (
        IotCoreTransport("receiver", iotcore(max_queued_messages=50)) as receiver,
        IotCoreTransport("sender", iotcore(max_queued_messages=2000)) as sender,
    ):
        inbox, mark = Inbox(), Inbox()
        receiver.subscribe(topic, inbox, qos=0)
        receiver.subscribe(f"{topic}/1", mark, qos=1)
        await subscribed(receiver, topic)
        await connected(sender)
        for _ in range(500):
            sender.publish(Message(topic, b"x", qos=0))
        for _ in range(20):
            sender.publish(Message(f"{topic}/1", b"y", qos=1))
        await until(lambda: not stand_still(0.05) and len(mark.messages) == 20)
        await subscribed(receiver, f"{topic}/end")
        assert len(inbox.messages) + receiver.counts["messages"]["dropped"] == 500


async def test_a_new_certificate_is_used_from_the_next_connection_on_and_nothing_is_lost(
    iotcore: Options, certificates: Certificates, thing: str, topic: str, tmp_path: Path
):
    authority, cert, key = Authority(tmp_path), tmp_path / "c.pem", tmp_path / "k.pem"
    shutil.copy(certificates.client_cert, cert)
    shutil.copy(certificates.client_key, key)
    names = ["use_identity_as_username true"]
    with Broker(tls=authority.trusted(certificates), client_certificates=True, listener=names) as broker:
        async with Wire(broker.port) as wire:
            options = iotcore(
                port=wire.port, client_id=thing, session_expiry_s=60, cert_file=str(cert), key_file=str(key)
            )
            receiving = iotcore(port=broker.port)
            async with IotCoreTransport("t", options) as transport, IotCoreTransport("r", receiving) as receiver:
                inbox, answers = Inbox(), Inbox()
                receiver.subscribe(topic, inbox, qos=1)
                transport.subscribe(f"{topic}/answer", answers, qos=1)
                await subscribed(receiver, f"{topic}/r")
                await subscribed(transport, f"{topic}/t")
                made = new_key()
                key.write_bytes(made)
                cert.write_bytes(authority.sign(load_pem_private_key(made, None).public_key()))
                ends = ends_of(transport, [Message(topic, b"%d" % number, qos=1) for number in range(50)])
                wire.cut()
                await state_of(transport, lambda state: not state.connected)
                more = ends_of(transport, [Message(topic, b"%d" % number, qos=1) for number in range(50, 60)])
                wire.mend()
                await connected(transport)
                await until(lambda: [*ends, *more] == [None] * 60)
                await inbox.until(lambda messages: len({message.payload for message in messages}) == 60)
                assert list(dict.fromkeys(inbox.payloads)) == [b"%d" % number for number in range(60)]
                await delivered(receiver, Message(f"{topic}/answer", b"x", qos=1))
                await answers.wait(1)
                cert.write_bytes(b"no certificate")  # what cannot be used is not
                wire.cut()
                await state_of(transport, lambda state: not state.connected)
                wire.mend()
                await connected(transport)
        users = re.findall(rf"as {re.escape(thing)} \(.*u'([^']*)'", broker.log)
    assert users == ["client", "AWS IoT Certificate", "AWS IoT Certificate"]


# -- batches and rules -------------------------------------------------------------------------------------------------


async def test_results_go_up_in_batches_compressed_and_each_hears_of_its_end(iotcore: Options, topic: str):
    options = iotcore(batch=BatchOptions(topics=(f"{topic}/results/#",), max_messages=10, max_s=0.2, gzip=True))
    async with IotCoreTransport("receiver", iotcore()) as receiver, IotCoreTransport("t", options) as sender:
        inbox = Inbox()
        receiver.subscribe(f"{topic}/#", inbox, qos=1)
        await subscribed(receiver, topic)
        inbox.messages.clear()
        await connected(sender)
        results = [Message(f"{topic}/results/door", b'{"frame":%d}' % n, 1, user_properties=(("verge-id", str(n)),))
                   for n in range(25)]  # fmt: skip
        ends = ends_of(sender, [*results[:20], Message(f"{topic}/other", b"alone", qos=1), *results[20:]])
        assert ends == []
        await inbox.wait(4)
        await until(lambda: len(ends) == 26)
        assert ends == [None] * 26
        batches = [message for message in inbox.messages if message.topic.endswith("door")]
        assert all(("content-encoding", "gzip") in message.user_properties for message in batches)
        documents = [json.loads(gzip.decompress(message.payload))["messages"] for message in batches]
        assert [len(document) for document in documents] == [10, 10, 5]
        results = [(item["payload"]["frame"], item["user_properties"]) for document in documents for item in document]
        assert results == [(number, [["verge-id", str(number)]]) for number in range(25)]


async def test_a_batch_that_waits_goes_out_before_a_goodbye(iotcore: Options, topic: str):
    options = iotcore(batch=BatchOptions(topics=(topic,), max_s=60.0))
    async with IotCoreTransport("receiver", iotcore()) as receiver:
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, topic)
        async with IotCoreTransport("t", options) as sender:
            await connected(sender)
            ends = ends_of(sender, [Message(topic, b"%d" % number, qos=1) for number in range(3)])
        await inbox.wait(1)
        assert ends == [None] * 3


async def test_what_waits_for_its_batch_counts_as_waiting(iotcore: Options, free_port: int, topic: str):
    options = iotcore(port=free_port, max_queued_messages=3, batch=BatchOptions(topics=(f"{topic}/#",), max_s=60.0))
    async with IotCoreTransport("t", options) as transport:
        for number in range(3):
            transport.publish(Message(f"{topic}/{number}", b"x", qos=1))
        with pytest.raises(NotConnectedError, match="3 for their batch"):
            transport.publish(Message(f"{topic}/3", b"x", qos=1))


async def test_results_take_the_way_of_basic_ingest(iotcore: Options, thing: str):
    topic = f"verge/{thing}/results/door"
    ingest = BasicIngestOptions(rule="results")
    options = iotcore(basic_ingest=ingest, batch=BatchOptions(max_messages=2), limits=IotCoreLimits())
    async with IotCoreTransport("receiver", iotcore()) as receiver, IotCoreTransport("t", options) as sender:
        inbox = Inbox()
        receiver.subscribe(f"$aws/rules/results/{topic}", inbox, qos=1)
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, thing)
        await connected(sender)
        for number in range(2):
            sender.publish(Message(topic, b"%d" % number, qos=1))
        await delivered(sender, Message(topic, b"live", qos=0))
        await inbox.wait(2)
        assert [message.topic for message in inbox.messages] == [f"$aws/rules/results/{topic}"] * 2
        assert json.loads(inbox.messages[0].payload) == {"messages": [{"payload": 0}, {"payload": 1}]}


async def test_behind_an_outbox_results_wait_on_disk_and_go_up_in_batches(
    tls_broker: Broker, iotcore: Options, thing: str, tmp_path: Path
):
    topic = f"verge/{thing}/results/door"
    async with Wire(tls_broker.port) as wire, IotCoreTransport("receiver", iotcore()) as receiver:
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, thing)
        wire.cut()
        options = iotcore(port=wire.port, batch=BatchOptions(max_s=0.2), outbox=OutboxOptions())
        ends: list[VergeError | None] = []
        async with create("cloud", options, folder=tmp_path) as outbox:
            for number in range(20):
                outbox.publish(Message(topic, b"%d" % number, qos=1), ends.append)
            await until(lambda: len(ends) == 20)  # they are on disk
            wire.mend()
            await connected(outbox)
            numbers: list[int] = []
            while len(numbers) < 20:
                count = len(inbox.messages)
                batches = [json.loads(message.payload)["messages"] for message in inbox.messages]
                numbers = [item["payload"] for batch in batches for item in batch]
                if len(numbers) < 20:
                    await inbox.wait(count + 1)
        assert numbers == list(range(20))
        assert len(inbox.messages) < 20


async def test_behind_an_outbox_batches_get_as_full_as_they_may(iotcore: Options, thing: str, tmp_path: Path):
    topic = f"verge/{thing}/results/door"
    async with IotCoreTransport("receiver", iotcore()) as receiver:
        inbox = Inbox()
        receiver.subscribe(topic, inbox, qos=1)
        await subscribed(receiver, thing)
        batch = BatchOptions(max_messages=100, max_s=60.0)  # more than the outbox has in flight by itself
        async with create("cloud", iotcore(batch=batch, outbox=OutboxOptions()), folder=tmp_path) as outbox:
            for number in range(500):
                outbox.publish(Message(topic, b"%d" % number, qos=1))
            await inbox.wait(5)
        batches = [json.loads(message.payload)["messages"] for message in inbox.messages]
        assert [len(item) for item in batches] == [100] * 5


# -- taking it down ----------------------------------------------------------------------------------------------------

_PROGRAM = """
import asyncio, gc, sys
from agent.mqtt.transport import Message
from agent.mqtt.factory import create
from agent.config.transports import IotCoreLimits, IotCoreOptions
from agent.mqtt.iotcore.client import IotCoreTransport

port, ca, cert, key, how = sys.argv[1:]

def transport(number):
    return IotCoreTransport("t", IotCoreOptions(
        endpoint="127.0.0.1", port=int(port), ca_file=ca, cert_file=cert, key_file=key, client_id=f"{how}-{number}",
        limits=IotCoreLimits(publishes_per_s=10_000)))

async def visit(number):
    async with transport(number) as bus:
        bus.subscribe("crowd/#", lambda message: None, qos=1)
        if number % 3:
            await bus.wait_connected(30)
        for _ in range(20):
            bus.publish(Message("crowd/x", b"x", qos=1))
        if number % 5:
            await asyncio.sleep(0)
    gc.collect()

async def main():
    if how == "many":
        for start in range(0, 60, 20):
            await asyncio.gather(*(visit(number) for number in range(start, start + 20)))
    else:
        bus = await transport(0).__aenter__()
        await bus.wait_connected(30)
        bus.subscribe("crowd/#", lambda message: None, qos=1)
        for _ in range(20):
            bus.publish(Message("crowd/x", b"x", qos=1))
        if how == "exit":
            sys.exit(7)

asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "code"), [("many", 0), ("left", 0), ("exit", 7)])
def test_a_process_ends_as_it_wants_however_its_clients_are_taken_down(
    tls_broker: Broker, certificates: Certificates, how: str, code: int
):
    files = [str(certificates.ca), str(certificates.client_cert), str(certificates.client_key)]
    command = [sys.executable, "-c", _PROGRAM, str(tls_broker.port), *files, how]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (run.returncode, run.stderr) == (code, "")
