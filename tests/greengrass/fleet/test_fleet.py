"""Fleet status: how every component is, when that is told, and with which numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.config.models import ModelOptions
from agent.config.streams import InputOptions, StreamOptions
from agent.greengrass.components.states import ComponentStatus, Problem, State, StatusCode
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.ledger import Ledger
from agent.greengrass.deployments.outcome import DeploymentEnded, DetailedStatus, Outcome
from agent.greengrass.deployments.plan import ComponentKind
from agent.greengrass.deployments.repository import BUILTINS, NUCLEUS
from agent.greengrass.deployments.request import Deployment, Groups, Origin
from agent.greengrass.deployments.state import Active, ActiveSet, DeployedState
from agent.greengrass.deployments.status import DeviceView, component_statuses
from agent.greengrass.deployments.target import DeploymentTarget, ModelTarget
from agent.greengrass.fleet import service as fleets
from agent.greengrass.fleet.messages import LIMIT_BYTES, DeviceFacts
from agent.greengrass.fleet.report import ComponentHealth
from agent.greengrass.fleet.service import FleetStatus, component_health, health_topic
from agent.greengrass.recipes.recipe import Manifest, Recipe
from agent.greengrass.recipes.versions import Version
from agent.inference.manifest import Manifest as ModelManifest
from agent.inference.manifest import ModelSpec
from agent.inference.values import PoolState, PoolStatus
from tests.support.inbox import Inbox, connected
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

TOPIC = health_topic("thing", "verge/aws")
ARN = "arn:aws:greengrass:eu-west-1:1:configuration:thinggroup/lab:7"
DONE = Outcome(DetailedStatus.SUCCESSFUL)


# -- the roster -----------------------------------------------------------------------------------------------------


def active(groups: Mapping[str, Mapping[str, str]] | None = None, **kinds: ComponentKind) -> DeployedState:
    recipes = {name: Recipe(name, Version(1, 0, 0), manifests=(Manifest(),)) for name in kinds}
    found = {name: Active(recipes[name], Manifest(), kind) for name, kind in kinds.items()}
    return DeployedState(ActiveSet(found), groups=Groups.of(groups or {}))


def live() -> DeploymentTarget:
    """A stream over one model."""
    spec = ModelSpec(manifest=ModelManifest(file="model.tflite"), run=ModelOptions(source="model.tflite"))
    model = ModelTarget("model", spec, None)
    stream = StreamOptions(model="model@1.0.0#1", input=InputOptions(topic="frames"))
    return DeploymentTarget({"model@1.0.0#1": model}, {"cameras": stream})


def nobody(key: str) -> PoolStatus:
    raise AssertionError(key)


def listed(now, target, scripts, pools, arns) -> dict[str, ComponentHealth]:
    return component_health(now, component_statuses(DeviceView(now, target, scripts, pools)), arns)


def test_the_nucleus_is_always_there_and_bears_the_configurations_of_every_group() -> None:
    told = listed(
        active({"lab": {"a": "*"}, "hall": {"a": "*"}}), DeploymentTarget(), {}, nobody, {"lab": "1", "hall": "2"}
    )
    nucleus = told[NUCLEUS]
    assert (nucleus.state, nucleus.system, nucleus.root, nucleus.arns) == (State.RUNNING, True, False, ("2", "1"))
    assert nucleus.version == str(BUILTINS[NUCLEUS].version)


@pytest.mark.parametrize(
    ("pool", "state"),
    [
        (PoolState.STARTING, State.STARTING),
        (PoolState.RUNNING, State.RUNNING),
        (PoolState.BACKOFF, State.ERRORED),
        (PoolState.BROKEN, State.BROKEN),
        (PoolState.STOPPED, State.FINISHED),
    ],
)
def test_models_and_streams_are_as_the_workers_are_and_say_what_is_wrong(pool, state) -> None:
    now = active({"lab": {"cameras": "*"}}, model=ComponentKind.MODEL, cameras=ComponentKind.INFERENCE)
    told = listed(now, live(), {}, lambda _key: PoolStatus(pool, "it died"), {"lab": ARN})
    wrong = (("RUN_ERROR",), "it died") if state in {State.ERRORED, State.BROKEN} else ((), "")
    for name in ("model", "cameras"):
        assert (told[name].state, (told[name].codes, told[name].reason)) == (state, wrong)
    assert (told["cameras"].root, told["cameras"].arns) == (True, (ARN,))
    assert (told["model"].root, told["model"].arns) == (False, ())


def test_a_model_that_no_stream_uses_is_finished() -> None:
    assert (
        listed(active(model=ComponentKind.MODEL), DeploymentTarget(), {}, nobody, {})["model"].state is State.FINISHED
    )


def test_scripts_are_as_their_supervisor_says_also_when_they_are_not_active_yet() -> None:
    broken = ComponentStatus("a", "1.0.0", State.BROKEN, Problem(StatusCode.INSTALL_ERROR, "it exited with code 3"))
    new = ComponentStatus("b", "2.0.0", State.STARTING)
    told = listed(active(a=ComponentKind.GENERIC), DeploymentTarget(), {"a": broken, "b": new}, nobody, {})
    assert (told["a"].state, told["a"].codes) == (State.BROKEN, ("INSTALL_ERROR",))
    assert (told["b"].version, told["b"].state, told["b"].root) == ("2.0.0", State.STARTING, False)


@pytest.mark.parametrize("kind", [ComponentKind.GENERIC, ComponentKind.INFERENCE])
def test_what_is_active_and_could_not_be_made_live_is_broken(kind) -> None:
    one = listed(active(a=kind), DeploymentTarget(), {}, nobody, {})["a"]
    assert (one.state, one.codes) == (State.BROKEN, ("STARTUP_ERROR",))


# -- what is sent -----------------------------------------------------------------------------------------------------


class Simulated:
    """A device whose components are what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.components: dict[str, ComponentHealth] = {}
        self.arns: Mapping[str, str] = {}
        self.bus = MemoryBus()
        self.inbox = Inbox()

    def present(self, arns: Mapping[str, str]) -> dict[str, ComponentHealth]:
        self.arns = dict(arns)
        return dict(self.components)

    def has(self, name: str, state: State = State.RUNNING, **facts: Any) -> None:
        self.components[name] = ComponentHealth(name, "1.0.0", state, root=True, **facts)

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.inbox.payloads]

    async def hears(self, trigger: str, count: int = 1) -> dict[str, Any]:
        """The last message of a trigger, once there are ``count``."""
        await self.inbox.until(lambda _: sum(told["trigger"] == trigger for told in self.heard) >= count)
        return [told for told in self.heard if told["trigger"] == trigger][-1]


