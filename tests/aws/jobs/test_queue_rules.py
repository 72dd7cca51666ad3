"""What the Jobs service lets happen, rule by rule, with an imaginary clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.job import JobError, JobStatus, RolloutConfig
from agent.aws.jobs.service.queue import ABORTED, JobQueue
from agent.aws.jobs.service.repository import Mailbox
from agent.aws.jobs.service.rules import BY_DEVICE, ExecutionChange, rate_per_minute
from agent.aws.jobs.topics import GREENGRASS
from tests.aws.jobs.two_ends import spec

THING = Mailbox("one", "")
Q, P, S, F, R = Status.QUEUED, Status.IN_PROGRESS, Status.SUCCEEDED, Status.FAILED, Status.REJECTED


def refused(code):
    return pytest.raises(JobError, check=lambda error: error.code == code)


@pytest.fixture
def queue():
    return JobQueue()


def things(count):
    return [f"thing-{number:03}" for number in range(count)]


def finish(queue, job_id, thing, status, now):
    return queue.update(Mailbox(thing, ""), job_id, ExecutionChange(status), now)


def statuses(queue, job_id):
    return {one.thing: one.status for one in queue.run(job_id).latest()}


# -- transitions ----------------------------------------------------------------------------------------------

WAY = {Q: [], P: [P], S: [S], F: [F], R: [R]}


@pytest.mark.parametrize("wanted", list(Status))
@pytest.mark.parametrize("now_is", list(WAY))
def test_a_device_moves_an_execution_only_as_the_table_says(queue, now_is, wanted):
    queue.create(spec("j1", "one"), 0)
    for status in WAY[now_is]:
        finish(queue, "j1", "one", status, 1)
    before = queue.find(THING, "j1")
    if wanted in BY_DEVICE[now_is]:
        after = finish(queue, "j1", "one", wanted, 2)
        assert (after.status, after.version, after.last_updated_at) == (wanted, before.version + 1, 2)
    else:
        with refused("InvalidStateTransition") as error:
            finish(queue, "j1", "one", wanted, 2)
        assert error.value.execution == before
        assert queue.find(THING, "j1") == before


def test_a_new_execution_is_queued_with_version_and_number_one(queue):
    queue.create(spec("j1", "one"), 5)
    execution = queue.find(THING, "j1")
    assert (execution.status, execution.version, execution.number, execution.queued_at) == (Q, 1, 1, 5)


def test_what_is_in_progress_is_next_and_then_what_was_queued_first(queue):
    for number in (1, 2, 3):
        queue.create(spec(f"j{number}", "one"), 7)
    assert queue.find(THING, "$next").job_id == "j1"
    finish(queue, "j3", "one", P, 8)
    assert queue.find(THING, "$next").job_id == "j3"
    assert [one.job_id for one in queue.repository.pending(THING)] == ["j3", "j1", "j2"]


def test_start_next_begins_once_and_gives_the_same_job_again(queue):
    queue.create(spec("j1", "one"), 0)
    begun = queue.start_next(THING, 3, {"step": "1"})
    assert (begun.status, begun.version, begun.started_at, begun.details) == (P, 2, 3, {"step": "1"})
    assert queue.start_next(THING, 4, {"step": "2"}) == begun
    assert queue.start_next(Mailbox("two", ""), 4) is None


def test_an_update_that_expects_another_version_changes_nothing(queue):
    queue.create(spec("j1", "one"), 0)
    with refused("VersionMismatch") as error:
        queue.update(THING, "j1", ExecutionChange(P, expected_version=2), 1)
    assert error.value.execution.version == 1
    assert queue.update(THING, "j1", ExecutionChange(P, expected_version=1), 1).version == 2


def test_details_replace_what_was_there_and_absent_details_leave_it(queue):
    queue.create(spec("j1", "one"), 0)
    queue.update(THING, "j1", ExecutionChange(P, {"a": "1"}), 1)
    assert queue.update(THING, "j1", ExecutionChange(P), 2).details == {"a": "1"}
    assert queue.update(THING, "j1", ExecutionChange(S, {"b": "2"}), 3).details == {"b": "2"}


def test_jobs_of_a_namespace_are_seen_there_and_nowhere_else(queue):
    queue.create(spec("j1", "one", namespaceId=GREENGRASS), 0)
    assert queue.repository.next(THING) is None
    with refused("ResourceNotFound"):
        queue.find(THING, "j1")
    assert queue.find(Mailbox("one", GREENGRASS), "$next").job_id == "j1"


# -- the end of a job -----------------------------------------------------------------------------------------


def test_a_snapshot_is_complete_when_every_target_is_at_its_end(queue):
    queue.create(spec("j1", "one", "two"), 0)
    finish(queue, "j1", "one", S, 1)
    assert queue.run("j1").job.status is JobStatus.IN_PROGRESS
    finish(queue, "j1", "two", F, 2)
    assert (queue.run("j1").job.status, queue.run("j1").job.completed_at) == (JobStatus.COMPLETED, 2)


def test_a_snapshot_takes_its_group_as_it_is_and_a_continuous_job_follows_it(queue):
    queue.change_group("hall", 0, add=["one"])
    queue.create(spec("snap", "group:hall"), 0)
    queue.create(spec("cont", "group:hall", targetSelection="CONTINUOUS"), 0)
    queue.change_group("hall", 1, add=["two"])
    assert statuses(queue, "snap") == {"one": Q}
    assert statuses(queue, "cont") == {"one": Q, "two": Q}
    for thing in ("one", "two"):
        finish(queue, "cont", thing, S, 2)
    assert queue.run("cont").job.status is JobStatus.IN_PROGRESS


def test_a_thing_that_leaves_a_continuous_jobs_group_loses_what_is_not_at_its_end_and_gets_it_again(queue):
    queue.change_group("hall", 0, add=["one", "two"])
    queue.create(spec("j1", "group:hall", targetSelection="CONTINUOUS"), 0)
    finish(queue, "j1", "two", S, 1)
    queue.change_group("hall", 2, remove=["one", "two"])
    assert statuses(queue, "j1") == {"one": Status.REMOVED, "two": S}
    queue.change_group("hall", 3, add=["one", "two"])
    assert statuses(queue, "j1") == {"one": Q, "two": S}
    assert queue.find(THING, "j1").number == 2


def test_cancelling_ends_what_is_queued_and_with_force_what_is_in_progress(queue):
    queue.create(spec("j1", "one", "two"), 0)
    finish(queue, "j1", "one", P, 1)
    assert queue.cancel("j1", 2).status is JobStatus.CANCELED
    assert statuses(queue, "j1") == {"one": P, "two": Status.CANCELED}
    queue.cancel("j1", 3, force=True)
    assert statuses(queue, "j1") == {"one": Status.CANCELED, "two": Status.CANCELED}
    assert queue.repository.next(THING) is None
    with refused("InvalidStateTransition"):
        queue.cancel("j1", 4)


def test_one_thing_can_be_cancelled_and_the_job_goes_on(queue):
    queue.create(spec("j1", "one", "two"), 0)
    finish(queue, "j1", "one", P, 1)
    with refused("InvalidStateTransition"):
        queue.cancel_execution("j1", "one", 2)
    queue.cancel_execution("j1", "one", 2, force=True)
    assert queue.run("j1").job.status is JobStatus.IN_PROGRESS
    finish(queue, "j1", "two", S, 3)
    assert queue.run("j1").job.status is JobStatus.COMPLETED


def test_a_job_is_deleted_at_its_end_or_by_force(queue):
    queue.create(spec("j1", "one"), 0)
    with refused("InvalidStateTransition"):
        queue.delete("j1")
    queue.delete("j1", force=True)
    assert queue.repository.next(THING) is None
    with refused("ResourceNotFound"):
        queue.find(THING, "j1")
    queue.create(spec("j1", "one"), 1)
    finish(queue, "j1", "one", S, 2)
    queue.delete("j1")


# -- time -----------------------------------------------------------------------------------------------------


def pass_time(queue, now):
    """Tick as a shell does: whenever something is due."""
    while (due := queue.due()) is not None and due <= now:
        queue.tick(due)
    queue.tick(now)


def test_the_overall_timer_runs_from_the_start_and_no_update_moves_it(queue):
    queue.create(spec("j1", "one", timeoutConfig={"inProgressTimeoutInMinutes": 2}), 0)
    pass_time(queue, 1000)
    queue.start_next(THING, 1000)
    queue.update(THING, "j1", ExecutionChange(P), 1100)
    pass_time(queue, 1119.9)
    assert statuses(queue, "j1") == {"one": P}
    pass_time(queue, 1120)
    assert statuses(queue, "j1") == {"one": Status.TIMED_OUT}
    assert queue.run("j1").job.status is JobStatus.COMPLETED


def test_the_step_timer_is_set_anew_by_an_update_and_cleared_by_minus_one(queue):
    queue.create(spec("j1", "one"), 0)
    queue.start_next(THING, 0, step_timeout_minutes=1)
    queue.update(THING, "j1", ExecutionChange(P, step_timeout_minutes=2), 50)
    pass_time(queue, 169)
    assert statuses(queue, "j1") == {"one": P}
    queue.update(THING, "j1", ExecutionChange(P, step_timeout_minutes=-1), 169)
    pass_time(queue, 100_000)
    assert statuses(queue, "j1") == {"one": P}
    queue.update(THING, "j1", ExecutionChange(P, step_timeout_minutes=1), 100_000)
    pass_time(queue, 100_060)
    assert statuses(queue, "j1") == {"one": Status.TIMED_OUT}


def test_whichever_timer_ends_first_ends_the_execution(queue):
    queue.create(spec("j1", "one", timeoutConfig={"inProgressTimeoutInMinutes": 1}), 0)
    queue.start_next(THING, 0, step_timeout_minutes=10)
    assert queue.due() == 60


# -- retries --------------------------------------------------------------------------------------------------


def retry(kind, times):
    return {"jobExecutionsRetryConfig": {"criteriaList": [{"failureType": kind, "numberOfRetries": times}]}}


@pytest.mark.parametrize(
    ("kind", "ends", "numbers"),
    [
        ("FAILED", [F, F, F], 3),
        ("FAILED", [F, S], 2),
        ("FAILED", [R], 1),
        ("ALL", [R], 1),
        ("ALL", [F, R], 2),
        ("TIMED_OUT", [F], 1),
    ],
)
def test_a_failed_execution_is_queued_again_under_the_next_number_as_often_as_asked(queue, kind, ends, numbers):
    queue.create(spec("j1", "one", **retry(kind, 2)), 0)
    for now, status in enumerate(ends):
        finish(queue, "j1", "one", status, now)
    assert [one.number for one in queue.run("j1").executions["one"]] == list(range(1, numbers + 1))
    assert queue.run("j1").job.status is JobStatus.COMPLETED


def test_an_update_of_an_earlier_run_does_not_touch_the_later_one(queue):
    queue.create(spec("j1", "one", **retry("FAILED", 1)), 0)
    finish(queue, "j1", "one", F, 1)
    with refused("InvalidStateTransition"):
        queue.update(THING, "j1", ExecutionChange(S, number=1), 2)
    assert queue.find(THING, "j1").status is Q


def test_a_cancelled_job_is_not_tried_again(queue):
    queue.create(spec("j1", "one", **retry("ALL", 5)), 0)
    finish(queue, "j1", "one", P, 1)
    queue.cancel("j1", 2)
    finish(queue, "j1", "one", F, 3)
    assert statuses(queue, "j1") == {"one": F}


# -- roll-out -------------------------------------------------------------------------------------------------


@given(rate=st.integers(1, 7), count=st.integers(1, 20), waits=st.lists(st.floats(0.1, 100), max_size=20))
def test_no_minute_sees_more_notifications_than_the_rate(rate, count, waits):
    queue = JobQueue()
    told = spec("j1", *things(count), jobExecutionsRolloutConfig={"maximumPerMinute": rate})
    queue.create(told, 0.0)
    now = 0.0
    for wait in waits:
        now += wait
        pass_time(queue, now)
    pass_time(queue, now + 60.0 * 21)
    times = sorted(one.queued_at for one in queue.run("j1").latest())
    assert len(times) == count
    for first in times:
        assert sum(first <= time < first + 60 for time in times) <= rate


@pytest.mark.parametrize(
    ("notified", "succeeded", "rate"), [(0, 0, 50), (999, 0, 50), (1000, 0, 100), (0, 1000, 100), (2500, 1000, 200)]
)
def test_the_rate_is_multiplied_each_time_a_criterion_is_met(notified, succeeded, rate):
    criteria = {"numberOfNotifiedThings": 1000, "numberOfSucceededThings": 1000}
    growing = {"baseRatePerMinute": 50, "incrementFactor": 2, "rateIncreaseCriteria": criteria}
    config = spec("j1", "one", jobExecutionsRolloutConfig={"exponentialRate": growing}).job_executions_rollout_config
    assert rate_per_minute(config, notified, succeeded) == rate


def test_the_maximum_caps_a_growing_rate_and_no_configuration_is_no_bound():
    criteria = {"numberOfNotifiedThings": 1}
    growing = {"baseRatePerMinute": 50, "incrementFactor": 5, "rateIncreaseCriteria": criteria}
    rollout = {"exponentialRate": growing, "maximumPerMinute": 120}
    config = spec("j1", "one", jobExecutionsRolloutConfig=rollout).job_executions_rollout_config
    assert rate_per_minute(config, 10_000, 0) == 120
    assert rate_per_minute(RolloutConfig(), 0, 0) is None


def test_success_lets_the_roll_out_go_faster(queue):
    growing = {"baseRatePerMinute": 1, "incrementFactor": 3, "rateIncreaseCriteria": {"numberOfSucceededThings": 1}}
    queue.create(spec("j1", *things(9), jobExecutionsRolloutConfig={"exponentialRate": growing}), 0)
    assert len(queue.run("j1").executions) == 1
    finish(queue, "j1", "thing-000", S, 5)
    assert len(queue.run("j1").executions) == 3
    pass_time(queue, 60)
    assert len(queue.run("j1").executions) == 4
    pass_time(queue, 65)
    assert len(queue.run("j1").executions) == 6


# -- abort ----------------------------------------------------------------------------------------------------


def abort(kind, percent, least):
    criteria = {"failureType": kind, "action": "CANCEL", "thresholdPercentage": percent}
    return {"abortConfig": {"criteriaList": [{**criteria, "minNumberOfExecutedThings": least}]}}


@pytest.mark.parametrize(
    ("kind", "percent", "least", "ends", "aborted"),
    [
        ("FAILED", 50, 2, [F], False),
        ("FAILED", 50, 2, [F, S], True),
        ("FAILED", 50, 2, [S, S, F], False),
        ("FAILED", 20, 5, [S, S, S, S, F], True),
        ("FAILED", 50, 1, [R], False),
        ("REJECTED", 100, 1, [R], True),
        ("ALL", 100, 2, [R, F], True),
    ],
)
def test_a_job_is_aborted_when_enough_of_those_that_are_done_failed(queue, kind, percent, least, ends, aborted):
    queue.create(spec("j1", *things(8), **abort(kind, percent, least)), 0)
    for number, status in enumerate(ends):
        finish(queue, "j1", f"thing-{number:03}", status, number)
    job = queue.run("j1").job
    assert (job.status is JobStatus.CANCELED, job.reason_code == ABORTED) == (aborted, aborted)
    assert statuses(queue, "j1")["thing-007"] is (Status.CANCELED if aborted else Q)


def test_an_aborted_job_notifies_nobody_any_more(queue):
    rollout = {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1}}
    queue.create(spec("j1", *things(5), **rollout, **abort("FAILED", 1, 1)), 0)
    finish(queue, "j1", "thing-000", F, 1)
    pass_time(queue, 1000)
    assert len(queue.run("j1").executions) == 1


def test_an_execution_that_is_tried_again_is_no_failure_yet(queue):
    queue.create(spec("j1", *things(2), **retry("FAILED", 1), **abort("FAILED", 1, 1)), 0)
    finish(queue, "j1", "thing-000", F, 1)
    assert queue.run("j1").job.status is JobStatus.IN_PROGRESS
    finish(queue, "j1", "thing-000", F, 2)
    assert queue.run("j1").job.status is JobStatus.CANCELED


# -- what cannot be a job -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"job_id": "with space"},
        {"job_id": "x" * 65},
        {"targets": ()},
        {"targets": ("a/b",)},
        {"targets": ("group:",)},
        {"document": ["no", "object"]},
        {"document": {"long": "x" * 32_768}},
        {"document": "no JSON"},
    ],
)
def test_what_cannot_be_a_job_is_refused(queue, wrong):
    said = {"job_id": "j1", "targets": ("one",), "document": {}, **wrong}
    with pytest.raises(JobError):
        queue.create(spec(said["job_id"], *said["targets"], document=said["document"]), 0)
    assert not queue.repository.runs


def test_a_snapshot_of_a_group_that_nobody_filled_is_refused_and_a_continuous_job_waits_for_it(queue):
    with refused("ResourceNotFound"):
        queue.create(spec("j1", "group:typo"), 0)
    queue.create(spec("j1", "group:later", targetSelection="CONTINUOUS"), 0)
    queue.change_group("later", 1, add=["one"])
    assert statuses(queue, "j1") == {"one": Q}


def test_a_name_is_given_once_and_arns_and_document_strings_are_taken(queue):
    arn = "arn:aws:iot:eu-west-1:123456789012"
    queue.change_group("hall", 0, add=["two"])
    told = spec("j1", f"{arn}:thing/one", f"{arn}:thinggroup/hall", "one", document='{"a": 1}')
    job = queue.create(told, 0)
    assert job.spec.targets == ("one", "group:hall")
    assert bytes(job.spec.document) == b'{"a": 1}'
    with refused("ResourceAlreadyExists"):
        queue.create(told, 1)
