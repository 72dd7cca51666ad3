"""Pictures that come to a stream in pieces: each is one frame in the books, however many messages it came in."""

from __future__ import annotations

import asyncio
import base64
import math

import msgspec

from agent.config.streams import InputOptions, Policy
from agent.frames import pieces
from agent.mqtt.transport import Message
from agent.streams.metrics import CameraMetrics
from tests.streams.test_stream import OPTIONS, done, stream_in
from tests.support import unruly
from tests.support.pictures import as_json
from tests.support.until import until


def in_pieces(data: bytes, identity: object, count: int = 4, **message) -> list[Message]:
    text = base64.b64encode(data).decode()
    size = math.ceil(len(text) / count)
    return [
        Message(
            "cameras/a",
            as_json({"id": identity, "part": at, "total": count, "data": text[at * size : (at + 1) * size], "ts": at}),
            **message,
        )
        for at in range(count)
    ]


def sent(theirs, *messages: Message) -> None:
    for message in messages:
        theirs.publish(message)


async def test_a_picture_in_pieces_is_one_frame_that_is_answered_with_its_last_piece(tmp_path) -> None:
    async with stream_in(tmp_path) as (stream, ours, theirs):
        results: list[dict] = []
        ours.subscribe("verge/box/results/line", lambda m: results.append(msgspec.json.decode(m.payload)))
        *first, last = in_pieces(unruly.jpeg("answer"), 7)
        sent(theirs, *first)
        await until(lambda: stream.metrics.received == 1)
        assert stream.metrics.pending == 1
        sent(theirs, last)
        await until(lambda: results)
        await done(stream, 1)
    assert stream.metrics.cameras == {"a": CameraMetrics(received=1, answered=1)}
    assert results[0]["frame"]["metadata"] == {"id": 7, "total": 4, "ts": 0}
    assert (results[0]["frame"]["width"], results[0]["frame"]["sequence"]) == (16, 4)


async def test_a_set_that_does_not_get_whole_is_one_dropped_frame_and_its_sender_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pieces, "PATIENCE_S", 0.2)
    async with stream_in(tmp_path) as (stream, _, theirs):
        answers: list[Message] = []
        theirs.subscribe("answers", answers.append)
        sent(theirs, *in_pieces(unruly.jpeg("answer"), 1, response_topic="answers")[:3])
        sent(theirs, Message("cameras/a", unruly.jpeg("answer")))
        await until(lambda: answers)
        await done(stream, 2)
    assert stream.metrics.dropped == {"incomplete": 1}
    assert (stream.metrics.received, stream.metrics.answered) == (2, 1)
    assert msgspec.json.decode(answers[0].payload)["error"]["code"] == "incomplete"


async def test_what_is_not_whole_when_the_stream_stops_is_dropped(tmp_path) -> None:
    async with stream_in(tmp_path) as (stream, _, theirs):
        sent(theirs, *in_pieces(unruly.jpeg("answer"), 1)[:3])
        await until(lambda: stream.metrics.received == 1)
    assert stream.metrics.dropped == {"stopping": 1}
    assert stream.metrics.pending == 0


async def test_pieces_that_make_no_picture_are_one_failed_frame(tmp_path) -> None:
    async with stream_in(tmp_path) as (stream, _, theirs):
        sent(theirs, *in_pieces(b"words and no picture" * 40, 1))
        await done(stream, 1)
    assert stream.metrics.failed == {"not-an-image": 1}


async def test_each_piece_is_acknowledged_when_it_is_taken_and_the_last_one_when_the_frame_is_done(tmp_path) -> None:
    options = msgspec.structs.replace(OPTIONS, policy=Policy.ALL)
    async with stream_in(tmp_path, options, backend_options={"slow_s": 0.2}) as (stream, ours, theirs):
        sent(theirs, *in_pieces(unruly.jpeg("slow"), 1, qos=1)[:3])
        await until(lambda: stream.metrics.received == 1)
        await asyncio.sleep(0)
        assert len(ours.unacknowledged) == 0
        sent(theirs, in_pieces(unruly.jpeg("slow"), 1, qos=1)[3])
        await until(lambda: ours.unacknowledged)
        await done(stream, 1)
        assert len(ours.unacknowledged) == 0
    assert stream.metrics.answered == 1


async def test_the_image_key_of_the_input_says_which_value_is_the_picture(tmp_path) -> None:
    options = msgspec.structs.replace(
        OPTIONS, input=InputOptions(topic="cameras/+", transport="bus", image_key="shot.full")
    )
    picture = base64.b64encode(unruly.jpeg("answer")).decode()
    async with stream_in(tmp_path, options) as (stream, _, theirs):
        sent(theirs, Message("cameras/a", as_json({"image": "nothing", "shot": {"full": picture}})))
        sent(theirs, Message("cameras/a", as_json({"image": picture})))
        await done(stream, 2)
    assert stream.metrics.answered == 1
    assert stream.metrics.failed == {"no-image-key": 1}
