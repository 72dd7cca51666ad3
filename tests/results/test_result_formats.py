from __future__ import annotations

import json
from datetime import datetime
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from agent.errors import ConfigError
from agent.inference.predictions import (
    Anomaly,
    Box,
    Detection,
    Embedding,
    Image,
    Keypoint,
    Keypoints,
    Labelled,
    Map,
    Parts,
    Segmentation,
    Tensor,
    Text,
)
from agent.results import formats
from agent.results.formats import FORMATS, Context, Format, load, names
from agent.results.schemas import schema
from tests.results.made_results import RAW_RESULTS, RESULTS, prediction, result

VALIDATOR = Draft202012Validator(json.loads(schema("aws")))
NOON = datetime.fromisoformat("2021-06-03T04:34:48.645510")
CONTEXT = Context(now=lambda: NOON)


def test_a_classification_reads_to_the_letter_as_the_greengrass_samples_write_it():
    made = result(prediction("Rhodesian ridgeback", 150 / 255), task="image-classification")
    assert load("aws").encode(made, CONTEXT).decode() == (
        '{"timestamp": "2021-06-03 04:34:48.645510", "inference-type": "image-classification", '
        '"inference-description": "Top 5 predictions with score 0.3 or above ", '
        '"inference-results": [{"Label": "Rhodesian ridgeback", "Score": "0.5882352941176471"}]}'
    )


ROWS = [
    # format, the box as a row of float32: for TFLite fractions from the top, for DLR pixels of 512 from the left
    ("aws", [0.25, 0.1, 0.75, 0.5]),
    ("aws-dlr", [51.2, 128.0, 256.0, 384.0]),
]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_detection_carries_its_box_as_the_text_of_a_numpy_row(name, row):
    made = result(prediction("Cat", 0.71, box=Box(0.1, 0.25, 0.4, 0.5)))
    told = json.loads(load(name).encode(made, CONTEXT))
    assert told["inference-type"] == "object-detection"
    assert told["inference-results"] == [
        {"Label": "Cat", "Score": "0.71", "Boundaries": str(np.array(row, np.float32))}
    ]


def test_a_box_of_dlr_is_read_back_as_its_sample_draws_it():
    made = result(prediction("Cat", 0.71, box=Box(0.1, 0.25, 0.4, 0.5)))
    (told,) = json.loads(load("aws-dlr").encode(made, CONTEXT))["inference-results"]
    corners = [float(part) for part in told["Boundaries"][1:-1].split()]
    scale = [640 / 512, 480 / 512] * 2
    assert [corner * by for corner, by in zip(corners, scale, strict=True)] == pytest.approx([64, 120, 320, 360])


def test_a_classification_reads_the_same_in_both_aws_formats():
    made = result(prediction("tabby", 0.5882352941176471), task="image-classification")
    assert load("aws").encode(made, CONTEXT) == load("aws-dlr").encode(made, CONTEXT)


AWS = ["aws", "aws-dlr"]
FIELDS = ["timestamp", "inference-type", "inference-description", "inference-results"]


@pytest.mark.parametrize("name", AWS)
@pytest.mark.parametrize("task", ["image-classification", "object-detection"])
def test_an_aws_payload_has_these_fields_in_this_order(name, task):
    box = Box(0.1, 0.25, 0.4, 0.5) if task == "object-detection" else None
    best = [prediction("Cat", 0.9 - 0.1 * step, box=box) for step in range(7)]
    told = json.loads(load(name).encode(result(*best, task=task), CONTEXT))
    assert list(told) == FIELDS
    assert told["timestamp"] == "2021-06-03 04:34:48.645510"
    assert told["inference-type"] == task
    assert told["inference-description"] == "Top 5 predictions with score 0.3 or above "
    assert len(told["inference-results"]) == 5
    for entry in told["inference-results"]:
        assert list(entry) == ["Label", "Score", *(["Boundaries"] if box else [])]


