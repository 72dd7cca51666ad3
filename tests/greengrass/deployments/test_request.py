"""Groups: each wants its own, and the device is what all of them want together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.deployments.request import LOCAL_GROUP, ComponentRequest, Deployment, Groups, Origin, merge
from agent.greengrass.recipes.versions import Requirement, Version


def asked(group: str, wanted: dict[str, str], *, remove: tuple[str, ...] = (), additive: bool = False) -> Deployment:
    return Deployment(
        id="d",
        source=Origin.JOB,
        group=group,
        timestamp_ms=1,
        components={name: ComponentRequest(Requirement.parse(text)) for name, text in wanted.items()},
        additive=additive,
        remove=remove,
    )


def after(groups: dict[str, dict[str, str]], deployment: Deployment, **running: str) -> dict[str, dict[str, str]]:
    merged, _ = merge(Groups.of(groups), deployment, {name: Version.parse(text) for name, text in running.items()})
    return merged.to_plain()


def test_a_document_replaces_what_its_group_wanted_and_nothing_else() -> None:
    groups = {"thinggroup/lab": {"a": "1.0.0", "b": "^2.0.0"}, "thing/edge": {"b": "*"}}
    assert after(groups, asked("thinggroup/lab", {"a": "2.0.0"})) == {
        "thinggroup/lab": {"a": "2.0.0"},
        "thing/edge": {"b": "*"},
    }


def test_a_document_without_components_takes_its_group_away() -> None:
    assert after({"thinggroup/lab": {"a": "1.0.0"}}, asked("thinggroup/lab", {})) == {}


def test_a_local_deployment_keeps_what_runs_adds_what_it_names_and_removes_what_it_says() -> None:
    groups = {LOCAL_GROUP: {"a": "^1.0.0", "b": "*", "c": "*"}}
    deployment = asked(LOCAL_GROUP, {"d": "1.0.0", "c": "2.0.0"}, remove=("b", "unknown"), additive=True)
    assert after(groups, deployment, a="1.4.0", b="1.0.0", c="1.0.0") == {
        LOCAL_GROUP: {"a": "1.4.0", "c": "2.0.0", "d": "1.0.0"}
    }


def test_what_is_only_configured_changes_no_wish() -> None:
    deployment = Deployment(
        id="d",
        source=Origin.LOCAL,
        group=LOCAL_GROUP,
        timestamp_ms=1,
        components={"a": ComponentRequest(None)},
        additive=True,
    )
    assert after({LOCAL_GROUP: {"b": "1.0.0"}}, deployment) == {LOCAL_GROUP: {"b": "1.0.0"}}


def test_a_root_that_does_not_run_keeps_what_was_wanted() -> None:
    assert after({LOCAL_GROUP: {"a": "^1.0.0"}}, asked(LOCAL_GROUP, {}, additive=True)) == {
        LOCAL_GROUP: {"a": "^1.0.0"}
    }


def test_what_several_groups_want_is_wanted_by_each() -> None:
    _, wishes = merge(Groups.of({"thing/edge": {"a": "<2.0.0"}}), asked("thinggroup/lab", {"a": "^1.0.0"}), {})
    assert {name: {group: str(each) for group, each in by.items()} for name, by in wishes.items()} == {
        "a": {"thing/edge": "<2.0.0", "thinggroup/lab": "^1.0.0"}
    }


# -- laws -----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from("abc")
TEXTS = st.sampled_from(["1.0.0", "^1.0.0", "*", "1.0.0 || 2.0.0", ">=1.0.0 <2.0.0-rc.1"])
ROOTS = st.dictionaries(st.sampled_from(["g1", "g2", LOCAL_GROUP]), st.dictionaries(NAMES, TEXTS, min_size=1))
DEPLOYMENTS = st.builds(
    asked,
    st.sampled_from(["g1", "g2", LOCAL_GROUP]),
    st.dictionaries(NAMES, TEXTS),
    remove=st.lists(NAMES, max_size=2).map(tuple),
    additive=st.booleans(),
)
RUNNING = st.dictionaries(NAMES, st.just("1.0.0"))


@given(ROOTS, DEPLOYMENTS, RUNNING)
def test_other_groups_are_left_alone(roots, deployment, running) -> None:
    merged = after(roots, deployment, **running)
    assert {**merged, deployment.group: 0} == {**roots, deployment.group: 0}


@given(ROOTS, DEPLOYMENTS, RUNNING)
def test_the_same_deployment_twice_is_the_same_as_once(roots, deployment, running) -> None:
    once = after(roots, deployment, **running)
    if not set(deployment.remove) & set(deployment.components):
        settled = {name: text for name, text in running.items() if name not in deployment.components}
        assert after(once, deployment, **settled) == once


@given(ROOTS, DEPLOYMENTS, DEPLOYMENTS)
def test_deployments_of_different_groups_may_come_in_any_order(roots, one, other) -> None:
    if one.group != other.group:
        assert after(after(roots, one), other) == after(after(roots, other), one)


@given(ROOTS)
def test_groups_survive_the_store_and_no_wish_is_lost(roots) -> None:
    groups = Groups.of(roots)
    assert Groups.of(groups.to_plain()) == groups
    turned = {(group, name): str(each) for name, by in groups.requirements.items() for group, each in by.items()}
    assert turned == {(group, name): text for group, wanted in roots.items() for name, text in wanted.items()}
