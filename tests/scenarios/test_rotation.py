"""A running agent gets a new certificate by job, over the connection that it has."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.aws.jobs.service.caller import Caller, calling
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.aws.provision.enroll import Enrollment, from_files
from agent.aws.provision.home import Home
from agent.mqtt.client import MqttTransport
from tests.support import agent as agents
from tests.support.cloud import Cloud
from tests.support.inbox import connected, subscribed
from tests.support.provisioning import CSR, REGISTER, Authority, ProvisioningService
from tests.support.until import until

DOCUMENT = {"operation": "verge:rotate-certificate", "template": "rotation"}


@dataclass
class Site:
    """IoT Core's stand-in with its services, and a device whose identity is in ``home``."""

    cloud: Cloud
    service: ProvisioningService
    caller: Caller
    home: Home
    config: dict[str, Any]

    async def ended(self, job: str) -> dict[str, Any]:
        async def over() -> dict[str, Any] | None:
            (told,) = await self.caller.ask("executions", {"jobId": job})
            return told if told["status"] not in {"QUEUED", "IN_PROGRESS"} else None

        return await until(over)

    async def rotated(self, job: str, thing: str) -> dict[str, Any]:
        await self.caller.ask("create", {"jobId": job, "targets": [thing], "document": DOCUMENT})
        return await self.ended(job)


@pytest.fixture
async def site(certificates, broker, thing, tmp_path) -> AsyncIterator[Site]:
    authority, home = Authority(tmp_path), Home(tmp_path / "identity")
    at = authority.trusted(certificates)
    with Cloud(at) as cloud, JobStore(tmp_path / "jobs") as store:
        async with MqttTransport("operator", cloud.back_door) as operator:
            await connected(operator)
            wish = Enrollment(tmp_path / "written.toml", home, "127.0.0.1", cloud.broker.port, at.ca)
            await from_files(wish, thing, at.client_cert, at.client_key)
            async with (
                ProvisioningService(operator, authority) as service,
                JobsService(operator, store),
                calling(operator) as caller,
            ):
                await subscribed(operator, "ready")
                config = _config(thing, broker.port, tmp_path, cloud, home)
                yield Site(cloud, service, caller, home, config)


def _config(thing: str, port: int, folder: Path, cloud: Cloud, home: Home) -> dict[str, Any]:
    config = agents.configuration(thing, port, folder, {})
    config["transports"]["cloud"] = {
        "type": "iotcore",
        "endpoint": "127.0.0.1",
        "port": cloud.broker.port,
        "ca_file": str(home.current.folder / "ca.pem"),
        "cert_file": str(home.current.certificate),
        "key_file": str(home.current.key),
        "backoff_base_s": 0.05,
        "backoff_cap_s": 0.2,
        "outbox": {},
    }
    return config | {"models": {}, "streams": {}, "deployments": {"transport": "cloud"}}


def running(config: dict[str, Any], folder: Path) -> Any:
    return asyncio.to_thread(agents.running(config, folder).__enter__)


async def test_a_running_agent_rotates_its_certificate_by_job_and_is_there_for_the_next(site, thing, tmp_path) -> None:
    before = site.home.current.certificate.read_bytes()
    entering = agents.running(site.config, tmp_path)
    agent = await asyncio.to_thread(entering.__enter__)
    try:
        told = await site.rotated(f"{thing}-1", thing)
        assert told["status"] == "SUCCEEDED", told
        after = site.home.current.certificate.read_bytes()
        assert after != before
        ssl.create_default_context().load_cert_chain(site.home.current.certificate, site.home.current.key)
        assert told["statusDetails"]["proof"].startswith("connected")
        # The agent itself goes over to it when its connection ends; the authority names every certificate so.
        site.cloud.broker.restart()
        await until(lambda: "with the new certificate" in agent.log, 30.0)
        asked = [topic for topic, _ in site.service.asked]
        again = await site.rotated(f"{thing}-2", thing)
        assert again["statusDetails"]["previousCertificateId"] == told["statusDetails"]["certificateId"]
        assert len(site.service.asked) == 2 * len(asked) == 4
        assert "Traceback" not in agent.log
    finally:
        await asyncio.to_thread(entering.__exit__, None, None, None)


async def test_a_rotation_that_fails_leaves_the_agent_as_it_was(site, thing, tmp_path) -> None:
    before = site.home.current.certificate.read_bytes()
    site.service.rejects[REGISTER] = (403, "AccessDenied", "not this device")
    entering = agents.running(site.config, tmp_path)
    agent = await asyncio.to_thread(entering.__enter__)
    try:
        told = await site.rotated(f"{thing}-1", thing)
        assert told["status"] == "FAILED"
        assert "AccessDenied" in told["statusDetails"]["reason"]
        assert site.home.current.certificate.read_bytes() == before
        assert agent.process.poll() is None
    finally:
        await asyncio.to_thread(entering.__exit__, None, None, None)


async def test_an_agent_that_is_stopped_amid_a_rotation_stops_at_once_and_begins_anew(site, thing, tmp_path) -> None:
    before = site.home.current.certificate.read_bytes()
    site.service.silent.add(CSR)
    await site.caller.ask("create", {"jobId": f"{thing}-1", "targets": [thing], "document": DOCUMENT})
    entering = agents.running(site.config, tmp_path)
    agent = await asyncio.to_thread(entering.__enter__)
    try:
        await until(lambda: bool(site.service.asked))
        assert await asyncio.to_thread(agent.stop, signal.SIGTERM, 10.0) == -signal.SIGTERM
        assert "not stopped within" not in agent.log
    finally:
        await asyncio.to_thread(entering.__exit__, None, None, None)
    assert site.home.current.certificate.read_bytes() == before
    site.service.silent.clear()
    entering = agents.running(site.config, tmp_path)
    await asyncio.to_thread(entering.__enter__)
    try:
        assert (await site.ended(f"{thing}-1"))["status"] == "SUCCEEDED"
    finally:
        await asyncio.to_thread(entering.__exit__, None, None, None)
