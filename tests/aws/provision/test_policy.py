"""IoT policy documents: what they allow, and that the shipped one allows what the agent uses and no more."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent
from agent.config.load import load
from agent.doctor.needs import Direction, Need, needs
from tests.support import iot_policy, mosquitto_acl
from tests.support.iot_policy import LIMIT, Connection, Policy, PolicyError, read, size
from tests.support.mosquitto_acl import access

CONFIGS = Path(agent.__file__).parents[1] / "configs"
SHIPPED = (CONFIGS / "iot-policy.json").read_text()
WHO = Connection("edge-1")
START = "arn:aws:iot:REGION:ACCOUNT:"


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def statement(action, *resources: str, effect="Allow", **more) -> dict:
    return {"Effect": effect, "Action": action, "Resource": [START + each for each in resources], **more}


def cloud_needs() -> list[Need]:
    config = load(CONFIGS / "iot-core.toml", {})
    return [one for one in needs(config) if one.transport == "cloud"]


def unmet(policy: Policy, who: Connection = WHO) -> list[str]:
    """The needs of the shipped configuration that a policy does not meet."""
    missing = [] if policy.allows("Connect", "client", who.thing, who) else ["connect"]
    for need in cloud_needs():
        example = need.topic.replace("+", "example")
        wanted = [("Publish", "topic", example)]
        if need.retain:
            wanted.append(("RetainPublish", "topic", example))
        if need.direction is Direction.SUBSCRIBE:
            wanted = [("Subscribe", "topicfilter", need.topic), ("Receive", "topic", example)]
        missing += [f"{each[0]} {each[2]}" for each in wanted if not policy.allows(*each, who)]
    return missing


@pytest.mark.parametrize(
    ("resource", "name", "allowed"),
    [
        ("topic/a/b", "a/b", True),
        ("topic/a/b", "a/b/c", False),
        ("topic/a/*", "a/b/c", True),
        ("topic/a/*", "a", False),
        ("topic/*/c", "a/b/c", True),
        ("topic/a/?", "a/b", True),
        ("topic/a/?", "a/bb", False),
        ("topic/a/+", "a/+", True),
        ("topic/a/+", "a/b", False),
        ("topic/a.b", "a-b", False),
        ("topic/${iot:Connection.Thing.ThingName}/*", "edge-1/x", True),
        ("topic/${iot:Connection.Thing.ThingName}/*", "edge-2/x", False),
        ("topic/${iot:ClientId}", "edge-1", True),
        ("topic/${aws:username}", "${aws:username}", False),
        ("client/a/b", "a/b", False),
    ],
)
def test_a_resource_matches_as_iot_core_says(resource, name, allowed) -> None:
    assert read(document(statement("iot:Publish", resource))).allows("Publish", "topic", name, WHO) is allowed


def test_a_denial_wins_wherever_it_stands() -> None:
    allow, deny = statement("iot:*", "*"), statement("iot:Publish", "topic/a", effect="Deny")
    for both in ((allow, deny), (deny, allow)):
        policy = read(document(*both))
        assert not policy.allows("Publish", "topic", "a", WHO)
        assert policy.allows("Publish", "topic", "b", WHO)


def test_what_is_not_named_is_denied() -> None:
    policy = read(document(statement("iot:Publish", "topic/a")))
    assert not policy.allows("Receive", "topic", "a", WHO)
    assert not Policy(()).allows("Publish", "topic", "a", WHO)


@given(st.text("ab/+#.$*?[]{}\\", max_size=12), st.text("ab/+#.$", max_size=12))
@settings(max_examples=200)
def test_a_star_stands_for_anything_and_every_other_sign_for_itself(before, after) -> None:
    plain = before.replace("*", "").replace("?", "").replace("${", "")
    policy = read(document(statement("iot:Publish", f"topic/{plain}*")))
    assert policy.allows("Publish", "topic", plain + after, WHO)
    assert policy.allows("Publish", "topic", "x" + plain + after, WHO) is (not plain)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("{}", "Version"),
        (document({"Effect": "Allow", "Action": "iot:Connect"}), "Resource"),
        (document(statement("iot:Connect", "*", Condition={"Bool": {}})), "Condition"),
        (document(statement("iot:Connect", "*", effect="Perhaps")), "Effect"),
    ],
)
def test_a_document_that_is_not_understood_is_refused(text, told) -> None:
    with pytest.raises(PolicyError, match=told):
        read(text)


# -- the shipped policy -----------------------------------------------------------------------------------------


def test_the_shipped_policy_allows_everything_that_the_shipped_configuration_needs() -> None:
    assert unmet(read(SHIPPED)) == []


def test_the_shipped_policy_has_nothing_that_could_be_left_out() -> None:
    """With any one statement, action or resource removed, something that is needed is denied."""
    parsed = json.loads(SHIPPED)["Statement"]
    for one in parsed:
        others = [each for each in parsed if each is not one]
        if one["Sid"] == "Credentials":  # needed by artifacts in S3, not on a topic
            assert read(SHIPPED).allows("AssumeRoleWithCertificate", "rolealias", "ROLE_ALIAS", WHO)
            continue
        assert unmet(read(document(*others))), one["Sid"]
        for key in ("Action", "Resource"):
            values = one[key] if isinstance(one[key], list) else []
            for value in values:
                less = one | {key: [each for each in values if each != value]}
                assert unmet(read(document(*others, less))), value


def test_the_shipped_policy_lets_a_thing_speak_for_itself_only() -> None:
    policy = read(SHIPPED)
    theirs = [need.topic.replace("edge-1", "edge-2").replace("+", "example") for need in cloud_needs()]
    for topic in theirs:
        for action, kind in (("Publish", "topic"), ("Subscribe", "topicfilter"), ("Receive", "topic")):
            assert not policy.allows(action, kind, topic, WHO)
    for wide in ("#", "$aws/#", "verge/#", "verge/+/deployments"):
        assert not policy.allows("Subscribe", "topicfilter", wide, WHO)
    assert not policy.allows("Connect", "client", "edge-2", WHO)
    assert not policy.allows("DeleteThingShadow", "thing", "edge-1", WHO)


def test_the_shipped_policy_fits_into_iot_cores_bound_with_long_names() -> None:
    filled = SHIPPED.replace("REGION", "ap-southeast-1").replace("ACCOUNT", "123456789012")
    assert size(filled.replace("ROLE_ALIAS", "A-role-alias-with-a-name-of-40-characters")) <= LIMIT


# -- as rules of mosquitto ---------------------------------------------------------------------------------------


def test_rules_for_mosquitto_say_what_the_policy_says() -> None:
    policy = read(
        document(
            statement("iot:Connect", "client/${iot:ClientId}"),
            statement(["iot:Publish", "iot:RetainPublish"], "topic/verge/${iot:ClientId}/*"),
            statement("iot:Subscribe", "topicfilter/a/*/c"),
            statement("iot:Receive", "topic/a/secret", effect="Deny"),
        )
    )
    made = access(policy, WHO, "client")
    assert made.connects
    assert [(each["acltype"], each["topic"], each["allow"]) for each in made.rules["roles"][0]["acls"]] == [
        ("publishClientSend", "verge/edge-1/#", True),
        ("subscribePattern", "a/+/c", True),
        ("publishClientReceive", "a/secret", False),
    ]
    assert not access(policy, Connection("other", variables={"iot:ClientId": "edge-9"}), "client").connects


@pytest.mark.parametrize(
    "one", [statement("iot:*", "*"), statement("iot:Publish", "topic/a*"), statement("iot:Publish", "topic/a/b?")]
)
def test_what_mosquitto_cannot_say_is_refused(one) -> None:
    with pytest.raises(PolicyError):
        access(read(document(one)), WHO, "client")


@pytest.mark.parametrize("instrument", [iot_policy, mosquitto_acl])
def test_the_examples_of_an_instrument_hold(instrument):
    result = doctest.testmod(instrument)
    assert result.attempted
    assert not result.failed
