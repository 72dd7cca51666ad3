"""What goes into batches comes out of them, and no batch is past its bounds."""

from __future__ import annotations

import base64
import gzip
import json
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.transports import BatchOptions
from agent.mqtt.iotcore.batching import BATCH, ENCODING, Batch, Batcher
from agent.mqtt.sending import OutgoingMessage
from agent.mqtt.transport import Message

TOPIC = "verge/camera/results/door"


def decoded(message: Message) -> list[Message]:
    """What a receiver makes of a message: itself, or those of the batch."""
    properties, payload = list(message.user_properties), message.payload
    if ENCODING in properties:
        properties.remove(ENCODING)
        payload = gzip.decompress(payload)
    if BATCH not in properties:
        return [replace(message, payload=payload, user_properties=tuple(properties))]
    return [
        Message(
            message.topic,
            base64.b64decode(each["base64"]) if "base64" in each else json.dumps(each["payload"]).encode(),
            message.qos,
            content_type=each.get("content_type"),
            user_properties=tuple((key, value) for key, value in each.get("user_properties", [])),
        )
        for each in json.loads(payload)["messages"]
    ]


def result(number: int, *, topic: str = TOPIC, qos: int = 1) -> Message:
    return Message(topic, json.dumps({"frame": number}).encode(), qos, content_type="application/json")


def published(batcher: Batcher, messages: list[Message], times: list[float] | None = None) -> list[Batch]:
    out: list[Batch] = []
    for number, message in enumerate(messages):
        now = times[number] if times else 0.0
        out += batcher.ripe(now)
        if batcher.wants(message):
            out += batcher.add(OutgoingMessage(message, None), now)
        else:
            out += [*batcher.flush(message.topic), Batch(message, (OutgoingMessage(message, None),))]
    return out + batcher.flush_all()


payloads = st.one_of(
    st.binary(max_size=300),
    st.recursive(st.integers() | st.text(max_size=10), lambda inner: st.lists(inner, max_size=3), max_leaves=4).map(
        lambda value: json.dumps(value).encode()
    ),
)
messages = st.builds(
    Message,
    topic=st.sampled_from([TOPIC, "verge/camera/results/hall", "verge/camera/status"]),
    payload=payloads,
    qos=st.just(1),
    retain=st.booleans(),
    content_type=st.sampled_from([None, "application/json", 'a"b']),
    user_properties=st.lists(st.tuples(st.sampled_from(["verge-id", "a"]), st.text(max_size=5)), max_size=2).map(tuple),
)


@settings(deadline=None, max_examples=80)
@given(
    published_messages=st.lists(messages, max_size=25),
    bound=st.integers(60, 600),
    count=st.integers(1, 8),
    packed=st.booleans(),
)
def test_a_receiver_gets_each_message_once_in_the_order_of_its_topic(
    published_messages: list[Message], bound: int, count: int, packed: bool
):
    batcher = Batcher(BatchOptions(max_messages=count, max_bytes=bound, gzip=packed))
    out = published(batcher, published_messages)
    came: dict[str, list[Message]] = defaultdict(list)
    for batch in out:
        assert len(batch.messages) <= count
        came[batch.message.topic] += decoded(batch.message)
        if len(batch.messages) > 1 and ENCODING not in batch.message.user_properties:
            assert len(batch.message.payload) <= bound
    for topic in {message.topic for message in published_messages}:
        wanted = [message for message in published_messages if message.topic == topic]
        assert [_content(message) for message in came[topic]] == [_content(message) for message in wanted]
    assert (batcher.messages, batcher.bytes) == (0, 0)


def _content(message: Message) -> tuple[object, ...]:  # JSON may be written in more than one way
    try:
        payload = json.loads(message.payload)
    except ValueError:
        payload = message.payload
    return repr(payload), message.content_type, message.user_properties


@pytest.mark.parametrize(("count", "batches"), [(99, [99]), (100, [100]), (101, [100, 1])])
def test_a_batch_goes_out_when_it_has_enough_messages(count: int, batches: list[int]):
    out = published(Batcher(BatchOptions()), [result(number) for number in range(count)])
    assert [len(batch.messages) for batch in out] == batches


def test_a_batch_goes_out_before_it_has_too_many_bytes():
    (both,) = published(Batcher(BatchOptions()), [result(1), result(2)])
    size = len(both.message.payload)
    for bound, batches in ((size, [2]), (size - 1, [1, 1])):
        out = published(Batcher(BatchOptions(max_bytes=bound)), [result(1), result(2)])
        assert [len(batch.messages) for batch in out] == batches


def test_a_batch_goes_out_when_its_first_message_waited_long_enough():
    batcher = Batcher(BatchOptions(max_s=2.0))
    for number, now in enumerate((10.0, 10.5, 11.0)):
        batcher.add(OutgoingMessage(result(number, topic=f"verge/camera/results/{number % 2}"), None), now)
    assert batcher.due == 12.0
    assert list(batcher.ripe(11.99)) == []
    assert [len(batch.messages) for batch in batcher.ripe(12.0)] == [2]
    assert batcher.due == 12.5
    assert [len(batch.messages) for batch in batcher.ripe(12.5)] == [1]
    assert batcher.due is None


@pytest.mark.parametrize(
    "alone",
    [
        Message(TOPIC, b"{}", qos=0),
        Message(TOPIC, b"{}", qos=1, retain=True),
        Message(TOPIC, b"{}", qos=1, response_topic="answer"),
        Message(TOPIC, b"{}", qos=1, correlation_data=b"1"),
        Message(TOPIC, b"{}", qos=1, expiry_s=3),
        Message("verge/camera/status", b"{}", qos=1),
    ],
)
def test_what_is_no_result_goes_alone(alone: Message):
    assert not Batcher(BatchOptions()).wants(alone)


def test_a_message_larger_than_a_batch_goes_as_it_is_behind_those_before_it():
    large = Message(TOPIC, bytes(200), qos=1)
    out = published(Batcher(BatchOptions(max_bytes=150)), [result(1), large, result(2)])
    assert [batch.message is large for batch in out] == [False, True, False]


def test_a_batch_has_the_highest_qos_of_its_messages_and_says_what_it_is():
    (batch,) = published(Batcher(BatchOptions()), [result(1), result(2, qos=2)])
    assert (batch.message.qos, batch.message.content_type) == (2, "application/json")
    assert batch.message.user_properties == (("verge-batch", "1"),)


def test_what_gets_smaller_is_compressed_and_says_so():
    batcher = Batcher(BatchOptions(gzip=True, max_messages=1))
    big, small = Message(TOPIC, b"x" * 1000, qos=1, user_properties=(("verge-id", "1"),)), Message(TOPIC, b"x", qos=1)
    first, second = published(batcher, [big, small])
    assert first.message.user_properties == (("verge-id", "1"), ("content-encoding", "gzip"))
    assert len(first.message.payload) < 50
    assert decoded(first.message)[0].payload == big.payload
    assert second.message is small


def test_what_looks_like_json_without_end_is_carried_as_bytes():
    deep = Message(TOPIC, b"[" * 100_000, qos=1)
    (batch,) = published(Batcher(BatchOptions(max_bytes=200_000)), [deep])
    assert decoded(batch.message)[0].payload == deep.payload


def test_what_waits_is_counted():
    batcher = Batcher(BatchOptions())
    for number in range(3):
        batcher.add(OutgoingMessage(result(number), None), 0.0)
    assert batcher.messages == 3
    assert batcher.bytes > 3 * len(result(1).payload)
