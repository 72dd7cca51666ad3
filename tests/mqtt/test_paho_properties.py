import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.errors import PublishError
from agent.mqtt.paho import publish_properties
from agent.mqtt.transport import Message

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"], exclude_characters="+#"), max_size=200)
MESSAGES = st.builds(
    Message,
    st.just("t"),
    st.just(b""),
    content_type=st.none() | TEXT,
    response_topic=st.none() | TEXT,
    correlation_data=st.none() | st.binary(max_size=200),
    user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple),
    expiry_s=st.none() | st.integers(0, 2**32 - 1),
)


@settings(max_examples=200)
@given(MESSAGES)
def test_what_is_packed_is_read_back_by_the_field_s_client(message: Message):
    properties = publish_properties(message)
    packed = properties.pack() if properties else b"\0"
    read = Properties(PacketTypes.PUBLISH)
    _, length = read.unpack(packed)
    assert length == len(packed)
    assert vars(read).get("ContentType") == message.content_type
    assert vars(read).get("ResponseTopic") == message.response_topic
    assert vars(read).get("CorrelationData") == message.correlation_data
    assert tuple(vars(read).get("UserProperty", ())) == message.user_properties
    assert vars(read).get("MessageExpiryInterval") == message.expiry_s


def test_a_message_without_properties_has_none():
    assert publish_properties(Message("t", b"")) is None


@pytest.mark.parametrize(
    "message",
    [
        Message("t", b"", content_type="x" * 65_536),
        Message("t", b"", correlation_data=bytes(65_536)),
        Message("t", b"", user_properties=(("k", "é" * 40_000),)),
        Message("t", b"", content_type="a\0b"),
        Message("t", b"", response_topic="a\tb"),
        Message("t", b"", user_properties=(("k\x7f", "v"),)),
        Message("t", b"", user_properties=(("k", "\ufffe"),)),
        Message("t", b"", user_properties=(("k", "\udc80"),)),
        Message("t", b"", expiry_s=-1),
        Message("t", b"", expiry_s=2**32),
    ],
)
def test_what_mqtt_cannot_carry_is_refused(message: Message):
    with pytest.raises(PublishError) as refused:
        publish_properties(message)
    assert refused.value.code == "bad-property"
