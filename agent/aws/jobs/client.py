"""A device's conversations over a transport: the jobs of a thing, and its single-thing deployments.

Both are a pure machine and a codec inside one shell, which subscribes, keeps the machine's timer and publishes its
requests.  A few filters serve every job, since answers are recognised by their token.  Nothing is published without a
connection: the machine keeps its reports.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Self, TypeAlias, TypeVar

import msgspec

from agent.aws.jobs import execution, shadow
from agent.aws.jobs.codec import JobCodec, ShadowCodec
from agent.aws.jobs.execution import (
    Cancel,
    Conversation,
    DescribeJob,
    DescribeNext,
    Job,
    JobFinished,
    JobProgress,
    Leave,
    ListPending,
    Start,
    Update,
)
from agent.aws.jobs.messages import Status, clean_details
from agent.aws.jobs.retry import Connected, Disconnected, Pace, RequestRejected, Tick
from agent.aws.jobs.shadow import (
    CancelDeployment,
    GetShadow,
    ReportRequested,
    Shadow,
    ShadowDeployment,
    ShadowReport,
    StartDeployment,
    UpdateShadow,
)
from agent.aws.jobs.topics import PREFIX, JobTopics, ShadowTopics
from agent.errors import VergeError
from agent.mqtt.transport import LinkState, Message, Transport

__all__ = ["JobsClient", "ShadowClient"]

log = logging.getLogger(__name__)

_QOS = 1
_SPREAD = 0.2

State = TypeVar("State")
Event = TypeVar("Event")
Effect = TypeVar("Effect")
LinkEvent: TypeAlias = Connected | Disconnected | Tick


@dataclass(frozen=True, slots=True)
class _Protocol(Generic[State, Event, Effect]):
    """A machine and how to read its messages; ``name`` is for the log."""

    name: str
    filters: tuple[str, ...]
    step: Callable[[State, Event | LinkEvent, float], tuple[State, tuple[Effect, ...]]]
    due: Callable[[State], float | None]
    read: Callable[[str, bytes], Event | None]


class _Client(ABC, Generic[State, Event, Effect]):
    """Steps a machine on messages, on the link's changes and in time, and performs its effects, while it is entered."""

    def __init__(self, transport: Transport, protocol: _Protocol[State, Event, Effect], state: State) -> None:
        self._transport = transport
        self._protocol = protocol
        self._state = state
        self._timer: asyncio.TimerHandle | None = None
        self._entered = False

    @property
    def state(self) -> State:
        """The machine's state."""
        return self._state

    async def __aenter__(self) -> Self:
        self._entered = True
        for topic_filter in self._protocol.filters:
            self._transport.subscribe(topic_filter, self._on_message, qos=_QOS)
        self._transport.watch(self._on_link)
        if self._transport.state.connected:
            self._advance(Connected())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._entered = False
        for topic_filter in self._protocol.filters:
            self._transport.unsubscribe(topic_filter, self._on_message)
        if self._timer is not None:
            self._timer.cancel()

    def _on_link(self, state: LinkState) -> None:
        self._advance(Connected() if state.connected else Disconnected())

    def _on_message(self, message: Message) -> None:
        try:
            event = self._protocol.read(message.topic, message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("what came on %r is no message of the %s: %s", message.topic, self._protocol.name, error)
            return
        if event is not None:
            self._advance(event)

    def _advance(self, event: Event | LinkEvent) -> None:
        if not self._entered:
            return
        loop = asyncio.get_running_loop()
        self._state, effects = self._protocol.step(self._state, event, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        due = self._protocol.due(self._state)
        self._timer = None if due is None else loop.call_at(due, self._advance, Tick())
        for effect in effects:
            self._perform(effect)

    @abstractmethod
    def _perform(self, effect: Effect) -> None:
        """Publish a request, or call the owner: later, so that one who reports at once does not step into this step."""

    def _publish(self, topic: str, payload: bytes) -> None:
        try:
            self._transport.publish(Message(topic, payload, qos=_QOS))
        except VergeError as error:
            # The request stays open and is repeated.
            log.warning("a request to the %s did not go out: %s", self._protocol.name, error)


class JobsClient(_Client[Conversation, execution.Event, execution.Effect]):
    """Takes the jobs of one thing in one namespace, one at a time, while it is entered.

    ``on_job`` gets a job to run and ``on_cancel`` one to stop; for each job that ``on_job`` got, ``report`` is to be
    called with a terminal status exactly once, also after a cancellation.  Both run on the event loop and must not
    block.  A job that was in progress when the process ended is handed out again.  ``wants`` is whether a job is for
    this agent; one that is not is left alone: somebody else has the same thing's jobs too.
    """

    def __init__(
        self,
        transport: Transport,
        topics: JobTopics,
        *,
        on_job: Callable[[Job], None],
        on_cancel: Callable[[Job], None],
        pace: Pace | None = None,
        wants: Callable[[Job], bool] | None = None,
    ) -> None:
        self._codec = JobCodec(topics)
        begins = not topics.namespace and wants is None
        state = Conversation(_session(), pace or _pace(), begins=begins, wants=wants)
        super().__init__(
            transport,
            _Protocol("Jobs service", topics.filters, execution.step, execution.due, self._read),
            state,
        )
        self._on_job = on_job
        self._on_cancel = on_cancel

    def report(self, job: Job, status: Status, details: Mapping[str, str] | None = None) -> None:
        """Report the status of ``job``; a terminal one ends it.  A report on a job that is gone goes nowhere.

        Raises ``ValueError`` for a status that a device cannot set.
        """
        cleaned = tuple(clean_details(details or {}).items())
        if status is Status.IN_PROGRESS:
            self._advance(JobProgress(job, cleaned))
        elif status in {Status.SUCCEEDED, Status.FAILED, Status.REJECTED}:
            self._advance(JobFinished(job, status, cleaned))
        else:
            raise ValueError(f"a device cannot set {status}")

    def _read(self, topic: str, payload: bytes) -> execution.Event | None:
        event = self._codec.event(topic, payload)
        if isinstance(event, RequestRejected):
            log.warning("the Jobs service rejected a request: %s: %s", event.code, event.message)
        return event

    def _perform(self, effect: execution.Effect) -> None:
        match effect:
            case DescribeNext() | DescribeJob() | ListPending() | Update():
                self._publish(*self._codec.message(effect))
            case Leave(job):
                log.info("job %s is left alone: it is for another agent of this thing", job.job_id)
            case Start(job):
                asyncio.get_running_loop().call_soon(self._on_job, job)
            case Cancel(job):
                asyncio.get_running_loop().call_soon(self._on_cancel, job)


class ShadowClient(_Client[Shadow, shadow.Event, shadow.Effect]):
    """Takes the single-thing deployments of one thing while it is entered.

    ``on_deployment`` and ``on_cancel`` run on the event loop and must not block; ``nucleus_version`` is the version
    that the device reports.
    """

    def __init__(
        self,
        transport: Transport,
        thing: str,
        *,
        on_deployment: Callable[[ShadowDeployment], None],
        on_cancel: Callable[[str], None],
        nucleus_version: str,
        prefix: str = PREFIX,
        pace: Pace | None = None,
    ) -> None:
        state = Shadow(_session(), pace or _pace())
        self._codec = ShadowCodec(ShadowTopics(thing, prefix), state.session, nucleus_version)
        super().__init__(
            transport,
            _Protocol("shadow", self._codec.topics.filters, shadow.step, shadow.due, self._codec.event),
            state,
        )
        self._on_deployment = on_deployment
        self._on_cancel = on_cancel

    def report(self, report: ShadowReport) -> None:
        """Have the shadow hold this report; only the last one counts."""
        self._advance(ReportRequested(report))

    def _perform(self, effect: shadow.Effect) -> None:
        match effect:
            case GetShadow() | UpdateShadow():
                self._publish(*self._codec.message(effect))
            case StartDeployment(deployment):
                asyncio.get_running_loop().call_soon(self._on_deployment, deployment)
            case CancelDeployment(arn):
                asyncio.get_running_loop().call_soon(self._on_cancel, arn)


def _session() -> str:
    return uuid.uuid4().hex[:12]


def _pace() -> Pace:
    return Pace(spread=random.uniform(0.0, _SPREAD))
