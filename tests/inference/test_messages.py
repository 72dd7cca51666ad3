"""The language between core and worker: any chunking gives the same messages, any garbage ends it cleanly."""

from __future__ import annotations

import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.runtime import messages
from agent.inference.runtime.messages import Envelope, MessageDecoder, ProtocolError, encode
from agent.inference.runtime.ring import Ring

contents = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=4)
conversation = st.lists(
    st.tuples(st.sampled_from(sorted(messages.KINDS)), contents, st.binary(max_size=50)), max_size=6
)


@given(conversation, st.data())
def test_any_chunking_gives_the_same_messages(said, data) -> None:
    wire = b"".join(encode(kind, content, body) for kind, content, body in said)
    decoder, heard = MessageDecoder(), []
    while wire:
        length = data.draw(st.integers(1, len(wire)))
        heard += decoder.feed(wire[:length])
        wire = wire[length:]
    assert [(one.kind, one.content, one.body) for one in heard] == said


@given(st.binary(max_size=100))
def test_garbage_is_waited_for_or_refused_and_nothing_else(garbage) -> None:
    try:
        for envelope in MessageDecoder().feed(garbage):
            assert envelope.content is not None
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        (struct.pack("!2sBBII", b"XX", 1, 1, 0, 0), "expected b'VW', got b'XX'"),
        (struct.pack("!2sBBII", b"VW", 9, 1, 0, 0), "expected version 1, got 9"),
        (struct.pack("!2sBBII", b"VW", 1, 99, 0, 0), "no message is of kind 99"),
        (struct.pack("!2sBBII", b"VW", 1, 1, 1 << 31, 0), "over the limit"),
        (struct.pack("!2sBBII", b"VW", 1, 1, 0, 1 << 31), "over the limit"),
    ],
)
def test_a_header_that_is_none_is_refused_before_anything_is_waited_for(wire, complaint) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        list(MessageDecoder().feed(wire))


@pytest.mark.parametrize("text", [b"{", b"[]", b"3"])
def test_what_is_no_json_object_is_refused(text) -> None:
    with pytest.raises(ProtocolError):
        _ = Envelope(messages.INFER, text).content


def test_json_that_is_text_already_travels_as_it_is() -> None:
    (heard,) = MessageDecoder().feed(encode(messages.INFER, json.dumps({"id": 1}).encode()))
    assert heard.content == {"id": 1}


def test_half_a_character_reaches_no_strict_reader() -> None:
    (heard,) = MessageDecoder().feed(encode(messages.ANSWER, messages.strict({"label": "a\ud800", "other": "😀"})))
    assert msgspec.json.decode(heard.text) == {"label": "a?", "other": "😀"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_before_it_is_sent(number) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        messages.strict({"score": number})


def test_what_is_written_to_the_ring_is_read_through_its_descriptor() -> None:
    descriptor = Ring.create(2, 4096)
    core, worker = Ring(descriptor, 2, 4096, writable=True), Ring(descriptor, 2, 4096)
    first, second = core.write([b"one"]), core.write([b"second"])
    assert (bytes(worker.read(first, 3)), bytes(worker.read(second, 6))) == (b"one", b"second")
    core.close()


def test_a_ring_gives_out_only_free_slots_and_takes_only_what_fits() -> None:
    ring = Ring(Ring.create(1, 4), 1, 4, writable=True)
    with pytest.raises(ValueError, match="5 bytes do not fit"):
        ring.write([b"12345"])
    slot = ring.write([b"1234"])
    assert ring.free == 0
    with pytest.raises(IndexError):
        ring.write([b"1"])
    ring.release(slot)
    assert ring.write([b"1"]) == slot
    ring.close()
