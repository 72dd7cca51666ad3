from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.config.streams import FilterOptions
from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Keypoints,
    Map,
    Parts,
    Segmentation,
    Tensor,
    Text,
)
from agent.results.filters import EMPTY, RATE, UNCHANGED, Filters
from agent.results.recent import MAX_CAMERAS, Recent
from tests.results.made_results import LABELS, LATER_RESULTS, RAW_RESULTS, RESULTS, prediction, result

OPTIONS = st.builds(
    FilterOptions,
    labels=st.lists(LABELS, max_size=3).map(tuple),
    exclude=st.lists(LABELS, max_size=3).map(tuple),
    min_score=st.floats(0, 1),
    keep_empty=st.booleans(),
    on_change=st.booleans(),
    max_rate_hz=st.none() | st.floats(0.01, 100),
)
SMALL = st.builds(
    lambda labels, camera: result(*[prediction(label) for label in labels], camera=camera),
    st.lists(LABELS, max_size=2),
    st.sampled_from(["door", "hall"]),
)
STEPS = st.lists(st.tuples(SMALL, st.floats(0, 5)), max_size=12)


def moments(steps):
    now = 0.0
    for made, step in steps:
        now += step
        yield made, now


@settings(max_examples=50)
@given(OPTIONS, RESULTS | RAW_RESULTS)
def test_filters_never_invent_or_reorder_predictions_and_touch_nothing_else(options, made):
    passed = Filters(options).apply(made, 0.0)
    if passed is not None:
        left = iter(made.predictions)
        assert all(kept in left for kept in passed.predictions)
        assert replace(passed, predictions=made.predictions) == made


@settings(max_examples=50)
@given(OPTIONS, RESULTS | RAW_RESULTS | LATER_RESULTS)
def test_thinning_twice_is_thinning_once(options, made):
    filters = Filters(options)
    once = filters.thin(made)
    assert filters.thin(once) is once


@settings(max_examples=50)
@given(OPTIONS, RESULTS)
def test_what_stays_satisfies_the_options_and_what_goes_does_not(options, made):
    def wanted(one):
        allowed = not options.labels or one.label in options.labels
        return one.score >= options.min_score and allowed and one.label not in options.exclude

    assert Filters(options).thin(made).predictions == tuple(one for one in made.predictions if wanted(one))


@given(OPTIONS, STEPS)
def test_every_result_is_let_through_or_counted_with_its_reason(options, steps):
    filters = Filters(options)
    passed = sum(filters.apply(made, now) is not None for made, now in moments(steps))
    assert passed + filters.held_back.total() == len(steps)
    assert set(filters.held_back) <= {EMPTY, UNCHANGED, RATE}


@given(st.floats(0.1, 100), STEPS)
def test_a_camera_is_never_published_twice_within_its_interval(rate, steps):
    filters = Filters(FilterOptions(max_rate_hz=rate))
    published = {}
    for made, now in moments(steps):
        if filters.apply(made, now) is not None:
            camera = made.frame.camera
            assert camera not in published or now - published[camera] >= 1 / rate
            published[camera] = now


@given(STEPS)
def test_on_change_never_publishes_the_same_labels_of_a_camera_twice_in_a_row(steps):
    filters = Filters(FilterOptions(on_change=True))
    last = {}
    for made, now in moments(steps):
        passed = filters.apply(made, now)
        labels = {one.label for one in made.predictions}
        assert (passed is None) == (last.get(made.frame.camera) == labels)
        if passed is not None:
            last[made.frame.camera] = labels


def test_without_options_everything_passes_as_it_is():
    made = result(prediction())
    filters = Filters(FilterOptions())
    assert filters.apply(made, 0.0) is made
    assert filters.apply(made, 0.0) is made
    assert filters.held_back == Counter()


