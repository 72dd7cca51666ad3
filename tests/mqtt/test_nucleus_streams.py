"""The client's side of a connection to a nucleus: the frames of Amazon's SDK byte for byte, and both of our ends."""

import pytest
from msgspec import json

from agent.eventstream import rpc
from agent.eventstream.frames import Decoder, StreamMessage, encode, int32
from agent.eventstream.rpc import Flag, RpcType
from agent.greengrass.ipc.connection import Connect, ServerConnection, StreamClosed, StreamRequest
from agent.mqtt.greengrass.streams import (
    Accepted,
    Broken,
    Ended,
    Event,
    Failure,
    NucleusEvent,
    NucleusStreams,
    Refused,
    Response,
)
from tests.greengrass.ipc.test_connection import (
    ACCEPTED,
    CLOSE_OF_9,
    CONNECT,
    EVENT_ON_2,
    NOT_FOUND,
    REFUSED,
    REQUEST,
    RESPONSE,
)


def opened() -> NucleusStreams:
    streams = NucleusStreams("TOKEN123")
    streams.take()
    assert list(streams.receive(ACCEPTED)) == [Accepted()]
    return streams


def application(stream: int, payload: bytes = b"", *, model: str = "", ends: bool = False) -> bytes:
    flags = Flag.TERMINATE_STREAM if ends else Flag.NONE
    return rpc.written(RpcType.APPLICATION_MESSAGE, flags, stream, payload, model=model)


def test_the_token_is_sent_as_the_sdk_sends_it():
    (ours,), (theirs,) = Decoder().feed(NucleusStreams("TOKEN123").take()), Decoder().feed(CONNECT)
    assert ours.headers == theirs.headers
    assert json.decode(ours.payload) == json.decode(theirs.payload)


def test_a_request_is_the_frame_that_the_sdk_sends():
    streams = opened()
    assert streams.open("GetConfiguration", b'{"componentName": "c", "keyPath": ["a"]}', has_events=False) == 1
    assert streams.take() == REQUEST


def test_a_response_ends_the_stream_of_an_operation_without_events():
    streams = opened()
    stream = streams.open("GetConfiguration", b"{}", has_events=False)
    assert list(streams.receive(RESPONSE)) == [Response(stream, b'{"componentName":"c","value":{"a":1}}')]
    assert list(streams.receive(RESPONSE)) == []


def test_an_error_has_its_name_and_its_message():
    streams = opened()
    stream = streams.open("GetConfiguration", b"{}", has_events=False)
    assert list(streams.receive(NOT_FOUND)) == [Failure(stream, "ResourceNotFoundError", "Key not found")]


def test_what_java_says_of_an_error_is_read_too():
    streams = opened()
    stream = streams.open("GetConfiguration", b"{}", has_events=False)
    error = rpc.written(
        RpcType.APPLICATION_ERROR, Flag.TERMINATE_STREAM, stream, b'{"_message":"full"}',
        model="aws.greengrass#ServiceError",
    )  # fmt: skip
    assert list(streams.receive(error)) == [Failure(stream, "ServiceError", "full")]


def test_a_token_that_nobody_knows_ends_the_connection():
    streams = NucleusStreams("TOKEN123")
    assert list(streams.receive(REFUSED + ACCEPTED)) == [Refused()]
    assert not streams.ready


def test_the_first_message_of_a_subscription_is_its_response_and_then_come_events():
    streams = opened()
    streams.open("PublishToTopic", b"{}", has_events=False)
    stream = streams.open("SubscribeToTopic", b"{}", has_events=True)
    came = list(streams.receive(application(stream, b"{}", model="aws.greengrass#R") + EVENT_ON_2))
    assert came == [Response(2, b"{}"), Event(2, b'{"binaryMessage":{"message":"aGk=","context":{"topic":"t"}}}')]
    assert list(streams.receive(application(stream, ends=True))) == [Ended(stream)]


def test_a_stream_that_is_closed_is_told_so_and_gives_nothing_more():
    streams = opened()
    for _ in range(9):
        stream = streams.open("SubscribeToTopic", b"{}", has_events=True)
    streams.take()
    streams.close(stream)
    assert streams.take() == CLOSE_OF_9
    streams.close(stream)
    assert streams.take() == b""
    assert list(streams.receive(application(stream, b"{}", model="aws.greengrass#R"))) == []


