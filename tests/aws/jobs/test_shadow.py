"""The deployment shadow: the device's machine, and over a bus against a shadow that keeps AWS's rules."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.aws.jobs.events import Connected, Disconnected, Tick
from agent.aws.jobs.pace import Pace
from agent.aws.jobs.shadow import CANCELED, Shadow, due, step, told
from agent.aws.jobs.shadow_client import ShadowClient, shadow_base
from agent.aws.jobs.shadow_events import (
    CancelDeployment,
    Changed,
    Deployment,
    Get,
    Got,
    Missing,
    Put,
    Rejected,
    Report,
    StartDeployment,
    Taken,
    Wanted,
)
from agent.mqtt.memory import MemoryBus, MemoryTransport
from tests.support.shadow import CloudShadow

PACE = Pace(first_s=10, setback_s=1, cap_s=60, refresh_s=300)
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

    def hear(self, event):
        self.state, effects = step(self.state, event, self.now)
        return effects


@pytest.fixture
def talk():
    talk = Talk()
    assert talk.hear(Connected()) == (Get(),)
    return talk


@pytest.fixture
def running(talk):
    assert talk.hear(Got(3, desired(), {})) == (StartDeployment(Deployment(ARN, document())),)
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
    assert talk.hear(Got(3, wanted, reported)) == ()


def test_at_start_up_what_was_in_progress_is_begun_again(talk):
    reported = {"fleetConfigurationArnForStatus": ARN, "status": "IN_PROGRESS"}
    assert talk.hear(Got(3, desired(), reported)) == (StartDeployment(Deployment(ARN, document())),)


def test_the_same_deployment_is_begun_once_and_cancelled_once(running):
    assert running.hear(Got(4, desired(), {})) == ()
    assert running.hear(Got(5, desired(status=CANCELED), {})) == (CancelDeployment(ARN),)
    assert running.hear(Got(6, desired(status=CANCELED), {})) == ()


def test_a_new_revision_is_another_deployment_and_one_that_comes_cancelled_is_none(running):
    assert running.hear(Got(4, desired(OTHER), {})) == (StartDeployment(Deployment(OTHER, document(OTHER))),)
    assert running.hear(Got(5, desired(ARN, CANCELED), {})) == ()


def test_an_older_version_is_ignored(running):
    assert running.hear(Got(2, desired(OTHER), {})) == ()


def test_a_change_by_others_gets_the_whole_shadow(running):
    assert running.hear(Changed(3)) == ()
    assert running.hear(Changed(4)) == (Get(),)


def test_a_report_goes_out_with_the_version_seen_and_is_told_once(running):
    report = Report(ARN, "IN_PROGRESS")
    (put,) = running.hear(Wanted(report))
    assert put == Put("s-2", report, 3)
    assert running.hear(Taken("s-2", 4)) == ()
    assert running.hear(Got(5, desired(), told(report))) == ()


def test_a_rejected_report_is_sent_again_if_the_shadow_still_differs(running):
    report = Report(ARN, "SUCCEEDED", "SUCCESSFUL")
    running.hear(Wanted(report))
    assert running.hear(Rejected("s-2", 409)) == (Get(),)
    (put,) = running.hear(Got(7, desired(), {"status": "IN_PROGRESS"}))
    assert (put.report, put.version) == (report, 7)
    running.hear(Rejected(put.token, 409))
    running.now = due(running.state)
    assert running.hear(Tick()) == (Get(),)
    assert running.hear(Got(8, desired(), told(report))) == ()


def test_only_the_last_report_counts(running):
    (put,) = running.hear(Wanted(Report(ARN, "IN_PROGRESS")))
    running.hear(Wanted(Report(ARN, "FAILED")))
    running.hear(Wanted(Report(ARN, "SUCCEEDED")))
    (again,) = running.hear(Taken(put.token, 4))
    assert (again.report.status, again.version) == ("SUCCEEDED", 4)


def test_a_report_made_without_a_link_is_sent_after_the_shadow_was_got(running):
    running.hear(Disconnected())
    assert running.hear(Wanted(Report(ARN, "SUCCEEDED"))) == ()
    assert running.hear(Connected()) == (Get(),)
    (put,) = running.hear(Got(9, desired(), {}))
    assert (put.report.status, put.version) == ("SUCCEEDED", 9)


def test_a_question_without_an_answer_is_repeated_and_no_shadow_is_an_answer(talk):
    talk.now = due(talk.state)
    assert talk.hear(Tick()) == (Get(),)
    assert talk.hear(Missing(404)) == ()
    assert due(talk.state) == talk.now + 300
    assert talk.hear(Got(1, desired(), {})) == (StartDeployment(Deployment(ARN, document())),)


EVENTS = st.one_of(
    st.sampled_from([Connected(), Disconnected(), Tick(), Missing(404), Missing(500)]),
    st.builds(
        Got,
        st.integers(1, 9),
        st.builds(desired, st.sampled_from([ARN, OTHER]), st.sampled_from(["SUCCEEDED", CANCELED])),
        st.sampled_from([{}, told(Report(ARN, "SUCCEEDED"))]),
    ),
    st.builds(Changed, st.integers(1, 9)),
    st.builds(Taken, st.sampled_from(["s-1", "s-2", "s-3"]), st.integers(1, 9)),
    st.builds(Rejected, st.sampled_from(["s-1", "s-2", "s-3"]), st.sampled_from([400, 409, 500])),
    st.builds(Wanted, st.builds(Report, st.just(ARN), st.sampled_from(["IN_PROGRESS", "SUCCEEDED"]))),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 5.0, 400.0])), max_size=40))
def test_no_order_of_events_begins_the_deployment_seen_last_again_or_speaks_without_a_link(steps):
    talk = Talk()
    for event, waits in steps:
        talk.now += waits
        last = talk.state.arn
        for effect in talk.hear(event):
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
        shadow = CloudShadow(cloud, shadow_base("one"))
        await asyncio.sleep(0)
        client = ShadowClient(
            transport,
            "one",
            on_deployment=started.put_nowait,
            on_cancel=cancelled.put_nowait,
            nucleus_version="2.12.0",
            pace=Pace(first_s=0.2, setback_s=0.01, cap_s=0.5),
        )
        async with client:
            yield shadow, client, transport, started, cancelled


async def test_a_deployment_comes_by_the_shadow_and_its_end_is_reported_there():
    async with both_ends() as (shadow, client, _, started, cancelled):
        shadow.put({"desired": desired()})
        deployment = await asyncio.wait_for(started.get(), 5)
        client.report(Report(deployment.arn, "IN_PROGRESS"))
        client.report(Report(deployment.arn, "FAILED", "FAILED_ROLLBACK_COMPLETE", "broken", ("DEPLOYMENT_FAILURE",)))
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
        client.report(Report(ARN, "SUCCEEDED", "SUCCESSFUL"))
        shadow.put({"desired": {"other": 1}})
        transport.restore()
        await shadow.reported("SUCCEEDED")
        shadow.version += 5
        client.report(Report(ARN, "FAILED"))
        await shadow.reported("FAILED")
