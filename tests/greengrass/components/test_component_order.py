"""What HARD dependencies impose, and how far a change reaches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.components.errors import ComponentError
from agent.greengrass.components.order import dependers, longest, ready, start_order
from agent.greengrass.components.spec import Change, ComponentSpec, Limits, RunAs, change
from agent.greengrass.components.states import State
from agent.greengrass.recipes.lifecycle import parse

NAMES = "abcdef"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES + "xy"), max_size=3))


@given(GRAPHS)
def test_dependencies_come_first(graph):
    # Names only point forward, so that there is no circle.
    graph = {name: {need for need in needs if need > name} for name, needs in graph.items()}
    order = start_order(graph)
    assert sorted(order) == sorted(graph)
    assert all(
        order.index(need) < order.index(name) for name, needs in graph.items() for need in needs if need in graph
    )


@given(GRAPHS)
def test_a_circle_is_refused_and_named(graph):
    with pytest.raises(ComponentError) as refused:
        start_order({**graph, "a": {"b"}, "b": {"a"}})
    assert refused.value.code == "dependency-circle"
    assert " → " in refused.value.message


def test_stopping_takes_as_long_as_the_longest_chain_of_those_that_wait_for_one_another():
    graph = {"top": {"middle"}, "middle": {"base"}, "base": set(), "alone": {"elsewhere"}}
    assert longest(graph, {"top": 5.0, "middle": 15.0, "base": 1.0, "alone": 20.0}) == 21.0
    assert longest({}, {}) == 0.0


def test_a_component_is_ready_when_every_hard_dependency_that_is_supervised_is():
    graph = {"a": {"b", "c", "aws.greengrass.Nucleus"}, "b": set(), "c": set()}
    assert not ready(graph, "a", {"b"})
    assert ready(graph, "a", {"b", "c"})
    assert dependers(graph, "b") == {"a"}


BEFORE = {
    "name": "a", "version": "1.0.0", "lifecycle": {"Install": "i", "Run": "r", "Shutdown": "s"},
    "hard": frozenset({"b"}), "run_as": RunAs("u"), "limits": Limits(memory_kb=1),
}  # fmt: skip


def _spec(tmp_path, **facts) -> ComponentSpec:
    told = {**BEFORE, **facts}
    return ComponentSpec(work=tmp_path, **{**told, "lifecycle": parse(told["lifecycle"])})


@pytest.mark.parametrize(
    ("facts", "reach"),
    [
        ({}, Change.NOTHING),
        ({"lifecycle": {**BEFORE["lifecycle"], "Shutdown": "other"}}, Change.NOTHING),
        ({"hard": frozenset()}, Change.NOTHING),
        ({"limits": Limits()}, Change.LIMITS),
        ({"lifecycle": {**BEFORE["lifecycle"], "Run": "other"}}, Change.RESTART),
        ({"lifecycle": {**BEFORE["lifecycle"], "Setenv": {"A": "1"}}}, Change.RESTART),
        ({"hard": frozenset({"b", "c"})}, Change.RESTART),
        ({"soft": frozenset({"c"})}, Change.RESTART),
        ({"lifecycle": {**BEFORE["lifecycle"], "Install": "other"}}, Change.REINSTALL),
        ({"version": "1.0.1"}, Change.REINSTALL),
        ({"run_as": None}, Change.REINSTALL),
        ({"version": "1.0.1", "limits": Limits()}, Change.REINSTALL),
    ],
)
def test_a_change_reaches_as_far_as_it_has_to(tmp_path, facts, reach):
    assert change(_spec(tmp_path), _spec(tmp_path, **facts), State.RUNNING) is reach


def test_a_broken_component_is_reinstalled_even_unchanged(tmp_path):
    assert change(_spec(tmp_path), _spec(tmp_path), State.BROKEN) is Change.REINSTALL
