"""Whatever the wire does to the messages, both ends of the conversation keep their promises."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.aws.jobs.messages import Status
from agent.aws.jobs.retry import Connected, Disconnected
from agent.aws.jobs.service.job import Execution, JobError, JobStatus
from agent.aws.jobs.service.repository import Mailbox
from agent.aws.jobs.service.rules import BY_DEVICE, BY_SERVICE
from agent.aws.jobs.topics import GREENGRASS, JobTopics
from tests.aws.jobs.two_ends import Fleet, spec

ENDS = st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.REJECTED])
PLAIN, DEPLOYED = JobTopics("one"), JobTopics("two", namespace=GREENGRASS)


class AnyWire(RuleBasedStateMachine):
    """Messages are reordered, repeated and lost; devices lose their link and their memory; operators cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(PLAIN, DEPLOYED)
        self.seen: dict[tuple[str, str, int], Execution] = {}
        self.jobs = 0
        self.progressed = 0
        self.meant: set[tuple[str, int, Status]] = set()

    @initialize()
    def connect(self) -> None:
        self.fleet.connect()

    # -- the wire ---------------------------------------------------------------------------------

    def _wires(self) -> list[list]:
        return [wire for wire in (self.fleet.to_service, self.fleet.to_devices) if wire]

    def _deliver(self, wire, message) -> None:
        if wire is self.fleet.to_service:
            self.fleet.serve(message)
        else:
            self.fleet.hand_over(message)

    @precondition(_wires)
    @rule(data=st.data())
    def deliver(self, data) -> None:
        wire = data.draw(st.sampled_from(self._wires()))
        self._deliver(wire, wire.pop(data.draw(st.integers(0, len(wire) - 1))))

    @precondition(_wires)
    @rule(data=st.data())
    def repeat(self, data) -> None:
        wire = data.draw(st.sampled_from(self._wires()))
        self._deliver(wire, wire[data.draw(st.integers(0, len(wire) - 1))])

    @precondition(_wires)
    @rule(data=st.data())
    def lose(self, data) -> None:
        wire = data.draw(st.sampled_from(self._wires()))
        wire.pop(data.draw(st.integers(0, len(wire) - 1)))

    @rule()
    def deliver_all(self) -> None:
        self.fleet.settle()

    @rule(seconds=st.sampled_from([0.5, 12.0, 70.0, 400.0]))
    def wait(self, seconds) -> None:
        self.fleet.wait(seconds)

    # -- devices ----------------------------------------------------------------------------------

    @rule(number=st.integers(0, 1), status=ENDS)
    def finish(self, number, status) -> None:
        if job := self.fleet.devices[number].running:
            self.meant.add((job.job_id, job.execution_number, status))
            self.fleet.devices[number].finish(status, self.fleet.now)

    @rule(number=st.integers(0, 1))
    def progress(self, number) -> None:
        if self.fleet.devices[number].running:
            self.progressed += 1
            self.fleet.devices[number].progress(self.fleet.now, step=str(self.progressed))

    @rule(number=st.integers(0, 1))
    def drop_link(self, number) -> None:
        self.fleet.devices[number].step(Disconnected(), self.fleet.now)

    @rule(number=st.integers(0, 1))
    def restore_link(self, number) -> None:
        self.fleet.devices[number].step(Connected(), self.fleet.now)

    @rule(number=st.integers(0, 1))
    def lose_memory(self, number) -> None:
        self.fleet.devices[number].restart()
        self.fleet.devices[number].step(Connected(), self.fleet.now)

    # -- operators --------------------------------------------------------------------------------

    @rule(
        namespace=st.sampled_from(["", GREENGRASS]),
        minutes=st.sampled_from([None, 1, 5]),
        retries=st.integers(0, 2),
        understood=st.booleans(),
    )
    def create(self, namespace, minutes, retries, understood) -> None:
        self.jobs += 1
        options = {"timeoutConfig": {"inProgressTimeoutInMinutes": minutes}} if minutes else {}
        if retries:
            criteria = {"failureType": "ALL", "numberOfRetries": retries}
            options["jobExecutionsRetryConfig"] = {"criteriaList": [criteria]}
        document = {"components": {}} if understood else {"version": "1.0", "steps": []}
        thing = "two" if namespace else "one"
        told = spec(f"j{self.jobs}", thing, document=document, namespaceId=namespace, **options)
        self.fleet.queue.create(told, self.fleet.now)
        self.fleet.tell()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), force=st.booleans())
    def cancel(self, data, force) -> None:
        job_id = f"j{data.draw(st.integers(1, self.jobs))}"
        try:
            self.fleet.queue.cancel(job_id, self.fleet.now, force=force)
        except JobError as refused:
            assert refused.code == "InvalidStateTransition"  # noqa: PT017 it may have ended
        self.fleet.tell()

    # -- what holds always ------------------------------------------------------------------------

    @invariant()
    def at_most_one_job_is_in_progress_on_a_thing(self) -> None:
        for mailbox in self.fleet.queue.repository.mailboxes():
            pending = self.fleet.queue.repository.pending(mailbox)
            assert sum(one.status is Status.IN_PROGRESS for one in pending) <= 1

    @invariant()
    def versions_grow_with_every_change_and_the_end_is_final(self) -> None:
        for run in self.fleet.queue.repository.runs.values():
            for history in run.executions.values():
                assert [one.number for one in history] == list(range(1, len(history) + 1))
                for now in history:
                    before = self.seen.get((now.job_id, now.thing, now.number), now)
                    assert now == before or now.version > before.version
                    assert not before.status.terminal or now == before
                    assert int(now.details.get("step", 10**9)) >= int(before.details.get("step", 0))
                    self.seen[now.job_id, now.thing, now.number] = now

    @invariant()
    def every_end_is_one_that_the_owner_of_that_run_meant(self) -> None:
        for run in self.fleet.queue.repository.runs.values():
            for one in (each for history in run.executions.values() for each in history):
                refused = one.status is Status.REJECTED and "deployment-failure-cause" in one.details
                if one.status in {Status.SUCCEEDED, Status.FAILED, Status.REJECTED} and not refused:
                    assert (one.job_id, one.number, one.status) in self.meant

    @invariant()
    def a_device_keeps_a_bounded_list_of_what_it_has_to_say(self) -> None:
        assert all(len(device.state.reports) <= 3 for device in self.fleet.devices)

    def teardown(self) -> None:
        """When the wire is kind again, every job ends, each execution once."""
        self.fleet.connect()
        for _ in range(40 * self.jobs + 10):
            self.fleet.settle()
            for device in self.fleet.devices:
                if job := device.running:
                    self.meant.add((job.job_id, job.execution_number, Status.SUCCEEDED))
                    device.finish(Status.SUCCEEDED, self.fleet.now)
            self.fleet.wait(70.0)
            if self._quiet():
                break
        for run in self.fleet.queue.repository.runs.values():
            assert run.job.status is not JobStatus.IN_PROGRESS
            assert all(one.status.terminal for one in run.latest())
        self.versions_grow_with_every_change_and_the_end_is_final()
        self.every_end_is_one_that_the_owner_of_that_run_meant()

    def _quiet(self) -> bool:
        return not self.fleet.queue.repository.mailboxes()


