"""AWS's own Jobs client, over mutual TLS on mosquitto, against our Jobs service."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.aws.jobs.service.caller import calling
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.config.transports import TlsOptions
from agent.mqtt.client import MqttTransport
from tests.support.broker import Broker
from tests.support.inbox import connected, subscribed

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("awsiot") is None,
    reason="AWS's client is not installed; install it: pip install awsiotsdk",
)

DOCUMENT = {"components": {}}
PROGRAM = Path(__file__).with_name("aws_device.py")


@pytest.fixture(scope="module")
def tls_broker(certificates):
    with Broker(tls=certificates, client_certificates=True) as running:
        yield running


@pytest.fixture
async def operator(tls_broker, certificates, tmp_path):
    """Our service on the broker, and who asks it for jobs."""
    tls = TlsOptions(
        ca_file=str(certificates.ca), cert_file=str(certificates.client_cert), key_file=str(certificates.client_key)
    )
    options = replace(tls_broker.options, tls=tls)
    with JobStore(tmp_path) as store:
        async with MqttTransport("service", options) as transport:
            await connected(transport)
            async with JobsService(transport, store), calling(transport) as caller:
                await subscribed(transport, f"tests/{tmp_path.name}")
                yield caller


class AwsDevice:
    """The process with AWS's client: its answers, and what it is notified of."""

    def __init__(self, process, thing) -> None:
        self.thing = thing
        self._process = process
        self._heard = {key: asyncio.Queue() for key in ("accepted", "rejected", "watching", "next", "list")}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while line := await self._process.stdout.readline():
            ((key, told),) = json.loads(line).items()
            self._heard[key].put_nowait(told)

    async def hear(self, key):
        return await asyncio.wait_for(self._heard[key].get(), 10)

    async def _do(self, verb, said, key):
        told = {"do": verb, "thing_name": self.thing, **said}
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        return await self.hear(key)

    async def ask(self, verb, **said):
        return await self._do(verb, said, "accepted")

    async def refused(self, verb, **said):
        return await self._do(verb, said, "rejected")

    async def watch(self, verb):
        await self._do(verb, {}, "watching")

    def silent(self, key):
        return self._heard[key].empty()

    async def leave(self) -> None:
        self._process.stdin.close()
        assert await asyncio.wait_for(self._process.wait(), 10) == 0
        await self._reading


@pytest.fixture
async def aws(tls_broker, certificates, thing):
    files = map(str, (certificates.ca, certificates.client_cert, certificates.client_key))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        str(tls_broker.port),
        *files,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    device = AwsDevice(process, thing)
    yield device
    await device.leave()


def job(job_id, aws, **options):
    return {"jobId": job_id, "targets": [aws.thing], "document": DOCUMENT, **options}


async def test_start_next_describe_and_update_with_the_expected_version(operator, aws):
    await operator.ask("create", job("j1", aws))
    begun = (await aws.ask("start-next", status_details={"step": "begun"}))["execution"]
    assert (begun["job_id"], begun["status"], begun["version_number"]) == ("j1", "IN_PROGRESS", 2)
    assert begun["job_document"] == DOCUMENT

    described = (await aws.ask("describe", job_id="j1"))["execution"]
    assert described["status_details"] == {"step": "begun"}
    assert described["execution_number"] == 1
    assert {"queued_at", "started_at", "last_updated_at"} <= described.keys()

    error = await aws.refused("update", job_id="j1", status="SUCCEEDED", expected_version=1)
    assert (error["code"], error["execution_state"]["version_number"]) == ("VersionMismatch", 2)

    updated = await aws.ask(
        "update", job_id="j1", status="SUCCEEDED", expected_version=2, include_job_execution_state=True
    )
    assert updated["execution_state"]["status"] == "SUCCEEDED"
    assert updated["execution_state"]["version_number"] == 3
    assert (await operator.ask("describe", {"jobId": "j1"}))["status"] == "COMPLETED"

    error = await aws.refused("update", job_id="j1", status="FAILED")
    assert (error["code"], error["execution_state"]["status"]) == ("InvalidStateTransition", "SUCCEEDED")
    assert (await aws.refused("describe", job_id="j1"))["code"] == "TerminalStateReached"


async def test_pending_jobs_are_listed_by_status_and_nothing_next_is_no_execution(operator, aws):
    assert "execution" not in await aws.ask("start-next")
    assert "execution" not in await aws.ask("describe", job_id="$next")
    for name in ("j1", "j2"):
        await operator.ask("create", job(name, aws))
    await aws.ask("start-next")
    pending = await aws.ask("get-pending")
    assert [one["job_id"] for one in pending["in_progress_jobs"]] == ["j1"]
    assert [one["job_id"] for one in pending["queued_jobs"]] == ["j2"]


async def test_notifications_tell_of_the_next_job_and_of_the_list(operator, aws):
    await aws.watch("next")
    await aws.watch("list")
    await operator.ask("create", job("j1", aws))
    execution = (await aws.hear("next"))["execution"]
    assert (execution["job_id"], execution["job_document"]) == ("j1", DOCUMENT)
    assert [one["job_id"] for one in (await aws.hear("list"))["jobs"]["QUEUED"]] == ["j1"]
    await operator.ask("create", job("j2", aws))
    assert len((await aws.hear("list"))["jobs"]["QUEUED"]) == 2
    assert aws.silent("next")
    await operator.ask("cancel", {"jobId": "j1"})
    assert (await aws.hear("next"))["execution"]["job_id"] == "j2"
    await operator.ask("cancel", {"jobId": "j2"})
    assert "execution" not in await aws.hear("next")


async def test_a_cancelled_job_takes_no_more_updates(operator, aws):
    await operator.ask("create", job("j1", aws))
    await aws.ask("start-next")
    await operator.ask("cancel", {"jobId": "j1", "force": True})
    error = await aws.refused("update", job_id="j1", status="SUCCEEDED")
    assert (error["code"], error["execution_state"]["status"]) == ("InvalidStateTransition", "CANCELED")


async def test_a_job_that_takes_too_long_is_timed_out_and_the_device_told(operator, aws):
    await aws.watch("next")
    await operator.ask("create", job("j1", aws, timeoutConfig={"inProgressTimeoutInMinutes": 0.1 / 60}))
    assert (await aws.hear("next"))["execution"]["job_id"] == "j1"
    await aws.ask("start-next")
    assert "execution" not in await aws.hear("next")
    (execution,) = await operator.ask("executions", {"jobId": "j1"})
    assert execution["status"] == "TIMED_OUT"


async def test_a_step_time_out_outside_its_range_is_refused(operator, aws):
    await operator.ask("create", job("j1", aws))
    await aws.ask("start-next", step_timeout_in_minutes=1)
    error = await aws.refused("update", job_id="j1", status="IN_PROGRESS", step_timeout_in_minutes=20_000)
    assert error["code"] == "InvalidRequest"
    await aws.ask("update", job_id="j1", status="IN_PROGRESS", step_timeout_in_minutes=-1)
