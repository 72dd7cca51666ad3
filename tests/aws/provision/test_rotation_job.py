"""The rotation as a job of a real Jobs service: it ends once, and a deployment is none."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.retry import Pace
from agent.aws.jobs.service.caller import calling
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.aws.jobs.topics import JobTopics
from agent.aws.provision.enroll import Enrollment, from_files
from agent.aws.provision.home import Home
from agent.aws.provision.rotate import Rotation
from agent.mqtt.factory import create
from tests.support.inbox import connected
from tests.support.provisioning import REGISTER
from tests.support.until import until

PACE = Pace(first_s=0.5, backoff_s=0.05, cap_s=1.0, refresh_s=300)
DOCUMENT = {"operation": "verge:rotate-certificate", "template": "rotation"}


@pytest.mark.parametrize(
    ("document", "rejection", "ends"),
    [
        (DOCUMENT, None, "SUCCEEDED"),
        (DOCUMENT, (403, "AccessDenied", "not this device"), "FAILED"),
        (DOCUMENT | {"template": "a/b"}, None, "FAILED"),
    ],
)
async def test_a_rotation_job_ends_once_with_what_happened(site, tmp_path, document, rejection, ends) -> None:
    at, home = site.cloud.certificates, Home(tmp_path / "identity")
    await from_files(
        Enrollment(tmp_path / "verge.toml", home, "127.0.0.1", site.cloud.broker.port, at.ca),
        "edge-1", at.client_cert, at.client_key,
    )  # fmt: skip
    before = home.current.certificate.read_bytes()
    if rejection:
        site.service.rejects[REGISTER] = rejection
    files = {"cert_file": str(home.current.certificate), "key_file": str(home.current.key)}
    options = site.cloud.iotcore(client_id="edge-1", backoff_base_s=0.05, **files)
    with JobStore(tmp_path / "jobs") as store:
        async with JobsService(site.operator, store), calling(site.operator) as caller:
            await caller.ask("create", {"jobId": "j1", "targets": ["edge-1"], "document": document})
            async with create("cloud", options) as transport, asyncio.TaskGroup() as tasks:
                await connected(transport)
                running = Rotation("edge-1", options, transport, tasks)
                others = []

                def on_job(job) -> None:
                    if running.takes(job):
                        running.begin(job, client)
                    else:
                        others.append(job)

                client = JobsClient(transport, JobTopics("edge-1"), on_job=on_job, on_cancel=lambda _: None, pace=PACE)

                async def ended():
                    (told,) = await caller.ask("executions", {"jobId": "j1"})
                    return told if told["status"] == ends else None

                async with client:
                    told = await until(ended)
    details = told["statusDetails"]
    assert others == []
    assert (home.current.certificate.read_bytes() == before) is (ends == "FAILED"), json.dumps(told)
    assert ("previousCertificateId" in details) is (ends == "SUCCEEDED")
    assert ("reason" in details) is (ends == "FAILED")
