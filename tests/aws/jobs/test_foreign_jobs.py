"""A thing with two agents: each does its own jobs, and leaves those of the other alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.aws.jobs.retry import Connected
from agent.aws.jobs.topics import JobTopics
from agent.greengrass.deployments.document import is_foreign
from tests.aws.jobs.two_ends import Device, Fleet, spec

REBOOT = {"operation": "reboot"}
THING = JobTopics("press")


def ours(job: Job) -> bool:
    return not is_foreign(job.document)


def theirs(job: Job) -> bool:
    return is_foreign(job.document)


def create(fleet: Fleet, job_id: str, **more: object) -> None:
    fleet.now += 1
    fleet.queue.create(spec(job_id, "press", **more), fleet.now)
    fleet.settle()


def status(fleet: Fleet, job_id: str) -> Status:
    ((*_, latest),) = fleet.queue.repository.runs[job_id].executions.values()
    return latest.status


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet(THING, wants=[ours])
    made.connect()
    made.settle()
    return made


@pytest.fixture
def device(fleet) -> Device:
    return fleet.devices[0]


@pytest.mark.parametrize("document", [REBOOT, {"afr_ota": {}}, {"version": "1.0", "steps": []}, {"action": "a"}])
def test_a_job_for_another_agent_is_not_begun_and_one_behind_it_is_done(fleet, device, document):
    create(fleet, "theirs", document=document)
    assert (device.running, status(fleet, "theirs")) == (None, Status.QUEUED)
    create(fleet, "ours")
    assert device.running.job_id == "ours"
    device.finish(Status.SUCCEEDED, fleet.now)
    fleet.settle()
    assert (status(fleet, "ours"), status(fleet, "theirs")) == (Status.SUCCEEDED, Status.QUEUED)


def test_ours_is_found_behind_theirs_at_a_start(fleet, device):
    fleet.disconnect()
    for number in range(20):
        create(fleet, f"theirs-{number}", document=REBOOT)
    create(fleet, "ours")
    device.restart()
    fleet.connect()
    fleet.settle()
    assert device.running.job_id == "ours"


def test_theirs_in_progress_does_not_cancel_ours(fleet, device):
    create(fleet, "theirs", document=REBOOT)
    create(fleet, "ours")
    other = Device(THING, fleet.to_service, theirs)
    fleet.devices.append(other)
    other.step(Connected(), fleet.now)
    fleet.settle()
    assert (other.running.job_id, device.running.job_id) == ("theirs", "ours")
    other.finish(Status.SUCCEEDED, fleet.now)
    fleet.settle()
    assert not device.cancelled
    device.finish(Status.SUCCEEDED, fleet.now)
    fleet.settle()
    assert {status(fleet, one) for one in ("ours", "theirs")} == {Status.SUCCEEDED}


def test_ours_that_is_cancelled_at_the_service_is_cancelled_here_though_theirs_is_next(fleet, device):
    create(fleet, "theirs", document=REBOOT)
    create(fleet, "ours")
    fleet.queue.cancel("ours", fleet.now, force=True)
    fleet.settle()
    assert device.cancelled
    device.finish(Status.FAILED, fleet.now)
    fleet.settle()
    create(fleet, "again")
    assert device.running.job_id == "again"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["ours", "theirs", "finish ours", "finish theirs", "break", "tick"]), max_size=20))
def test_with_two_agents_every_job_is_done_by_the_one_it_is_for(steps):
    fleet = Fleet(THING, THING, wants=[ours, theirs])
    fleet.connect()
    for number, step in enumerate([*steps, "ours", "theirs"]):
        fleet.now += 1
        if step in {"ours", "theirs"}:
            create(fleet, f"{step}-{number}", **({"document": REBOOT} if step == "theirs" else {}))
        elif step == "break":
            fleet.disconnect()
            fleet.to_devices.clear()
            fleet.connect()
        elif step == "tick":
            for device in fleet.devices:
                device.tick(fleet.now + 1000)
        else:
            finish(fleet, fleet.devices[step == "finish theirs"])
        fleet.settle()
    for _ in range(2 * len(steps) + 4):
        for device in fleet.devices:
            finish(fleet, device)
    for number, device in enumerate(fleet.devices):
        assert all(job.job_id.startswith(("ours", "theirs")[number]) for job in device.started)
    assert {status(fleet, job_id) for job_id in fleet.queue.repository.runs} == {Status.SUCCEEDED}


def finish(fleet: Fleet, device: Device) -> None:
    if device.running is not None:
        device.finish(Status.SUCCEEDED, fleet.now)
    fleet.settle()