TestAnyWire = AnyWire.TestCase
TestAnyWire.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.fixture
def fleet():
    """One device that has begun its job, which is tried twice."""
    fleet = Fleet(PLAIN)
    fleet.connect()
    retries = {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]}
    fleet.queue.create(spec("j1", "one", jobExecutionsRetryConfig=retries), fleet.now)
    fleet.settle()
    return fleet


def test_a_late_copy_of_progress_does_not_undo_what_came_after(fleet):
    (device,) = fleet.devices
    device.progress(fleet.now, step="1")
    (copy,) = fleet.to_service
    fleet.settle()
    device.progress(fleet.now, step="2")
    fleet.settle()
    fleet.serve(copy)
    assert fleet.queue.find(Mailbox("one", ""), "j1").details == {"step": "2"}


def test_a_late_copy_of_an_end_does_not_end_the_next_run(fleet):
    (device,) = fleet.devices
    device.finish(Status.FAILED, fleet.now)
    (copy,) = fleet.to_service
    fleet.settle()
    assert device.running.execution_number == 2
    fleet.serve(copy)
    fleet.settle()
    assert fleet.statuses("j1") == [("one", 1, "FAILED"), ("one", 2, "IN_PROGRESS")]


def test_every_change_that_a_table_allows_starts_from_a_status_that_is_not_final() -> None:
    assert all(not BY_DEVICE[status] for status in Status if status.terminal)
    assert all(not status.terminal for status in BY_SERVICE)