def test_a_reply_that_leaves_its_stream_open_is_the_last_word_and_the_stream_is_closed_from_here():
    streams = opened()
    stream = streams.open("PublishToTopic", b"{}", has_events=False)
    streams.take()
    assert list(streams.receive(application(stream, b"{}", model="aws.greengrass#R"))) == [Response(stream, b"{}")]
    (closing,) = Decoder().feed(streams.take())
    assert rpc.heading(closing)[:3] == (RpcType.APPLICATION_MESSAGE, Flag.TERMINATE_STREAM, stream)


def test_a_stream_that_ends_without_a_response_has_failed():
    streams = opened()
    stream = streams.open("PublishToTopic", b"{}", has_events=False)
    assert list(streams.receive(application(stream, ends=True))) == [Failure(stream, "")]


def test_a_ping_is_answered_with_what_it_carried():
    streams = opened()
    numbers = {":message-type": int32(RpcType.PING), ":message-flags": int32(0), ":stream-id": int32(0)}
    assert list(streams.receive(encode(StreamMessage(numbers, b"are you there")))) == []
    (answer,) = Decoder().feed(streams.take())
    assert (rpc.heading(answer).kind, answer.payload) == (RpcType.PING_RESPONSE, b"are you there")


@pytest.mark.parametrize(
    ("before", "data", "reason"),
    [
        (b"", application(1, b"{}", model="aws.greengrass#R"), "answers the token with a message of type 0"),
        (ACCEPTED, ACCEPTED, "no message of type 5"),
        (ACCEPTED, CONNECT, "no message of type 4"),
        (ACCEPTED, rpc.written(RpcType.PROTOCOL_ERROR, Flag.NONE, payload=b'{"message":"you did"}'), "you did"),
        (ACCEPTED, rpc.written(RpcType.INTERNAL_ERROR, Flag.NONE), "an error of its own"),
        (ACCEPTED, b"GET / HTTP/1.1\r\n\r\n", "CRC of a prelude"),
        (ACCEPTED, encode(StreamMessage({}, b"")), "no :message-type"),
    ],
)
def test_what_a_nucleus_may_not_send_ends_the_connection(before: bytes, data: bytes, reason: str):
    streams = NucleusStreams("TOKEN123")
    assert [type(event) for event in streams.receive(before)] == ([Accepted] if before else [])
    (event,) = streams.receive(data)
    assert isinstance(event, Broken)
    assert reason in event.reason
    assert list(streams.receive(ACCEPTED)) == []


def test_streams_are_numbers_that_come_to_an_end():
    streams = NucleusStreams("TOKEN123", last_stream=2)
    for _ in range(2):
        assert not streams.used_up
        streams.open("PublishToTopic", b"{}", has_events=False)
    assert streams.used_up


def test_both_ends_agree_byte_by_byte():
    client, server, came = NucleusStreams("TOKEN123"), ServerConnection(), list[NucleusEvent]()
    requests: list[StreamRequest] = []

    def carry() -> None:
        for octet in client.take():
            for event in server.receive(bytes((octet,))):
                match event:
                    case Connect(token):
                        assert token == "TOKEN123"
                        server.accept()
                    case StreamRequest():
                        requests.append(event)
                    case other:
                        assert other == StreamClosed(2)
        for octet in server.take():
            came.extend(client.receive(bytes((octet,))))

    carry()
    client.open("PublishToTopic", b'{"topic":"t"}', has_events=False)
    client.open("SubscribeToTopic", b'{"topic":"t"}', has_events=True)
    carry()
    assert [(one.stream, one.operation, one.payload) for one in requests] == [
        (1, "aws.greengrass#PublishToTopic", b'{"topic":"t"}'),
        (2, "aws.greengrass#SubscribeToTopic", b'{"topic":"t"}'),
    ]
    server.respond(2, "aws.greengrass#SubscribeToTopicResponse", b"{}", more=True)
    server.event(2, "aws.greengrass#SubscriptionResponseMessage", b'{"x":1}')
    server.fail(1, "aws.greengrass#UnauthorizedError", b'{"message":"no"}')
    carry()
    client.close(2)
    carry()
    assert came == [Accepted(), Response(2, b"{}"), Event(2, b'{"x":1}'), Failure(1, "UnauthorizedError", "no")]
    assert server.streams == 0
