"""Each of IoT Core's limits, at the limit and one past it."""

from __future__ import annotations

import pytest

from agent.config.transports import BasicIngestOptions, IotCoreLimits
from agent.errors import PublishError
from agent.mqtt.iotcore.quotas import IotCoreBroker, ingested
from agent.mqtt.limits import publish_bytes
from agent.mqtt.transport import Message

BROKER = IotCoreBroker()


def objections(message: Message, broker: IotCoreBroker = BROKER) -> tuple[str, str] | None:
    try:
        broker.check(message)
    except PublishError as refused:
        return refused.code, refused.message
    return None


@pytest.mark.parametrize(
    ("topic", "refusal"),
    [
        ("t" * 256, None),
        ("t" * 257, "has 257 bytes, IoT Core takes 256"),
        ("é" * 128, None),
        ("é" * 128 + "t", "has 257 bytes, IoT Core takes 256"),
        ("a/b/c/d/e/f/g/h", None),
        ("a/b/c/d/e/f/g/h/i", "has 8 slashes, IoT Core takes 7"),
        ("$aws/rules/results/a/b/c/d/e/f/g/h", None),
        ("$aws/rules/results/a/b/c/d/e/f/g/h/i", "has 8 slashes, IoT Core takes 7"),
        ("$aws/rules/results/" + "t" * 256, None),
        ("$aws/rules/results/" + "t" * 257, "has 257 bytes, IoT Core takes 256"),
        ("$aws/things/camera/jobs/start-next/a/b/c", None),
        ("$aws/things/camera/jobs/start-next/a/b/c/d", "has 8 slashes, IoT Core takes 7"),
    ],
)
def test_a_topic_is_taken_up_to_its_limits(topic: str, refusal: str | None):
    actual = objections(Message(topic, b"x"))
    assert actual == (refusal and ("bad-topic", f"the topic {topic!r} {refusal}"))


@pytest.mark.parametrize(("size", "refusal"), [(131_072, None), (131_073, "packet-too-large")])
def test_a_payload_is_taken_up_to_its_limit(size: int, refusal: str | None):
    actual = objections(Message("t", bytes(size)))
    assert (actual and actual[0]) == refusal
    assert actual is None or "131073 bytes" in actual[1]


def test_a_message_larger_than_a_second_takes_is_refused_for_it_would_wait_for_ever():
    message = Message("t", bytes(1000), qos=1)
    size = publish_bytes(message)
    assert objections(message, IotCoreBroker(rules=IotCoreLimits(bytes_per_s=size))) is None
    actual = objections(message, IotCoreBroker(rules=IotCoreLimits(bytes_per_s=size - 1)))
    assert actual is not None
    assert f"{size} bytes" in actual[1]


def test_what_the_broker_said_holds_besides():
    assert objections(Message("t", bytes(100)), IotCoreBroker(maximum_packet_size=50)) is not None
    assert IotCoreBroker(shared_available=False).objection("$share/g/t") is not None


@pytest.mark.parametrize(
    ("topic_filter", "refusal"),
    [
        ("a/+/c/d/e/f/g/#", None),
        ("a/+/c/d/e/f/g/h/#", "has 8 slashes, IoT Core takes 7"),
        ("$share/group/a/b/c/d/e/f/g/#", None),
        ("$share/group/a/b/c/d/e/f/g/h/#", "has 8 slashes, IoT Core takes 7"),
        ("f" * 256, None),
        ("f" * 257, "has 257 bytes, IoT Core takes 256"),
    ],
)
def test_a_filter_is_taken_up_to_its_limits(topic_filter: str, refusal: str | None):
    assert BROKER.objection(topic_filter) == refusal


@pytest.mark.parametrize(
    ("message", "topic"),
    [
        (Message("verge/camera/results/door", b"{}", qos=1), "$aws/rules/verge_results/verge/camera/results/door"),
        (Message("verge/camera/status", b"{}", qos=1), "verge/camera/status"),
        (Message("verge/camera/results/door", b"{}", qos=1, retain=True), "verge/camera/results/door"),
    ],
)
def test_results_go_to_the_rule_and_nothing_else_does(message: Message, topic: str):
    assert ingested(message, BasicIngestOptions(rule="verge_results")).topic == topic
    assert ingested(message, None) is message
