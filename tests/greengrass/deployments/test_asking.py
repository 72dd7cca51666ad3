"""Deployments that ask components first: when in their course, what a refusal costs, and what a crash leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.greengrass.deployments.handshake import Handshake, PostUpdate, PreUpdate, ProposedConfiguration
from agent.greengrass.deployments.ledger import Entry, Step
from agent.greengrass.deployments.outcome import DetailedStatus
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import Arrival
from agent.topics import Topics
from tests.greengrass.deployments.test_service import Device, Waiting, running, scripts
from tests.support.inbox import Inbox
from tests.support.memory import MemoryTransport
from tests.support.until import until

PATIENT_MS = 3_600_000


def app(version: str = "1.0.0", *, run: str = "exec sleep 600", **lifecycle: Any) -> dict[str, Any]:
    return scripts(version, Run=run, **lifecycle)


def configured(level: int, **more: Any) -> dict[str, Any]:
    """The component in the version that is there, with another configuration."""
    document = app() | more
    document["components"] = {"app": {"version": "1.0.0", "configurationUpdate": {"merge": {"level": level}}}}
    return document


def asking(handshake: Handshake):
    return lambda workspace: replace(workspace, handshake=handshake)


class Party:
    """The component, as it takes part over IPC: it answers with ``answers``, the last of them for ever."""

    def __init__(self, handshake: Handshake, *answers: float, device: Device | None = None) -> None:
        self.events: list[Any] = []
        self.versions: list[str] = []
        """Which version ran at each event."""

        def take(event: Any) -> None:
            self.events.append(event)
            if device is not None:
                self.versions.append(device.workspace.activator.supervisor.states()["app"].version)
            if isinstance(event, PreUpdate) and answers:
                asked = sum(isinstance(one, PreUpdate) for one in self.events)
                handshake.defer("app", event.deployment_id, answers[min(asked, len(answers)) - 1], "welding")

        handshake.subscribe_updates("app", take)


def submit(device: Device, document: dict[str, Any]) -> Waiting:
    requester = Waiting()
    device.service.submit(Arrival(Origin.TOPIC, json.dumps(document).encode(), requester))
    return requester


async def test_components_are_asked_last_and_informed_once_the_new_set_is_committed(tmp_path) -> None:
    handshake = Handshake(pause_s=0.01)
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        device.ledger.steps.clear()
        party = Party(handshake, 10, 0, device=device)
        outcome, _ = await device.deploy(app("2.0.0") | {"deploymentId": "two"})
        assert outcome.status is DetailedStatus.SUCCESSFUL
        activating = [Step.ACTIVATING, Step.ASKING, Step.ACTIVATING]
        assert device.ledger.steps == [Step.RESOLVED, Step.STAGED, *activating, Step.VERIFYING]
        pre = PreUpdate("two", restarting=False)
        assert party.events == [pre, pre, PostUpdate("two")]
        assert party.versions == ["1.0.0", "1.0.0", "2.0.0"]


async def test_a_deployment_that_changes_nothing_and_one_that_skips_it_ask_nobody(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        party = Party(handshake, PATIENT_MS)
        assert (await device.deploy(app()))[0].status is DetailedStatus.SUCCESSFUL
        skips = {"componentUpdatePolicy": {"action": "SKIP_NOTIFY_COMPONENTS"}}
        assert (await device.deploy(app("2.0.0") | skips))[0].status is DetailedStatus.SUCCESSFUL
        assert party.events == []


async def test_the_time_limit_of_the_document_ends_the_wait_for_an_answer(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        Party(handshake)
        loop = asyncio.get_running_loop()
        began = loop.time()
        policy = {"deploymentPolicies": {"componentUpdatePolicy": {"timeoutInSeconds": 1}}}
        outcome, _ = await device.deploy(app("2.0.0") | policy)
        assert outcome.status is DetailedStatus.SUCCESSFUL
        assert loop.time() - began >= 1


async def test_a_component_that_defers_is_named_and_its_deployment_can_be_cancelled(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device, MemoryTransport(device.bus, "peer") as peer:
        await device.deploy(app())
        party, inbox = Party(handshake, PATIENT_MS), Inbox()
        peer.subscribe(Topics("t").deployment("two"), inbox, qos=1)
        requester = submit(device, app("2.0.0") | {"deploymentId": "two"})
        told = json.loads(
            (await inbox.until(lambda messages: bool(messages) and b"next_attempt" in messages[-1].payload))[-1].payload
        )
        waiting = told["waiting"]
        assert (told["step"], waiting["kind"], waiting["for"]) == ("ASKING", "components", "component app")
        assert waiting["reason"] == "it deferred the deployment: welding"
        device.service.cancel("two")
        assert (await requester.end).status is DetailedStatus.CANCELED
        await until(lambda: party.events[-1] == PostUpdate("two"))
        assert device.workspace.activator.supervisor.states()["app"].version == "1.0.0"


async def test_what_a_component_defers_is_overtaken_by_a_deployment_that_takes_its_place(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        party = Party(handshake, PATIENT_MS, 0)
        requester = submit(device, app("2.0.0") | {"deploymentId": "two"})
        await until(lambda: party.events)
        outcome, _ = await device.deploy(app("3.0.0") | {"deploymentId": "three"})
        assert (outcome.status, (await requester.end).status) == (DetailedStatus.SUCCESSFUL, DetailedStatus.REJECTED)
        assert "superseded by three" in (await requester.end).cause
        assert party.events == [
            PreUpdate("two", restarting=False),
            PostUpdate("two"),
            PreUpdate("three", restarting=False),
            PostUpdate("three"),
        ]


async def test_components_are_informed_after_a_failure_with_the_old_set_live_again(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        party = Party(handshake, 0, device=device)
        outcome, _ = await device.deploy(app("2.0.0", run="exit 3") | {"deploymentId": "two"})
        assert outcome.status is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert party.events == [PreUpdate("two", restarting=False), PostUpdate("two")]
        assert party.versions == ["1.0.0", "1.0.0"]


async def test_a_way_back_that_somebody_asks_for_asks_too(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        await device.deploy(app("2.0.0"))
        party = Party(handshake, 0)
        outcome, _ = await device.deploy({"deploymentId": "back", "rollback": True})
        assert outcome.status is DetailedStatus.SUCCESSFUL
        assert party.events == [PreUpdate("back", restarting=False), PostUpdate("back")]


async def test_before_a_bootstrap_components_are_asked_once_and_that_the_agent_may_restart(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(app())
        device.ledger.steps.clear()
        party = Party(handshake, 0, device=device)
        ran = tmp_path / "ran"
        outcome, _ = await device.deploy(app("2.0.0", Bootstrap=f"touch {ran}") | {"deploymentId": "two"})
        assert outcome.status is DetailedStatus.SUCCESSFUL
        assert party.events == [PreUpdate("two", restarting=True), PostUpdate("two")]
        assert ran.exists()
        assert device.ledger.steps[:4] == [Step.RESOLVED, Step.STAGED, Step.ASKING, Step.BOOTSTRAPPING]


# -- configurations ----------------------------------------------------------------------------------------------------


async def test_a_configuration_that_its_component_rejects_costs_nothing_and_nobody_is_asked_to_be_changed(
    tmp_path,
) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(configured(1))
        since = device.workspace.activator.supervisor.states()["app"].since
        party, proposed = Party(handshake, 0), list[ProposedConfiguration]()

        def judge(event: ProposedConfiguration) -> None:
            proposed.append(event)
            good = event.configuration["level"] < 10
            handshake.report("app", event.deployment_id, "" if good else "level is below 10", accepted=good)

        handshake.subscribe_validation("app", judge)
        outcome, _ = await device.deploy(configured(11, deploymentId="two"))
        assert outcome.status is DetailedStatus.FAILED_NO_STATE_CHANGE
        assert outcome.stack == ("DEPLOYMENT_FAILURE", "COMPONENT_CONFIGURATION_NOT_VALID")
        assert "app rejected it: level is below 10" in outcome.cause
        assert proposed == [ProposedConfiguration("two", {"level": 11})]
        assert party.events == []
        assert device.service.state.current.configs["app"].to_plain() == {"level": 1}
        assert device.workspace.activator.supervisor.states()["app"].since == since
        assert (await device.deploy(configured(9)))[0].status is DetailedStatus.SUCCESSFUL


async def test_who_gets_another_version_or_keeps_its_configuration_is_not_asked_about_it(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(configured(1))
        proposed: list[ProposedConfiguration] = []
        handshake.subscribe_validation("app", proposed.append)
        newer = app("2.0.0")
        newer["components"]["app"]["configurationUpdate"] = {"merge": {"level": 2}}
        for document in (configured(1), newer):
            assert (await device.deploy(document))[0].status is DetailedStatus.SUCCESSFUL
        assert proposed == []


async def test_a_report_that_does_not_come_in_the_documents_time_fails_the_deployment(tmp_path) -> None:
    handshake = Handshake()
    async with running(tmp_path, asking(handshake)) as device:
        await device.deploy(configured(1))
        handshake.subscribe_validation("app", lambda _event: None)
        outcome, _ = await device.deploy(configured(2, configurationValidationPolicy={"timeout": 0.2}))
        assert outcome.status is DetailedStatus.FAILED_NO_STATE_CHANGE
        assert "app did not report in time" in outcome.cause


async def left_asking(folder, document: dict[str, Any], subscribe: Callable[[Handshake], object]) -> None:
    """A deployment over which the agent ends while components are asked."""
    handshake = Handshake()
    async with running(folder, asking(handshake)) as device:
        await device.deploy(configured(1))
        subscribe(handshake)
        submit(device, document | {"deploymentId": "two"})
        await until(lambda: device.ledger.steps[-1] is Step.ASKING)
        assert (await interrupted(device)).step is Step.ASKING


async def interrupted(device: Device) -> Entry:
    (entry,) = (one for one in await device.ledger.entries() if one.id == "two")
    return entry


async def test_a_deployment_that_was_asking_when_the_agent_ended_begins_anew_and_asks_again(tmp_path) -> None:
    await left_asking(tmp_path, app("2.0.0"), lambda handshake: Party(handshake, PATIENT_MS))
    handshake = Handshake(settle_s=0.01)
    async with running(tmp_path, asking(handshake)) as device:
        await until(lambda: Step.ASKING in device.ledger.steps)
        party = Party(handshake, 0)
        await until(lambda: PostUpdate("two") in party.events)
        entry = await interrupted(device)
        assert (entry.step, entry.attempts) == (Step.COMMITTED, 2)
        assert str(device.service.state.current.active.versions["app"]) == "2.0.0"


async def test_a_configuration_that_was_being_judged_when_the_agent_ended_is_judged_again(tmp_path) -> None:
    await left_asking(tmp_path, configured(2), lambda handshake: handshake.subscribe_validation("app", print))
    handshake = Handshake(settle_s=0.01)
    async with running(tmp_path, asking(handshake)) as device:
        await until(lambda: Step.ASKING in device.ledger.steps)
        handshake.subscribe_validation(
            "app", lambda event: handshake.report("app", event.deployment_id, "no", accepted=False)
        )

        async def ended() -> bool:
            return (await interrupted(device)).outcome is not None

        await until(ended)
        assert b"app rejected it: no" in ((await interrupted(device)).outcome or b"")
        assert device.service.state.current.configs["app"].to_plain() == {"level": 1}
