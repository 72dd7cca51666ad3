"""The deployment shadow: the device's machine, and over a bus against a shadow that keeps AWS's rules."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.aws.jobs.client import ShadowClient
from agent.aws.jobs.retry import Connected, Disconnected, Pace, ReportAccepted, RequestRejected, Tick
from agent.aws.jobs.shadow import (
    CANCELED,
    CancelDeployment,
    GetRejected,
    GetShadow,
    ReportRequested,
    Shadow,
    ShadowChanged,
    ShadowDeployment,
    ShadowReceived,
    ShadowReport,
    StartDeployment,
    UpdateShadow,
    due,
    reported_state,
    step,
)
from agent.aws.jobs.topics import ShadowTopics
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.shadow import CloudShadow

PACE = Pace(first_s=10, backoff_s=1, cap_s=60, refresh_s=300)
ARN = "arn:aws:greengrass:eu-west-1:123456789012:configuration:thing/one:1"
OTHER = ARN[:-1] + "2"


def desired(arn=ARN, status="SUCCEEDED"):
    return {"fleetConfig": json.dumps({"configurationArn": arn, "components": {}}), "desiredStatus": status}


def document(arn=ARN):
    return desired(arn)["fleetConfig"].encode()


class Talk:
    def __init__(self) -> None:
        self.state = Shadow("s", PACE)
        self.now = 0.0

    def step(self, event):
        self.state, effects = step(self.state, event, self.now)
        return effects


@pytest.fixture
def talk():
    talk = Talk()
    assert talk.step(Connected()) == (GetShadow(),)
    return talk


@pytest.fixture
def running(talk):
    assert talk.step(ShadowReceived(3, desired(), {})) == (StartDeployment(ShadowDeployment(ARN, document())),)
    return talk


@pytest.mark.parametrize(
    ("wanted", "reported"),
    [
        (desired(status=CANCELED), {}),
        (desired(), {"fleetConfigurationArnForStatus": ARN, "status": "SUCCEEDED"}),
        (desired(), {"fleetConfigurationArnForStatus": ARN, "status": "FAILED"}),
        ({**desired(), "desiredStatus": None}, {}),
        ({"desiredStatus": "SUCCEEDED"}, {}),
        ({**desired(), "fleetConfig": "{"}, {}),
        ({**desired(), "fleetConfig": "{}"}, {}),
        ({**desired(), "fleetConfig": "[]"}, {}),
        ({}, {}),
    ],
)
def test_at_start_up_what_is_over_cancelled_or_not_whole_is_not_begun(talk, wanted, reported):
    assert talk.step(ShadowReceived(3, wanted, reported)) == ()


def test_at_start_up_what_was_in_progress_is_begun_again(talk):
    reported = {"fleetConfigurationArnForStatus": ARN, "status": "IN_PROGRESS"}
    assert talk.step(ShadowReceived(3, desired(), reported)) == (StartDeployment(ShadowDeployment(ARN, document())),)


def test_the_same_deployment_is_begun_once_and_cancelled_once(running):
    assert running.step(ShadowReceived(4, desired(), {})) == ()
    assert running.step(ShadowReceived(5, desired(status=CANCELED), {})) == (CancelDeployment(ARN),)
    assert running.step(ShadowReceived(6, desired(status=CANCELED), {})) == ()


def test_a_new_revision_is_another_deployment_and_one_that_comes_cancelled_is_none(running):
    assert running.step(ShadowReceived(4, desired(OTHER), {})) == (
        StartDeployment(ShadowDeployment(OTHER, document(OTHER))),
    )
    assert running.step(ShadowReceived(5, desired(ARN, CANCELED), {})) == ()


def test_an_older_version_is_ignored(running):
    assert running.step(ShadowReceived(2, desired(OTHER), {})) == ()


def test_a_change_by_others_gets_the_whole_shadow(running):
    assert running.step(ShadowChanged(3)) == ()
    assert running.step(ShadowChanged(4)) == (GetShadow(),)


def test_a_report_goes_out_with_the_version_seen_and_is_told_once(running):
    report = ShadowReport(ARN, "IN_PROGRESS")
    (put,) = running.step(ReportRequested(report))
    assert put == UpdateShadow("s-2", report, 3)
    assert running.step(ReportAccepted("s-2", 4)) == ()
    assert running.step(ShadowReceived(5, desired(), reported_state(report))) == ()


def test_a_rejected_report_is_sent_again_if_the_shadow_still_differs(running):
    report = ShadowReport(ARN, "SUCCEEDED", "SUCCESSFUL")
    running.step(ReportRequested(report))
    assert running.step(RequestRejected("s-2", "409")) == (GetShadow(),)
    (put,) = running.step(ShadowReceived(7, desired(), {"status": "IN_PROGRESS"}))
    assert (put.report, put.version) == (report, 7)
    running.step(RequestRejected(put.token, "409"))
    running.now = due(running.state)
    assert running.step(Tick()) == (GetShadow(),)
    assert running.step(ShadowReceived(8, desired(), reported_state(report))) == ()


def test_only_the_last_report_counts(running):
    (put,) = running.step(ReportRequested(ShadowReport(ARN, "IN_PROGRESS")))
    running.step(ReportRequested(ShadowReport(ARN, "FAILED")))
    running.step(ReportRequested(ShadowReport(ARN, "SUCCEEDED")))
    (again,) = running.step(ReportAccepted(put.token, 4))
    assert (again.report.status, again.version) == ("SUCCEEDED", 4)


def test_a_report_made_without_a_link_is_sent_after_the_shadow_was_got(running):
    running.step(Disconnected())
    assert running.step(ReportRequested(ShadowReport(ARN, "SUCCEEDED"))) == ()
    assert running.step(Connected()) == (GetShadow(),)
    (put,) = running.step(ShadowReceived(9, desired(), {}))
    assert (put.report.status, put.version) == ("SUCCEEDED", 9)


def test_a_question_without_an_answer_is_repeated_and_no_shadow_is_an_answer(talk):
    talk.now = due(talk.state)
    assert talk.step(Tick()) == (GetShadow(),)
    assert talk.step(GetRejected(404)) == ()
    assert due(talk.state) == talk.now + 300
    assert talk.step(ShadowReceived(1, desired(), {})) == (StartDeployment(ShadowDeployment(ARN, document())),)


EVENTS = st.one_of(
    st.sampled_from([Connected(), Disconnected(), Tick(), GetRejected(404), GetRejected(500)]),
    st.builds(
        ShadowReceived,
        st.integers(1, 9),
        st.builds(desired, st.sampled_from([ARN, OTHER]), st.sampled_from(["SUCCEEDED", CANCELED])),
        st.sampled_from([{}, reported_state(ShadowReport(ARN, "SUCCEEDED"))]),
    ),
    st.builds(ShadowChanged, st.integers(1, 9)),
    st.builds(ReportAccepted, st.sampled_from(["s-1", "s-2", "s-3"]), st.integers(1, 9)),
    st.builds(RequestRejected, st.sampled_from(["s-1", "s-2", "s-3"]), st.sampled_from(["400", "409", "500"])),
    st.builds(ReportRequested, st.builds(ShadowReport, st.just(ARN), st.sampled_from(["IN_PROGRESS", "SUCCEEDED"]))),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 5.0, 400.0])), max_size=40))
def test_no_order_of_events_begins_the_deployment_seen_last_again_or_speaks_without_a_link(steps):
    talk = Talk()
    for event, waits in steps:
        talk.now += waits
        last = talk.state.arn
        for effect in talk.step(event):
            match effect:
                case StartDeployment(deployment):
                    assert deployment.arn not in {last, None}
                case CancelDeployment(arn):
                    assert arn == talk.state.arn
                case _:
                    assert talk.state.connected
        assert (due(talk.state) is None) == (not talk.state.connected)


# -- over a bus -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def both_ends():
    bus = MemoryBus()
    started, cancelled = asyncio.Queue(), asyncio.Queue()
    async with MemoryTransport(bus, "cloud") as cloud, MemoryTransport(bus, "device") as transport:
        shadow = CloudShadow(cloud, ShadowTopics("one").base)
        await asyncio.sleep(0)
        client = ShadowClient(
            transport,
            "one",
            on_deployment=started.put_nowait,
            on_cancel=cancelled.put_nowait,
            nucleus_version="2.12.0",
            pace=Pace(first_s=0.2, backoff_s=0.01, cap_s=0.5),
        )
        async with client:
            yield shadow, client, transport, started, cancelled


async def test_a_deployment_comes_by_the_shadow_and_its_end_is_reported_there():
    async with both_ends() as (shadow, client, _, started, cancelled):
        shadow.put({"desired": desired()})
        deployment = await asyncio.wait_for(started.get(), 5)
        client.report(ShadowReport(deployment.arn, "IN_PROGRESS"))
        client.report(
            ShadowReport(deployment.arn, "FAILED", "FAILED_ROLLBACK_COMPLETE", "broken", ("DEPLOYMENT_FAILURE",))
        )
        assert await shadow.reported("FAILED") == {
            "fleetConfigurationArnForStatus": ARN,
            "status": "FAILED",
            "statusDetails": {
                "detailedStatus": "FAILED_ROLLBACK_COMPLETE",
                "failureCause": "broken",
                "errorStack": ["DEPLOYMENT_FAILURE"],
                "errorTypes": [],
            },
            "ggcVersion": "2.12.0",
        }
        shadow.put({"desired": desired(status=CANCELED)})
        assert await asyncio.wait_for(cancelled.get(), 5) == ARN


async def test_a_report_survives_an_outage_and_a_version_conflict():
    async with both_ends() as (shadow, client, transport, started, _):
        shadow.put({"desired": desired()})
        await asyncio.wait_for(started.get(), 5)
        transport.drop()
        client.report(ShadowReport(ARN, "SUCCEEDED", "SUCCESSFUL"))
        shadow.put({"desired": {"other": 1}})
        transport.restore()
        await shadow.reported("SUCCEEDED")
        shadow.version += 5
        client.report(ShadowReport(ARN, "FAILED"))
        await shadow.reported("FAILED")
