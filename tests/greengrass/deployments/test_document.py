"""The document: three forms in, one value out, and every mistake named."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.request import (
    LOCAL_GROUP,
    LOCAL_NOTIFY,
    Canary,
    Deployment,
    FailurePolicy,
    NotifyPolicy,
    Origin,
    RunWith,
    UpdateAction,
)
from agent.greengrass.errors import TYPES, DeploymentError, DeploymentRejectedError
from agent.greengrass.recipes.versions import Version

ARN = "arn:aws:greengrass:eu-west-1:123456789012:configuration:thinggroup/lab:3"
CLOUD = {
    "deploymentId": "d1",
    "schemaDate": "2021-05-17",
    "configurationArn": ARN,
    "creationTimestamp": 1.604067741583e12,
    "components": {
        "com.acme.A": {
            "version": "^1.0.0",
            "configurationUpdate": {"merge": {"k": 1, "f": 1.5, "n": None}, "reset": ["/old", ""]},
            "runWith": {"posixUser": "ggc:ggc", "systemResourceLimits": {"memory": 1024.0, "cpus": 0.5}},
        },
        "com.acme.B": {"version": "2.0.0"},
    },
    "componentUpdatePolicy": {"timeout": 60, "action": "NOTIFY_COMPONENTS"},
    "requiredCapabilities": ["SUB_DEPLOYMENTS"],
    "somethingNew": [1],
}
LOCAL = {
    "requestId": "r1",
    "requestTimestamp": 1_700_000_000_000,
    "componentsToMerge": {"com.acme.A": "1.0.0"},
    "componentsToRemove": ["com.acme.B"],
    "configurationUpdate": {"com.acme.A": {"MERGE": {"k": 1}, "RESET": ["/x"]}},
    "componentToRunWithInfo": {"com.acme.A": {"posixUser": "nobody"}},
    "groupName": "lab",
}
RECIPE = {
    "RecipeFormatVersion": "2020-01-25",
    "ComponentName": "com.acme.A",
    "ComponentVersion": "1.0.0",
    "Manifests": [{}],
}


def read(document, source=Origin.TOPIC, **more) -> Deployment:
    return parse(document, source=source, received_ms=5000, **more)


def wrong(document, source=Origin.TOPIC) -> DeploymentError:
    with pytest.raises(DeploymentError) as caught:
        read(document, source)
    return caught.value


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n\0"])
@pytest.mark.parametrize("after", [b"", b"\0", b"\r\n\0\0"])
def test_white_space_nul_and_a_byte_order_mark_around_a_document_mean_nothing(before, after) -> None:
    document = json.dumps(CLOUD).encode()
    assert read(before + document + after) == read(document)


def test_a_cloud_document_is_read_with_everything_that_matters() -> None:
    found = read(json.dumps(CLOUD).encode(), Origin.JOB, job_id="job-1")
    assert (found.id, found.source, found.group, found.job_id) == ("d1", Origin.JOB, "thinggroup/lab", "job-1")
    assert (found.timestamp_ms, found.revision_arn) == (1_604_067_741_583, ARN)
    assert (found.failure_policy, found.additive, found.remove) == (FailurePolicy.ROLLBACK, False, ())
    one, other = found.components["com.acme.A"], found.components["com.acme.B"]
    assert str(one.requirement) == "^1.0.0"
    assert (one.merge, one.reset) == ({"k": 1, "f": 1.5, "n": None}, ("/old", ""))
    assert (other.merge, other.reset, other.run_with) == (None, (), RunWith(whole=True))
    assert found.capabilities == ("SUB_DEPLOYMENTS",)


def test_what_was_written_for_aws_s_own_command_line_is_read_as_it_is() -> None:
    update = {"reset": ["/UseCamera"], "merge": '{"InferenceInterval": "2"}'}
    told = {
        "targetArn": "arn:aws:iot:eu-west-1:123456789012:thing/edge-1",
        "components": {"com.a": {"componentVersion": "2.1.4", "configurationUpdate": update}},
    }
    wanted = read(told).components["com.a"]
    assert (str(wanted.requirement), wanted.merge, wanted.reset) == (
        "2.1.4",
        {"InferenceInterval": "2"},
        ("/UseCamera",),
    )
    for text in ("{", "7", "{'a': 1}", "[]", "[" * 2000):
        with pytest.raises(DeploymentError, match="merge"):
            read({"components": {"com.a": {"version": "1.0.0", "configurationUpdate": {"merge": text}}}})


def test_a_local_document_adds_and_removes_and_leaves_a_failure_as_it_is() -> None:
    found = read(LOCAL, Origin.LOCAL)
    assert (found.id, found.group, found.timestamp_ms) == ("r1", "thinggroup/lab", 1_700_000_000_000)
    assert (found.additive, found.remove, found.failure_policy) == (True, ("com.acme.B",), FailurePolicy.DO_NOTHING)
    one = found.components["com.acme.A"]
    assert (str(one.requirement), one.merge, one.reset) == ("1.0.0", {"k": 1}, ("/x",))
    assert one.run_with == RunWith(posix_user="nobody", given=frozenset({"posixUser"}))


def test_a_local_document_may_configure_what_is_there_already() -> None:
    found = read({"configurationUpdate": {"com.acme.A": {"MERGE": {"k": 1}}}}, Origin.LOCAL)
    assert found.additive
    assert found.components["com.acme.A"].requirement is None
    assert found.components["com.acme.A"].merge == {"k": 1}


def test_the_short_form_needs_nothing_but_components() -> None:
    found = read({"components": {"a": {"version": "1.0.0"}}, "canary": {"frames": 20.0, "agreement": 0.95}})
    assert (found.group, found.timestamp_ms, found.failure_policy) == (LOCAL_GROUP, 5000, FailurePolicy.ROLLBACK)
    assert found.canary == Canary(frames=20, agreement=0.95)
    assert not found.additive


@pytest.mark.parametrize(
    ("told", "group"),
    [
        ({"configurationArn": ARN}, "thinggroup/lab"),
        ({"configurationArn": ARN.replace("thinggroup/lab", "thing/edge:7")}, "thing/edge:7"),
        ({"configurationArn": "something else"}, "something else"),
        ({"configurationArn": ARN, "onBehalfOf": "arn:aws:iot:eu-west-1:1:thinggroup/child"}, "thinggroup/child"),
        ({"groupName": "thinggroup/lab"}, "thinggroup/lab"),
        ({"targetArn": "arn:aws:iot:eu-west-1:1:thing/edge:7"}, "thing/edge:7"),
        ({"targetArn": "arn:aws-cn:iot:cn-north-1:1:thinggroup/lab", "groupName": "else"}, "thinggroup/lab"),
        ({"configurationArn": ARN, "targetArn": "arn:aws:iot:eu-west-1:1:thinggroup/else"}, "thinggroup/lab"),
        ({}, LOCAL_GROUP),
    ],
)
def test_the_group_is_whose_wish_it_is(told, group) -> None:
    assert read({"components": {}, **told}).group == group


def test_a_shadow_s_id_is_its_revision_and_others_have_their_own_or_one_that_is_made_up() -> None:
    assert read(CLOUD, Origin.SHADOW).id == ARN
    assert read({"components": {}}, Origin.JOB, job_id="job-1").id == "job-1"
    made_up = read({"components": {}}).id
    assert made_up == read({"components": {}}).id
    assert made_up != parse({"components": {}}, source=Origin.TOPIC, received_ms=5001).id


BEFORE = RunWith(posix_user="ggc", windows_user="w", memory_kb=10, cpus=1.0)


@pytest.mark.parametrize(
    ("run_with", "after"),
    [
        ({"posixUser": "nobody", "systemResourceLimits": {"cpus": 2}}, RunWith(posix_user="nobody", cpus=2)),
        ({"posixUser": "nobody"}, RunWith(posix_user="nobody")),
        ({"posixUser": None, "systemResourceLimits": {"memory": 9}}, RunWith(memory_kb=9)),
        ({}, RunWith()),
        (None, RunWith()),
    ],
)
def test_what_a_cloud_document_does_not_say_of_user_and_limits_goes_back_to_the_defaults(run_with, after) -> None:
    component = {"version": "1.0.0"} | ({} if run_with is None else {"runWith": run_with})
    asked = read({"components": {"a": component}}).components["a"].run_with
    assert asked is not None
    assert asked.over(BEFORE) == after


@pytest.mark.parametrize(
    ("run_with", "after"),
    [
        ({"posixUser": "nobody"}, replace(BEFORE, posix_user="nobody")),
        ({"posixUser": None}, replace(BEFORE, posix_user=None)),
        ({"systemResourceLimits": {"cpus": 2}}, replace(BEFORE, memory_kb=None, cpus=2)),
        ({"systemResourceLimits": None}, replace(BEFORE, memory_kb=None, cpus=None)),
        ({}, BEFORE),
    ],
)
def test_what_a_local_document_does_not_say_of_user_and_limits_stays(run_with, after) -> None:
    asked = read({"componentToRunWithInfo": {"a": run_with}}, Origin.LOCAL).components["a"].run_with
    assert asked is not None
    assert asked.over(BEFORE) == after


WRITTEN_FOR_THE_API = {
    "targetArn": "arn:aws:iot:eu-west-1:123456789012:thinggroup/lab",
    "deploymentName": "nightly",
    "components": {"com.acme.A": {"componentVersion": "1.0.0"}},
    "deploymentPolicies": {
        "failureHandlingPolicy": "DO_NOTHING",
        "componentUpdatePolicy": {"timeoutInSeconds": 90, "action": "SKIP_NOTIFY_COMPONENTS"},
        "configurationValidationPolicy": {"timeoutInSeconds": 30},
    },
    "iotJobConfiguration": {},
    "tags": {},
}


def test_the_policies_and_the_target_of_a_create_deployment_document_are_honoured() -> None:
    found = read(WRITTEN_FOR_THE_API)
    assert (found.group, found.failure_policy) == ("thinggroup/lab", FailurePolicy.DO_NOTHING)
    assert found.notify == NotifyPolicy(UpdateAction.SKIP_NOTIFY_COMPONENTS, 90, 30)


def test_policies_of_the_device_s_document_go_before_nested_ones() -> None:
    found = read(WRITTEN_FOR_THE_API | {"failureHandlingPolicy": "ROLLBACK", "componentUpdatePolicy": {"timeout": 5.0}})
    assert (found.failure_policy, found.notify.update_timeout_s) == (FailurePolicy.ROLLBACK, 5)
    assert read({"components": {}}).notify == NotifyPolicy()
    assert read({"componentsToRemove": ["a"]}).notify == LOCAL_NOTIFY


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"targetArn": "lab"}, "targetArn is 'lab': expected the ARN of a thing or of a thing group"),
        ({"deploymentPolicies": {"failureHandlingPolicy": "MAYBE"}}, "deploymentPolicies.failureHandlingPolicy"),
        ({"deploymentPolicies": {"componentUpdatePolicy": {"timeoutInSeconds": "1"}}}, "timeoutInSeconds is '1'"),
        ({"componentUpdatePolicy": {"action": "ASK"}}, "expected one of NOTIFY_COMPONENTS, SKIP_NOTIFY_COMPONENTS"),
    ],
)
def test_a_target_or_a_policy_that_cannot_be_read_is_named(told, said) -> None:
    assert said in wrong({"components": {}, **told}).message


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("2026-11-28T15:01:40.500000+00:00", 1_795_878_100_500),
        ("2026-11-28T16:01:40.5+01:00", 1_795_878_100_500),
        ("2026-11-28T15:01:40.500Z", 1_795_878_100_500),
        ("2026-11-28T15:01:40.500999", 1_795_878_100_500),
        (1_795_878_100.5, 1_795_878_100_500),
        (1_795_878_100, 1_795_878_100_000),
        (1_795_878_100_500, 1_795_878_100_500),
        (1.7958781005e12, 1_795_878_100_500),
        (7, 7),
    ],
)
def test_a_time_is_read_as_the_cloud_and_aws_s_command_line_write_it(written, ms) -> None:
    for key, document in (("creationTimestamp", CLOUD), ("requestTimestamp", LOCAL)):
        assert read(document | {key: written}).timestamp_ms == ms


@pytest.mark.parametrize("written", ["yesterday", "", "2026-13-01T00:00:00Z", "1960-01-01T00:00:00Z", [1], True, -1])
def test_what_is_no_time_is_named_with_its_place(written) -> None:
    assert wrong({"components": {}, "creationTimestamp": written}).path == "creationTimestamp"


@pytest.mark.parametrize(
    "written",
    [
        RECIPE,
        json.dumps(RECIPE),
        base64.b64encode(json.dumps(RECIPE).encode()).decode(),
        base64.encodebytes(json.dumps(RECIPE).encode()).decode(),
        "RecipeFormatVersion: 2020-01-25\nComponentName: com.acme.A\nComponentVersion: 1.0.0\nManifests: [{}]\n",
    ],
)
def test_recipes_come_along_as_objects_as_text_and_in_base64(written) -> None:
    (found,) = read({"components": {}, "recipes": [written]}).recipes
    assert (found.name, found.version) == ("com.acme.A", Version(1, 0, 0))


def test_two_recipes_of_one_version_must_be_one() -> None:
    assert len(read({"components": {}, "recipes": [RECIPE, RECIPE]}).recipes) == 1
    other = RECIPE | {"ComponentDescription": "another"}
    assert (
        wrong({"components": {}, "recipes": [RECIPE, other]}).message
        == "recipes[1] is another recipe of com.acme.A 1.0.0"
    )


def test_a_managed_template_is_rejected_and_not_failed() -> None:
    with pytest.raises(DeploymentRejectedError, match="it has steps") as caught:
        read({"version": "1.0", "steps": [{"action": {"name": "reboot"}}]})
    assert caught.value.code == "DEPLOYMENT_DOCUMENT_NOT_VALID"


@pytest.mark.parametrize(
    ("document", "code", "sentence"),
    [
        (b"{", "DEPLOYMENT_DOCUMENT_PARSE_ERROR", "the document is not JSON"),
        (b"[]", "EMPTY_DEPLOYMENT_REQUEST", "not a JSON object"),
        (b"{}", "EMPTY_DEPLOYMENT_REQUEST", "not a JSON object"),
        ({"components": []}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "components is a list: expected an object"),
        (
            {"components": {"a": {}}},
            "COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT",
            "components.a.version is nothing: expected a version",
        ),
        (
            {"components": {"": {"version": "1.0.0"}}},
            "COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT",
            "expected the name of a component",
        ),
        (
            {"components": {"../x": {"version": "1.0.0"}}},
            "COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT",
            "expected the name of a component",
        ),
        (
            {"components": {"a": {"version": "one"}}},
            "DEPLOYMENT_DOCUMENT_NOT_VALID",
            "components.a.version is 'one': expected a version or a range",
        ),
        (
            {"components": {"a": {"version": "1.0.0", "configurationUpdate": {"merge": []}}}},
            "DEPLOYMENT_DOCUMENT_NOT_VALID",
            "components.a.configurationUpdate.merge is a list: expected an object",
        ),
        (
            {"components": {"a": {"version": "1.0.0", "configurationUpdate": {"reset": ["/a", 1]}}}},
            "DEPLOYMENT_DOCUMENT_NOT_VALID",
            "components.a.configurationUpdate.reset[1] is 1: expected a text",
        ),
        ({"components": {}, **LOCAL}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "expected either components"),
        ({"failureHandlingPolicy": "RETRY"}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "expected one of ROLLBACK, DO_NOTHING"),
        (
            {"requiredCapabilities": ["LARGE_CONFIGURATION", "MORE"]},
            "NUCLEUS_MISSING_REQUIRED_CAPABILITIES",
            "requires LARGE_CONFIGURATION, MORE",
        ),
        ({"creationTimestamp": -1}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "creationTimestamp is -1"),
        ({"creationTimestamp": True}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "creationTimestamp is True"),
        ({"deploymentId": "a/#"}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "deploymentId is 'a/#': expected an id"),
        ({"groupName": "a:b"}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "without a colon"),
        ({"onBehalfOf": "lab"}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "expected the ARN of a thing group"),
        ({"canary": {"frames": 1, "seconds": 2}}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "either frames or seconds"),
        ({"canary": {}}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "either frames or seconds"),
        ({"canary": {"frame": 1}}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "unknown key frame in canary"),
        ({"canary": {"frames": 0}}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "frames in canary"),
        ({"recipes": [{}]}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "recipes[0]"),
        ({"recipes": [1]}, "DEPLOYMENT_DOCUMENT_NOT_VALID", "recipes[0] is 1: expected an object"),
        (
            {"componentsToMerge": {"a": "1.0.0"}, "recipeDirectoryPath": "/recipes"},
            "DEPLOYMENT_DOCUMENT_NOT_VALID",
            "a document cannot point into folders",
        ),
        ({"components": {"a": {"version": "1.0.0", "runWith": {"systemResourceLimits": {"cpus": 0}}}}},
         "DEPLOYMENT_DOCUMENT_NOT_VALID", "more than 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_greengrass_s_code(document, code, sentence) -> None:
    error = wrong(document)
    assert sentence in error.message
    assert error.code == code


def test_of_a_document_that_was_cut_short_a_smaller_one_is_asked_for() -> None:
    error = wrong({"requiredCapabilities": ["LARGE_CONFIGURATION"]})
    assert "the configuration was too large for the document, which came without it" in error.message
    assert "deploy a smaller one" in str(error.hint)
    assert "DefaultConfiguration" in str(error.hint)
    assert "`verge deploy`" in str(error.hint)
    assert "it has LINUX_RESOURCE_LIMITS" in str(wrong({"requiredCapabilities": ["MORE"]}).hint)


def test_a_document_deeper_than_anything_real_is_refused() -> None:
    deep = b'{"components":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}"
    assert "nests deeper than 64 levels" in wrong(deep).message
    assert wrong(b'{"a":' * 100_000 + b"1" + b"}" * 100_000).code == "DEPLOYMENT_DOCUMENT_PARSE_ERROR"


# -- laws -----------------------------------------------------------------------------------------------------

WORDS = ["components", "componentsToMerge", "componentsToRemove", "configurationUpdate", "merge", "RESET", "reset",
         "version", "runWith", "posixUser", "systemResourceLimits", "memory", "cpus", "canary", "frames", "recipes",
         "requiredCapabilities", "failureHandlingPolicy", "configurationArn", "onBehalfOf", "deploymentId", "steps",
         "creationTimestamp", "groupName", "a", "1.0.0", "ROLLBACK", ARN]  # fmt: skip
KEYS = st.sampled_from(WORDS) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=8), st.sampled_from(Origin))
def test_any_json_becomes_a_deployment_or_an_error_of_ours(document, source) -> None:
    try:
        found = read(json.dumps(document).encode(), source)
    except DeploymentError as error:
        if error.code not in TYPES:
            raise
    else:
        assert found.id
        assert found.group


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=8))
def test_any_mapping_of_the_caller_s_does_too(document) -> None:
    try:
        assert read(document).timestamp_ms >= 0
    except DeploymentError as error:
        if error.code not in TYPES:
            raise


@given(st.binary(max_size=50))
def test_any_bytes_do_too(payload) -> None:
    try:
        assert read(payload).id
    except DeploymentError as error:
        if error.code not in TYPES:
            raise


@pytest.mark.parametrize("version", ["NEXT_PATCH", "COMPONENT_VERSION", "{COMPONENT_VERSION}"])
def test_a_version_that_waits_for_a_build_leads_to_the_build(version) -> None:
    assert "gdk component build" in str(wrong({"components": {"a": {"version": version}}}).hint)
