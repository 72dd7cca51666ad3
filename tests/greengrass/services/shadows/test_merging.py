"""Two copies of a shadow: who takes over what, for chosen cases and for any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.services.shadows.document import merged, same
from agent.greengrass.services.shadows.merging import Base, Copy, Direction, Merge, decide, patch
from tests.greengrass.services.shadows.states import STATE, pruned

COPIES = STATE.map(pruned)


def one(value: Any, section: str = "desired") -> dict[str, Any]:
    return {section: {"a": value}}


def decided(here: Any, there: Any, common: Any, direction: Direction = Direction.BOTH) -> Merge:
    return decide(
        None if here is None else Copy(5, here),
        None if there is None else Copy(7, there),
        None if common is None else Base(common, 6),
        direction,
    )


@pytest.mark.parametrize(
    ("here", "there", "common", "both"),
    [
        (one(2), one(1), one(1), one(2)),
        (one(1), one(2), one(1), one(2)),
        (one(2), one(3), one(1), one(3)),
        (one(2, "reported"), one(3, "reported"), one(1, "reported"), one(2, "reported")),
        (one(2), {}, one(1), {}),
        (one(2, "reported"), {}, one(1, "reported"), one(2, "reported")),
        ({}, one(1), one(1), {}),
        (one({"x": 1}), one({"y": 2}), None, one({"x": 1, "y": 2})),
        (one({"x": 2, "z": 1}), one({"x": 1, "y": 2}), one({"x": 1, "z": 1}), one({"x": 2, "y": 2})),
        (one(1), None, None, one(1)),
        (None, one(1), None, one(1)),
        (one(1), None, one(1), None),
        (None, one(1), one(1), None),
        (one(2), None, one(1), one(2)),
        (None, one(2), one(1), one(2)),
        (None, None, one(1), None),
        (None, None, None, None),
    ],
)
def test_between_both_what_one_side_changed_holds_and_the_decider_settles_the_rest(
    here: Any, there: Any, common: Any, both: Any
) -> None:
    assert decided(here, there, common) == Merge(both, both)


@pytest.mark.parametrize(
    ("here", "there", "common", "cloud"),
    [
        (one(2), one(1), one(1), one(2)),
        (one(1), one(9), one(1), one(9)),
        (one(2), one(9), one(1), one(2)),
        ({"desired": {"b": 1}}, {"desired": {"a": 1, "own": 2}}, one(1), {"desired": {"own": 2, "b": 1}}),
        (None, one(1), one(1), None),
        (None, one(1), None, one(1)),
        (one(1), None, one(1), None),
        (one(2), None, one(1), one(2)),
    ],
)
def test_to_the_cloud_what_the_device_changed_goes_over_what_is_there(
    here: Any, there: Any, common: Any, cloud: Any
) -> None:
    assert decided(here, there, common, Direction.TO_CLOUD) == Merge(here, cloud)


@pytest.mark.parametrize(
    ("here", "there", "common", "device"),
    [
        (one(1), one(2), one(1), one(2)),
        (one(9), one(1), one(1), one(9)),
        ({**one(1), **one(5, "reported")}, one(2), one(1), {**one(2), **one(5, "reported")}),
        (one(1), None, one(1), None),
        (one(1), None, None, one(1)),
        (None, one(1), None, one(1)),
        (None, one(1), one(1), None),
    ],
)
def test_to_the_device_what_the_cloud_changed_goes_over_what_is_there(
    here: Any, there: Any, common: Any, device: Any
) -> None:
    assert decided(here, there, common, Direction.TO_DEVICE) == Merge(device, there)


@given(COPIES, COPIES)
def test_a_patch_makes_the_one_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert same(merged(before, patch(before, after)), after)
    assert patch(after, after) == {}


@given(COPIES, COPIES, st.none() | COPIES)
def test_what_is_merged_needs_no_merging(here: dict[str, Any], there: dict[str, Any], common: dict[str, Any]) -> None:
    both = decided(here, there, common).device
    assert both is not None
    assert pruned(both) == both
    assert decided(both, both, both) == Merge(both, both)


@given(COPIES, COPIES)
def test_a_side_that_did_nothing_takes_over_all(changed: dict[str, Any], common: dict[str, Any]) -> None:
    assert same(decided(changed, common, common).cloud, changed)
    assert same(decided(common, changed, common).device, changed)


@given(COPIES, COPIES, COPIES)
def test_after_a_cut_between_the_two_halves_the_rest_is_done_and_nothing_is_taken_back(
    here: dict[str, Any], there: dict[str, Any], common: dict[str, Any]
) -> None:
    both = decided(here, there, common).device
    assert same(decided(both, there, there).cloud, both)
