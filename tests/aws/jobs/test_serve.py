"""The Jobs service on a real mosquitto, and Verge's own device at the other end."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.aws.jobs.retry import Pace
from agent.aws.jobs.service.caller import calling
from agent.aws.jobs.service.job import JobError
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.service.repository import JobRepository, Mailbox, Notice
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.aws.jobs.topics import GREENGRASS, JobTopics
from agent.errors import UnreachableError
from agent.mqtt.client import MqttTransport
from agent.mqtt.transport import Message
from tests.aws.jobs.two_ends import spec
from tests.support.broker import Broker
from tests.support.inbox import Inbox, connected, subscribed
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

DOCUMENT = {"components": {"com.acme.A": {"version": "1.0.0"}}}
PACE = Pace(first_s=0.5, backoff_s=0.05, cap_s=1.0, refresh_s=300)


class Owner:
    """Whoever runs the jobs of a device: remembers, and can be waited on."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.cancelled: list[Job] = []
        self._came = asyncio.Event()

    def on_job(self, job: Job) -> None:
        self.jobs.append(job)
        self._came.set()

    def on_cancel(self, job: Job) -> None:
        self.cancelled.append(job)
        self._came.set()

    async def until(self, enough) -> None:
        async with asyncio.timeout(10):
            while not enough(self):
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def linked(options, name):
    async with MqttTransport(name, options) as transport:
        await connected(transport)
        yield transport


@asynccontextmanager
async def serving(options, folder, **said):
    with JobStore(folder) as store:
        async with linked(options, "service") as transport, JobsService(transport, store, **said) as service:
            await subscribed(transport, f"tests/{folder.name}")
            yield service


@asynccontextmanager
async def operator(options):
    async with linked(options, "operator") as transport, calling(transport) as caller:
        yield caller


@asynccontextmanager
async def device(options, topics):
    owner = Owner()
    async with (
        linked(options, topics.thing) as transport,
        JobsClient(transport, topics, on_job=owner.on_job, on_cancel=owner.on_cancel, pace=PACE) as client,
    ):
        yield client, owner


