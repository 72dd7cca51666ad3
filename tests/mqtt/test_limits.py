import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.errors import PublishError
from agent.mqtt.limits import MAX_PACKET_BYTES, MQTT_5, MQTT_311, BrokerLimits, SizeSuspicion, publish_bytes
from agent.mqtt.paho import publish_properties
from agent.mqtt.transport import Message

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"], exclude_characters="\ufeff"), max_size=20)
MESSAGES = st.builds(
    Message,
    topic=TEXT.filter(bool).map(lambda text: text.replace("+", "p").replace("#", "h")),
    payload=st.sampled_from([0, 1, 100, 127, 128, 16_000, 16_384, 70_000]).map(bytes),
    qos=st.integers(0, 2),
    content_type=st.none() | TEXT,
    response_topic=st.none() | TEXT.filter(bool).map(lambda text: text.replace("+", "p").replace("#", "h")),
    correlation_data=st.none() | st.binary(max_size=200),
    user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    expiry_s=st.none() | st.integers(0, 2**32 - 1),
)


def packed(message: Message, version: int) -> int:
    """Size of the packet that paho would send."""
    sizes: list[int] = []

    class Recording(Client):
        def _packet_queue(self, _command, packet, *_more):
            sizes.append(len(packet))
            return 0

    client = Recording(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(version))
    client._sock = object()
    client.publish(
        message.topic,
        message.payload,
        message.qos,
        properties=publish_properties(message) if version == MQTT_5 else None,
    )
    client._sock = None
    return sizes[0]


@given(MESSAGES, st.sampled_from([MQTT_5, MQTT_311]))
def test_the_size_of_a_packet_is_known_before_it_is_packed(message: Message, version: int):
    assert publish_bytes(message, version=version) == packed(message, version)


@given(MESSAGES, st.integers(1, 80_000))
def test_a_message_is_refused_exactly_when_its_packet_is_too_large(message: Message, maximum: int):
    limits = BrokerLimits.from_connack({"MaximumPacketSize": maximum})
    size = publish_bytes(message)
    if size <= maximum:
        limits.check(message)
        return
    with pytest.raises(PublishError) as refused:
        limits.check(message)
    assert refused.value.code == "packet-too-large"
    assert f"{size} bytes" in refused.value.message
    assert f"{maximum} bytes that the broker allows" in refused.value.message


def test_a_broker_that_says_nothing_takes_everything():
    limits = BrokerLimits.from_connack({})
    message = Message("a", bytes(1_000_000), qos=2, retain=True)
    limits.check(message)
    assert limits.fitted(message) is message
    assert limits.objection("$share/g/+/#") is None
    assert limits.maximum_packet_size == MAX_PACKET_BYTES


def test_the_smaller_limit_counts_and_says_where_it_is_from():
    limits = BrokerLimits.from_connack({"MaximumPacketSize": 1000})
    assert limits.capped(2000, "elsewhere") is limits
    assert limits.capped(None, "elsewhere") is limits
    with pytest.raises(PublishError, match="500 bytes that elsewhere allows"):
        limits.capped(500, "elsewhere").check(Message("a", bytes(600)))


def test_a_message_is_lowered_to_what_the_broker_takes():
    limits = BrokerLimits.from_connack({"MaximumQoS": 1, "RetainAvailable": 0})
    assert limits.fitted(Message("a", b"", qos=2, retain=True)) == Message("a", b"", qos=1, retain=False)
    assert limits.fitted(Message("a", b"", qos=0)) == Message("a", b"", qos=0)


def test_filters_that_the_broker_does_not_serve_are_objected_to():
    plain = BrokerLimits.from_connack({"WildcardSubscriptionAvailable": 0})
    assert plain.objection("a/+") == "the broker has no wildcard subscriptions"
    assert plain.objection("a/b") is None
    alone = BrokerLimits.from_connack({"SharedSubscriptionAvailable": 0})
    assert alone.objection("$share/g/a") == "the broker has no shared subscriptions"


@pytest.mark.parametrize(("said", "version", "window"), [(5, 5, 5), (65_535, 5, 64), (None, 5, 64), (None, 4, 20)])
def test_the_window_follows_the_broker_and_stays_modest(said: int | None, version: int, window: int):
    properties = {} if said is None else {"ReceiveMaximum": said}
    assert BrokerLimits.from_connack(properties, version=version).window == window


def test_one_drop_proves_nothing_and_two_do():
    suspicion = SizeSuspicion()
    assert not suspicion.dropped(30_000, 0.0)
    assert suspicion.limit(0.0) is None
    assert suspicion.dropped(28_000, 1.0)
    assert suspicion.limit(1.0) == 27_999


def test_a_size_that_the_broker_took_is_never_suspected():
    suspicion = SizeSuspicion()
    suspicion.taken(30_000)
    assert not any(suspicion.dropped(30_000, 0.0) for _ in range(10))
    assert not any(SizeSuspicion().dropped(SizeSuspicion.SUSPICIOUS_BYTES, 0.0) for _ in range(10))


def test_a_larger_success_between_two_drops_clears_the_first():
    suspicion = SizeSuspicion()
    assert not suspicion.dropped(30_000, 0.0)
    suspicion.taken(20_000)
    assert not suspicion.dropped(30_000, 1.0)


def test_a_broker_that_says_it_was_too_large_is_believed_at_once_and_proof_expires():
    suspicion = SizeSuspicion()
    assert suspicion.dropped(30_000, 0.0, said=True)
    assert suspicion.limit(SizeSuspicion.HOLDS_FOR_S - 1) == 29_999
    assert suspicion.limit(SizeSuspicion.HOLDS_FOR_S) is None