@pytest.fixture
def device(tmp_path: Path) -> Simulated:
    return Simulated(tmp_path)


class Running:
    """Its fleet status at work, with its link and ledger."""

    def __init__(self, status: FleetStatus, link: MemoryTransport, ledger: Ledger) -> None:
        self.status = status
        self.link = link
        self.ledger = ledger


@asynccontextmanager
async def running(device: Simulated, *, sending: bool = True) -> AsyncIterator[Running]:
    async with (
        MemoryTransport(device.bus, "ears") as ears,
        MemoryTransport(device.bus, "link") as link,
        Ledger(device.folder / "ledger.db") as ledger,
        Supervisor(run=device.folder / "run", logs=device.folder / "logs", env={}) as supervisor,
        asyncio.TaskGroup() as tasks,
    ):
        ears.subscribe(TOPIC, device.inbox, qos=1)
        await connected(link)
        facts = DeviceFacts("thing", "linux", "amd64")
        made = FleetStatus(link, ledger, supervisor, device.present, device=facts, topic=TOPIC)
        async with made as status:
            work = tasks.create_task(status.run()) if sending else None
            yield Running(status, link, ledger)
            if work is not None:
                work.cancel()


def end(source: Origin = Origin.TOPIC, outcome: Outcome = DONE, arn: str | None = None) -> DeploymentEnded:
    made = Deployment("d", source, "thinggroup/lab", 1, revision_arn=arn)
    return DeploymentEnded("d", source, outcome, made)


@pytest.mark.parametrize(
    ("source", "trigger"),
    [
        (Origin.JOB, "THING_GROUP_DEPLOYMENT"),
        (Origin.SHADOW, "THING_DEPLOYMENT"),
        (Origin.TOPIC, "LOCAL_DEPLOYMENT"),
        (Origin.LOCAL, "LOCAL_DEPLOYMENT"),
    ],
)
async def test_a_deployment_is_told_by_where_it_came_from_with_what_it_changed(device, source, trigger) -> None:
    device.has("a")
    device.has("b")
    async with running(device) as at:
        await device.hears("NUCLEUS_LAUNCH")
        at.status.began()
        device.has("new")
        del device.components["b"]
        failure = Outcome(DetailedStatus.FAILED_ROLLBACK_COMPLETE, "It broke.", ("A", "B"), ("COMPONENT_ERROR",))
        at.status.ended(end(source, failure))
        told = await device.hears(trigger)
    assert {each["componentName"]: each["status"] for each in told["components"]} == {"new": "RUNNING", "b": "FINISHED"}
    information = told["deploymentInformation"]
    assert (information["status"], information["deploymentId"]) == ("FAILED", "d")
    assert information["unchangedRootComponents"] == ["a"]
    assert information["statusDetails"] == {
        "detailedStatus": "FAILED_ROLLBACK_COMPLETE", "failureCause": "It broke.",
        "errorStack": ["A", "B"], "errorTypes": ["COMPONENT_ERROR"],
    }  # fmt: skip


