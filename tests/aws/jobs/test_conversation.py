"""The service's side of the wire: each code, each field."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.jobs.messages import Code, clean_details
from agent.aws.jobs.service.conversation import answer, notifications, refuse
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.topics import GREENGRASS, JobTopics, read_request, request_filters
from agent.topics import matches
from tests.aws.jobs.two_ends import DOCUMENT, spec

BASE = "$aws/things/one/jobs"


@pytest.fixture
def queue():
    queue = JobQueue()
    queue.create(spec("j1", "one", timeoutConfig={"inProgressTimeoutInMinutes": 5}), 1000.5)
    queue.repository.take_notices()
    return queue


def ask(queue, tail, told=b"", now=1001.0, base=BASE):
    payload = told if isinstance(told, bytes) else json.dumps(told).encode()
    answered = answer(queue, "$aws", f"{base}/{tail}", payload, now)
    kind = answered.topic.removeprefix(f"{base}/{tail}/")
    return kind, json.loads(answered.payload)


def test_start_next_tells_the_whole_execution(queue):
    assert ask(queue, "start-next", {"statusDetails": {"a": "1"}, "clientToken": "t"}) == (
        "accepted",
        {
            "execution": {
                "jobId": "j1",
                "thingName": "one",
                "jobDocument": DOCUMENT,
                "status": "IN_PROGRESS",
                "statusDetails": {"a": "1"},
                "queuedAt": 1000,
                "startedAt": 1001,
                "lastUpdatedAt": 1001,
                "versionNumber": 2,
                "executionNumber": 1,
                "approximateSecondsBeforeTimedOut": 300,
            },
            "timestamp": 1001,
            "clientToken": "t",
        },
    )


def test_an_update_tells_state_and_document_when_asked(queue):
    assert ask(queue, "j1/update", {"status": "IN_PROGRESS"}) == ("accepted", {"timestamp": 1001})
    asked = {"status": "SUCCEEDED", "includeJobExecutionState": True, "includeJobDocument": True}
    kind, told = ask(queue, "j1/update", asked)
    assert kind == "accepted"
    assert told["executionState"] == {"status": "SUCCEEDED", "statusDetails": {}, "versionNumber": 3}
    assert told["jobDocument"] == DOCUMENT


def test_a_description_comes_with_the_document_unless_it_is_not_wanted(queue):
    assert ask(queue, "$next/get")[1]["execution"]["jobDocument"] == DOCUMENT
    assert "jobDocument" not in ask(queue, "j1/get", {"includeJobDocument": False})[1]["execution"]


def test_java_style_nulls_and_extra_keys_are_taken(queue):
    told = {"thingName": "one", "jobId": "$next", "includeJobDocument": None, "clientToken": None, "more": 1}
    assert ask(queue, "$next/get", told)[0] == "accepted"


@pytest.mark.parametrize(
    ("tail", "told", "code"),
    [
        ("j1/elsewhere/get", {}, Code.INVALID_TOPIC),
        ("j1/namespace-/get", {}, Code.INVALID_TOPIC),
        ("start-next", b"{", Code.INVALID_JSON),
        ("j1/update", b'{"status": "\xff"}', Code.INVALID_JSON),
        ("start-next", b"[]", Code.INVALID_REQUEST),
        ("j1/update", {}, Code.INVALID_REQUEST),
        ("j1/update", {"status": "DONE"}, Code.INVALID_REQUEST),
        ("j1/update", {"status": "FAILED", "statusDetails": {"a b": "c"}}, Code.INVALID_REQUEST),
        ("j1/update", {"status": "FAILED", "statusDetails": {"a": "b\n"}}, Code.INVALID_REQUEST),
        ("j1/update", {"status": "FAILED", "statusDetails": {"a": "b" * 1025}}, Code.INVALID_REQUEST),
        ("j1/update", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": 0}, Code.INVALID_REQUEST),
        ("get", {"clientToken": "t" * 65}, Code.INVALID_REQUEST),
        ("j1/update", {"status": "QUEUED"}, Code.INVALID_STATE_TRANSITION),
        ("j1/update", {"status": "TIMED_OUT"}, Code.INVALID_STATE_TRANSITION),
        ("j1/update", {"status": "FAILED", "expectedVersion": 9}, Code.VERSION_MISMATCH),
        ("j2/get", {}, Code.RESOURCE_NOT_FOUND),
        ("j1/get", {"executionNumber": 2}, Code.RESOURCE_NOT_FOUND),
        ("j1/namespace-aws-gg-deployment/update", {"status": "FAILED"}, Code.RESOURCE_NOT_FOUND),
    ],
)
def test_what_cannot_be_done_is_rejected_with_its_code(queue, tail, told, code):
    kind, rejected = ask(queue, tail, told)
    assert (kind, rejected["code"], rejected["timestamp"]) == ("rejected", code, 1001)
    assert rejected["message"]
    with_state = code in {Code.INVALID_STATE_TRANSITION, Code.VERSION_MISMATCH}
    assert ("executionState" in rejected) == with_state


def test_a_finished_job_is_not_described_any_more(queue):
    ask(queue, "j1/update", {"status": "REJECTED"})
    assert ask(queue, "j1/get")[1]["code"] == "TerminalStateReached"
    assert ask(queue, "$next/get") == ("accepted", {"timestamp": 1001})


def test_a_rejection_keeps_the_token(queue):
    assert ask(queue, "j1/update", {"status": 3, "clientToken": "t"})[1]["clientToken"] == "t"
    refused = refuse(f"{BASE}/get", b'{"clientToken": "t"}', Code.REQUEST_THROTTLED, "too many", 5.0)
    assert refused.topic == f"{BASE}/get/rejected"
    assert json.loads(refused.payload)["code"] == "RequestThrottled"


def test_greengrass_jobs_are_served_on_their_namespace(queue):
    queue.create(spec("d1", "one", namespaceId=GREENGRASS), 1002)
    kind, told = ask(queue, f"$next/namespace-{GREENGRASS}/get")
    assert (kind, told["execution"]["jobId"]) == ("accepted", "d1")
    (notice,) = queue.repository.take_notices()
    topics = [message.topic for message in notifications(queue, "$aws", notice, 1002)]
    assert topics == [f"{BASE}/notify-namespace-{GREENGRASS}", f"{BASE}/notify-next-namespace-{GREENGRASS}"]


def told_after(queue, change):
    """What is published because of ``change``, by the last level of its topic."""
    change()
    notices = queue.repository.take_notices()
    sent = [message for notice in notices for message in notifications(queue, "$aws", notice, 2000)]
    return {message.topic.rsplit("/", 1)[1]: json.loads(message.payload) for message in sent}


def test_the_list_is_told_when_a_job_comes_or_ends_and_the_next_job_when_it_is_another(queue):
    assert set(told_after(queue, lambda: queue.create(spec("j2", "one"), 1003))) == {"notify"}
    assert told_after(queue, lambda: ask(queue, "start-next")) == {}
    assert told_after(queue, lambda: ask(queue, "j1/update", {"status": "IN_PROGRESS"})) == {}
    told = told_after(queue, lambda: ask(queue, "j1/update", {"status": "SUCCEEDED"}))
    assert [one["jobId"] for one in told["notify"]["jobs"]["QUEUED"]] == ["j2"]
    assert told["notify-next"]["execution"]["jobId"] == "j2"
    told = told_after(queue, lambda: ask(queue, "j2/update", {"status": "FAILED"}))
    assert told == {"notify": {"timestamp": 2000, "jobs": {}}, "notify-next": {"timestamp": 2000}}


def test_a_list_names_ten_jobs_at_most(queue):
    told = told_after(queue, lambda: [queue.create(spec(f"k{number}", "one"), 1004) for number in range(20)])
    assert len(told["notify"]["jobs"]["QUEUED"]) == 10


# -- topics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["$aws", "verge/aws"])
@pytest.mark.parametrize("namespace", ["", GREENGRASS])
def test_every_request_falls_under_the_services_filters_and_no_answer_does(prefix, namespace):
    topics = JobTopics("a:b_c-1", prefix, namespace)
    requests = [topics.describe_next, topics.update("j1")] + ([] if namespace else [topics.start_next])
    for topic in requests:
        request = read_request(prefix, topic)
        assert (request.thing, request.namespace) == ("a:b_c-1", namespace)
        assert any(matches(each, topic) for each in request_filters(prefix))
        for result in ("accepted", "rejected"):
            assert not any(matches(each, f"{topic}/{result}") for each in request_filters(prefix))
            assert any(matches(each, f"{topic}/{result}") for each in topics.filters)
    assert len(topics.filters) <= 8


@given(st.text(max_size=60))
def test_no_topic_breaks_the_reader(topic):
    assert read_request("$aws", topic) is None or topic.startswith("$aws/")


@given(st.dictionaries(st.text(max_size=200), st.text(max_size=1200), max_size=4))
def test_cleaned_details_are_taken_by_the_service(details):
    queue = JobQueue()
    queue.create(spec("j1", "one"), 0)
    told = {"status": "FAILED", "statusDetails": clean_details(details)}
    assert ask(queue, "j1/update", told)[0] == "accepted"


@given(st.binary(max_size=60))
def test_no_payload_breaks_the_service(payload):
    queue = JobQueue()
    queue.create(spec("j1", "one"), 0)
    for tail in ("get", "start-next", "j1/get", "j1/update"):
        assert ask(queue, tail, payload)[0] in {"accepted", "rejected"}