@pytest.mark.parametrize("name", AWS)
def test_a_score_of_just_the_threshold_is_told_and_one_below_is_not(name):
    made = result(prediction("on", 0.3), prediction("under", 0.29999))
    told = json.loads(load(name).encode(made, CONTEXT))
    assert [entry["Label"] for entry in told["inference-results"]] == ["on"]


OPTIONS = [
    # the task's options, top_k, threshold
    ({}, 5, 0.3),
    ({"top_k": 3, "threshold": 0.5}, 3, 0.5),
    ({"top_k": 200, "max_detections": 10}, 10, 0.3),
]


@pytest.mark.parametrize(("options", "top_k", "threshold"), OPTIONS)
def test_the_limits_in_force_are_those_of_the_task(options, top_k, threshold):
    context = Context.of(options)
    assert (context.top_k, context.threshold) == (top_k, threshold)


def test_the_description_tells_the_limits_in_force():
    told = json.loads(load("aws").encode(result(), Context(top_k=3, threshold=0.15, now=lambda: NOON)))
    assert told["inference-description"] == "Top 3 predictions with score 0.15 or above "
    assert told["inference-results"] == []


def test_a_full_second_has_no_fraction_as_in_python():
    told = json.loads(load("aws").encode(result(), Context(now=lambda: NOON.replace(microsecond=0))))
    assert told["timestamp"] == "2021-06-03 04:34:48"


def test_the_local_time_is_this_places_and_has_no_zone():
    before = datetime.now()  # noqa: DTZ005 what the samples call
    told = datetime.fromisoformat(json.loads(load("aws").encode(result(), Context()))["timestamp"])
    assert told.tzinfo is None
    assert 0 <= (told - before).total_seconds() < 5


@settings(max_examples=50)
@given(RESULTS, st.sampled_from(AWS))
def test_every_leaf_of_the_aws_formats_is_text(made, name):
    told = json.loads(load(name).encode(made, CONTEXT))
    leaves = [told["timestamp"], told["inference-type"], told["inference-description"]]
    leaves += [leaf for entry in told["inference-results"] for leaf in entry.values()]
    assert all(isinstance(leaf, str) for leaf in leaves)


@given(RESULTS, st.integers(1, 6), st.floats(0, 1), st.sampled_from(AWS))
@settings(max_examples=50)
def test_the_description_of_the_aws_formats_is_true(made, top_k, threshold, name):
    told = json.loads(load(name).encode(made, Context(top_k, threshold, lambda: NOON)))
    scores = [float(entry["Score"]) for entry in told["inference-results"]]
    assert scores == [one.score for one in made.predictions if one.score >= threshold][:top_k]


@pytest.mark.parametrize("name", AWS)
def test_raw_tensors_are_refused_by_the_aws_formats_with_the_way_out(name):
    raw = result(Tensor("features", (1,), "float32", [0.1]), task="tensors")
    with pytest.raises(ConfigError, match="native") as caught:
        load(name).encode(raw, CONTEXT)
    assert caught.value.code == "format-unsuited"


BOX = Box(0.1, 0.25, 0.4, 0.5)
ROW = "[0.25 0.1  0.75 0.5 ]"
FORMS = [
    (Segmentation(label="sky", label_id=1, score=0.5, area=0.25), {"Label": "sky", "Score": "0.5"}),
    (Keypoints((Keypoint(0, 0),), "hand", 0, 0.5), {"Label": "hand", "Score": "0.5"}),
    (Anomaly(True, 0.75, 0.5), {"Label": "anomaly", "Score": "0.75"}),
    (Text("EXIT", 0.5), {"Label": "EXIT", "Score": "0.5"}),
    (Text("EXIT", 0.5, BOX), {"Label": "EXIT", "Score": "0.5", "Boundaries": ROW}),
    (Embedding("float32", 0, b"", "Ada", 0.75), {"Label": "Ada", "Score": "0.75"}),
    (
        Detection("face", 0, 0.5, BOX, keypoints=(Keypoint(0, 0),), parts=Parts([Text("EXIT", 0.5)])),
        {"Label": "face", "Score": "0.5", "Boundaries": ROW},
    ),
]


