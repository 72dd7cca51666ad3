from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.errors import FrameError, ModelRefusedError, WorkerLostError
from agent.frames.frame import Frame, Picture
from agent.inference.predictions import Box, Detection, Group, Tensor, decode, read
from agent.inference.runtime.kinds import kind_of
from agent.results.result import Failure, FrameFacts, Reason, utc
from tests.results.made_results import LATER_RESULTS, RAW_RESULTS, RESULTS, prediction, result


def predictions(told):
    """As a worker's answer brings them."""
    return decode([Group(kind_of(one), msgspec.Raw(msgspec.json.encode([one]))) for one in told])


def frame(**picture):
    return Frame(
        stream="line-3",
        camera="line-3",
        topic="cameras/line-3/frame",
        sequence=17,
        picture=Picture(b"", "jpeg", 640, 480, **picture),
        received_at=1767323045.678,
        arrived=1.0,
    )


def test_the_native_json_is_the_result_field_by_field_in_the_order_of_the_specification():
    made = result(prediction(box=Box(0.01, 0.0, 0.94, 1.0)))
    made = replace(
        made,
        model=replace(made.model, deployment="d-1"),
        frame=replace(made.frame, captured_at="2026-01-02T03:04:05.600Z", metadata={"gps": [1, 2]}),
    )
    assert msgspec.json.encode(made).decode() == (
        '{"id":"01M81WYVCZDTGG45NEC23Z3NFM","thing":"T","stream":"line-3","task":"object-detection",'
        '"frame":{"topic":"cameras/line-3/frame","sequence":17,"width":640,"height":480,'
        '"captured_at":"2026-01-02T03:04:05.600Z","received_at":"2026-01-02T03:04:05.678Z",'
        '"camera":"line-3","metadata":{"gps":[1,2]}},'
        '"model":{"component":"ssd","version":"1.0.0","digest":"sha256:00ff","backend":"litert 2.3.0",'
        '"deployment":"d-1"},'
        '"predictions":[{"label":"Cat","label_id":8,"score":0.853,"box":{"x":0.01,"y":0.0,"width":0.94,"height":1.0}}],'
        '"timing_ms":{"queue":0.4,"decode":1.1,"preprocess":0.2,"infer":6.9,"postprocess":0.1,"total":9.3}}'
    )


def test_what_is_not_known_is_left_out():
    told = json.loads(msgspec.json.encode(result(prediction())))
    assert set(told["frame"]) == {"topic", "sequence", "width", "height", "received_at", "camera"}
    assert "deployment" not in told["model"]
    assert "box" not in told["predictions"][0]


def test_no_result_can_be_changed_once_it_is_made():
    made = result(prediction())
    with pytest.raises(AttributeError):
        made.stream = "other"
    with pytest.raises(AttributeError):
        made.predictions[0].score = 1.0


@settings(max_examples=50)
@given(RESULTS | RAW_RESULTS | LATER_RESULTS)
def test_predictions_survive_the_way_through_json(made):
    told = json.loads(msgspec.json.encode(made))
    assert read(told["predictions"]) == made.predictions


def test_a_tensors_task_gives_tensors_in_place_of_classes():
    told = [{"name": "features", "shape": [1, 3], "dtype": "float32", "data": [0.5, -1.0, 2.0]}]
    assert predictions(told) == (Tensor("features", (1, 3), "float32", [0.5, -1.0, 2.0]),)


def test_a_large_tensor_travels_as_text_and_says_so():
    told = [{"name": "features", "shape": [2], "dtype": "uint8", "encoding": "base64", "data": "AQI="}]
    (tensor,) = predictions(told)
    assert tensor == Tensor("features", (2,), "uint8", "AQI=", "base64")
    assert json.loads(msgspec.json.encode([tensor])) == told


@pytest.mark.parametrize(
    "told",
    [
        {"label": "Cat", "score": 0.5},
        {"label": "Cat", "label_id": "eight", "score": 0.5},
        {"label": "Cat", "label_id": 8, "score": math.nan},
        {"label": "Cat", "label_id": 8, "score": math.inf},
        {"label": "Cat", "label_id": 8, "score": 0.5, "box": {"x": 0, "y": 0, "width": math.nan, "height": 1}},
        {"label": "Cat", "label_id": 8, "score": 0.5, "box": {"x": 0, "y": 0, "width": 1e9, "height": 1}},
        {"label": "Cat", "label_id": 8, "score": 0.5, "box": [0, 0, 1, 1]},
        {"name": "features", "dtype": "float32"},
        {"name": "features", "shape": [1], "dtype": "uint8", "data": "AQ==", "encoding": "hex"},
        {"label": "Cat", "label_id": 8, "score": 0.5, "colour": "grey"},
    ],
)
def test_what_a_strangers_task_must_not_give_is_refused_with_a_hint(told):
    with pytest.raises(ModelRefusedError) as caught:
        predictions([told])
    assert caught.value.code == "prediction-wrong"
    assert caught.value.hint


def test_whole_numbers_are_scores_and_boxes_too():
    told = [{"label": "Cat", "label_id": 8, "score": 1, "box": {"x": 0, "y": 0, "width": 1, "height": 1}}]
    assert predictions(told) == (Detection("Cat", 8, 1.0, Box(0.0, 0.0, 1.0, 1.0)),)


def test_the_facts_of_a_frame_are_what_arrived_with_it():
    facts = FrameFacts.of(frame(metadata={"shift": "night"}, captured_at=1767323045.5))
    assert facts == FrameFacts(
        topic="cameras/line-3/frame",
        sequence=17,
        width=640,
        height=480,
        captured_at="2026-01-02T03:04:05.500Z",
        received_at="2026-01-02T03:04:05.678Z",
        camera="line-3",
        metadata={"shift": "night"},
    )


def test_the_decoders_size_counts_more_than_the_headers():
    facts = FrameFacts.of(frame(), width=480, height=640)
    assert (facts.width, facts.height) == (480, 640)


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_is_utc_with_a_z_and_exact_to_the_millisecond(ms):
    text = utc(ms / 1e3)
    assert text.endswith("Z")
    assert len(text) == 24
    assert round(datetime.fromisoformat(text).timestamp() * 1e3) == ms
    assert datetime.fromisoformat(text).tzinfo == UTC


def test_a_failure_carries_code_sentence_and_hint():
    error = FrameError("9 bytes that are no picture", hint="send JPEG or PNG")
    facts = FrameFacts(topic="t", sequence=3, received_at=utc(0), camera="c")
    told = json.loads(msgspec.json.encode(Failure(id="i", stream="s", frame=facts, error=Reason.of(error))))
    assert told == {
        "id": "i",
        "stream": "s",
        "frame": {"topic": "t", "sequence": 3, "received_at": "1970-01-01T00:00:00.000Z", "camera": "c"},
        "error": {"code": "not-an-image", "message": "9 bytes that are no picture", "hint": "send JPEG or PNG"},
    }


def test_a_failure_without_a_hint_leaves_it_out():
    assert msgspec.json.encode(Reason.of(WorkerLostError("the worker died"))) == (
        b'{"code":"worker-lost","message":"the worker died"}'
    )


def test_the_results_package_brings_no_native_code_into_the_core():
    program = """
import pkgutil, sys, agent.results
for module in pkgutil.walk_packages(agent.results.__path__, "agent.results."):
    __import__(module.name)
print(sorted({"numpy", "cv2", "ai_edge_litert", "onnxruntime"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
