"""Where answers may go: a table of topics, and requests that lose theirs."""

from __future__ import annotations

import logging

import pytest

from agent.mqtt.replies import Answering, AnswerTopics
from agent.mqtt.transport import Message
from agent.topics import Topics

ANSWERED = ("answers", "answers/7", "replies/x/y", "line-3/answers", "verge/edge-1/answers/abc", "a/b/replies")
REFUSED = (
    "verge/edge-2/deployments", "verge/edge-2/status", "verge/edge-2/deployments/get", "verge/edge-2/answers/status",
    "verge/edge-2/trust", "verge/edge-2/trust/timestamp", "verge/answers/trust",
    "$aws/things/edge-1/jobs/notify-next", "$SYS/answers", "$aws/answers/x", "verge/jobs/create", "elsewhere",
    "verge/aws/things/edge-1/jobs/notify", "answers/+", "answers/#", "verge/edge-1/components/com.a", "answers/\x00",
)  # fmt: skip


@pytest.mark.parametrize("topic", ANSWERED)
def test_topics_of_answers_are_answered(topic) -> None:
    assert AnswerTopics().objection(topic) == ""


@pytest.mark.parametrize("filters", [AnswerTopics().filters, ("#",), ("$aws/#", "#")])
@pytest.mark.parametrize("topic", [topic for topic in REFUSED if topic != "elsewhere"])
def test_topics_with_a_meaning_of_their_own_are_not_whatever_is_configured(topic, filters) -> None:
    assert AnswerTopics(filters).objection(topic)


def test_what_is_under_no_configured_filter_is_not_answered() -> None:
    assert "response_topics" in AnswerTopics().objection("elsewhere")
    assert AnswerTopics(("elsewhere/#",)).objection("elsewhere") == ""


def test_commands_want_their_answers_where_they_may_go() -> None:
    assert AnswerTopics().objection(f"{Topics('edge-1').answers}abc") == ""


def test_a_request_that_may_not_be_answered_is_counted_each_time_and_logged_once(caplog) -> None:
    answering = Answering(AnswerTopics())
    request = Message("cameras/a", b"", response_topic="verge/edge-2/deployments", correlation_data=b"1")
    with caplog.at_level(logging.WARNING):
        assert {answering.checked(request).response_topic for _ in range(1000)} == {None}
    assert answering.refused == 1000
    assert len(caplog.records) == 1
    fine = Message("cameras/a", b"", response_topic="answers/1")
    assert answering.checked(fine) is fine