def test_exclude_wins_over_labels():
    filters = Filters(FilterOptions(labels=("Cat", "Dog"), exclude=("Dog",)))
    thinned = filters.thin(result(prediction("Cat"), prediction("Dog"), prediction("Bus")))
    assert [one.label for one in thinned.predictions] == ["Cat"]


def test_a_score_at_the_limit_stays():
    filters = Filters(FilterOptions(min_score=0.5))
    assert len(filters.thin(result(prediction(score=0.5), prediction(score=0.4999))).predictions) == 1


def test_raw_tensors_have_no_label_or_score_and_stay():
    raw = result(Tensor("features", (1,), "float32", [0.1]), task="tensors")
    assert Filters(FilterOptions(labels=("Cat",), min_score=0.9, keep_empty=False)).apply(raw, 0.0) is raw


BOX = Box(0, 0, 1, 1)


def plate(text="AB 123", score=0.9):
    """A car with a plate, whose text another model read."""
    inner = Detection("plate", 1, score, BOX, parts=Parts([Text(text, score)]))
    return Detection("car", 0, 0.9, BOX, parts=Parts([inner]))


def face(name, similarity):
    return Detection("face", 0, 0.9, BOX, parts=Parts([Embedding("float32", 0, b"", name, similarity)]))


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (("car",), plate()),
        (("plate",), plate()),
        (("truck",), None),
        (("AB 123",), None),  # what is read is no label
    ],
)
def test_a_detection_is_wanted_for_its_own_label_with_all_its_parts_or_for_those_of_its_parts(labels, kept):
    thinned = Filters(FilterOptions(labels=labels)).thin(result(plate()))
    assert thinned.predictions == ((kept,) if kept else ())


def test_of_an_unwanted_detection_only_the_wanted_parts_stay():
    car = replace(plate(), parts=Parts([Classification("red", 3, 0.9), *plate().parts, Text("TAXI")]))
    (kept,) = Filters(FilterOptions(labels=("red",))).thin(result(car)).predictions
    assert kept == replace(car, parts=Parts([Classification("red", 3, 0.9)]))


def test_parts_are_held_to_the_score_and_to_what_is_excluded():
    (kept,) = Filters(FilterOptions(min_score=0.5)).thin(result(plate(score=0.4))).predictions
    assert kept == Detection("car", 0, 0.9, BOX)
    (kept,) = Filters(FilterOptions(exclude=("plate",))).thin(result(plate())).predictions
    assert kept == Detection("car", 0, 0.9, BOX)


def test_a_face_is_wanted_by_the_name_of_the_nearest_one_known():
    filters = Filters(FilterOptions(labels=("Ada",), min_score=0.5))
    made = result(face("Ada", 0.75), face("Bob", 0.8), face("Ada", 0.4), face("", None))
    assert filters.thin(made).predictions == (face("Ada", 0.75),)


@pytest.mark.parametrize(
    ("given", "stays"),
    [
        (Anomaly(True, 0.9), True),
        (Anomaly(False, 0.9), False),
        (Anomaly(True, 0.4), False),
        (Keypoints((), "anomaly", 0, 0.6), True),
        (Keypoints((), "hand", 0, 0.6), False),
        (Keypoints(()), True),
        (Segmentation(label="anomaly", label_id=0, area=0.5), True),
        (Segmentation(label="sky", label_id=0, area=0.5), False),
        (Text("EXIT", 0.4), False),
        (Text("EXIT"), True),
        (Embedding("float32", 0), True),
        (Map(Image(1, 1), 0, 1), True),
    ],
)
def test_each_kind_is_held_to_the_label_and_the_score_that_it_has(given, stays):
    filters = Filters(FilterOptions(labels=("anomaly",), min_score=0.5))
    assert filters.thin(result(given)).predictions == ((given,) if stays else ())


