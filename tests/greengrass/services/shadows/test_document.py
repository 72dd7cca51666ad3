"""A shadow without a disk: what updates make of it, byte for byte, and the laws that hold for any."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.services.shadows import document
from agent.greengrass.services.shadows.document import Shadow, Update
from agent.greengrass.services.shadows.errors import ShadowConflictError, ShadowError, ShadowRequestError
from tests.greengrass.services.shadows.states import SECTION, STATE, VALUE, pruned

NOW = 1_700_000_000


def updated(before: Shadow | None, state: Any, now: int = NOW, **more: Any) -> Shadow:
    return document.updated(before, document.read(json.dumps({"state": state, **more}).encode()), now)


def refused(payload: object) -> ShadowError:
    with pytest.raises(ShadowError) as caught:
        document.updated(
            None, document.read(payload if isinstance(payload, bytes) else json.dumps(payload).encode()), 1
        )
    return caught.value


# -- merging -----------------------------------------------------------------------------------------------------------


def test_objects_merge_arrays_replace_and_null_removes() -> None:
    shadow = updated(None, {"reported": {"a": {"b": 1, "c": 2}, "list": [1, 2], "gone": True}})
    shadow = updated(shadow, {"reported": {"a": {"c": 3}, "list": [3], "gone": None}})
    assert shadow.state == {"reported": {"a": {"b": 1, "c": 3}, "list": [3]}}


@pytest.mark.parametrize(
    ("state", "left"),
    [
        (None, {}),
        ({"desired": None}, {"reported": {"b": 2}}),
        ({"desired": {"a": None}}, {"reported": {"b": 2}}),
        ({"desired": {}}, {"desired": {"a": 1}, "reported": {"b": 2}}),
        ({}, {"desired": {"a": 1}, "reported": {"b": 2}}),
        ({"delta": {"x": 1}}, {"desired": {"a": 1}, "reported": {"b": 2}}),
    ],
)
def test_null_clears_a_section_or_both_and_nothing_clears_nothing(state: Any, left: Any) -> None:
    shadow = updated(updated(None, {"desired": {"a": 1}, "reported": {"b": 2}}), state)
    assert (shadow.state, shadow.metadata.keys()) == (left, left.keys())
    assert shadow.version == 2


def test_each_value_has_the_time_at_which_it_was_set() -> None:
    shadow = updated(None, {"desired": {"a": 1, "l": [1, {"x": 2}], "timestamp": 3}}, 10)
    shadow = updated(shadow, {"desired": {"a": {"deep": 2}}}, 20)
    assert shadow.metadata == {
        "desired": {
            "a": {"deep": {"timestamp": 20}},
            "l": [{"timestamp": 10}, {"x": {"timestamp": 10}}],
            "timestamp": {"timestamp": 10},
        }
    }


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "Missing update payload"),
        (b"{", "Invalid JSON: Input data was truncated"),
        (b"[" * 100_000, "Invalid JSON: maximum recursion depth exceeded while deserializing an object"),
        ([], "Invalid JSON: an object is expected"),
        ({}, "Invalid JSON: state is missing"),
        ({"state": 1}, "State node must be an object"),
        ({"state": {"wanted": {}}}, "State contains an invalid node: 'wanted'"),
        ({"state": {"desired": 1}}, "Invalid JSON: state.desired must be an object or null"),
        ({"state": {}, "clientToken": "t" * 65}, "Invalid clientToken: a text of at most 64 characters is expected"),
        ({"state": {}, "clientToken": 1}, "Invalid clientToken: a text of at most 64 characters is expected"),
        ({"state": {}, "version": -1}, "Invalid version"),
        ({"state": {}, "version": "1"}, "Invalid version"),
        ({"state": {}, "version": True}, "Invalid version"),
        ({"state": {}, "version": 2}, "Invalid version"),
        (
            {"state": {"desired": {"1": {"2": {"3": {"4": {"5": {"6": {"7": 1}}}}}}}}},
            "JSON contains too many levels of nesting; maximum is 6",
        ),
    ],
)
def test_a_request_that_cannot_be_done_says_why(payload: object, message: str) -> None:
    error = refused(payload)
    assert (error.status, error.message) == (400, message)


def test_six_levels_of_nesting_are_taken() -> None:
    deepest = {"desired": {"1": {"2": {"3": {"4": {"5": {"6": 1}}}}}}}
    assert updated(None, deepest).state == deepest


def test_a_state_may_have_so_many_bytes_and_not_one_more() -> None:
    frame = len(json.dumps({"a": ""}, separators=(",", ":")))
    assert updated(None, {"desired": {"a": "x" * (8192 - frame)}}).version == 1
    assert refused({"state": {"desired": {"a": "x" * (8193 - frame)}}}).status == 413
    larger = document.read(json.dumps({"state": {"desired": {"a": "x" * 30_000}}}).encode())
    assert document.updated(None, larger, NOW, 30_720).version == 1


def test_an_error_of_a_request_that_could_be_read_has_its_client_token() -> None:
    assert refused({"state": {"x": 1}, "clientToken": "t"}).token == "t"
    assert refused({"state": {}, "version": 7, "clientToken": "t"}).token == "t"


# -- versions ----------------------------------------------------------------------------------------------------------


def test_a_version_is_taken_if_it_is_the_current_one() -> None:
    shadow = updated(None, {}, version=1)
    shadow = updated(shadow, {}, version=1)
    assert shadow.version == 2
    with pytest.raises(ShadowConflictError, match="Version conflict"):
        updated(shadow, {}, version=1)


def test_a_shadow_that_is_made_anew_goes_on_with_its_version() -> None:
    gone = document.deleted(updated(None, {"desired": {"a": 1}}))
    assert (gone.version, gone.state, gone.metadata) == (2, {}, {})
    assert updated(gone, {"reported": {"b": 1}}).version == 3
    assert updated(gone, {}, version=1).version == updated(gone, {}, version=2).version == 3
    with pytest.raises(ShadowRequestError, match="Invalid version"):
        updated(gone, {}, version=3)


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_are_as_the_shadow_service_writes_them() -> None:
    update = document.read(b'{"state":{"desired":{"on":true,"rate":null}},"clientToken":"t"}')
    shadow = document.updated(updated(None, {"reported": {"on": False}}, 10), update, 20)
    assert document.accepted(update, 2, 20) == (
        b'{"version":2,"clientToken":"t","timestamp":20,"state":{"desired":{"on":true,"rate":null}},'
        b'"metadata":{"desired":{"on":{"timestamp":20},"rate":{"timestamp":20}}}}'
    )
    assert document.got(shadow, 30) == (
        b'{"state":{"reported":{"on":false},"desired":{"on":true},"delta":{"on":true}},'
        b'"metadata":{"reported":{"on":{"timestamp":10}},"desired":{"on":{"timestamp":20}}},"version":2,"timestamp":30}'
    )
    assert document.difference(shadow, 20, "t") == (
        b'{"version":2,"timestamp":20,"state":{"on":true},"metadata":{"on":{"timestamp":20}},"clientToken":"t"}'
    )
    assert document.documents(None, Shadow(1, {"desired": {"on": 1}}, {"desired": {"on": {"timestamp": 5}}}), 20) == (
        b'{"previous":null,"current":{"state":{"desired":{"on":1}},"metadata":{"desired":{"on":{"timestamp":5}}},'
        b'"version":1},"timestamp":20}'
    )
    assert document.deletion_accepted(shadow, 40) == b'{"version":2,"timestamp":40}'
    assert document.rejected(409, "Version conflict", 40, "t") == (
        b'{"timestamp":40,"clientToken":"t","code":409,"message":"Version conflict"}'
    )


def test_the_answer_to_a_cleared_state_is_null_too() -> None:
    answer = json.loads(document.accepted(Update(None), 3, 20))
    assert answer == {"version": 3, "timestamp": 20, "state": None, "metadata": {"timestamp": 20}}


def test_documents_show_what_was_before_and_no_deleted_shadow() -> None:
    first = updated(None, {"desired": {"a": 1}})
    second = updated(first, {"desired": {"a": 2}})
    assert json.loads(document.documents(first, second, 1))["previous"]["state"] == {"desired": {"a": 1}}
    assert json.loads(document.documents(document.deleted(first), second, 1))["previous"] is None


# -- laws --------------------------------------------------------------------------------------------------------------


@given(STATE)
def test_what_was_set_is_what_is_got(state: dict[str, Any]) -> None:
    shadow = updated(None, state)
    got = json.loads(document.got(shadow, NOW))["state"]
    got.pop("delta", None)
    assert got == pruned(state)


@given(STATE, STATE)
def test_an_update_of_nothing_changes_nothing_but_the_version(state: dict[str, Any], patch: dict[str, Any]) -> None:
    shadow = updated(updated(None, state), patch)
    again = updated(shadow, {})
    assert (again.state, again.metadata, again.version) == (shadow.state, shadow.metadata, shadow.version + 1)


@given(STATE, STATE)
def test_an_update_done_twice_is_an_update_done_once(state: dict[str, Any], patch: dict[str, Any]) -> None:
    once = updated(updated(None, state), patch)
    assert updated(once, patch).state == once.state


@given(st.lists(st.one_of(STATE, st.none(), st.just("delete")), max_size=8))
def test_versions_grow_by_one_with_all_that_is_done(steps: list[Any]) -> None:
    shadow, versions = None, []
    for step in steps:
        if step == "delete":
            shadow = document.deleted(shadow) if shadow and not shadow.deleted else updated(shadow, {})
        else:
            shadow = updated(shadow, step)
        versions.append(shadow.version)
    assert versions == list(range(1, len(steps) + 1))


@given(SECTION, SECTION)
def test_a_delta_is_empty_when_all_that_is_desired_is_reported(
    desired: dict[str, Any], reported: dict[str, Any]
) -> None:
    desired, reported = pruned(desired), pruned(reported)
    found = document.delta(desired, reported)
    assert (found is None) == document.same(document.merged(reported, desired), reported)
    assert document.delta(desired, document.merged(reported, found or {})) is None


@given(STATE, STATE)
def test_metadata_has_the_shape_of_the_state(state: dict[str, Any], patch: dict[str, Any]) -> None:
    def shape(value: Any, leaf: Any) -> Any:
        if isinstance(value, dict) and not leaf(value):
            return {key: shape(inner, leaf) for key, inner in value.items()}
        return [shape(inner, leaf) for inner in value] if isinstance(value, list) else "value"

    shadow = updated(updated(None, state), patch)
    assert shape(shadow.state, lambda _value: False) == shape(
        shadow.metadata, lambda value: value == {"timestamp": NOW}
    )


@given(VALUE, VALUE)
def test_one_value_is_the_other_only_both_ways(one: Any, other: Any) -> None:
    assert document.same(one, one)
    assert document.same(one, other) == document.same(other, one)


@given(st.binary(max_size=60))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    try:
        read: Update | None = document.read(payload)
    except ShadowRequestError:
        read = None
    assert read is None or b"state" in payload
