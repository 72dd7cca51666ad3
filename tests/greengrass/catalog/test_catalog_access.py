"""What an accessControl grants: the wildcards and the voids of Greengrass."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.catalog.access import allows, publishing_refused
from agent.topics import matches

PUBLISH = "aws.greengrass#PublishToIoTCore"
COVERED = [
    # resource, topic, covered
    ("ml/a", "ml/a", True),
    ("ml/a", "ml/A", False),
    ("ml/a", "ml/a/b", False),
    ("*", "ml/a/b", True),
    ("ml/*", "ml/a/b", True),
    ("ml/*", "ml/", True),
    ("ml/*/c", "ml/a/b/c", True),
    ("*a*a*b", "aaaaab", True),
    ("*a*a*b", "aaaaa", False),
    ("ml/+", "ml/a", True),
    ("ml/+", "ml/", True),
    ("ml/+", "ml/a/b", False),
    ("+/a", "ml/a", True),
    ("ml/+/b", "ml/a/b", True),
    ("ml/x+", "ml/x+", True),
    ("ml/x+", "ml/xa", False),
    ("ml/#", "ml/a/b", True),
    ("ml/#", "ml/", True),
    ("ml/#", "ml", True),
    ("ml/#", "mla", False),
    ("#", "ml/a", True),
    ("ml/#/b", "ml/#/b", True),
    ("ml/#/b", "ml/a/b", False),
    ("ml/${*}", "ml/*", True),
    ("ml/${*}", "ml/a", False),
    ("ml/${$}a${?}", "ml/$a?", True),
    ("ml/?", "ml/?", False),
    ("ml/${iot}", "ml/${iot}", False),
    ("", "", True),
]


@pytest.mark.parametrize(("resource", "topic", "covered"), COVERED)
def test_a_resource_covers_what_greengrass_lets_it_cover(resource, topic, covered) -> None:
    assert allows(resource, topic) is covered


LEVELS = st.lists(st.sampled_from(["", "a", "b", "ab"]), min_size=1, max_size=4).map("/".join)
FILTERS = st.lists(st.sampled_from(["a", "b", "ab", "+"]), min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"])])
)


@settings(max_examples=100)
@given(FILTERS, LEVELS)
def test_a_resource_without_stars_covers_what_the_topic_filter_of_its_text_matches(resource, topic) -> None:
    assert allows(resource, topic) is matches(resource, topic)


@settings(max_examples=100)
@given(st.text("ab/*", max_size=8), st.text("ab/", max_size=10))
def test_a_star_is_any_run_of_characters(resource, topic) -> None:
    expression = ".*".join(map(re.escape, resource.split("*")))
    assert allows(resource, topic) is (re.fullmatch(expression, topic) is not None)


def test_no_resource_takes_long() -> None:
    assert not allows("*a" * 200 + "b", "a" * 2000)


def access(*resources, operations=(PUBLISH,), service="aws.greengrass.ipc.mqttproxy", name="p:1", **fields):
    return {service: {name: {"operations": list(operations), "resources": list(resources), **fields}}}


GRANTED = [
    access("ml/a"),
    access("other", "ml/*"),
    access("ml/a", operations=["*"]),
    access("ml/a", policyDescription="words"),
    access("ml/a", service="AWS.Greengrass.IPC.MqttProxy"),
    {"aws.greengrass.ipc.mqttproxy": {"p": {"OPERATIONS": [PUBLISH], "Resources": ["ml/a"]}}},
    json.dumps(access("ml/a")),
    access("other") | {"aws.greengrass.ipc.mqttproxy": {"a": {"resources": ["x"]}} | access("ml/a").popitem()[1]},
]
REFUSED = [
    # accessControl, a part of the reason
    (None, "no accessControl"),
    ({}, "no topic at all"),
    (17, "no mapping"),
    ("words", "no mapping"),
    (access("ml/b"), "'ml/b'"),
    (access("ml/a", operations=["aws.greengrass#SubscribeToIoTCore"]), "no topic at all"),
    (access("ml/a", operations=[]), "no topic at all"),
    (access(), "no topic at all"),
    (access("ml/a", service="aws.greengrass.ipc.pubsub"), "no topic at all"),
    (access("ml/a", name=""), "no topic at all"),
    (access("ml/a", resource=["ml/a"]), "unknown field resource (did you mean resources?)"),
    (access("ml/a") | {"other": {"q": {"zzz": 1}}}, "other.q has an unknown field zzz"),
    ({"aws.greengrass.ipc.mqttproxy": {"p": {"operations": PUBLISH, "resources": "ml/a"}}}, "no topic at all"),
]


@pytest.mark.parametrize("granting", GRANTED)
def test_a_policy_that_grants_the_topic_lets_it_be_published(granting) -> None:
    assert publishing_refused(granting, "ml/a") is None


@pytest.mark.parametrize(("granting", "reason"), REFUSED)
def test_what_no_policy_grants_is_refused_with_what_they_grant(granting, reason) -> None:
    assert reason in publishing_refused(granting, "ml/a")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(PLAIN, st.text(min_size=1, max_size=8))
def test_no_accesscontrol_whatever_raises(granting, topic) -> None:
    assert publishing_refused(granting, topic) is None or publishing_refused(granting, topic)
