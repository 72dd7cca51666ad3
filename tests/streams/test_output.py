"""Where a result and its large parts go, over a bus in memory."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import asynccontextmanager

import numpy as np
import pytest

from agent.config.streams import (
    FileSinkOptions,
    FilterOptions,
    InputOptions,
    OutputOptions,
    SnapshotOptions,
    StreamOptions,
    problems,
)
from agent.config.transports import OutboxOptions
from agent.frames.frame import Frame, Picture
from agent.inference.values import Answer, ModelMetadata
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.transport import Message
from agent.results.attachments import MAX_ATTACHMENTS
from agent.results.formats import Context
from agent.streams.output import StreamOutput
from agent.topics import matches
from tests.support.answers import received
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

FRAME = Frame("line", "door", "cameras/door", 1, Picture(b"", "jpeg", 64, 48), 0.0, 0.0)
MODEL = ModelMetadata(
    backend="litert 2", accelerator="cpu", task="m", digest="sha256:00", inputs=(), outputs=(), labels=0, load_ms=1.0
)
STEPS = {"decode": 1.0, "preprocess": 1.0, "infer": 1.0, "postprocess": 1.0}
DEPTH = {"map": np.full((2, 3), 7, np.uint8), "minimum": 0.5, "maximum": 9.0, "unit": "m"}
VECTOR = {"vector": np.arange(512, dtype=np.float32)}
TOPIC = "verge/box/results/line"


@asynccontextmanager
async def output(folder, *options):
    """A stream's outputs, and all that is published, in its order."""
    bus = MemoryBus()
    async with MemoryTransport(bus, "agent") as ours, MemoryTransport(bus, "reader") as theirs:
        messages: list[Message] = []
        theirs.subscribe("#", messages.append, qos=1)
        stream = StreamOptions(model="m", input=InputOptions(topic="cameras/+", transport="bus"), outputs=options)
        yield StreamOutput("line", "box", stream, {"bus": ours}, folder, Context(), lambda: "01M8"), messages


def put(made, *predictions, response_topic=None):
    answer = Answer(predictions=received(predictions), timing_ms=STEPS, width=64, height=48)
    frame = Frame("line", "door", "cameras/door", 1, FRAME.picture, 0.0, 0.0, response_topic)
    made.put(frame, MODEL, answer, 5.0, 0.0)


async def test_what_is_large_is_published_before_the_result_that_speaks_of_it(tmp_path) -> None:
    async with output(tmp_path, OutputOptions(retain=True, expiry_s=60)) as (made, messages):
        put(made, DEPTH, VECTOR)
        await until(lambda: len(messages) >= 3)
    assert [message.topic for message in messages] == [
        f"{TOPIC}/attachments/01M8/0",
        f"{TOPIC}/attachments/01M8/1",
        TOPIC,
    ]
    depth, vector, result = messages
    assert all(matches(OutboxOptions().topics[0], message.topic) for message in messages)
    assert (depth.content_type, vector.content_type) == ("image/png", "application/octet-stream")
    assert (depth.qos, depth.expiry_s, depth.user_properties) == (1, 60, (("id", "01M8"),))
    assert np.frombuffer(vector.payload, "<f4").tolist() == list(range(512))
    told = json.loads(result.payload)["predictions"]
    assert told == [
        {"kind": "map", "map": {"encoding": "png", "width": 3, "height": 2, "attachment": 0}, "minimum": 0.5,
         "maximum": 9.0, "unit": "m"},
        {"kind": "embedding", "dtype": "float32", "size": 512, "attachment": 1},
    ]  # fmt: skip


async def test_attachments_are_never_retained(tmp_path) -> None:
    async with output(tmp_path, OutputOptions(retain=True)) as (made, messages):
        put(made, DEPTH)
        await until(lambda: len(messages) >= 2)
        assert list(made._replies._bus.retained) == [TOPIC]


@pytest.mark.parametrize(("large", "has_data"), [("base64", True), ("none", False)])
async def test_what_is_large_stays_in_the_result_or_goes_nowhere_as_the_output_asks(tmp_path, large, has_data) -> None:
    async with output(tmp_path, OutputOptions(large=large)) as (made, messages):
        put(made, DEPTH, VECTOR)
        await until(lambda: len(messages) >= 1)
    (message,) = messages
    depth, vector = json.loads(message.payload)["predictions"]
    assert ("data" in depth["map"], "data" in vector) == (has_data, has_data)
    assert made.lost.total() == 0


