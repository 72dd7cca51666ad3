"""What a nucleus is asked to publish, what its events come to, and where each topic belongs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from agent.config.transports import NucleusOptions
from agent.errors import PublishError
from agent.eventstream.frames import MAX_MESSAGE_BYTES
from agent.greengrass.trust.policy import Accept, Link, decide
from agent.mqtt.greengrass.operations import UnreadableEventError, publishing, received, subscribing
from agent.mqtt.greengrass.places import NucleusLimits, Pauses, Place, Places
from agent.mqtt.transport import Message
from agent.topics import matches
from tests.mqtt.test_filters import FILTERS, TOPICS


def test_a_local_message_is_bytes_and_a_topic():
    operation, payload = publishing(Message("a/b", b"hi", 1, retain=True, content_type="text/plain"), Place.LOCAL)
    assert operation == "PublishToTopic"
    assert json.decode(payload) == {"topic": "a/b", "publishMessage": {"binaryMessage": {"message": "aGk="}}}


def test_a_message_to_iot_core_keeps_what_it_has():
    message = Message(
        "a/b", b"hi", 1, retain=True, content_type="text/plain", response_topic="c", correlation_data=b"\xff",
        user_properties=(("k", "v"), ("k", "w")), expiry_s=60, is_text=True,
    )  # fmt: skip
    operation, payload = publishing(message, Place.IOT_CORE)
    assert operation == "PublishToIoTCore"
    assert json.decode(payload) == {
        "topicName": "a/b",
        "qos": "1",
        "payload": "aGk=",
        "retain": True,
        "contentType": "text/plain",
        "responseTopic": "c",
        "correlationData": "/w==",
        "messageExpiryIntervalSeconds": 60,
        "payloadFormat": "1",
        "userProperties": [{"key": "k", "value": "v"}, {"key": "k", "value": "w"}],
    }


def test_a_plain_message_says_nothing_of_what_it_has_not():
    assert json.decode(publishing(Message("a", b""), Place.IOT_CORE).payload) == {
        "topicName": "a", "qos": "0", "payload": "",
    }  # fmt: skip


def test_own_messages_are_wanted_too():
    assert json.decode(subscribing("a/+", 2, Place.LOCAL).payload)["receiveMode"] == "RECEIVE_ALL_MESSAGES"
    assert json.decode(subscribing("a/+", 2, Place.IOT_CORE).payload) == {"topicName": "a/+", "qos": "1"}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'{"binaryMessage":{"message":"aGk=","context":{"topic":"a/b"}}}', Message("a/b", b"hi")),
        (b'{"binaryMessage":{"message":"aGk\\u003d"},"jsonMessage":null}', Message("filter", b"hi")),
        (
            b'{"jsonMessage":{"message":{"n":1.0, "big":12345678901234567890},"context":{"topic":"a"}}}',
            Message("a", b'{"n":1.0, "big":12345678901234567890}', content_type="application/json"),
        ),
    ],
)
def test_a_local_event_is_its_payload_as_it_was_on_the_socket(event: bytes, message: Message):
    assert received(event, Place.LOCAL, "filter") == message


@given(
    st.builds(
        Message,
        TOPICS,
        st.binary(),
        retain=st.booleans(),
        content_type=st.none() | st.text(min_size=1),
        response_topic=st.none() | TOPICS,
        correlation_data=st.none() | st.binary(),
        user_properties=st.lists(st.tuples(st.text(), st.text())).map(tuple),
        expiry_s=st.none() | st.integers(0, 2**32 - 1),
        is_text=st.booleans(),
    )
)
def test_a_message_through_iot_core_comes_back_as_it_was(message: Message):
    sent = json.decode(publishing(message, Place.IOT_CORE).payload)
    assert received(json.encode({"message": sent}), Place.IOT_CORE, "#") == message


def test_members_that_a_nucleus_leaves_empty_are_none():
    event = b'{"message":{"topicName":"a","userProperties":null,"correlationData":null,"qos":"1"}}'
    assert received(event, Place.IOT_CORE, "#") == Message("a", b"")


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize(
    "event",
    [
        b"", b"{}", b"[]", b'{"message":{}}', b'{"message":{"topicName":""}}', b'{"binaryMessage":{"message":"%"}}',
        b'{"binaryMessage":{"message":"aGk="}}', b'{"message":{"topicName":"a/+"}}', b'{"message":{"topicName":7}}',
    ],
)  # fmt: skip
def test_an_event_without_a_message_or_a_topic_cannot_be_read(event: bytes, place: Place):
    with pytest.raises(UnreadableEventError, match="a/#"):
        received(event, place, "a/#")


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "places"),
    [
        ("cameras/+/frame", (Place.LOCAL,)),
        ("cameras", (Place.LOCAL,)),
        ("verge/edge/status", (Place.IOT_CORE,)),
        ("+/a/frame", (Place.LOCAL, Place.IOT_CORE)),
        ("#", (Place.LOCAL, Place.IOT_CORE)),
        ("$aws/things/edge/jobs/#", (Place.IOT_CORE,)),
    ],
)
def test_a_filter_is_asked_for_where_its_topics_belong(topic_filter: str, places: tuple[Place, ...]):
    assert tuple(Places(("cameras/#",)).of_filter(topic_filter)) == places


@given(st.lists(FILTERS.filter(bool), max_size=3), FILTERS.filter(bool), TOPICS)
def test_every_topic_of_a_filter_is_asked_for_where_it_belongs(local: list[str], topic_filter: str, topic: str):
    places = Places(tuple(local))
    if matches(topic_filter, topic):
        assert places.of_topic(topic) in places.of_filter(topic_filter)


LIMITS = NucleusLimits.of(("cameras/#",), 1000)


def test_a_frame_may_be_as_large_as_a_message_on_the_socket_and_what_goes_to_iot_core_as_it_takes():
    LIMITS.check(Message("cameras/a", bytes(1001)))
    with pytest.raises(PublishError, match="1000 bytes that IoT Core takes"):
        LIMITS.check(Message("results", bytes(1001)))
    with pytest.raises(PublishError, match="the nucleus allows"):
        LIMITS.check(Message("cameras/a", bytes(MAX_MESSAGE_BYTES // 4 * 3)))


def test_the_largest_local_message_fits_on_the_socket():
    topic = "cameras/" + "é" * 1000
    largest = Message(topic, bytes(LIMITS.maximum_packet_size - 5 - len(topic.encode()) - 4))
    LIMITS.check(largest)
    assert len(publishing(largest, Place.LOCAL).payload) < MAX_MESSAGE_BYTES - 1024


@pytest.mark.parametrize(
    ("topic_filter", "objection"),
    [
        ("cameras/+/frame", None),
        ("cameras/1/2/3/4/5/6/7/8/9", None),
        ("results/1/2/3/4/5/6/7/8/9", "slashes"),
        ("$share/group/results", "cannot share"),
    ],
)
def test_what_a_nucleus_does_not_take_is_not_asked_for(topic_filter: str, objection: str | None):
    said = LIMITS.objection(topic_filter)
    assert said is None if objection is None else objection in (said or "")


def test_after_a_refusal_nothing_is_sent_for_a_moment():
    pauses = Pauses()
    assert pauses.wait_s(10**9, 100.0) <= 0
    pauses.pause(100.0)
    assert pauses.wait_s(1, 100.25) == 0.75
    pauses.resume()
    assert pauses.wait_s(1, 100.25) <= 0


@pytest.mark.parametrize("accept", ["trusted-links", "anyone-on-this-broker"])
def test_a_document_that_comes_through_a_nucleus_has_to_be_signed_for_any_component_may_have_sent_it(accept: Accept):
    link = Link.of(NucleusOptions())
    assert not decide(link, None, accept).accepted
    assert decide(link, "a key", accept).accepted
    assert not link.turns_on_strangers
