"""Fleet status messages: which are due when, and what they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.components.states import ComponentStatus, Problem, State, StatusCode
from agent.greengrass.fleet import health
from agent.greengrass.fleet.health import CADENCE_S, Happened, Health, HealthEvent
from agent.greengrass.fleet.messages import LIMIT_BYTES, DeviceFacts, encode
from agent.greengrass.fleet.report import ComponentHealth, DeploymentStatus, MessageType, Report, Trigger, health_of

DEVICE = DeviceFacts("thing", "linux", "aarch64")
DEPLOYMENT = DeploymentStatus("id-1", "SUCCEEDED", "arn:configuration:1", "SUCCESSFUL")


def component(name: str, state: State = State.RUNNING, **facts) -> ComponentHealth:
    return ComponentHealth(name, "1.0.0", state, **{"root": True, **facts})


class Fleet:
    """The pure side with its messages."""

    def __init__(self, *, due: float = CADENCE_S, **facts) -> None:
        self.health = Health(sequence=5, due=due, **facts)
        self.now = 0.0
        self.sent: list[Report] = []

    def hear(self, happened: Happened, **facts) -> list[Report]:
        self.health, reports = health.step(self.health, HealthEvent(happened, **facts), self.now)
        self.sent += reports
        return list(reports)

    def change(self, *changed: ComponentHealth, settled: bool = True) -> list[Report]:
        reports = [report for one in changed for report in self.hear(Happened.CHANGED, component=one)]
        return reports + (self.hear(Happened.SETTLED) if settled else [])

    def after(self, seconds: float) -> Fleet:
        self.now += seconds
        return self


def launched() -> Fleet:
    fleet = Fleet()
    fleet.hear(Happened.ONLINE)
    fleet.change(component("a"), component("b"))
    return fleet.after(100.0)


def names(report: Report) -> list[str]:
    return [each.name for each in report.components]


# -- triggers -------------------------------------------------------------------------------------------------------


def test_the_launch_is_told_completely_once_everything_has_settled():
    fleet = Fleet()
    assert fleet.hear(Happened.ONLINE) == []
    assert fleet.change(component("a", State.STARTING), settled=False) == []
    (report,) = fleet.change(component("a"), component("b"))
    assert (report.trigger, report.type, names(report)) == (Trigger.NUCLEUS_LAUNCH, MessageType.COMPLETE, ["a", "b"])
    assert report.sequence == 5
    assert fleet.hear(Happened.SETTLED) == []


def test_a_change_is_told_once_all_have_settled_and_holds_only_what_changed():
    fleet = launched()
    assert fleet.change(component("a", State.STOPPING), settled=False) == []
    (report,) = fleet.change(component("a", State.FINISHED))
    assert (report.trigger, report.type) == (Trigger.COMPONENT_STATUS_CHANGE, MessageType.PARTIAL)
    assert (names(report), report.sequence) == (["a"], 6)


@pytest.mark.parametrize("state", [State.ERRORED, State.BROKEN])
def test_an_error_is_told_at_once(state):
    fleet = launched()
    (report,) = fleet.change(component("a", state), component("b", State.STARTING), settled=False)
    assert (names(report), report.healthy) == (["a"], state is State.ERRORED)


def test_status_changes_are_three_seconds_apart_and_the_wait_is_known():
    fleet = launched()
    assert fleet.change(component("a", State.ERRORED), settled=False)
    fleet.after(1.0)
    assert fleet.change(component("b", State.BROKEN), settled=False) == []
    assert health.wake(fleet.health) == fleet.now + 2.0
    (report,) = fleet.after(2.0).hear(Happened.TICK)
    assert names(report) == ["b"]
    assert health.wake(fleet.health) == CADENCE_S


def test_changes_of_the_agents_own_components_alone_are_not_told():
    fleet = launched()
    assert fleet.change(component("own", system=True)) == []
    (report,) = fleet.change(component("a", State.FINISHED))
    assert set(names(report)) == {"own", "a"}


def test_while_a_deployment_runs_only_the_erroring_component_is_told():
    fleet = launched()
    fleet.hear(Happened.DEPLOYING)
    assert fleet.change(component("a", State.FINISHED)) == []
    (report,) = fleet.change(component("b", State.ERRORED))
    assert names(report) == ["b"]


@pytest.mark.parametrize(
    "trigger", [Trigger.THING_DEPLOYMENT, Trigger.THING_GROUP_DEPLOYMENT, Trigger.LOCAL_DEPLOYMENT]
)
def test_a_deployment_tells_what_changed_what_is_gone_and_names_the_rest(trigger):
    fleet = launched()
    fleet.hear(Happened.DEPLOYING)
    fleet.change(component("new"))
    fleet.hear(Happened.REMOVED, component=component("b", State.FINISHED))
    (report,) = fleet.hear(Happened.DEPLOYED, trigger=trigger, deployment=DEPLOYMENT)
    assert (report.trigger, report.type, report.deployment) == (trigger, MessageType.PARTIAL, DEPLOYMENT)
    assert (names(report), report.unchanged_roots) == (["new", "b"], ("a",))
    assert fleet.after(100.0).hear(Happened.TICK) == []


def test_a_cloud_deployments_result_is_kept_while_offline_and_a_local_ones_is_not():
    fleet = launched()
    fleet.hear(Happened.OFFLINE)
    assert fleet.hear(Happened.DEPLOYED, trigger=Trigger.LOCAL_DEPLOYMENT, deployment=DEPLOYMENT) == []
    (report,) = fleet.hear(Happened.DEPLOYED, trigger=Trigger.THING_GROUP_DEPLOYMENT, deployment=DEPLOYMENT)
    assert report.keep


def test_nothing_else_is_told_while_offline_and_a_reconnect_tells_what_changed():
    fleet = launched()
    fleet.hear(Happened.OFFLINE)
    assert fleet.change(component("a", State.BROKEN)) == []
    (report,) = fleet.hear(Happened.ONLINE)
    assert (report.trigger, report.type, names(report)) == (Trigger.RECONNECT, MessageType.PARTIAL, ["a"])


@pytest.mark.parametrize(("seconds", "told"), [(59.0, False), (60.0, True)])
def test_a_reconnect_without_changes_is_told_only_a_minute_after_the_last_message(seconds, told):
    fleet = Fleet()
    fleet.hear(Happened.ONLINE)
    fleet.change(component("a"))
    fleet.hear(Happened.OFFLINE)
    assert bool(fleet.after(seconds).hear(Happened.ONLINE)) is told


def test_the_cadence_tells_everything_first_after_the_given_delay_then_every_day():
    fleet = Fleet(due=4.0)
    fleet.hear(Happened.ONLINE)
    fleet.change(component("a"))
    assert health.wake(fleet.health) == 4.0
    (report,) = fleet.after(4.0).hear(Happened.TICK)
    assert (report.trigger, report.type, names(report)) == (Trigger.CADENCE, MessageType.COMPLETE, ["a"])
    assert health.wake(fleet.health) == 4.0 + CADENCE_S


@pytest.mark.parametrize("happened", [Happened.OFFLINE, Happened.DEPLOYING])
def test_the_cadence_is_skipped_while_offline_or_deploying(happened):
    fleet = launched()
    fleet.hear(happened)
    assert fleet.after(CADENCE_S).hear(Happened.TICK) == []
    assert health.wake(fleet.health) > fleet.now


def test_a_cadence_faster_than_a_day_is_ignored():
    fleet = Fleet(due=1.0, cadence_s=60.0)
    fleet.after(1.0).hear(Happened.TICK)
    assert fleet.health.due == 1.0 + CADENCE_S


def test_new_settings_of_the_connection_are_told_with_everything():
    (report,) = launched().hear(Happened.RECONFIGURED)
    assert (report.trigger, report.type, names(report)) == (
        Trigger.NETWORK_RECONFIGURE,
        MessageType.COMPLETE,
        ["a", "b"],
    )


EVENTS = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from([Happened.ONLINE, Happened.OFFLINE, Happened.SETTLED, Happened.TICK])),
    st.tuples(st.just("hear"), st.sampled_from([Happened.DEPLOYING, Happened.RECONFIGURED])),
    st.tuples(st.just("change"), st.tuples(st.sampled_from("abc"), st.sampled_from(list(State)))),
    st.tuples(st.just("remove"), st.sampled_from("abc")),
    st.tuples(st.just("deployed"), st.sampled_from([Trigger.LOCAL_DEPLOYMENT, Trigger.THING_DEPLOYMENT])),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 3.0, 100.0])),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_whatever_happens_the_numbers_have_no_gap_and_the_fleet_ends_up_knowing_the_truth(events):
    fleet = Fleet()
    for what, how in events:
        if what == "hear":
            fleet.hear(how)
        elif what == "change":
            fleet.hear(Happened.CHANGED, component=component(*how))
        elif what == "remove":
            fleet.hear(Happened.REMOVED, component=component(how, State.FINISHED))
        elif what == "deployed":
            fleet.hear(Happened.DEPLOYED, trigger=how, deployment=DEPLOYMENT)
        else:
            fleet.after(how)
    fleet.after(100.0)
    for happened in (Happened.ONLINE, Happened.SETTLED):
        fleet.hear(happened)
    fleet.hear(Happened.DEPLOYED, trigger=Trigger.THING_DEPLOYMENT, deployment=DEPLOYMENT)
    fleet.after(10.0).hear(Happened.TICK)
    assert [report.sequence for report in fleet.sent] == list(range(5, 5 + len(fleet.sent)))
    known = {}
    for report in fleet.sent:
        known |= {each.name: each for each in report.components}
    assert {name: known.get(name) for name in fleet.health.components} == fleet.health.components


# -- messages -------------------------------------------------------------------------------------------------------


def test_a_message_is_written_in_the_words_of_greengrass():
    status = ComponentStatus("a", "1.0.0", State.BROKEN, Problem(StatusCode.RUN_ERROR, "It exited with code 3."))
    report = Report(
        Trigger.THING_GROUP_DEPLOYMENT, 7, healthy=False,
        components=(health_of(status, root=True, arns=("arn:1",)), component("b", root=False)),
        deployment=DEPLOYMENT, unchanged_roots=("c",),
    )  # fmt: skip
    (payload,) = encode(report, DEVICE, 1_700_000_000_000)
    assert json.loads(payload) == {
        "ggcVersion": DEVICE.version,
        "platform": "linux",
        "architecture": "aarch64",
        "thing": "thing",
        "overallDeviceStatus": "UNHEALTHY",
        "sequenceNumber": 7,
        "timestamp": 1_700_000_000_000,
        "messageType": "PARTIAL",
        "trigger": "THING_GROUP_DEPLOYMENT",
        "components": [
            {
                "componentName": "a",
                "version": "1.0.0",
                "fleetConfigArns": ["arn:1"],
                "componentStatusDetails": {"statusCodes": ["RUN_ERROR"], "statusReason": "It exited with code 3."},
                "isRoot": True,
                "status": "BROKEN",
            },
            {
                "componentName": "b",
                "version": "1.0.0",
                "fleetConfigArns": [],
                "componentStatusDetails": None,
                "isRoot": False,
                "status": "RUNNING",
            },
        ],
        "deploymentInformation": {
            "status": "SUCCEEDED",
            "statusDetails": {"detailedStatus": "SUCCESSFUL"},
            "fleetConfigurationArnForStatus": "arn:configuration:1",
            "deploymentId": "id-1",
            "unchangedRootComponents": ["c"],
        },
    }


def test_a_problem_is_told_only_of_what_is_errored_or_broken():
    problem = Problem(StatusCode.RUN_ERROR, "It exited with code 3.")
    told = {state: health_of(ComponentStatus("a", "1", state, problem)).codes for state in State}
    assert {state for state, codes in told.items() if codes} == {State.ERRORED, State.BROKEN}


def test_a_failed_deployment_tells_its_cause_stack_and_types():
    failed = DeploymentStatus(
        "id", "FAILED", "", "FAILED_ROLLBACK_COMPLETE", "It broke.", ("A", "B"), ("COMPONENT_ERROR",)
    )
    (payload,) = encode(Report(Trigger.THING_DEPLOYMENT, 1, True, (), failed), DEVICE, 0)
    assert json.loads(payload)["deploymentInformation"]["statusDetails"] == {
        "detailedStatus": "FAILED_ROLLBACK_COMPLETE", "failureCause": "It broke.",
        "errorStack": ["A", "B"], "errorTypes": ["COMPONENT_ERROR"],
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), max_size=60), st.sampled_from([1200, 5000, LIMIT_BYTES]))
def test_chunks_are_within_the_limit_and_together_hold_every_component_once(lengths, limit):
    components = tuple(component(f"c{number}-{'x' * length}") for number, length in enumerate(lengths))
    report = Report(Trigger.CADENCE, 1, True, components)
    payloads = encode(report, DEVICE, 0, limit)
    told = [json.loads(payload) for payload in payloads]
    assert all(len(payload) <= limit for payload in payloads)
    assert [each["componentName"] for one in told for each in one["components"]] == [each.name for each in components]
    if len(told) == 1:
        assert "chunkInfo" not in told[0]
    else:
        numbers = [one["chunkInfo"] for one in told]
        assert numbers == [{"chunkId": n, "totalChunks": len(told)} for n in range(1, len(told) + 1)]