def test_another_text_is_news_and_so_is_one_in_a_part():
    filters = Filters(FilterOptions(on_change=True))
    assert filters.apply(result(Text("EXIT")), 0.0) is not None
    assert filters.apply(result(Text("EXIT", 0.5)), 1.0) is None
    assert filters.apply(result(Text("ENTRY")), 2.0) is not None
    assert filters.apply(result(plate("AB 123")), 3.0) is not None
    assert filters.apply(result(plate("AB 123")), 4.0) is None
    assert filters.apply(result(plate("AB 124")), 5.0) is not None
    assert filters.apply(result(Anomaly(False, 0.1)), 6.0) is not None
    assert filters.apply(result(Anomaly(True, 0.9)), 7.0) is not None


def test_a_result_thinned_to_nothing_is_published_empty_unless_told_otherwise():
    made = result(prediction("Cat"))
    told = Filters(FilterOptions(labels=("Dog",))).apply(made, 0.0)
    assert told is not None
    assert told.predictions == ()
    silent = Filters(FilterOptions(labels=("Dog",), keep_empty=False))
    assert silent.apply(made, 0.0) is None
    assert silent.held_back == {EMPTY: 1}


def test_the_first_empty_result_of_a_camera_is_news():
    assert Filters(FilterOptions(on_change=True)).apply(result(), 0.0) is not None


def test_scores_boxes_and_the_number_of_the_same_label_are_no_change():
    filters = Filters(FilterOptions(on_change=True))
    assert filters.apply(result(prediction("Cat", 0.9)), 0.0) is not None
    assert filters.apply(result(prediction("Cat", 0.8), prediction("Cat", 0.7)), 1.0) is None
    assert filters.held_back == {UNCHANGED: 1}


def test_labels_that_are_filtered_away_are_no_change():
    filters = Filters(FilterOptions(on_change=True, exclude=("Dog",)))
    assert filters.apply(result(prediction("Cat")), 0.0) is not None
    assert filters.apply(result(prediction("Cat"), prediction("Dog")), 1.0) is None


def test_a_change_that_came_too_soon_is_published_with_the_first_frame_that_is_due():
    filters = Filters(FilterOptions(on_change=True, max_rate_hz=1.0))
    assert filters.apply(result(prediction("Cat")), 0.0) is not None
    assert filters.apply(result(prediction("Dog")), 0.5) is None
    assert filters.apply(result(prediction("Dog")), 1.0) is not None
    assert filters.held_back == {RATE: 1}


def test_cameras_do_not_share_their_rate_or_their_news():
    filters = Filters(FilterOptions(on_change=True, max_rate_hz=1.0))
    assert filters.apply(result(prediction(), camera="door"), 0.0) is not None
    assert filters.apply(result(prediction(), camera="hall"), 0.0) is not None


def test_what_is_remembered_of_cameras_is_bounded():
    filters = Filters(FilterOptions(on_change=True))
    for number in range(MAX_CAMERAS + 1):
        assert filters.apply(result(camera=f"c{number}"), 0.0) is not None
    assert len(filters._published) == MAX_CAMERAS
    assert filters.apply(result(camera="c0"), 1.0) is not None, "the oldest was forgotten"
    assert filters.apply(result(camera=f"c{MAX_CAMERAS}"), 1.0) is None


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers()), max_size=40), st.integers(1, 5))
def test_what_is_remembered_is_the_last_value_of_the_cameras_written_last(writes, limit):
    recent = Recent(limit)
    order: dict[str, int] = {}
    for camera, value in writes:
        recent.put(camera, value)
        order.pop(camera, None)
        order[camera] = value
    kept = dict(list(order.items())[-limit:])
    assert {camera: recent.get(camera) for camera in "abcdefg" if recent.get(camera) is not None} == kept
    assert len(recent) == len(kept)


@pytest.mark.parametrize(
    "told",
    [{"label": ["Cat"]}, {"min_score": 1.5}, {"max_rate_hz": 0}, {"max_rate_hz": -1}, {"labels": "Cat"}],
)
def test_options_that_cannot_be_meant_are_refused(told):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(told, FilterOptions)