async def answered(caller, verb, request):
    """The answer of a service that is still coming up."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await caller.ask(verb, request, timeout_s=0.5)
            except UnreachableError:
                continue


async def ended(caller, job_id, status="COMPLETED"):
    """The executions of a job, once it stands so."""

    async def stands_so():
        return (await answered(caller, "describe", {"jobId": job_id}))["status"] == status

    await until(stands_so)
    return await caller.ask("executions", {"jobId": job_id})


def job(job_id, *targets, **options):
    return {"jobId": job_id, "targets": targets, "document": DOCUMENT, **options}


@pytest.mark.parametrize("namespace", ["", GREENGRASS])
@pytest.mark.parametrize("prefix", ["$aws", "verge/aws"])
async def test_a_job_reaches_the_device_and_its_end_reaches_the_operator(broker, tmp_path, thing, namespace, prefix):
    topics = JobTopics(thing, prefix, namespace)
    async with (
        serving(broker.options, tmp_path, prefix=prefix),
        operator(broker.options) as caller,
        device(broker.options, topics) as (client, owner),
    ):
        await caller.ask("create", job("j1", thing, namespaceId=namespace))
        await owner.until(lambda one: one.jobs)
        assert json.loads(owner.jobs[0].document) == DOCUMENT
        client.report(owner.jobs[0], Status.IN_PROGRESS, {"step": "fetch"})
        client.report(owner.jobs[0], Status.SUCCEEDED, {"detailed-deployment-status": "SUCCESSFUL"})
        (execution,) = await ended(caller, "j1")
    assert execution["status"] == "SUCCEEDED"
    assert execution["statusDetails"] == {"detailed-deployment-status": "SUCCESSFUL"}
    assert execution["versionNumber"] == 4


async def test_jobs_are_done_one_after_the_other_in_the_order_they_were_queued(broker, tmp_path, thing):
    async with (
        serving(broker.options, tmp_path),
        operator(broker.options) as caller,
        device(broker.options, JobTopics(thing)) as (client, owner),
    ):
        for number in (1, 2, 3):
            await caller.ask("create", job(f"j{number}", thing))
        for number in (1, 2, 3):
            await owner.until(lambda one, number=number: len(one.jobs) == number)
            assert owner.jobs[-1].job_id == f"j{number}"
            client.report(owner.jobs[-1], Status.SUCCEEDED)
        await ended(caller, "j3")


async def test_a_forced_cancellation_stops_the_device_and_the_next_job_begins(broker, tmp_path, thing):
    async with (
        serving(broker.options, tmp_path),
        operator(broker.options) as caller,
        device(broker.options, JobTopics(thing)) as (client, owner),
    ):
        await caller.ask("create", job("j1", thing))
        await owner.until(lambda one: one.jobs)
        await caller.ask("create", job("j2", thing))
        await caller.ask("cancel", {"jobId": "j1", "force": True})
        await owner.until(lambda one: one.cancelled)
        assert len(owner.jobs) == 1
        client.report(owner.jobs[0], Status.FAILED)
        await owner.until(lambda one: len(one.jobs) == 2)
        (execution,) = await caller.ask("executions", {"jobId": "j1"})
    assert (execution["status"], execution["versionNumber"]) == ("CANCELED", 3)


async def test_an_execution_that_times_out_is_cancelled_on_the_device_and_tried_again(broker, tmp_path, thing):
    async with (
        serving(broker.options, tmp_path),
        operator(broker.options) as caller,
        device(broker.options, JobTopics(thing)) as (client, owner),
    ):
        retries = {"criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]}
        timeout = {"inProgressTimeoutInMinutes": 0.15 / 60}
        told = job("j1", thing, timeoutConfig=timeout, jobExecutionsRetryConfig=retries)
        await caller.ask("create", told)
        await owner.until(lambda one: one.cancelled)
        client.report(owner.jobs[0], Status.FAILED)
        await owner.until(lambda one: len(one.jobs) == 2)
        client.report(owner.jobs[1], Status.SUCCEEDED)
        executions = await ended(caller, "j1")
    assert [(one["executionNumber"], one["status"]) for one in executions] == [(1, "TIMED_OUT"), (2, "SUCCEEDED")]


async def test_a_status_is_kept_while_the_broker_is_away(tmp_path, thing):
    async with Broker() as broker, serving(broker.options, tmp_path), device(broker.options, JobTopics(thing)) as end:
        client, owner = end
        async with operator(broker.options) as caller:
            await caller.ask("create", job("j1", thing))
            await owner.until(lambda one: one.jobs)
        broker.kill()
        await until(lambda: not client.state.connected)
        client.report(owner.jobs[0], Status.SUCCEEDED, {"told": "late"})
        broker.start()
        async with operator(broker.options) as caller:
            (execution,) = await ended(caller, "j1")
    assert execution["statusDetails"] == {"told": "late"}


async def test_a_device_that_was_away_is_handed_its_job_in_progress_again(broker, tmp_path, thing):
    async with serving(broker.options, tmp_path), operator(broker.options) as caller:
        await caller.ask("create", job("j1", thing))
        async with device(broker.options, JobTopics(thing)) as (_, owner):
            await owner.until(lambda one: one.jobs)
        async with device(broker.options, JobTopics(thing)) as (client, again):
            await again.until(lambda one: one.jobs)
            assert again.jobs == owner.jobs
            client.report(again.jobs[0], Status.SUCCEEDED)
            await ended(caller, "j1")


SERVE = "from agent.cli.jobs import command; command()"


def start_service(broker, folder):
    arguments = ["serve", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--data", str(folder)]
    return subprocess.Popen([sys.executable, "-c", SERVE, *arguments], stderr=subprocess.DEVNULL)


async def test_a_service_that_is_killed_goes_on_where_it_was(broker, tmp_path, thing):
    process = start_service(broker, tmp_path)
    try:
        async with operator(broker.options) as caller, device(broker.options, JobTopics(thing)) as (client, owner):
            await answered(caller, "group-add", {"group": "hall", "things": [thing]})
            await caller.ask("create", job("j1", "group:hall"))
            await caller.ask("create", job("j2", "group:hall", targetSelection="CONTINUOUS"))
            await owner.until(lambda one: one.jobs)
            process.kill()
            process.wait()
            client.report(owner.jobs[0], Status.SUCCEEDED)
            process = start_service(broker, tmp_path)
            executions = await answered(caller, "executions", {"jobId": "j1"})
            assert executions[0]["status"] in {"IN_PROGRESS", "SUCCEEDED"}
            await ended(caller, "j1")
            await owner.until(lambda one: len(one.jobs) == 2)
            assert owner.jobs[1].job_id == "j2"
            assert await caller.ask("groups") == {"hall": [thing]}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


async def test_the_service_of_an_agents_file_listens_where_that_agent_does(broker, tmp_path, thing):
    config = tmp_path / "local.toml"
    config.write_text(
        f'data_dir = "{tmp_path}"\n[transports.local]\nport = {broker.port}\n[deployments]\naws_prefix = "verge/aws"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "-c", str(config)], stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        topics = JobTopics(thing, "verge/aws")
        async with operator(broker.options) as caller, device(broker.options, topics) as (client, owner):
            await answered(caller, "create", job("j1", thing))
            await owner.until(lambda one: one.jobs)
            client.report(owner.jobs[0], Status.SUCCEEDED)
            await ended(caller, "j1")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


async def test_what_an_operator_asks_wrongly_is_answered_with_a_code(broker, tmp_path, thing):
    wrong = {
        "describe": ({"jobId": "nope"}, "ResourceNotFound"),
        "create": ({"jobId": "j 1", "targets": [thing], "document": {}}, "InvalidRequest"),
        "cancel": ({"job": "j1"}, "InvalidRequest"),
        "delete": (b"{", "InvalidJson"),
    }
    async with serving(broker.options, tmp_path), operator(broker.options) as caller:
        for verb, (request, code) in wrong.items():
            with pytest.raises(JobError) as refused:
                await caller.ask(verb, request)
            assert refused.value.code == code


async def test_the_service_answers_management_under_its_own_topics_only(broker, tmp_path, thing):
    async with serving(broker.options, tmp_path), linked(broker.options, "stranger") as stranger:
        inbox = Inbox()
        stranger.subscribe(f"tests/{thing}/#", inbox, qos=1)
        stranger.publish(Message("verge/jobs/list", b"{}", qos=1, response_topic=f"tests/{thing}/elsewhere"))
        async with operator(broker.options) as caller:
            await caller.ask("list")
        await subscribed(stranger, f"tests/{thing}")
        assert [message.topic for message in inbox.messages] == [f"tests/{thing}/mark"]


async def test_an_operator_without_a_service_is_told_how_to_start_one():
    with Broker() as empty:
        async with operator(empty.options) as caller:
            with pytest.raises(UnreachableError, match="verge jobs serve"):
                await caller.ask("list", timeout_s=0.05)


async def ask_as_device(transport, topic, request):
    """What the service answers a device: the last level of the topic, and the payload."""
    inbox = Inbox()
    transport.subscribe(f"{topic}/+", inbox, qos=1)
    payload = request if isinstance(request, bytes) else msgspec.json.encode(request)
    transport.publish(Message(topic, payload, qos=1))
    (answer,) = await inbox.wait(1)
    transport.unsubscribe(f"{topic}/+", inbox)
    return answer.topic.rsplit("/", 1)[1], json.loads(answer.payload)


async def test_a_disk_that_takes_nothing_makes_an_internal_error_and_no_promise(broker, tmp_path, thing):
    topics = JobTopics(thing)
    with JobStore(tmp_path) as store:
        async with (
            linked(broker.options, "service") as transport,
            JobsService(transport, store),
            operator(broker.options) as caller,
            linked(broker.options, thing) as end,
        ):
            await subscribed(transport, f"tests/{thing}")
            await caller.ask("create", job("j1", thing))
            store._connection.execute("PRAGMA query_only = ON")
            kind, told = await ask_as_device(end, topics.start_next, {"clientToken": "t1"})
            assert (kind, told["code"], told["clientToken"]) == ("rejected", "InternalError", "t1")
            with pytest.raises(JobError, match="could not be written"):
                await caller.ask("create", job("j2", thing))
            store._connection.execute("PRAGMA query_only = OFF")
            kind, told = await ask_as_device(end, topics.start_next, {"clientToken": "t2"})
            assert (kind, told["execution"]["versionNumber"]) == ("accepted", 2)


async def notified(inbox: Inbox, count: int) -> set[str]:
    """The things that were notified of another next job, once they are ``count``."""

    def things(messages: list[Message]) -> set[str]:
        return {
            message.topic.partition("/things/")[2].partition("/")[0]
            for message in messages
            if message.topic.endswith("/notify-next")
        }

    return things(await inbox.until(lambda messages: len(things(messages)) >= count))


async def test_nobody_of_a_fleet_stays_without_its_notification_because_the_link_is_full(broker, tmp_path, thing):
    narrow = msgspec.structs.replace(broker.options, max_queued_messages=20)
    things = {f"{thing}-{number}" for number in range(500)}
    inbox = Inbox()
    async with (
        serving(narrow, tmp_path, prefix=f"verge/{thing}"),
        operator(broker.options) as caller,
        linked(broker.options, thing) as fleet,
    ):
        fleet.subscribe(f"verge/{thing}/things/+/jobs/notify-next", inbox, qos=1)
        await subscribed(fleet, f"tests/{thing}")
        await caller.ask("create", job("everywhere", *things))
        assert await notified(inbox, len(things)) == things


async def test_notifications_wait_for_a_broker_that_is_away_and_are_written_when_their_turn_comes(tmp_path):
    bus = MemoryBus()
    with JobStore(tmp_path) as store:
        async with MemoryTransport(bus, "service", max_queued_messages=10) as transport:
            await connected(transport)
            queue = JobQueue(JobRepository(store.read()))
            queue.create(spec("j1", *(f"thing-{number}" for number in range(100))), 1)
            store.write(queue.repository.take_changes())
            inbox = Inbox()
            transport.drop()
            async with JobsService(transport, store), MemoryTransport(bus, "fleet") as fleet:
                await connected(fleet)
                fleet.subscribe("$aws/things/+/jobs/notify-next", inbox, qos=1)
                await until(lambda: transport.waiting == 10)
                transport.restore()
                assert len(await notified(inbox, 100)) == 100


async def test_a_notification_that_did_not_arrive_is_sent_by_the_next_service(broker, tmp_path, thing):
    topics = JobTopics(thing)
    queue, mailbox = JobQueue(), Mailbox(thing, "")
    with JobStore(tmp_path) as store:
        queue.create(spec("j1", thing), 1)
        queue.repository.take_notices()
        queue.cancel("j1", 2)
        store.write(queue.repository.take_changes(), queue.repository.take_notices())
        assert store.notices() == [Notice(mailbox, True, True)]
    inbox = Inbox()
    async with linked(broker.options, thing) as end:
        end.subscribe(topics.notify, inbox, qos=1)
        await subscribed(end, f"tests/{thing}")
        async with serving(broker.options, tmp_path):
            (message,) = await inbox.wait(1)
            assert json.loads(message.payload)["jobs"] == {}
            await until(lambda: not rows(tmp_path))


def rows(folder) -> int:
    """How many notices are in the write-ahead log's file and the database, seen through a copy."""
    with tempfile.TemporaryDirectory() as copy:
        for file in folder.glob("jobs.sqlite3*"):
            shutil.copy(file, copy)
        with closing(sqlite3.connect(Path(copy) / "jobs.sqlite3")) as database:
            return database.execute("SELECT count(*) FROM notices").fetchone()[0]