@pytest.mark.parametrize(("given", "entry"), FORMS)
def test_what_has_a_name_and_a_score_has_a_form_in_the_aws_format(given, entry):
    told = json.loads(load("aws").encode(result(given), CONTEXT))
    VALIDATOR.validate(told)
    assert told["inference-results"] == [entry]


FORMLESS = [
    (Segmentation(label="sky", label_id=1, area=0.25), "segmentation"),
    (Keypoints((Keypoint(0, 0),), score=0.5), "keypoints"),
    (Text("EXIT"), "text"),
    (Embedding("float32", 0), "embedding"),
    (Map(Image(1, 1), 0, 1), "map"),
]


@pytest.mark.parametrize("name", AWS)
@pytest.mark.parametrize(("given", "kind"), FORMLESS)
def test_what_has_no_form_in_the_aws_formats_is_left_out_and_refused_where_nothing_is_left(given, kind, name):
    form = load(name)
    assert form.carries is not None
    assert not form.carries(given)
    told = json.loads(form.encode(result(prediction("Cat", 0.9), given), CONTEXT))
    assert [entry["Label"] for entry in told["inference-results"]] == ["Cat"]
    with pytest.raises(ConfigError, match=f"cannot carry predictions of {kind}") as caught:
        form.encode(result(given), CONTEXT)
    assert caught.value.code == "format-unsuited"


@settings(max_examples=50)
@given(RESULTS | RAW_RESULTS)
def test_the_native_format_keeps_everything_as_it_is(made):
    told = json.loads(load("native").encode(made, CONTEXT))
    assert (told["id"], told["stream"], told["frame"]["topic"]) == (made.id, made.stream, made.frame.topic)
    assert len(told["predictions"]) == len(made.predictions)
    for one, kept in zip(made.predictions, told["predictions"], strict=True):
        if isinstance(one, Labelled):
            assert (kept["label"], kept["score"]) == (one.label, one.score)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_table_is_json_with_a_schema_in_the_package(name):
    found = load(name)
    assert found.content_type == "application/json"
    assert found.schema


def test_an_unknown_format_is_refused_with_a_guess():
    with pytest.raises(ConfigError) as caught:
        load("natve")
    assert "native" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        load("zzz")
    assert "aws, aws-dlr, native" in caught.value.hint


@pytest.fixture
def strangers(monkeypatch):
    """Entry points as an installed package would bring them."""
    entries = EntryPoints(
        [
            EntryPoint("csv", "tests.results.test_result_formats:CSV", "verge.formats"),
            EntryPoint("broken", "tests.results.test_result_formats:NOON", "verge.formats"),
        ]
    )
    monkeypatch.setattr(formats, "entry_points", entries.select)
    load.cache_clear()
    yield
    load.cache_clear()


def comma_separated(made, context):
    del context
    return ",".join(one.label for one in made.predictions).encode()


CSV = Format(comma_separated, content_type="text/csv")


@pytest.mark.usefixtures("strangers")
def test_a_strangers_format_comes_by_entry_point():
    found = load("csv")
    assert found.encode(result(prediction("Cat"), prediction("Dog")), CONTEXT) == b"Cat,Dog"
    assert names() == ["aws", "aws-dlr", "broken", "csv", "native"]


@pytest.mark.usefixtures("strangers")
def test_an_entry_point_that_is_no_format_is_refused_by_name():
    with pytest.raises(ConfigError, match="broken"):
        load("broken")


def test_formats_are_functions_of_the_result_alone():
    made = result(prediction("Cat"))
    again = replace(made)
    for name in FORMATS:
        assert load(name).encode(made, CONTEXT) == load(name).encode(again, CONTEXT)
