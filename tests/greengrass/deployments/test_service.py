"""A service with real scripts, a real ledger and a bus in memory: what is written when, and who is informed."""

from __future__ import annotations

import asyncio
import getpass
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config.streams import FrameLimits
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.components.spec import RunAs
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments import waiting as waits
from agent.greengrass.deployments.activation import Activator
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Ledger, Step
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome
from agent.greengrass.deployments.repository import RecipeStore
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import Arrival, Requester
from agent.greengrass.deployments.service import DeploymentService
from agent.greengrass.deployments.target import EnvironmentManager
from agent.greengrass.deployments.transaction import Workspace
from agent.greengrass.recipes import platform
from agent.greengrass.trust.policy import Link, LinkKind, TrustPolicy
from agent.inference.environments.provider import Provider
from agent.inference.plane import InferencePlane
from agent.mqtt.transport import Message
from agent.streams.streams import Streams
from agent.topics import Topics
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

NOTHING = {"components": {}}
ANYBODY_HERE = TrustPolicy(Link(LinkKind.LOCAL))


class Waiting(Requester):
    """Keeps what it is informed of."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def progress(self, step: Step) -> None:
        self.steps.append(step)

    def ended(self, identity: str, outcome: Outcome) -> None:
        del identity
        self.end.set_result(outcome)


class Recording(Ledger):
    """Keeps the steps that are written, and calls ``after_step`` then."""

    after_step: Callable[[Step], None] = staticmethod(lambda _step: None)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.steps: list[Step] = []

    async def step(self, seq: int, step: Step) -> None:
        await super().step(seq, step)
        self.steps.append(step)
        self.after_step(step)


class Device:
    """A service at work, its ledger, and a way to deploy."""

    def __init__(self, service: DeploymentService, ledger: Recording, workspace: Workspace, bus: MemoryBus) -> None:
        self.service = service
        self.bus = bus
        self.ledger = ledger
        self.workspace = workspace

    async def deploy(self, document: Mapping[str, Any]) -> tuple[Outcome, list[Step]]:
        """The end, and the steps that the requester was informed of."""
        requester = Waiting()
        self.service.submit(Arrival(Origin.TOPIC, json.dumps(document).encode(), requester))
        async with asyncio.timeout(20):
            return await requester.end, requester.steps


@asynccontextmanager
async def running(
    folder: Path,
    change: Callable[[Workspace], Workspace] = lambda it: it,
    trust: TrustPolicy = ANYBODY_HERE,
) -> AsyncIterator[Device]:
    layout, bus = Layout(folder), MemoryBus()
    async with (
        MemoryTransport(bus, "agent") as transport,
        Recording(layout.ledger) as ledger,
        Supervisor(run=layout.run, logs=layout.logs, env={}, run_as=RunAs(getpass.getuser())) as supervisor,
        asyncio.TaskGroup() as tasks,
        InferencePlane(tasks, folder / "quarantine") as plane,
    ):
        nothing = {"added": lambda _stream: None, "removed": lambda _stream: None, "changed": lambda: None}
        streams = Streams(
            "t",
            plane,
            {"local": transport},
            folder,
            memory=folder / "streams",
            limits=FrameLimits(),
            room=lambda _transport: 1,
            **nothing,
        )
        workspace = Workspace(
            "t", layout, RecipeStore(layout.recipes), Fetcher(Cache(layout.cache)),
            EnvironmentManager(Provider(), layout), Activator(plane, streams, supervisor),
            platform.detect(), {},
        )  # fmt: skip
        service = DeploymentService(change(workspace), ledger, transport, Topics("t"), trust)
        await service.open()
        serving = tasks.create_task(service.serve(tasks))
        yield Device(service, ledger, workspace, bus)
        serving.cancel()
        await service.close()


def scripts(version: str, **lifecycle: Any) -> dict[str, Any]:
    """A document that brings one component of scripts."""
    recipe = {
        "RecipeFormatVersion": "2020-01-25", "ComponentName": "app", "ComponentVersion": version,
        "Manifests": [{"Lifecycle": lifecycle}],
    }  # fmt: skip
    return {"components": {"app": {"version": version}}, "recipes": [recipe]}


async def test_each_step_is_written_before_it_is_reported_and_taken(tmp_path) -> None:
    async with running(tmp_path) as device:
        outcome, reported = await device.deploy(NOTHING)
        steps = [Step.RESOLVED, Step.STAGED, Step.ACTIVATING, Step.VERIFYING]
        assert (outcome.status, device.ledger.steps, reported) == (DetailedStatus.SUCCESSFUL, steps, steps)


async def test_a_deployment_that_is_cancelled_while_it_is_staged_is_canceled_and_changes_nothing(tmp_path) -> None:
    async with running(tmp_path) as device:
        before = device.service.state
        device.ledger.after_step = lambda step: device.service.cancel("mine") if step is Step.STAGED else None
        outcome, _ = await device.deploy({"deploymentId": "mine", **NOTHING})
        assert (outcome.status, device.service.state) == (DetailedStatus.CANCELED, before)
        assert Step.ACTIVATING not in device.ledger.steps


async def test_a_deployment_that_is_cancelled_once_it_changes_something_goes_on(tmp_path) -> None:
    async with running(tmp_path) as device:
        device.ledger.after_step = lambda step: device.service.cancel("mine") if step is Step.VERIFYING else None
        outcome, _ = await device.deploy({"deploymentId": "mine", **NOTHING})
        assert outcome.status is DetailedStatus.SUCCESSFUL


async def test_a_set_that_gets_unhealthy_is_rolled_back_with_the_cause_the_hint_and_the_last_failure(tmp_path) -> None:
    async with running(tmp_path) as device:
        # Without a shell around it: one that is ended may print so, and the hint would name the log.
        assert (await device.deploy(scripts("1.0.0", Run="exec sleep 600")))[0].status is DetailedStatus.SUCCESSFUL
        outcome, _ = await device.deploy(scripts("2.0.0", Startup="exit 3"))
        assert outcome.status is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert (outcome.cause.startswith("app is BROKEN"), "hint" in outcome.cause) == (True, False)
        assert outcome.hint == "app printed nothing: have its scripts say why they fail"
        state = device.service.state
        assert str(state.current.active.versions["app"]) == "1.0.0"
        assert set(state.last_failures) == {"app"}


def impatient(workspace: Workspace) -> Workspace:
    """One whose owner waits for nothing but steps."""
    return replace(workspace, activator=replace(workspace.activator, settle_s=0.2))


async def test_a_step_takes_the_time_that_its_own_timeout_allows(tmp_path) -> None:
    async with running(tmp_path, impatient) as device:
        for version, step in (("1.0.0", "Install"), ("2.0.0", "Startup")):
            slow = {"Script": "sleep 2", "Timeout": 30}
            outcome, _ = await device.deploy(scripts(version, **{step: slow}))
            assert (outcome.status, outcome.cause) == (DetailedStatus.SUCCESSFUL, "")


async def test_a_step_that_is_waited_for_is_named_with_its_end(tmp_path) -> None:
    async with running(tmp_path, impatient) as device:
        seen: list[waits.Waiting] = []
        publish = device.service._report
        device.service._report = lambda deployment, progress: (  # type: ignore[method-assign]
            seen.append(progress.waiting) if progress.waiting else None,
            publish(deployment, progress),
        )[1]
        began = time.time()
        await device.deploy(scripts("1.0.0", Install={"Script": "sleep 2", "Timeout": 30}))
        assert len(seen) == 1, seen
        (waiting,) = seen
        assert (waiting.what, waiting.reason) == ("component app", "its Install runs")
        assert waiting.until is not None
        assert 28 < waiting.until - began < 35


async def test_a_component_that_gave_up_is_broken_and_one_that_waits_is_not(tmp_path) -> None:
    async with running(tmp_path, impatient) as device:
        outcome, _ = await device.deploy(scripts("1.0.0", Startup="exit 3"))
        assert outcome.stack == ("DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN")
        assert outcome.types == ("USER_COMPONENT_ERROR",)
        late = {"Script": "sleep 20", "Timeout": 1}
        outcome, _ = await device.deploy(scripts("2.0.0", Startup=late))
        assert "COMPONENT_BROKEN" in outcome.stack  # its own time limit, three times
        assert "not RUNNING within 1 s" in outcome.cause


async def test_a_component_that_retries_for_ever_does_not_hold_the_queue_for_ever(tmp_path) -> None:
    async with running(tmp_path, impatient) as device:
        # Errors that are forgotten at once never break it.
        outcome, _ = await device.deploy(scripts("1.0.0", errorResetTime=0, Startup="exit 3"))
        assert outcome.status is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert outcome.stack == ("DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR")


async def test_a_ledger_that_fails_at_the_commit_brings_the_old_set_back(tmp_path, monkeypatch) -> None:
    async with running(tmp_path) as device:
        await device.deploy(scripts("1.0.0", Run="sleep 600"))

        async def full(*_arguments: object) -> None:
            raise OSError(28, "no space left on device")

        monkeypatch.setattr(device.ledger, "commit", full)
        outcome, _ = await device.deploy(scripts("2.0.0", Run="sleep 600"))
        assert outcome.status is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert device.ledger.steps[-2:] == [Step.VERIFYING, Step.ROLLING_BACK]
        assert device.workspace.activator.supervisor.states()["app"].version == "1.0.0"


class Faulty(RecipeStore):
    """Has a fault where what was replaced is cleared away."""

    faulty = False

    def prune(self, kept: Any) -> list[Any]:
        if self.faulty:
            raise RuntimeError("a fault")
        return super().prune(kept)


async def test_a_fault_in_clearing_away_does_not_turn_a_committed_deployment_into_a_failed_one(tmp_path) -> None:
    recipes = Faulty(tmp_path / "recipes")
    async with running(tmp_path, lambda workspace: replace(workspace, recipes=recipes)) as device:
        recipes.faulty = True
        outcome, _ = await device.deploy(NOTHING)
        (entry,) = await device.ledger.entries()
        assert (outcome.status, entry.step) == (DetailedStatus.SUCCESSFUL, Step.COMMITTED)


@pytest.mark.parametrize("document", [NOTHING, scripts("1.0.0", Run="sleep 600")])
async def test_what_is_active_is_live_again_after_a_restart_with_what_was_before_it(tmp_path, document) -> None:
    async with running(tmp_path) as device:
        for one in (scripts("0.1.0", Run="sleep 600"), document):
            assert (await device.deploy(one))[0].status is DetailedStatus.SUCCESSFUL
        state = device.service.state
    async with running(tmp_path) as device:
        assert device.service.state.current.active.versions == state.current.active.versions
        assert device.service.state.previous is not None
        assert str(device.service.state.previous.active.versions["app"]) == "0.1.0"


@pytest.mark.parametrize(("before", "after"), [(b"\xef\xbb\xbf", b""), (b"\r\n", b"\0"), (b"", b"\n\0\0")])
async def test_what_means_nothing_around_a_document_on_the_topic_does_not_refuse_it(tmp_path, before, after) -> None:
    async with running(tmp_path) as device, MemoryTransport(device.bus, "sender") as sender:
        document = json.dumps({"deploymentId": "mine", **NOTHING}).encode()
        sender.publish(Message(Topics("t").deployments, before + document + after, qos=1))
        await until(lambda: Step.VERIFYING in device.ledger.steps)
        (entry,) = await device.ledger.entries()
        assert (entry.id, entry.document) == ("mine", document)


def models(folder: Path, *names: str) -> dict[str, Any]:
    """A document that brings a model by its block, one as plain files, and a program."""
    made = {
        "told": {"ComponentType": "verge.model", "ComponentConfiguration": {"DefaultConfiguration": {
            "Verge": {"Sample": "classifier"}}}, "Manifests": [{}]},
        "files": {"Manifests": [{"Artifacts": [{"Uri": (folder / "net.onnx").as_uri()}]}]},
        "program": {"Manifests": [{"Lifecycle": {"Run": "sleep 600"}}]},
    }  # fmt: skip
    head = {"RecipeFormatVersion": "2020-01-25", "ComponentVersion": "1.0.0"}
    return {
        "components": {name: {"version": "1.0.0"} for name in names},
        "recipes": [head | {"ComponentName": name} | made[name] for name in names],
    }


async def test_models_that_are_deployed_are_found_whether_a_stream_uses_them_or_not(tmp_path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"a network")
    async with running(tmp_path / "device") as device:
        found = device.service.models
        assert not found()
        outcome, _ = await device.deploy(models(tmp_path, "told", "files", "program"))
        assert outcome.status is DetailedStatus.SUCCESSFUL, outcome.cause
        assert {name: spec.name for name, spec in found().items()} == {"told": "told", "files": "files"}
        assert found() is found()
        await device.deploy(models(tmp_path, "program"))
        assert not found()
