import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.eventstream.frames import Decoder, EventStreamError, Header, HeaderType, StreamMessage, encode

NUMBERS = {
    HeaderType.INT8: 8,
    HeaderType.INT16: 16,
    HeaderType.INT32: 32,
    HeaderType.INT64: 64,
    HeaderType.TIMESTAMP: 64,
}
VALUES = st.one_of(
    *(
        st.integers(-(1 << bits - 1), (1 << bits - 1) - 1).map(lambda value, kind=kind: Header(kind, value))
        for kind, bits in NUMBERS.items()
    ),
    st.booleans().map(lambda value: Header(HeaderType.TRUE if value else HeaderType.FALSE, value)),
    st.binary(max_size=300).map(lambda value: Header(HeaderType.BYTES, value)),
    st.text(max_size=100).map(lambda value: Header(HeaderType.STRING, value)),
    st.uuids().map(lambda value: Header(HeaderType.UUID, uuid.UUID(bytes=value.bytes))),
)
MESSAGES = st.builds(
    StreamMessage, st.dictionaries(st.text(min_size=1, max_size=40), VALUES, max_size=8), st.binary(max_size=2000)
)


@given(st.lists(MESSAGES, max_size=5), st.data())
def test_what_is_encoded_is_decoded_however_it_is_cut(messages, data):
    stream, decoder, decoded = b"".join(map(encode, messages)), Decoder(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        decoded += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert decoded == messages
    assert decoder.buffered == 0


@given(MESSAGES, st.data())
def test_a_bit_that_falls_over_is_noticed(message, data):
    sound = bytearray(encode(message))
    at = data.draw(st.integers(0, len(sound) - 1))
    sound[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(EventStreamError):
        list(Decoder().feed(bytes(sound)))


@given(st.binary(max_size=4000))
def test_no_bytes_are_more_than_messages_or_an_error(data):
    decoder = Decoder()
    try:
        messages = list(decoder.feed(data))
    except EventStreamError:
        return
    assert b"".join(map(encode, messages)) == data[: len(data) - decoder.buffered]


def test_a_message_past_the_limit_is_refused_by_its_prelude_before_anything_of_it_is_kept():
    decoder = Decoder(max_bytes=1000)
    with pytest.raises(EventStreamError, match="1016 bytes"):
        list(decoder.feed(encode(StreamMessage({}, bytes(1000)))[:12]))


@pytest.mark.parametrize("name", ["", "n" * 256])
def test_a_name_that_has_no_room_is_refused(name):
    with pytest.raises(EventStreamError):
        encode(StreamMessage({name: Header(HeaderType.TRUE, True)}))
