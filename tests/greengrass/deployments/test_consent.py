"""What components say before a deployment changes anything: the laws of one time of asking."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.deployments.consent import LONGEST_S, Asked, Judged

COMPONENTS = st.frozensets(st.sampled_from("abcd"), min_size=1)
TIMEOUT_S = 60.0
TIMES = st.floats(0, TIMEOUT_S * 2)
AFTER = st.one_of(st.none(), st.floats(-10, 10_000))
ANSWERS = st.lists(st.tuples(st.sampled_from("abcdx"), AFTER, TIMES), max_size=8).map(
    lambda answers: sorted(answers, key=lambda answer: answer[2])
)
LEAVING = st.lists(st.sampled_from("abcdx"), max_size=4)
REPORTS = st.lists(st.tuples(st.sampled_from("abcdx"), st.sampled_from(["accepted", "rejected", "left"])), max_size=8)


def asked(components, answers) -> Asked:
    state = Asked(components, TIMEOUT_S)
    for component, after_s, at in answers:
        if not state.over(at):
            state = state.answered(component, after_s, "busy", at)
    return state


@given(COMPONENTS, ANSWERS)
def test_every_time_of_asking_is_over_at_its_time_limit(components, answers) -> None:
    assert asked(components, answers).over(TIMEOUT_S)


@given(COMPONENTS, ANSWERS)
def test_it_is_not_over_before_while_somebody_has_neither_answered_nor_left(components, answers) -> None:
    state = asked(components, answers)
    waited_for = components - {component for component, after_s, at in answers if after_s is not None}
    assert waited_for <= state.pending
    assert state.over(0) is not bool(state.pending)


@given(COMPONENTS, ANSWERS)
def test_nobody_is_changed_before_the_longest_first_answer_of_each_component(components, answers) -> None:
    first = {}
    state = Asked(components, TIMEOUT_S)
    for component, after_s, at in answers:
        if not state.over(at) and after_s is not None and component in components and component not in first:
            first[component] = (at + after_s) if after_s > 0 else None
        state = state if state.over(at) else state.answered(component, after_s, "", at)
    longest = max((until for until in first.values() if until is not None), default=None)
    assert (state.longest.until if state.longest else None) == longest


@given(COMPONENTS, ANSWERS, LEAVING)
def test_who_leaves_is_waited_for_no_longer_and_what_it_deferred_stays(components, answers, leaving) -> None:
    before = after = asked(components, answers)
    for component in leaving:
        after = after.left(component)
    assert after.pending == before.pending - set(leaving)
    assert after.longest == before.longest


@given(COMPONENTS)
def test_all_of_them_agreeing_is_an_end_without_a_deferral(components) -> None:
    state = asked(components, [(component, 0, 1.0) for component in components])
    assert (state.over(1.0), state.longest) == (True, None)


def test_no_deferral_is_longer_than_a_year() -> None:
    state = Asked(frozenset("a"), TIMEOUT_S).answered("a", 1e300, "for ever", 5.0)
    assert state.longest is not None
    assert state.longest.until == 5.0 + LONGEST_S


def judged(components, reports) -> Judged:
    state = Judged(components, TIMEOUT_S)
    for component, what in reports:
        accepted = what == "accepted"
        state = state.left(component) if what == "left" else state.reported(component, "", accepted=accepted)
    return state


@given(COMPONENTS, REPORTS)
def test_configurations_are_good_only_if_the_first_word_of_every_component_is_that_it_accepts(
    components, reports
) -> None:
    first = dict(reversed(reports))
    accepted = all(first.get(component) == "accepted" for component in components)
    state = judged(components, reports)
    assert bool(state.problem) is not accepted
    assert state.over(TIMEOUT_S)


def test_what_speaks_against_configurations_is_said_component_by_component() -> None:
    state = Judged(frozenset("abcd"), TIMEOUT_S).reported("a", "level is 11", accepted=False).left("b")
    state = state.reported("c", "", accepted=True)
    assert state.problem == "a rejected it: level is 11; b was gone before it reported; d did not report in time"
    assert state.over(1.0) is False
