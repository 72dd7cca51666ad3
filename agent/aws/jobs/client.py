"""The device's side of Jobs over a transport: hear, step, perform.

Five filters serve every job, since answers are told apart by their token.  Nothing is published while there is no
link: the machine keeps what it has to say.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Self

import msgspec

from agent.aws.jobs.events import (
    Ask,
    Cancel,
    Connected,
    Disconnected,
    Effect,
    Event,
    Finished,
    Job,
    Progress,
    Rejected,
    Start,
    Tick,
    Update,
)
from agent.aws.jobs.execution import Conversation, due, step
from agent.aws.jobs.messages import Status, clean_details, encode
from agent.aws.jobs.pace import Pace
from agent.aws.jobs.topics import JobTopics
from agent.aws.jobs.wording import filters, heard, said
from agent.errors import VergeError
from agent.mqtt.transport import LinkState, Message, Transport

__all__ = ["JobsClient"]

log = logging.getLogger(__name__)

_QOS = 1
_SPREAD = 0.2


class JobsClient:
    """Takes the jobs of one thing in one namespace, one at a time, while it is entered.

    ``on_job`` gets a job to run and ``on_cancel`` one to stop; for each job that ``on_job`` got, ``report`` is to be
    called with a terminal status exactly once, also after a cancellation.  Both run on the event loop and must not
    block.  A job that was in progress when the process ended is handed out again.
    """

    def __init__(
        self,
        transport: Transport,
        topics: JobTopics,
        *,
        on_job: Callable[[Job], None],
        on_cancel: Callable[[Job], None],
        pace: Pace | None = None,
    ) -> None:
        self._transport = transport
        self._topics = topics
        self._on_job = on_job
        self._on_cancel = on_cancel
        pace = pace or Pace(spread=random.uniform(0.0, _SPREAD))
        self._state = Conversation(uuid.uuid4().hex[:12], pace, begins=not topics.namespace)
        self._timer: asyncio.TimerHandle | None = None
        self._entered = False

    @property
    def state(self) -> Conversation:
        """Where the conversation stands."""
        return self._state

    async def __aenter__(self) -> Self:
        self._entered = True
        for topic_filter in filters(self._topics):
            self._transport.subscribe(topic_filter, self._message, qos=_QOS)
        self._transport.watch(self._link)
        if self._transport.state.connected:
            self._hear(Connected())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._entered = False
        for topic_filter in filters(self._topics):
            self._transport.unsubscribe(topic_filter, self._message)
        if self._timer is not None:
            self._timer.cancel()

    def report(self, job: Job, status: Status, details: Mapping[str, str] | None = None) -> None:
        """Tell how ``job`` stands; a terminal status ends it.  What is told of a job that is gone goes nowhere.

        Raises ``ValueError`` for a status that a device cannot set.
        """
        told = tuple(clean_details(details or {}).items())
        if status is Status.IN_PROGRESS:
            self._hear(Progress(job, told))
        elif status in {Status.SUCCEEDED, Status.FAILED, Status.REJECTED}:
            self._hear(Finished(job, status, told))
        else:
            raise ValueError(f"a device cannot set {status}")

    def _link(self, state: LinkState) -> None:
        self._hear(Connected() if state.connected else Disconnected())

    def _message(self, message: Message) -> None:
        try:
            event = heard(self._topics, message.topic, message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("what came on %r is no Jobs message: %s", message.topic, error)
            return
        if isinstance(event, Rejected):
            log.warning("the Jobs service rejected a request: %s: %s", event.code, event.message)
        if event is not None:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if not self._entered:
            return
        loop = asyncio.get_running_loop()
        self._state, effects = step(self._state, event, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        when = due(self._state)
        self._timer = None if when is None else loop.call_at(when, self._hear, Tick())
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Ask() | Update():
                self._publish(effect)
            case Start(job):  # later, so that an owner who reports at once does not step into this step
                asyncio.get_running_loop().call_soon(self._on_job, job)
            case Cancel(job):
                asyncio.get_running_loop().call_soon(self._on_cancel, job)

    def _publish(self, request: Ask | Update) -> None:
        topic, payload = said(self._topics, request)
        try:
            self._transport.publish(Message(topic, encode(payload), qos=_QOS))
        except VergeError as error:
            # The request stays open and is repeated.
            log.warning("a Jobs request did not go out: %s", error)
