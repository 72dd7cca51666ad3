"""The frames that an unmodified SDK emits and takes, byte for byte."""

import json

import pytest

from agent.eventstream.frames import Decoder, StreamMessage, encode, int32, text
from agent.eventstream.rpc import RpcType
from agent.greengrass.ipc.connection import Connect, ServerConnection, StreamClosed, StreamRequest, Violation
from tests.support.ipc import control, shown

CONNECT = bytes.fromhex(
    "0000007100000048d997dfb4083a76657273696f6e070005302e312e300d3a6d6573736167652d7479706504000000040e3a6d6573736167652d"
    "666c61677304000000000a3a73747265616d2d696404000000007b2261757468546f6b656e223a2022544f4b454e313233227d216d94c9"
)
ACCEPTED = bytes.fromhex(
    "0000004700000037374cfe3f0d3a6d6573736167652d7479706504000000050e3a6d6573736167652d666c61677304000000010a3a7374726561"
    "6d2d69640400000000e237e27d"
)
REFUSED = bytes.fromhex(
    "0000004700000037374cfe3f0d3a6d6573736167652d7479706504000000050e3a6d6573736167652d666c61677304000000000a3a7374726561"
    "6d2d696404000000006591293e"
)
REQUEST = bytes.fromhex(
    "000000f8000000c0860206450d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e12736572766963652d6d6f6465"
    "6c2d747970650700266177732e677265656e677261737323476574436f6e66696775726174696f6e526571756573740d3a6d6573736167652d74"
    "79706504000000000e3a6d6573736167652d666c61677304000000000a3a73747265616d2d69640400000001096f7065726174696f6e07001f61"
    "77732e677265656e677261737323476574436f6e66696775726174696f6e7b22636f6d706f6e656e744e616d65223a202263222c20226b657950"
    "617468223a205b2261225d7d6d11cc75"
)
RESPONSE = bytes.fromhex(
    "000000ca0000009546e248d80d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e12736572766963652d6d6f6465"
    "6c2d747970650700276177732e677265656e677261737323476574436f6e66696775726174696f6e526573706f6e73650d3a6d6573736167652d"
    "7479706504000000000e3a6d6573736167652d666c61677304000000020a3a73747265616d2d696404000000017b22636f6d706f6e656e744e61"
    "6d65223a2263222c2276616c7565223a7b2261223a317d7d03dcad81"
)
NOT_FOUND = bytes.fromhex(
    "000000bd000000929374e1a40d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e12736572766963652d6d6f6465"
    "6c2d747970650700246177732e677265656e6772617373235265736f757263654e6f74466f756e644572726f720d3a6d6573736167652d747970"
    "6504000000010e3a6d6573736167652d666c61677304000000020a3a73747265616d2d696404000000017b226d657373616765223a224b657920"
    "6e6f7420666f756e64227d131b9e32"
)
CLOSE_OF_9 = bytes.fromhex(
    "0000004700000037374cfe3f0d3a6d6573736167652d7479706504000000000e3a6d6573736167652d666c61677304000000020a3a7374726561"
    "6d2d6964040000000926d240fd"
)
EVENT_ON_2 = bytes.fromhex(
    "000000e40000009846a2a5000d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e12736572766963652d6d6f6465"
    "6c2d7479706507002a6177732e677265656e677261737323537562736372697074696f6e526573706f6e73654d6573736167650d3a6d65737361"
    "67652d7479706504000000000e3a6d6573736167652d666c61677304000000000a3a73747265616d2d696404000000027b2262696e6172794d65"
    "7373616765223a7b226d657373616765223a2261476b3d222c22636f6e74657874223a7b22746f706963223a2274227d7d7d3bc2ea8d"
)


def opened() -> ServerConnection:
    connection = ServerConnection()
    assert list(connection.receive(CONNECT)) == [Connect("TOKEN123")]
    connection.accept()
    assert connection.take() == ACCEPTED
    return connection


def asked(stream: int, operation: str = "aws.greengrass#ListComponents", **headers: object) -> bytes:
    numbers = {":message-type": int32(0), ":message-flags": int32(0), ":stream-id": int32(stream)}
    return encode(StreamMessage({**numbers, "operation": text(operation), **headers}, b"{}"))


def test_a_request_and_its_response_are_the_frames_of_the_sdk():
    connection = opened()
    assert list(connection.receive(REQUEST)) == [
        StreamRequest(1, "aws.greengrass#GetConfiguration", b'{"componentName": "c", "keyPath": ["a"]}')
    ]
    connection.respond(1, "aws.greengrass#GetConfigurationResponse", b'{"componentName":"c","value":{"a":1}}')
    assert connection.take() == RESPONSE
    assert connection.streams == 0


