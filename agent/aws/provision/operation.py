"""The rotation of certificates as a job: told from deployments, run one at a time, reported once.

A job that a restart interrupted is handed out again and begins anew: nothing of it was in use.
"""

from __future__ import annotations

import asyncio
import logging

from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.aws.provision.home import Home
from agent.aws.provision.rotate import is_rotation, rotate, rotation
from agent.config.transports import IotCoreOptions
from agent.errors import VergeError
from agent.mqtt.transport import Transport

__all__ = ["Rotation"]

log = logging.getLogger(__name__)


class Rotation:
    """Runs what it ``takes`` in ``tasks``; ``options`` are those of ``transport``."""

    def __init__(self, thing: str, options: IotCoreOptions, transport: Transport, tasks: asyncio.TaskGroup) -> None:
        self._thing = thing
        self._options = options
        self._transport = transport
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._alone = asyncio.Lock()

    def takes(self, job: Job) -> bool:
        """Whether the job is for this and for no deployment."""
        return is_rotation(job.document)

    def begin(self, job: Job, client: JobsClient) -> None:
        """Run the job and report its end to ``client``, also where it was cancelled meanwhile."""
        task = self._tasks.create_task(self._run(job, client), name="agent.aws.provision.rotation")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Break off what runs; the job is handed out again."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, job: Job, client: JobsClient) -> None:
        client.report(job, Status.IN_PROGRESS, {"step": "rotating"})
        try:
            async with self._alone:
                home = Home.of(self._options.cert_file)
                told = await rotate(rotation(job.document), self._thing, home, self._options, self._transport)
        except (VergeError, OSError) as error:
            log.warning("the certificate was not rotated, the old one stays in use: %s", error)
            code, message = getattr(error, "code", "disk"), getattr(error, "message", str(error))
            client.report(job, Status.FAILED, {"code": code, "reason": message})
        else:
            log.warning("certificate %s is in use from the next connection on", told["certificateId"])
            client.report(job, Status.SUCCEEDED, told)