async def test_a_file_keeps_what_is_large_and_masks_in_the_form_that_it_asks_for(tmp_path) -> None:
    mask = {"label": "sky", "label_id": 1, "mask": np.ones((2, 3), bool)}
    options = [
        OutputOptions(file=FileSinkOptions(path="all.jsonl"), masks="png"),
        OutputOptions(file=FileSinkOptions(path="none.jsonl"), masks="none", large="none"),
    ]
    async with output(tmp_path, *options) as (made, messages):
        put(made, mask, VECTOR)
        made.close()
    sky, vector = json.loads((tmp_path / "all.jsonl").read_text())["predictions"]
    assert base64.b64decode(sky["mask"]["data"]).startswith(b"\x89PNG")
    assert len(base64.b64decode(vector["data"])) == 2048
    sky, vector = json.loads((tmp_path / "none.jsonl").read_text())["predictions"]
    assert sky == {"kind": "segmentation", "label": "sky", "label_id": 1, "area": 1.0}
    assert vector == {"kind": "embedding", "dtype": "float32", "size": 512}
    assert messages == []


async def test_who_asked_for_an_answer_gets_it_whole(tmp_path) -> None:
    async with output(tmp_path, OutputOptions(large="none")) as (made, messages):
        put(made, DEPTH, VECTOR, response_topic="verge/box/answers/me")
        await until(lambda: len(messages) >= 2)
    (answer,) = [message for message in messages if message.topic.endswith("me")]
    depth, vector = json.loads(answer.payload)["predictions"]
    assert base64.b64decode(depth["map"]["data"]).startswith(b"\x89PNG")
    assert len(base64.b64decode(vector["data"])) == 2048


async def test_an_attachment_that_the_broker_refuses_is_counted_and_the_result_goes_out(tmp_path) -> None:
    async with output(tmp_path, OutputOptions()) as (made, messages):
        made._replies.limits = BrokerLimits(maximum_packet_size=1500)
        put(made, VECTOR, DEPTH)
        await until(lambda: len(messages) >= 2)
    assert [message.topic for message in messages] == [f"{TOPIC}/attachments/01M8/0", TOPIC]
    vector, depth = json.loads(messages[1].payload)["predictions"]
    assert ("attachment" in vector, depth["map"]["attachment"]) == (False, 0)
    assert made.lost == {"packet-too-large": 1}


async def test_more_attachments_than_a_result_may_have_are_counted(tmp_path) -> None:
    async with output(tmp_path, OutputOptions()) as (made, messages):
        put(made, *[DEPTH] * (MAX_ATTACHMENTS + 2))
        await until(lambda: len(messages) >= MAX_ATTACHMENTS + 1)
    assert made.lost == {"attachments-too-many": 2}


async def test_what_a_format_cannot_say_is_left_out_counted_and_told_once(tmp_path, caplog) -> None:
    cat = {"label": "Cat", "label_id": 8, "score": 0.9}
    async with output(tmp_path, OutputOptions(format="aws")) as (made, messages):
        with caplog.at_level(logging.WARNING, "agent.streams"):
            put(made, cat, DEPTH, VECTOR)
            put(made, cat, DEPTH)
        await until(lambda: len(messages) >= 2)
    assert [len(json.loads(message.payload)["inference-results"]) for message in messages] == [1, 1]
    assert made.lost == {"format-unsuited": 3}
    (record,) = caplog.records
    assert "has no form for embedding [512], map 0.5 to 9 m" in record.getMessage()


def test_what_is_large_cannot_go_to_a_topic_where_the_output_has_none() -> None:
    for options in (
        OutputOptions(file=FileSinkOptions(path="f"), large="topic"),
        OutputOptions(log=True, large="topic"),
    ):
        stream = StreamOptions(model="m", input=InputOptions(topic="cameras/+"), outputs=(OutputOptions(), options))
        (problem,) = problems(stream)
        assert (problem.code, problem.path) == ("output-wrong", "outputs[1].large")


async def test_of_snapshots_only_those_that_pass_their_filter_are_kept_and_counted_as_a_turn(tmp_path) -> None:
    kept = SnapshotOptions(folder="shots", filter=FilterOptions(labels=("anomaly",), keep_empty=False))
    stream = StreamOptions(model="m", input=InputOptions(topic="c", transport="bus"), outputs=(), snapshots=kept)
    ids = iter(f"01M81XWD9R8S6TMRJTD3E3RY6{n}" for n in range(3))
    async with MemoryTransport(MemoryBus(), "agent") as ours:
        made = StreamOutput("line", "box", stream, {"bus": ours}, tmp_path, Context(), lambda: next(ids))
        turns = []
        for now, anomalous in enumerate((False, True, True)):
            turns.append(made.snapshot_wanted(FRAME, now / 10) is not None)
            verdict = received([{"anomalous": anomalous, "score": float(anomalous)}])
            answer = Answer(predictions=verdict, timing_ms=STEPS, width=64, height=48, snapshot=b"jpeg" * turns[-1])
            made.put(FRAME, MODEL, answer, 5.0, now / 10)
    assert turns == [True, True, False]
    assert [path.name[25] for path in (tmp_path / "shots").iterdir()] == ["1"]