def test_an_error_is_the_frame_of_the_sdk():
    connection = opened()
    list(connection.receive(REQUEST))
    connection.fail(1, "aws.greengrass#ResourceNotFoundError", b'{"message":"Key not found"}')
    assert connection.take() == NOT_FOUND


def test_events_and_the_end_of_a_stream_are_the_frames_of_the_sdk():
    connection = opened()
    for stream in range(1, 10):
        list(connection.receive(asked(stream)))
    connection.event(
        2, "aws.greengrass#SubscriptionResponseMessage", b'{"binaryMessage":{"message":"aGk=","context":{"topic":"t"}}}'
    )
    assert connection.take() == EVENT_ON_2
    connection.end(9)
    assert connection.take() == CLOSE_OF_9
    assert connection.streams == 8


def test_who_is_unknown_gets_the_refusal_of_the_sdk_and_nothing_more():
    connection = ServerConnection()
    list(connection.receive(CONNECT))
    connection.refuse()
    assert connection.take() == REFUSED
    assert list(connection.receive(REQUEST)) == []


def test_the_end_of_a_stream_that_the_client_closes_is_an_event_once():
    connection = opened()
    for stream in range(1, 10):
        list(connection.receive(asked(stream)))
    assert list(connection.receive(CLOSE_OF_9)) == [StreamClosed(9)]
    assert list(connection.receive(CLOSE_OF_9)) == []
    connection.event(9, "aws.greengrass#SubscriptionResponseMessage", b"{}")
    assert connection.take() == b""


def test_a_ping_is_answered_with_its_payload_and_its_own_headers():
    connection = opened()
    ping = control(RpcType.PING, b"are you there")
    assert list(connection.receive(encode(StreamMessage({**ping.headers, "mine": text("kept")}, ping.payload)))) == []
    (answer,) = Decoder().feed(connection.take())
    assert answer.headers[":message-type"] == int32(RpcType.PING_RESPONSE)
    assert answer.headers["mine"] == text("kept")
    assert answer.payload == b"are you there"


def test_a_first_message_that_ends_its_stream_is_ignored():
    connection = opened()
    assert list(connection.receive(asked(1, **{":message-flags": int32(2)}))) == []
    assert next(connection.receive(asked(2))).stream == 2


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (CONNECT, "open already"),
        (asked(2), "does not follow"),
        (asked(0), "a stream of its own"),
        (asked(-1), "a stream of its own"),
        (encode(control(RpcType.APPLICATION_MESSAGE, stream=1)), "without an operation"),
        (encode(control(RpcType.PING, stream=3)), "belongs to stream 0"),
        (encode(control(RpcType.CONNECT_ACK)), "sends no message of type 5"),
        (encode(StreamMessage({":message-type": int32(0)})), "has no :message-flags"),
        (encode(StreamMessage({":message-type": text("0")})), "has no :message-type"),
        (asked(1) + CLOSE_OF_9.replace(b"\x00\x00\x00\x09", b"\x00\x00\x00\x01"), "CRC"),
    ],
)
def test_a_broken_protocol_ends_the_connection_with_a_word(sent, reason):
    connection = opened()
    *_, last = connection.receive(sent)
    assert isinstance(last, Violation)
    assert reason in last.reason
    assert list(connection.receive(asked(1))) == []
    said = list(Decoder().feed(connection.take()))
    if reason != "CRC":
        assert [message.headers[":message-type"] for message in said] == [int32(RpcType.PROTOCOL_ERROR)]
        assert reason in shown(said[0])[1]["message"]


def test_a_message_on_a_stream_that_is_closed_breaks_the_protocol():
    connection = opened()
    list(connection.receive(asked(1)))
    connection.respond(1, "aws.greengrass#ListComponentsResponse", b"{}")
    (event,) = connection.receive(asked(1))
    assert event == Violation("stream 1 is closed")


@pytest.mark.parametrize(
    "sent",
    [
        control(RpcType.CONNECT, b'{"authToken":"T"}', version="0.2.0"),
        control(RpcType.CONNECT, b'{"authToken":"T"}'),
        control(RpcType.CONNECT, b"{}", version="0.1.0"),
        control(RpcType.CONNECT, b"\xff", version="0.1.0"),
    ],
)
def test_a_handshake_that_says_too_little_is_refused(sent):
    connection = ServerConnection()
    *_, last = connection.receive(encode(sent))
    assert isinstance(last, Violation)
    assert connection.take() == REFUSED


def test_what_comes_before_the_handshake_is_bounded_to_a_handshake():
    connection = ServerConnection()
    long = control(RpcType.CONNECT, json.dumps({"authToken": "T" * 9000}).encode(), version="0.1.0")
    (event,) = connection.receive(encode(long))
    assert isinstance(event, Violation)
    assert connection.buffered <= 16_000
