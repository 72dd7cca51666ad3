"""A model's status: the table is the specification, and what is not in it is refused and changes nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.edgeapi.lookout.states import TRANSITIONS, ModelEvent, ModelState, ModelStatus, step
from agent.edgeapi.protos import messages
from agent.errors import ModelRefusedError

EVERY = [*itertools.product(ModelStatus, ModelEvent)]


@pytest.mark.parametrize(("status", "event"), EVERY)
def test_an_event_leads_where_the_table_says_or_is_refused_with_what_would_be_needed(status, event) -> None:
    before = ModelState(status, "because")
    if (status, event) in TRANSITIONS:
        assert step(before, event) == ModelState(TRANSITIONS[status, event])
        return
    with pytest.raises(ModelRefusedError, match=status.name) as refused:
        step(before, event)
    assert (refused.value.code, refused.value.hint) == ("model-state-wrong", "because")


def test_a_failure_keeps_its_message_until_the_model_is_started_again() -> None:
    failed = step(step(ModelState(), ModelEvent.START), ModelEvent.FAIL, "no memory")
    assert failed == ModelState(ModelStatus.FAILED, "no memory")
    assert step(failed, ModelEvent.START) == ModelState(ModelStatus.STARTING)


@given(st.lists(st.sampled_from(ModelEvent)))
def test_whatever_happens_a_model_can_be_started_or_stopped_or_is_on_its_way(events) -> None:
    state = ModelState()
    for event in events:
        if (state.status, event) in TRANSITIONS:
            state = step(state, event)
    ways_on = [event for status, event in TRANSITIONS if status is state.status]
    assert ways_on


def test_statuses_have_the_numbers_of_the_interface() -> None:
    proto = messages("lookout")
    assert {each.name: each.value for each in ModelStatus} == {
        each.name: proto.number("ModelStatus", each.name) for each in ModelStatus
    }
