"""Whoever asked for a deployment: a sender on a topic, an IoT job, or the deployment shadow."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from agent.aws.jobs.client import JobsClient, ShadowClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.aws.jobs.shadow import ShadowReport
from agent.errors import VergeError
from agent.greengrass.deployments.outcome import Outcome, job_details, topic_payload
from agent.mqtt.transport import Message, Transport

__all__ = ["Asker", "JobAsker", "Replies", "ShadowAsker"]

log = logging.getLogger(__name__)


class Asker:
    """Whoever asked for a deployment: hears how far it is and how it ended.  This one does not listen."""

    def progress(self, told: Mapping[str, Any]) -> None:
        """It has come so far."""

    def ended(self, identity: str, outcome: Outcome) -> None:
        """It is over."""


class Replies(Asker):
    """A sender that asked for an answer on a response topic: it gets the end."""

    def __init__(self, transport: Transport, message: Message) -> None:
        self._transport = transport
        self._topic = message.response_topic or ""
        self._correlation = message.correlation_data

    def ended(self, identity: str, outcome: Outcome) -> None:
        """Answer."""
        payload = msgspec.json.encode(topic_payload(identity, outcome))
        message = Message(
            self._topic, payload, qos=1, content_type="application/json", correlation_data=self._correlation
        )
        try:
            self._transport.publish(message)
        except VergeError as error:
            log.warning("the end of deployment %s could not be answered on %s: %s", identity, self._topic, error)


class JobAsker(Asker):
    """A job: its client keeps what is reported until the service has it."""

    def __init__(self, client: JobsClient, job: Job) -> None:
        self._client = client
        self._job = job
        self._step = ""

    def progress(self, told: Mapping[str, Any]) -> None:
        """Report each step once: a service counts every update."""
        if told["step"] != self._step:
            self._step = told["step"]
            self._client.report(self._job, Status.IN_PROGRESS, {"step": self._step})

    def ended(self, identity: str, outcome: Outcome) -> None:
        """Report the end."""
        log.debug("deployment %s ends job %s", identity, self._job.job_id)
        self._client.report(self._job, outcome.job_status, job_details(outcome))


class ShadowAsker(Asker):
    """The deployment shadow: its client reports the latest state."""

    def __init__(self, client: ShadowClient, arn: str) -> None:
        self._client = client
        self._arn = arn
        self._begun = False

    def progress(self, told: Mapping[str, Any]) -> None:
        """Report that it began."""
        if not self._begun:
            self._begun = bool(told)
            self._client.report(ShadowReport(self._arn, Status.IN_PROGRESS))

    def ended(self, identity: str, outcome: Outcome) -> None:
        """Report the end."""
        log.debug("deployment %s ends that of %s", identity, self._arn)
        self._client.report(
            ShadowReport(
                self._arn, outcome.job_status, outcome.status.value, outcome.cause, outcome.stack, outcome.types
            )
        )