async def test_what_changed_while_the_link_was_down_is_told_when_it_is_back(device) -> None:
    device.has("a")
    async with running(device) as at:
        await device.hears("NUCLEUS_LAUNCH")
        at.link.drop()
        device.has("a", State.BROKEN, codes=("RUN_ERROR",), reason="It exited with code 3.")
        at.status.changed()
        at.link.restore()
        told = await device.hears("RECONNECT")
    assert (told["messageType"], told["overallDeviceStatus"]) == ("PARTIAL", "UNHEALTHY")
    assert told["components"][0]["componentStatusDetails"]["statusCodes"] == ["RUN_ERROR"]


async def test_the_end_of_a_cloud_deployment_waits_for_the_link(device) -> None:
    async with running(device) as at:
        await device.hears("NUCLEUS_LAUNCH")
        at.link.drop()
        at.status.ended(end(Origin.JOB))

        async def on_its_way():
            return await at.ledger.number("fleet-status-sequence") == 2

        await until(on_its_way)
        await asyncio.sleep(0)
        assert [told["trigger"] for told in device.heard] == ["NUCLEUS_LAUNCH"]
        at.link.restore()
        assert (await device.hears("THING_GROUP_DEPLOYMENT"))["sequenceNumber"] == 1


async def test_numbers_go_on_over_a_restart_and_are_kept_before_they_are_used(device) -> None:
    for start in (0, 1):
        async with running(device) as at:
            assert (await device.hears("NUCLEUS_LAUNCH", start + 1))["sequenceNumber"] == start
            assert await at.ledger.number("fleet-status-sequence") == start + 1


async def test_a_cadence_that_is_overdue_is_made_up_for_and_the_next_is_a_day_later(device, monkeypatch) -> None:
    monkeypatch.setattr(fleets.random, "uniform", lambda _low, _high: 0.0)
    async with Ledger(device.folder / "ledger.db") as ledger:
        await ledger.number("fleet-status-cadence", 1)
    async with running(device) as at:
        assert (await device.hears("CADENCE"))["messageType"] == "COMPLETE"
        assert await at.ledger.number("fleet-status-cadence") > 1
    heard = len(device.heard)
    async with running(device):
        await device.hears("NUCLEUS_LAUNCH", 2)
    assert [told["trigger"] for told in device.heard[heard:]] == ["NUCLEUS_LAUNCH"]


async def test_the_configuration_that_a_group_deployed_last_is_known_now_and_after_a_restart(device) -> None:
    async with running(device) as at:
        at.status.ended(end(Origin.JOB, Outcome(DetailedStatus.FAILED_NO_STATE_CHANGE), ARN))
        assert device.arns == {}
        at.status.ended(end(Origin.JOB, DONE, ARN))
        assert device.arns == {"thinggroup/lab": ARN}
        document = json.dumps({"deploymentId": "d", "configurationArn": ARN, "components": {}}).encode()
        await at.ledger.commit(await at.ledger.receive("d", "IOT_JOBS/j/1", document, 1), b"{}", b"{}")
    async with running(device):
        assert device.arns == {"thinggroup/lab": ARN}


async def test_a_message_that_is_too_long_goes_out_in_chunks_of_one_number(device) -> None:
    for number in range(2 * LIMIT_BYTES // 1000):
        device.has(f"c{number}-{'x' * 900}")
    async with running(device):
        chunks = (await device.hears("NUCLEUS_LAUNCH"))["chunkInfo"]["totalChunks"]
        await device.inbox.wait(chunks)
    assert len(device.heard) > 1
    assert {told["sequenceNumber"] for told in device.heard} == {0}
    assert all(len(payload) <= LIMIT_BYTES for payload in device.inbox.payloads)


async def test_what_finds_the_outbox_full_is_counted(device) -> None:
    async with running(device, sending=False) as at:
        for _ in range(70):
            at.status.ended(end(Origin.JOB))
        assert at.status.dropped == 70 - 64


async def test_nothing_is_told_once_it_is_left(device) -> None:
    async with running(device) as at:
        await device.hears("NUCLEUS_LAUNCH")
    device.has("a", State.BROKEN)
    at.status.changed()
    at.status.ended(end(Origin.JOB))
    assert at.status.dropped == 0
    assert len(device.heard) == 1
