"""Components that take part in their own life: Amazon's clients of both kinds, in processes of their own."""

from __future__ import annotations

import asyncio
import getpass
from contextlib import asynccontextmanager

import pytest

from agent.eventstream.frames import encode
from agent.greengrass.components.spec import ComponentSpec, RunAs
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.handshake import Handshake
from agent.greengrass.deployments.request import NotifyPolicy
from agent.greengrass.errors import DeploymentError
from agent.greengrass.ipc.lifecycle import LifecycleOperations
from agent.greengrass.recipes.lifecycle import parse
from tests.support.ipc import COMPONENT, lines, raw, sdk, serving, shown
from tests.support.until import until

V2 = "client = GreengrassCoreIPCClientV2()\n"
FOREVER = "exec sleep 1000"


class Site:
    """One component of scripts behind a socket, and what deployments ask it."""

    def __init__(self, path, supervisor: Supervisor, handshake: Handshake) -> None:
        self.path, self.supervisor, self.handshake = path, supervisor, handshake

    @property
    def state(self) -> State:
        return self.supervisor.states()[COMPONENT].state

    async def says(self, script: str, token: str = "TOKEN123") -> list:
        return await lines(self.path, V2 + script, token)


@asynccontextmanager
async def site(folder, **scripts):
    supervisor = Supervisor(run=folder / "run", logs=folder / "logs", env={}, run_as=RunAs(getpass.getuser()))
    handshake = Handshake(pause_s=0.01)
    async with supervisor:
        spec = ComponentSpec(COMPONENT, "1.0.0", parse(scripts or {"Run": FOREVER}), folder / "work")
        await supervisor.apply({COMPONENT: spec})
        operations = LifecycleOperations(supervisor, handshake).operations
        async with serving(folder / "ipc.socket", operations):
            yield Site(folder / "ipc.socket", supervisor, handshake)


# -- its state ---------------------------------------------------------------------------------------------------------


async def test_a_startup_that_stays_is_over_when_the_component_says_that_it_runs(tmp_path) -> None:
    async with site(tmp_path, Startup=FOREVER) as here:
        await until(lambda: here.state is State.STARTING)
        assert await here.says('client.update_state(state=model.ReportedLifecycleState.RUNNING); say("done")') == [
            ["done"]
        ]
        await until(lambda: here.state is State.RUNNING)


async def test_a_component_that_says_that_it_failed_is_begun_anew(tmp_path) -> None:
    async with site(tmp_path) as here:
        await until(lambda: here.state is State.RUNNING)
        await here.says("client.update_state(state=model.ReportedLifecycleState.ERRORED)")
        await until(lambda: here.supervisor.states()[COMPONENT].errors == 1)
        await until(lambda: here.state is State.RUNNING)


async def test_a_report_that_changes_nothing_is_taken_all_the_same(tmp_path) -> None:
    async with site(tmp_path) as here:
        await until(lambda: here.state is State.RUNNING)
        assert await here.says('say(str(client.update_state(state="RUNNING")))') == [["UpdateStateResponse()"]]


async def test_who_is_no_component_has_no_state_and_no_updates(tmp_path) -> None:
    script = """
    def named(call, **how):
        try:
            call(**how)
        except model.ResourceNotFoundError as error:
            say(error.resource_type, error.resource_name, error.message)
    named(client.update_state, state="RUNNING")
    named(client.subscribe_to_component_updates, on_stream_event=lambda event: None)
    """
    async with site(tmp_path) as here:
        other = ["Component", "com.example.Other", "there is no component com.example.Other here"]
        assert await here.says("\nif True:\n" + script, "OTHER") == [other, other]


async def test_a_state_that_cannot_be_reported_is_refused(tmp_path) -> None:
    script = """
say(failure(client.update_state, state="SLEEPING"))
say(failure(client.update_state))
"""
    async with site(tmp_path) as here:
        assert await here.says(script) == [
            [["InvalidArgumentsError", "state is RUNNING or ERRORED, not SLEEPING"]],
            [["InvalidArgumentsError", "state is missing"]],
        ]


