from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agent.errors import ConfigError
from agent.results.formats import FORMATS, Context, load
from agent.results.result import Failure, FrameFacts, Reason
from agent.results.schemas import SCHEMAS, schema
from tests.results.made_results import FRAMES, LATER_RESULTS, RAW_RESULTS, RESULTS, TEXT, TIMES, prediction, result

VALIDATORS = {name: Draft202012Validator(json.loads(schema(name))) for name in SCHEMAS}
CONTEXTS = st.builds(
    Context,
    top_k=st.integers(1, 1000),
    threshold=st.floats(0, 1),
    now=st.datetimes().map(lambda moment: lambda: moment),
)
STREAM = {
    "source": {"kind": "topic", "name": "cameras/+/frame", "state": "running"},
    "stream": "line-3",
    "state": "running",
    "model": {"component": "ssd", "version": "1.0.0", "digest": "sha256:00", "backend": "litert 2.3.0"},
    "received": 10,
    "answered": 6,
    "dropped": {"slower-than-source": 2},
    "failed": {"not-an-image": 1},
    "pending": 1,
    "damaged": 1,
    "fps": 9.5,
    "latency_ms": {"p50": 7.1, "p95": 9.0, "p99": 12.4},
    "cameras": {"line-3": {"received": 10, "answered": 6, "dropped": 2, "failed": 1}},
    "since": "2026-01-02T03:04:05.678Z",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema(name):
    Draft202012Validator.check_schema(json.loads(schema(name)))
    assert json.loads(schema(name))["$id"] == f"urn:verge:schema:{name}"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_names_a_schema_that_ships(name):
    assert load(name).schema in SCHEMAS


@settings(max_examples=30)
@given(RESULTS | RAW_RESULTS | LATER_RESULTS, CONTEXTS)
def test_any_result_keeps_to_the_native_schema(made, context):
    VALIDATORS["native"].validate(json.loads(load("native").encode(made, context)))


@settings(max_examples=30)
@given(RESULTS, CONTEXTS, st.sampled_from(["aws", "aws-dlr"]))
def test_any_result_keeps_to_the_aws_schema(made, context, name):
    VALIDATORS["aws"].validate(json.loads(load(name).encode(made, context)))


FAILED = FRAMES.map(lambda frame: msgspec.structs.replace(frame, damaged=False))
UNSIZED = st.builds(FrameFacts, topic=TEXT, sequence=st.integers(0), received_at=TIMES, camera=TEXT)
REASONS = st.builds(Reason, st.sampled_from(["not-an-image", "worker-lost"]), TEXT, st.none() | TEXT)


@settings(max_examples=30)
@given(st.builds(Failure, id=st.just(result().id), stream=TEXT, frame=FAILED | UNSIZED, error=REASONS))
def test_any_failure_keeps_to_its_schema(failure):
    VALIDATORS["failure"].validate(json.loads(msgspec.json.encode(failure)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.pop("id"),
        lambda told: told.update(id="17"),
        lambda told: told.update(extra=1),
        lambda told: told["frame"].update(received_at="2026-01-02 03:04:05"),
        lambda told: told["frame"].pop("width"),
        lambda told: told["model"].pop("digest"),
        lambda told: told["predictions"][0].update(score="0.853"),
        lambda told: told["predictions"][0].pop("label"),
        lambda told: told["predictions"].append({"name": "t", "shape": [1], "dtype": "uint8", "data": [1]}),
        lambda told: told["timing_ms"].pop("infer"),
    ],
)
def test_the_native_schema_refuses_what_is_not_native(spoil):
    told = json.loads(msgspec.json.encode(result(prediction())))
    assert VALIDATORS["native"].is_valid(told)
    spoil(told)
    assert not VALIDATORS["native"].is_valid(told)


def test_the_aws_schema_refuses_numbers_and_a_description_without_its_blank():
    told = json.loads(load("aws").encode(result(prediction()), Context()))
    assert VALIDATORS["aws"].is_valid(told)
    assert not VALIDATORS["aws"].is_valid(told | {"inference-description": told["inference-description"].strip()})
    assert not VALIDATORS["aws"].is_valid(told | {"inference-results": [{"Label": "Cat", "Score": 0.5}]})


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"model": None, "latency_ms": None, "state": "backoff", "reason": "the model file is missing"}, True),
        ({"held_back": {"filtered:unchanged": 3}, "restarts": 1}, True),
        ({"received": -1}, False),
        ({"dropped": 2}, False),
        ({"since": 1767323045}, False),
    ],
)
def test_a_streams_status_is_its_counters_by_reason(changes, valid):
    assert VALIDATORS["stream-status"].is_valid(STREAM | changes) is valid


def test_a_components_state_is_one_of_greengrasss():
    told = {"component": "ssd", "state": "RUNNING", "version": "1.0.0", "since": STREAM["since"]}
    assert VALIDATORS["component-status"].is_valid(told)
    assert not VALIDATORS["component-status"].is_valid(told | {"state": "running"})


def test_the_agent_is_online_or_offline_and_its_will_knows_no_time():
    will = {"state": "offline", "thing": "T", "version": "0.1.0"}
    assert VALIDATORS["agent-status"].is_valid(will)
    assert VALIDATORS["agent-status"].is_valid(will | {"state": "online", "since": STREAM["since"], "pid": 7})
    assert not VALIDATORS["agent-status"].is_valid(will | {"state": "gone"})


def test_an_unknown_schema_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        schema("../native")
    assert "native" in caught.value.hint
