"""Whoever asks for a deployment: a sender on a topic, an IoT job, or the deployment shadow.

A requester is informed how far its deployment is and how it ended.  Besides, anybody may query what is live before
deploying: a request on ``…/deployments/get`` with an MQTT 5 response topic is answered.  The answer also proves that
documents are taken here, which a retained ``online`` does not, and holds nothing that is not retained on the broker
anyway::

    {"thing": "press-7", "components": {"com.acme.detect": "1.2.0"}, "previous": {"com.acme.detect": "1.1.0"}}

``previous`` is the set that a rollback goes back to, null where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

from agent.aws.jobs.client import JobsClient, ShadowClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.aws.jobs.shadow import ShadowReport
from agent.aws.jobs.topics import JobTopics
from agent.errors import VergeError
from agent.greengrass.deployments.document import is_foreign
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.ledger import Step
from agent.greengrass.deployments.outcome import Outcome, job_details, topic_payload
from agent.greengrass.deployments.repository import BUILTINS, NUCLEUS
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.state import DeployedState, DeviceState
from agent.mqtt.transport import Message, Transport

__all__ = [
    "QUERY",
    "Arrival",
    "JobHandler",
    "JobRequester",
    "Operations",
    "Requester",
    "ShadowRequester",
    "TopicRequester",
    "answer",
    "jobs_client",
    "shadow_client",
]

log = logging.getLogger(__name__)

QUERY = "get"
"""The last level of the topic of queries."""


class Requester:
    """Whoever asked for a deployment.  This one is not there any more, or does not care."""

    def progress(self, step: Step) -> None:
        """It has come so far."""

    def ended(self, identity: str, outcome: Outcome) -> None:
        """It is over."""

    def answered(self, payload: Mapping[str, Any]) -> None:
        """What was asked was no deployment: this is the answer."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A document that came; ``key`` names its request again after a restart."""

    source: Origin
    payload: bytes
    requester: Requester
    key: str = ""
    job_id: str | None = None
    retained: bool = False
    redelivered: bool = False
    """The broker sent it before, and may not know that it was taken then."""
    taken: Callable[[], None] = lambda: None
    """Called once the document is in the ledger or refused: it need not come again."""

    @property
    def origin(self) -> str:
        """The source and the key in one text, as the ledger keeps them."""
        return f"{self.source.value}/{self.key}" if self.key else self.source.value


Submit: TypeAlias = Callable[[Arrival], None]


class TopicRequester(Requester):
    """A sender that gave a response topic: it gets the end."""

    def __init__(self, transport: Transport, message: Message) -> None:
        self._transport = transport
        self._message = message

    def ended(self, identity: str, outcome: Outcome) -> None:
        """Answer."""
        self.answered(topic_payload(identity, outcome))

    def answered(self, payload: Mapping[str, Any]) -> None:
        """Answer."""
        message = _response(self._message, payload)
        try:
            self._transport.publish(message)
        except VergeError as error:
            log.warning("deployment %s could not be answered on %s: %s", payload.get("id"), message.topic, error)


class JobRequester(Requester):
    """A job: its client keeps what is reported until the service has it."""

    def __init__(self, client: JobsClient, job: Job) -> None:
        self._client = client
        self._job = job
        self._step: Step | None = None

    def progress(self, step: Step) -> None:
        """Report each step once: a service counts every update."""
        if step is not self._step:
            self._step = step
            self._client.report(self._job, Status.IN_PROGRESS, {"step": step.value})

    def ended(self, identity: str, outcome: Outcome) -> None:
        """Report the end."""
        log.debug("deployment %s ends job %s", identity, self._job.job_id)
        # A service sets CANCELED itself; a device that gives a job up at its owner's word rejects it.
        status = Status.REJECTED if outcome.job_status is Status.CANCELED else outcome.job_status
        self._client.report(self._job, status, job_details(outcome))


class ShadowRequester(Requester):
    """The deployment shadow: its client reports the latest state."""

    def __init__(self, client: ShadowClient, arn: str) -> None:
        self._client = client
        self._arn = arn
        self._begun = False

    def progress(self, step: Step) -> None:
        """Report that it began."""
        del step
        if not self._begun:
            self._begun = True
            self._client.report(ShadowReport(self._arn, Status.IN_PROGRESS))

    def ended(self, identity: str, outcome: Outcome) -> None:
        """Report the end."""
        log.debug("deployment %s ends that of %s", identity, self._arn)
        self._client.report(
            ShadowReport(
                self._arn, outcome.job_status, outcome.status.value, outcome.text, outcome.stack, outcome.types
            )
        )


class JobHandler(Protocol):
    """What jobs can ask of the agent besides deployments."""

    def takes(self, job: Job) -> bool:
        """Whether a job is one of these."""

    def begin(self, job: Job, client: JobsClient) -> None:
        """Do it, and report its end to ``client``."""


class Operations:
    """Several job handlers as one: the first that takes a job begins it."""

    def __init__(self, handlers: Sequence[JobHandler]) -> None:
        self._handlers = handlers

    def takes(self, job: Job) -> bool:
        """Whether one of them takes it."""
        return any(handler.takes(job) for handler in self._handlers)

    def begin(self, job: Job, client: JobsClient) -> None:
        """Have the one that takes it do it."""
        next(handler for handler in self._handlers if handler.takes(job)).begin(job, client)


def jobs_client(
    transport: Transport, topics: JobTopics, submit: Submit, cancel: Callable[[str], None],
    operation: JobHandler | None = None, *, leave: bool = False,
) -> JobsClient:  # fmt: skip
    """A client whose jobs are submitted as deployments; ``cancel`` takes the id of a job, ``operation`` other jobs.

    ``leave``: those of other agents of the thing are left alone, and are not begun.
    """

    def on_job(job: Job) -> None:
        if operation is not None and operation.takes(job):
            operation.begin(job, client)
            return
        key = f"{job.job_id}/{job.execution_number}"
        submit(Arrival(Origin.JOB, job.document, JobRequester(client, job), key, job.job_id))

    def wanted(job: Job) -> bool:
        return not is_foreign(job.document) or (operation is not None and operation.takes(job))

    client = JobsClient(
        transport, topics, on_job=on_job, on_cancel=lambda job: cancel(job.job_id), wants=wanted if leave else None
    )
    return client


def shadow_client(
    transport: Transport, thing: str, prefix: str, submit: Submit, cancel: Callable[[str], None]
) -> ShadowClient:
    """A client whose deployments are submitted; ``cancel`` takes the id of a deployment."""
    client = ShadowClient(
        transport,
        thing,
        on_deployment=lambda asked: submit(
            Arrival(Origin.SHADOW, asked.document, ShadowRequester(client, asked.arn), asked.arn)
        ),
        on_cancel=cancel,
        nucleus_version=str(BUILTINS[NUCLEUS].version),
        prefix=prefix,
    )
    return client


def answer(request: Message, thing: str, state: DeviceState) -> Message | None:
    """The answer to a query of what is live; None for one that gives no response topic."""
    if not request.response_topic:
        return None
    previous = state.previous
    versions = {"components": _versions(state.current), "previous": _versions(previous) if previous else None}
    return _response(request, {"thing": thing, **versions})


def _versions(state: DeployedState) -> dict[str, str]:
    components = state.active.components
    return {name: str(one.recipe.version) for name, one in components.items() if one.kind is not ComponentKind.BUILTIN}


def _response(request: Message, payload: Mapping[str, Any]) -> Message:
    return Message(
        request.response_topic or "",
        msgspec.json.encode(payload),
        qos=1,
        content_type="application/json",
        correlation_data=request.correlation_data,
    )