async def test_reports_that_come_faster_than_they_are_dealt_with_are_refused_in_the_end(tmp_path) -> None:
    async with site(tmp_path) as here, raw(here.path) as client:
        await until(lambda: here.state is State.RUNNING)
        await client.connect()
        sent: list[bytes] = []
        client.send = lambda message: _keep(sent, message)  # type: ignore[method-assign]
        for _ in range(20):
            await client.request("UpdateState", {"state": "RUNNING"})
        del client.send
        await client.send(b"".join(sent))
        answers = [shown(await client.next()) for _ in range(20)]
        refused = [payload["message"] for model, payload in answers if model == "ServiceError"]
        assert refused == [f"too many reports of {COMPONENT} wait already"] * len(refused)
        assert 0 < len(refused) < 20
        assert await client.call("UpdateState", {"state": "RUNNING"}) == ("UpdateStateResponse", {})


async def _keep(sent: list[bytes], message) -> None:
    sent.append(encode(message))


# -- updates -----------------------------------------------------------------------------------------------------------

DEFERRING = """
answers = [50, 0]

def on_event(event):
    if event.pre_update_event:
        said = event.pre_update_event
        say("pre", said.deployment_id, said.is_ggc_restarting)
        defer(said.deployment_id, answers.pop(0))
    else:
        say("post", event.post_update_event.deployment_id)
        over.set()

over = threading.Event()
"""
CLIENTS = {
    "V2": V2
    + DEFERRING
    + """
def defer(identity, after_ms):
    client.defer_component_update_async(deployment_id=identity, recheck_after_ms=after_ms, message="welding")

client.subscribe_to_component_updates(on_stream_event=on_event)
say("subscribed")
over.wait(30)
""",
    "V1": DEFERRING
    + """
from awsiot.greengrasscoreipc import client as v1
client = awsiot.greengrasscoreipc.connect()

def defer(identity, after_ms):
    request = model.DeferComponentUpdateRequest(deployment_id=identity, recheck_after_ms=after_ms, message="welding")
    client.new_defer_component_update().activate(request)

class Handler(v1.SubscribeToComponentUpdatesStreamHandler):
    def on_stream_event(self, event):
        on_event(event)

operation = client.new_subscribe_to_component_updates(Handler())
operation.activate(model.SubscribeToComponentUpdatesRequest())
operation.get_response().result(10)
say("subscribed")
over.wait(30)
""",
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
async def test_a_component_is_asked_defers_is_asked_again_agrees_and_is_informed(tmp_path, client) -> None:
    async with site(tmp_path) as here, sdk(here.path, client) as component:
        assert await component.next() == ["subscribed"]
        said = []
        await asyncio.wait_for(here.handshake.ask("d1", NotifyPolicy(), said.append, restarting=True), 30)
        here.handshake.updated("d1")
        assert [await component.next() for _ in range(3)] == [["pre", "d1", True], ["pre", "d1", True], ["post", "d1"]]
        assert "it deferred the deployment: welding" in [waiting.reason for waiting in said]


async def test_an_answer_that_nobody_waits_for_is_refused_as_greengrass_does(tmp_path) -> None:
    script = """
say(failure(client.defer_component_update, deployment_id="d1", recheck_after_ms=0))
client.subscribe_to_component_updates(on_stream_event=lambda event: None)
say(failure(client.defer_component_update, recheck_after_ms=0))
say(failure(client.defer_component_update, deployment_id="d1", recheck_after_ms=0))
"""
    async with site(tmp_path) as here:
        unsubscribed, unnamed, late = (line[0] for line in await here.says(script))
        assert unsubscribed[0] == "InvalidArgumentsError"
        assert f"{COMPONENT} has not subscribed to component updates" in unsubscribed[1]
        assert unnamed == ["InvalidArgumentsError", "deploymentId is missing"]
        assert late == ["ServiceError", f"no answer of {COMPONENT} to deployment d1 is waited for"]


async def test_a_component_whose_connection_is_gone_is_not_waited_for(tmp_path) -> None:
    async with site(tmp_path) as here, sdk(here.path, CLIENTS["V2"].replace("[50, 0]", "[None]")) as component:
        assert await component.next() == ["subscribed"]
        asking = asyncio.create_task(here.handshake.ask("d1", NotifyPolicy(), lambda _waiting: None))
        assert await component.next() == ["pre", "d1", False]
        assert not asking.done()
        component.process.kill()
        await asyncio.wait_for(asking, 30)
        assert not here.handshake.asks("d1", NotifyPolicy())


# -- configurations ----------------------------------------------------------------------------------------------------

JUDGING = """
over = threading.Event()

def on_event(event):
    proposed = event.validate_configuration_update_event
    good = proposed.configuration["level"] < 10
    say(proposed.deployment_id, proposed.configuration)
    report(proposed.deployment_id, "ACCEPTED" if good else "REJECTED", None if good else "level is below 10")
"""
JUDGES = {
    "V2": V2
    + JUDGING
    + """
def report(identity, status, message):
    client.send_configuration_validity_report_async(
        configuration_validity_report=model.ConfigurationValidityReport(
            status=status, deployment_id=identity, message=message))

client.subscribe_to_validate_configuration_updates(on_stream_event=on_event)
say("subscribed")
over.wait(30)
""",
    "V1": JUDGING
    + """
from awsiot.greengrasscoreipc import client as v1
client = awsiot.greengrasscoreipc.connect()

def report(identity, status, message):
    said = model.ConfigurationValidityReport(status=status, deployment_id=identity, message=message)
    request = model.SendConfigurationValidityReportRequest(configuration_validity_report=said)
    client.new_send_configuration_validity_report().activate(request)

class Handler(v1.SubscribeToValidateConfigurationUpdatesStreamHandler):
    def on_stream_event(self, event):
        on_event(event)

operation = client.new_subscribe_to_validate_configuration_updates(Handler())
operation.activate(model.SubscribeToValidateConfigurationUpdatesRequest())
operation.get_response().result(10)
say("subscribed")
over.wait(30)
""",
}


@pytest.mark.parametrize("client", JUDGES.values(), ids=JUDGES)
async def test_a_component_judges_its_new_configuration(tmp_path, client) -> None:
    async with site(tmp_path) as here, sdk(here.path, client) as component:
        assert await component.next() == ["subscribed"]

        async def validate(identity: str, level: int) -> None:
            proposed = {COMPONENT: {"level": level, "name": "Käse"}}
            await here.handshake.validate(identity, proposed, 30, lambda _waiting: None)

        await validate("d1", 9)
        assert await component.next() == ["d1", {"level": 9, "name": "Käse"}]
        with pytest.raises(DeploymentError, match=f"{COMPONENT} rejected it: level is below 10"):
            await validate("d2", 11)


async def test_a_report_that_nobody_waits_for_or_that_says_nothing_is_refused(tmp_path) -> None:
    script = """
def report(**what):
    said = model.ConfigurationValidityReport(**what)
    return failure(client.send_configuration_validity_report, configuration_validity_report=said)
say(failure(client.send_configuration_validity_report))
say(report(deployment_id="d1"))
say(report(deployment_id="d1", status="PERHAPS"))
say(report(status="ACCEPTED"))
say(report(deployment_id="d1", status="ACCEPTED"))
"""
    async with site(tmp_path) as here:
        assert [line[0] for line in await here.says(script)] == [
            ["InvalidArgumentsError", "configurationValidityReport is missing"],
            ["InvalidArgumentsError", "status is missing"],
            ["InvalidArgumentsError", "status is ACCEPTED or REJECTED, not PERHAPS"],
            ["InvalidArgumentsError", "deploymentId is missing"],
            ["InvalidArgumentsError", f"no report of {COMPONENT} on deployment d1 is waited for"],
        ]
