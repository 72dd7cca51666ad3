from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.services.streams.definition import Definition, OnFull
from agent.greengrass.services.streams.store import Store
from agent.greengrass.services.streams.wire import (
    Frame,
    Receiver,
    StreamOperation,
    StreamsWireError,
    decode,
    encode,
)

PAYLOADS = st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1) | st.binary() | st.text() | st.booleans())


@given(st.lists(PAYLOADS), st.data())
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(payloads, data):
    sent = b"\x01" + b"".join(encode(StreamOperation.APPEND, payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)))))
    receiver = Receiver()
    frames = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)
        for frame in receiver.feed(sent[start:end])
    ]
    assert [decode(frame.payload) for frame in frames] == payloads
    assert {frame.operation for frame in frames} <= {StreamOperation.APPEND}
    assert receiver.version == 1


@given(st.binary())
def test_any_bytes_are_frames_or_an_error_of_the_wire(data):
    with suppress(StreamsWireError):
        for frame in Receiver(1024).feed(data):
            assert isinstance(frame, Frame)
            assert isinstance(decode(frame.payload), dict)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "streams.db")
    yield store
    store.close()


def test_messages_past_their_time_are_neither_read_nor_counted_and_numbers_go_on(store):
    store.create(Definition(name="s", strategy_on_full=OnFull.REJECT, time_to_live_millis=60_000))
    store.append("s", b"old", 0)
    store.append("s", b"new", 50_000)
    assert [one.payload for one in store.read("s", 0, 9, 60_000)[0]] == [b"old", b"new"]
    assert [one.payload for one in store.read("s", 0, 9, 60_001)[0]] == [b"new"]
    assert store.describe("s", 60_001)[1:4] == (1, 1, 3)
    assert store.append("s", b"next", 500_000) == 2
    assert store.describe("s", 500_000)[1:4] == (2, 2, 4)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 1200), max_size=30))
def test_a_stream_never_holds_more_than_its_size_and_its_bytes_are_those_of_its_messages(tmp_path_factory, sizes):
    store = Store(tmp_path_factory.mktemp("streams") / "streams.db")
    try:
        store.create(Definition(name="s", strategy_on_full=OnFull.OVERWRITE, max_size=1200, persistence=1))
        for size in sizes:
            store.append("s", b"x" * size, 0)
        messages, _ = store.read("s", 0, 100, 0)
        assert [one.seq for one in messages] == list(range(len(sizes)))[len(sizes) - len(messages) :]
        assert sum(len(one.payload) for one in messages) == store.describe("s", 0)[3] <= 1200
    finally:
        store.close()
