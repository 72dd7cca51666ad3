"""The device's machine: what it does on each event, and what it never does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.aws.jobs.execution import (
    AFTER_ANSWER,
    ON_REJECTED_UPDATE,
    Cancel,
    Conversation,
    DescribeNext,
    Job,
    JobFinished,
    JobProgress,
    JobState,
    NextJob,
    Notified,
    Phase,
    Start,
    Update,
    due,
    step,
)
from agent.aws.jobs.messages import Code, JobExecution, Status, decode
from agent.aws.jobs.retry import Connected, Disconnected, Pace, ReportAccepted, RequestRejected, Tick

PACE = Pace(first_s=10, backoff_s=1, cap_s=60, refresh_s=300)
DOCUMENT = {"components": {}}


def execution(job_id="j1", status="QUEUED", version=1, number=1, document=DOCUMENT):
    payload = {
        "jobId": job_id,
        "status": status,
        "versionNumber": version,
        "executionNumber": number,
        "queuedAt": 5,
        "jobDocument": document,
    }
    return decode(JobExecution, json.dumps(payload).encode())


class Talk:
    """A conversation with its clock; ``effects`` are those of the last event."""

    def __init__(self, *, begins=True) -> None:
        self.state = Conversation("s", PACE, begins=begins)
        self.now = 0.0
        self.effects = ()

    def step(self, event):
        self.state, self.effects = step(self.state, event, self.now)
        return self.effects

    @property
    def request(self):
        """What was sent last and is open."""
        return self.state.pending.request

    def answered(self, what):
        return self.step(NextJob(self.request.token, what))

    def rejected(self, code):
        return self.step(RequestRejected(self.request.token, code))


@pytest.fixture
def talk():
    """Connected, with the first question open."""
    talk = Talk()
    talk.step(Connected())
    return talk


@pytest.fixture
def running():
    """A job runs, at version 2."""
    talk = Talk()
    talk.step(Connected())
    talk.answered(execution(status="IN_PROGRESS", version=2))
    return talk


def test_every_phase_has_a_rule_for_every_answer_and_every_code_a_remedy():
    assert set(AFTER_ANSWER) == {(phase, state) for phase in Phase for state in JobState}
    assert set(ON_REJECTED_UPDATE) == set(Code)


def test_a_connection_begins_with_the_question_what_is_next(talk):
    assert talk.effects == (DescribeNext("s-1", begin=True),)


def test_a_job_that_start_next_began_is_handed_out(talk):
    (start,) = talk.answered(execution(status="IN_PROGRESS", version=2))
    assert start == Start(Job("j1", 1, 5, b'{"components": {}}'))


def test_where_nothing_begins_a_job_it_is_claimed_with_the_version_seen():
    talk = Talk(begins=False)
    assert talk.step(Connected()) == (DescribeNext("s-1", begin=False),)
    (update,) = talk.answered(execution(version=4))
    assert (update.report.status, update.expected_version) == (Status.IN_PROGRESS, 4)
    (start,) = talk.step(ReportAccepted(update.token, 5))
    assert isinstance(start, Start)
    assert talk.state.version == 5


def test_an_answer_to_another_question_is_ignored(talk):
    assert talk.step(NextJob("other-1", execution())) == ()
    assert talk.state.job is None


def test_a_question_without_an_answer_is_repeated_with_growing_patience(talk):
    waits = []
    for _ in range(5):
        waits.append(due(talk.state) - talk.now)
        talk.now = due(talk.state)
        assert talk.step(Tick()) == (DescribeNext("s-1", begin=True),)
    assert waits == [10, 20, 40, 60, 60]


def test_nothing_is_said_without_a_link(running):
    running.step(Disconnected())
    assert running.step(JobFinished(running.state.job, Status.SUCCEEDED)) == ()
    assert due(running.state) is None


def test_after_a_reconnection_the_question_comes_first_and_then_what_was_kept_in_order(running):
    job = running.state.job
    running.step(JobProgress(job, (("step", "1"),)))
    running.step(Disconnected())
    running.step(JobProgress(job, (("step", "2"),)))
    running.step(JobFinished(job, Status.SUCCEEDED))
    (ask,) = running.step(Connected())
    assert ask == DescribeNext(running.request.token, begin=False)
    (progress,) = running.answered(execution(status="IN_PROGRESS", version=3))
    assert (progress.report.details, progress.expected_version) == ((("step", "2"),), 3)
    (end,) = running.step(ReportAccepted(progress.token, 4))
    assert (end.report.status, end.expected_version) == (Status.SUCCEEDED, 4)
    (ask,) = running.step(ReportAccepted(end.token, 5))
    assert ask.begin


def test_progress_that_waits_is_superseded_and_progress_on_its_way_is_not(running):
    job = running.state.job
    running.step(JobProgress(job, (("step", "1"),)))
    for number in range(2, 9):
        running.step(JobProgress(job, (("step", str(number)),)))
    assert [dict(report.details)["step"] for report in running.state.reports] == ["1", "8"]


def test_a_notification_of_what_is_known_is_not_worth_a_question(talk, running):
    talk.answered(None)
    assert talk.step(Notified(frozenset())) == ()
    assert running.step(Notified(frozenset({("j1", 1), ("j2", 1)}))) == ()


def test_a_notification_without_our_run_asks_and_only_the_answer_cancels(running):
    (ask,) = running.step(Notified(frozenset({("j1", 2)})))
    assert ask == DescribeNext(running.request.token, begin=False)
    assert running.answered(execution(status="IN_PROGRESS", version=2)) == ()
    running.step(Notified(frozenset()))
    job = running.state.job
    assert running.answered(None) == (Cancel(job),)
    (ask,) = running.step(JobFinished(job, Status.FAILED))
    assert ask.begin
    assert running.state.job is None


def test_a_notification_ends_the_wait_for_a_service_that_was_away(talk):
    talk.now = 10
    talk.step(Tick())
    assert talk.step(Notified(frozenset({("j1", 1)}))) == (DescribeNext("s-2", begin=True),)


def test_the_link_is_not_trusted_forever(talk):
    talk.answered(None)
    talk.now = due(talk.state)
    assert talk.now == 300
    assert talk.step(Tick()) == (DescribeNext("s-2", begin=True),)


@pytest.mark.parametrize(
    "code", ["VersionMismatch", "InvalidStateTransition", "ResourceNotFound", "TerminalStateReached"]
)
def test_an_update_that_does_not_fit_makes_it_ask_again_and_send_it_with_the_version_told(running, code):
    (update,) = running.step(JobFinished(running.state.job, Status.SUCCEEDED))
    assert update.expected_version == 2
    (ask,) = running.rejected(code)
    assert ask == DescribeNext(running.request.token, begin=False)
    (update,) = running.answered(execution(status="IN_PROGRESS", version=7))
    assert (update.report.status, update.expected_version) == (Status.SUCCEEDED, 7)


def test_an_end_that_arrived_although_its_answer_was_lost_is_not_told_again(running):
    running.step(JobFinished(running.state.job, Status.SUCCEEDED))
    running.rejected("InvalidStateTransition")
    assert running.answered(execution("j2", "QUEUED"))[0].job.job_id == "j2"


def test_conflicts_that_do_not_end_are_answered_ever_more_slowly(running):
    running.step(JobFinished(running.state.job, Status.SUCCEEDED))
    pauses = []
    for _ in range(4):
        running.rejected("VersionMismatch")
        pauses.append(due(running.state) - running.now)
        if not isinstance(running.state.pending and running.request, DescribeNext):
            running.now = due(running.state)
            running.step(Tick())
        running.answered(execution(status="IN_PROGRESS", version=2))
    assert pauses[1:] == [4, 8, 16]


def test_details_that_the_service_refuses_are_left_away(running):
    running.step(JobFinished(running.state.job, Status.FAILED, (("reason", "?"),)))
    (update,) = running.rejected("InvalidRequest")
    assert (update.report.status, update.report.details) == (Status.FAILED, ())


@pytest.mark.parametrize("code", ["RequestThrottled", "InternalError", "SomethingNew"])
def test_a_service_in_trouble_is_asked_later(running, code):
    running.step(JobFinished(running.state.job, Status.FAILED))
    assert running.rejected(code) == ()
    running.now = due(running.state)
    assert running.now > 0
    (update,) = running.step(Tick())
    assert isinstance(update, Update)


@pytest.mark.parametrize("document", [{"version": "1.0", "steps": []}, {}, [1], "text", None])
def test_a_document_that_is_no_deployment_is_handed_out_for_its_owner_to_reject(talk, document):
    (start,) = talk.answered(execution(status="IN_PROGRESS", document=document))
    assert isinstance(start, Start)


def test_another_run_of_the_same_job_is_another_job(running):
    running.step(Notified(frozenset()))
    assert running.answered(execution(number=2)) == (Cancel(running.state.job),)


JOBS = st.one_of(
    st.none(),
    st.builds(
        execution,
        st.sampled_from(["j1", "j2"]),
        st.sampled_from(["QUEUED", "IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED"]),
        st.integers(1, 3),
        st.integers(1, 2),
        st.sampled_from([DOCUMENT, DOCUMENT, {"steps": []}]),
    ),
)
TOKENS = st.sampled_from(["open", "open", "s-1", "s-2"])
EVENTS = st.one_of(
    st.sampled_from([Connected(), Disconnected(), Tick(), "finish", "finish", "progress"]),
    st.builds(Notified, st.frozensets(st.tuples(st.sampled_from(["j1", "j2"]), st.just(1)), max_size=2)),
    st.builds(NextJob, TOKENS, JOBS),
    st.builds(ReportAccepted, TOKENS, st.one_of(st.none(), st.integers(1, 9))),
    st.builds(RequestRejected, TOKENS, st.sampled_from([*Code, "New"])),
)
STEPS = st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 1.0, 30.0, 1000.0])), max_size=40)


@settings(max_examples=150, deadline=None)
@given(begins=st.booleans(), steps=STEPS)
def test_whatever_is_heard_there_is_one_job_and_one_open_request(begins, steps):
    """No order of events hands out a second job, cancels what does not run, or leaves the conversation mute."""
    talk, mine = Talk(begins=begins), None
    talk.step(Connected())
    for event, waits in steps:
        talk.now += waits
        if isinstance(event, str):
            if mine is None:
                continue
            effects = talk.step(JobFinished(mine, Status.SUCCEEDED) if event == "finish" else JobProgress(mine, ()))
            mine = None if event == "finish" else mine
        elif getattr(event, "token", "") == "open" and talk.state.pending is not None:
            effects = talk.step(replace(event, token=talk.request.token))
        else:
            effects = talk.step(event)
        for effect in effects:
            match effect:
                case Start(job):
                    assert mine is None
                    mine = job
                case Cancel(job):
                    assert job == mine
                case _:
                    assert talk.state.connected
                    assert effect == talk.request
        assert sum(isinstance(effect, DescribeNext | Update) for effect in effects) <= 1
        assert (talk.state.job is None) == (talk.state.phase is Phase.IDLE)
        assert len(talk.state.reports) <= 3
        assert (due(talk.state) is None) == (not talk.state.connected)


def test_a_job_is_known_by_its_run_and_not_by_its_document(running):
    again = replace(running.state.job, document=b"")
    assert running.step(JobFinished(again, Status.SUCCEEDED)) == ()
