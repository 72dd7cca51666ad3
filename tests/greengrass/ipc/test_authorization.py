import json
import logging
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.ipc.authorization import IOT_CORE, Authorizer, policies_of, suggestion
from agent.greengrass.ipc.errors import UnauthorizedError
from agent.greengrass.ipc.operations import Principal
from agent.greengrass.recipes.configuration import Tree

PUBSUB, SHADOWS = "aws.greengrass.ipc.pubsub", "aws.greengrass.ShadowManager"


def access(service, resources, operations=("aws.greengrass#Do",), **more):
    policy = {"policyDescription": "for a test", "operations": list(operations), "resources": list(resources)}
    return {"accessControl": {service: {"com.example:1": policy | more}}}


def allows(service, resource, asked, operations=("aws.greengrass#Do",)):
    return policies_of(access(service, [resource], operations)).allows(service, "Do", asked)


@pytest.mark.parametrize(
    ("resource", "asked", "expected"),
    [
        ("*", "anything/at all", True),
        ("*", "", True),
        ("a/*", "a/b/c", True),
        ("a*c", "abbc", True),
        ("a*c", "ab", False),
        ("a/b", "a/b", True),
        ("a/b", "a/bc", False),
        ("a/#", "a/b", False),
        ("a/#", "a/#", True),
        ("a/+", "a/+", True),
        ("a/${*}", "a/*", True),
        ("a/${*}", "a/b", False),
        ("a/${?}", "a/?", True),
        ("a${$}b", "a$b", True),
        ("$aws/things", "$aws/things", True),
        ("a?", "a?", False),
        ("a${x}", "a${x}", False),
        ("a${", "a${", False),
        ("a.c", "abc", False),
    ],
)
def test_a_resource_of_local_topics_knows_the_star_and_escapes(resource, asked, expected):
    assert allows(PUBSUB, resource, asked) is expected


@pytest.mark.parametrize(
    ("resource", "asked", "expected"),
    [
        ("abc/#", "abc", True),
        ("abc/#", "abc/", True),
        ("abc/#", "abc/d/e", True),
        ("abc/#", "abcd", False),
        ("#", "anything/at all", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("a/+/c", "a/b/b/c", False),
        ("a/b+", "a/b+", True),
        ("a/b+", "a/bc", False),
        ("a#/b", "a#/b", True),
        ("a/#/b", "a/#/b", True),
        ("a/*", "a/b/c", True),
        ("a/#", "a/+", True),
        ("a/b", "a/#", False),
        ("*/+/c", "a/b/x/c", True),
        ("*/+/c", "a/c", False),
        ("*b/#", "a/b/c", True),
        ("*b/#", "a/bc", False),
    ],
)
def test_a_resource_of_iot_core_knows_mqtts_wildcards_too(resource, asked, expected):
    assert allows(IOT_CORE, resource, asked) is expected


def test_nothing_is_allowed_that_no_policy_allows():
    assert not policies_of({}).allows(PUBSUB, "Do", "a")
    policies = policies_of(access(PUBSUB, ["a"]))
    assert policies.allows(PUBSUB, "Do", "a")
    assert not policies.allows(PUBSUB, "Undo", "a")
    assert not policies.allows(SHADOWS, "Do", "a")
    assert policies_of(access(PUBSUB, ["a"], ["*"])).allows(PUBSUB, "Undo", "a")


def test_fields_match_in_any_case_and_the_whole_may_be_a_text():
    given_ = {"ACCESSCONTROL": {PUBSUB: {"p": {"Operations": ["aws.greengrass#Do"], "RESOURCES": ["a"]}}}}
    assert policies_of(given_).allows(PUBSUB, "Do", "a")
    assert policies_of({"accessControl": json.dumps(given_["ACCESSCONTROL"])}).allows(PUBSUB, "Do", "a")


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        (access(PUBSUB, ["a"], extra="field"), "extra, which nobody knows: none of it counts"),
        ({"accessControl": {PUBSUB: {"": {"operations": ["*"], "resources": ["*"]}}}}, "named policies"),
        ({"accessControl": {PUBSUB: "all"}}, "named policies"),
        (access(PUBSUB, ["a"], []), "names no operations"),
        (access(PUBSUB, ["a?"]), "does not count"),
        ({"accessControl": "{"}, "no JSON"),
        ({"accessControl": ["*"]}, "no object"),
    ],
)
def test_what_is_not_as_it_was_meant_allows_nothing_and_is_said(configuration, problem):
    policies = policies_of(configuration)
    assert not policies.allows(PUBSUB, "Do", "a")
    assert problem in policies.problems[0]


def test_a_bad_policy_leaves_the_good_ones_of_its_component():
    configuration = access(PUBSUB, ["a?", "a"])
    configuration["accessControl"][PUBSUB]["other"] = {"operations": []}
    configuration["accessControl"][SHADOWS] = {"": {}}
    assert policies_of(configuration).allows(PUBSUB, "Do", "a")


def test_the_things_name_stands_for_its_variable():
    policies = policies_of(access(SHADOWS, ["$aws/things/{iot:thingName}/shadow"]), "press-7")
    assert policies.allows(SHADOWS, "Do", "$aws/things/press-7/shadow")


def by_definition(resource, asked):
    """Whether a resource of letters, slashes and stars matches."""
    if not resource:
        return not asked
    if resource[0] == "*":
        return by_definition(resource[1:], asked) or bool(asked and by_definition(resource, asked[1:]))
    return bool(asked) and resource[0] == asked[0] and by_definition(resource[1:], asked[1:])


@given(st.text("a/b*", max_size=8), st.text("a/b", max_size=8))
def test_stars_match_what_their_definition_matches_in_both_dialects(resource, asked):
    expected = by_definition(resource, asked)
    assert allows(PUBSUB, resource, asked) is expected
    assert allows(IOT_CORE, resource, asked) is expected


@pytest.mark.parametrize("service", [PUBSUB, IOT_CORE])
def test_a_policy_of_many_stars_holds_nobody_up(service):
    assert not allows(service, "*a" * 40 + "z", "a" * 200)
    assert allows(service, "*a" * 40 + "z", "a" * 200 + "z")


TEXTS = st.text(st.sampled_from("ab/+#*?${}.\\"), max_size=12)


@given(TEXTS, TEXTS)
def test_the_policy_that_is_suggested_allows_that_and_no_other_resource(resource, other):
    (service,) = [PUBSUB]
    policies = policies_of(json.loads(suggestion("com.example.A", service, "Do", resource)))
    assert policies.allows(service, "Do", resource)
    assert policies.allows(service, "Do", other) == (resource in {other, "*"})


@dataclass
class Asked:
    caller: Principal
    operation: str = "Do"
    connection: int = 1


def test_a_refusal_is_logged_once_with_the_policy_that_would_allow_it(caplog):
    authorizer = Authorizer(lambda _: Tree())
    call = Asked(Principal("com.example.A"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(UnauthorizedError, match=r"com\.example\.A may not do Do"):
                authorizer.permit(call, PUBSUB, "a/b")
    (record,) = caplog.records
    assert suggestion("com.example.A", PUBSUB, "Do", "a/b") in record.getMessage()


def test_a_component_that_is_refused_all_the_time_does_not_fill_the_log(caplog):
    configurations = {"com.example.A": Tree()}
    authorizer = Authorizer(configurations.__getitem__)
    call = Asked(Principal("com.example.A"))

    def refusals(begin):
        caplog.clear()
        for number in range(1000):
            with pytest.raises(UnauthorizedError) as refusal:
                authorizer.permit(call, PUBSUB, f"{begin}{number}/" + "x" * 60_000)
            assert len(str(refusal.value)) < 500
        return [record.getMessage() for record in caplog.records]

    with caplog.at_level(logging.WARNING):
        logged = refusals("a")
        assert len(logged) == 32
        assert max(map(len, logged)) < 500
        assert [line.endswith("is not logged") for line in logged] == [False] * 31 + [True]
        assert refusals("b") == []
        configurations["com.example.A"] = Tree.of({"level": 1})
        assert len(refusals("c")) == 32


def test_policies_are_read_again_when_the_configuration_changes():
    configurations = {"com.example.A": Tree.of(access(PUBSUB, ["a"]))}
    authorizer = Authorizer(configurations.__getitem__)
    call = Asked(Principal("com.example.A"))
    authorizer.permit(call, PUBSUB, "a")
    configurations["com.example.A"] = Tree.of(access(PUBSUB, ["b"]))
    authorizer.permit(call, PUBSUB, "b")
    with pytest.raises(UnauthorizedError):
        authorizer.permit(call, PUBSUB, "a")


def test_who_has_a_token_of_the_command_line_may_do_what_that_may_and_no_more():
    authorizer = Authorizer(lambda _: None)
    call = Asked(Principal("greengrass-cli-user-0", is_cli=True))
    authorizer.permit(call, "aws.greengrass.Cli", "*")
    with pytest.raises(UnauthorizedError):
        authorizer.permit(call, PUBSUB, "a")


def test_a_policy_names_a_resource_only_without_wildcards():
    authorizer = Authorizer(lambda _: Tree.of(access(IOT_CORE, ["a/#", "*", "verge/press-7/deployments"])))
    call = Asked(Principal("com.example.A"))
    assert authorizer.named(call, IOT_CORE, "verge/press-7/deployments")
    assert not authorizer.named(call, IOT_CORE, "verge/press-8/deployments")
